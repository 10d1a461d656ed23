"""One file → train, validation and test files with no question on two sides."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.files import Manifest, describe_input, read_manifest
from prep.lines import KINDS, LineFile, form_of, kinds_of
from prep.origins import Origin
from prep.outputs import describe_output, open_outputs
from prep.questions import hash_question, hash_text
from prep.readers import SourceRow, read_rows
from prep.registry import FILE_NAME, read_registry

Progress = Callable[[int], None]
SIDES = ("test", "val", "train")
_TEST_NAME = re.compile(r"(^|[_\-.])(test|eval|heldout|held_out|benchmark)$", re.IGNORECASE)


@dataclass(frozen=True)
class SplitSizes:
    """Rows (an int) or shares below 1 (a float) to hold out."""

    test: float
    val: float = 0


@dataclass(frozen=True)
class SplitOptions:
    """How to split; `dataset_dir` holds the registered test sets that must not be trained on.

    None is the outputs' own folder. `drop_overlap` leaves such rows out instead of refusing.
    """

    sizes: SplitSizes
    seed: int = 42
    dataset_dir: Path | None = None
    drop_overlap: bool = False
    force: bool = False


@dataclass(frozen=True)
class SplitResult:
    """The files written and the rows in each, by side: test, val, train."""

    outputs: dict[str, Path]
    rows: dict[str, int]
    dropped: int = 0
    checked_against: list[str] = field(default_factory=list)


def split_file(path: Path, prefix: Path, options: SplitOptions, on_rows: Progress = lambda _: None) -> SplitResult:
    """Split a converted file into `<prefix>_train.jsonl`, `<prefix>_test.jsonl` and, if asked, `_val`.

    Rows with the same normalised question, and rows of one conversation, stay on one side; each side
    holds the sources in the proportion of the whole. A side is short of its size only where no group of
    rows fits into what is left.
    Raises: UserError when the sizes leave nothing to train on, or the rows ask what a registered test
    set asks.
    """
    targets = {side: prefix.with_name(f"{prefix.name}_{side}.jsonl") for side in SIDES}
    with ExitStack() as stack:
        held_out = (targets["test"], targets["val"])
        outputs = stack.enter_context(open_outputs(targets["train"], held_out, step="split", force=options.force))
        file = stack.enter_context(LineFile(path))
        rows = _Rows.read(file, on_rows)
        wanted = _count_wanted(options.sizes, len(file))
        test_sets = _read_test_sets(options.dataset_dir or prefix.parent, set(targets.values()))
        dropped = _find_overlap(path, rows, test_sets, drop=options.drop_overlap)
        sides = _assign_sides(rows, wanted, dropped, options.seed)
        made = {side: target for side, target in targets.items() if side == "train" or wanted[side]}
        manifest = read_manifest(path)
        source = describe_input(path)
        manifests = {}
        for side, target in made.items():
            out = outputs.stage(target)
            counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
            for place in sides[side]:
                out.write(file.read_line(place))
                counts.update(rows.kinds[place])
            manifests[target] = Manifest(
                step="split",
                options={**_describe_options(options), "side": side},
                think_policy=manifest.think_policy if manifest else None,
                inputs=[source],
                counts={"records": len(sides[side]), **counts},
                output=describe_output(out, form_of(file.read_record(0))),
            )
        unmade = [target for side, target in targets.items() if side not in made and options.force]
        file.check_unchanged()
        outputs.publish(manifests, without=unmade)
    return SplitResult(made, {side: len(sides[side]) for side in made}, len(dropped), list(test_sets))


@dataclass
class _Rows:
    """What deciding needs of each row, by place: its group, source, question and kinds."""

    groups: list[int]
    sources: list[str]
    questions: list[bytes]
    kinds: list[tuple[str, ...]]

    @classmethod
    def read(cls, file: LineFile, on_rows: Progress) -> "_Rows":
        """Union the rows that must not part: by question and by conversation."""
        rows = cls(list(range(len(file))), [], [], [])
        first_with: dict[bytes, int] = {}
        for place, record in enumerate(file.read_records()):
            origin = Origin.parse(record.get("origin"))
            question = hash_question(record)
            keys = [question]
            if origin is not None:
                keys.append(hash_text(origin.conversation))
            for key in keys:
                rows.groups[rows.find(place)] = rows.find(first_with.setdefault(key, place))
            rows.sources.append(origin.source if origin else "")
            rows.questions.append(question)
            rows.kinds.append(tuple(kind for kind, count in kinds_of(record).items() if count))
            on_rows(1)
        rows.groups = [rows.find(place) for place in range(len(file))]
        return rows

    def find(self, place: int) -> int:
        """Return the place that stands for a row's group."""
        groups = self.groups
        while groups[place] != place:
            groups[place] = groups[groups[place]]
            place = groups[place]
        return place

    def strata(self, without: set[int]) -> dict[str, list[list[int]]]:
        """Return the groups of each source, a group of several sources with its first row's."""
        members: dict[int, list[int]] = defaultdict(list)
        for place, group in enumerate(self.groups):
            if place not in without:
                members[group].append(place)
        strata: dict[str, list[list[int]]] = defaultdict(list)
        for places in members.values():
            strata[self.sources[places[0]]].append(places)
        return {source: strata[source] for source in sorted(strata)}


def _count_wanted(sizes: SplitSizes, total: int) -> dict[str, int]:
    wanted = {}
    for side, size in (("test", sizes.test), ("val", sizes.val)):
        if not 0 <= size < float("inf") or (size > 1 and size != int(size)):
            raise UserError(f"a size of {size} rows cannot be held out")
        wanted[side] = round(size * total) if 0 < size < 1 else int(size)
    if sum(wanted.values()) >= total:
        raise UserError(f"test {wanted['test']} and val {wanted['val']} of {total} rows leave none to train on")
    return wanted


def _assign_sides(rows: _Rows, wanted: Mapping[str, int], dropped: set[int], seed: int) -> dict[str, list[int]]:
    strata = rows.strata(dropped)
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    total = sum(len(group) for groups in strata.values() for group in groups)
    sides: dict[str, list[int]] = {side: [] for side in SIDES}
    left: list[list[int]] = []
    for source, groups in strata.items():
        rng.shuffle(groups)
        rooms = _share_out(wanted, strata, total)[source]
        left += _fill(groups, rooms, sides)
    # What the groups' sizes kept from one source's share, another source's rows fill.
    rooms = {side: rows_wanted - len(sides[side]) for side, rows_wanted in wanted.items()}
    for group in _fill(left, rooms, sides):
        sides["train"] += group
    return {side: sorted(places) for side, places in sides.items()}


def _fill(groups: list[list[int]], rooms: dict[str, int], sides: dict[str, list[int]]) -> list[list[int]]:
    """Put groups where they fit, in their order; return those that fit nowhere."""
    left = []
    for group in groups:
        side = next((side for side, room in rooms.items() if room >= len(group)), None)
        if side is None:
            left.append(group)
        else:
            sides[side] += group
            rooms[side] -= len(group)
    return left


def _share_out(
    wanted: Mapping[str, int], strata: Mapping[str, list[list[int]]], total: int
) -> dict[str, dict[str, int]]:
    """Divide each side's rows among the sources, by largest remainder, so that the sum is exact."""
    rooms: dict[str, dict[str, int]] = {source: {} for source in strata}
    for side, rows in wanted.items():
        exact = {source: rows * sum(map(len, groups)) / max(total, 1) for source, groups in strata.items()}
        for source, share in exact.items():
            rooms[source][side] = int(share)
        missing = rows - sum(int(share) for share in exact.values())
        for source in sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))[:missing]:
            rooms[source][side] += 1
    return rooms


def _read_test_sets(dataset_dir: Path, own: set[Path]) -> dict[str, set[bytes]]:
    """Return the questions of each registered test set, but for the files that are made here anew.

    A test set is one that this command made, or whose name ends in test, eval, heldout or benchmark.
    """
    if not (dataset_dir / FILE_NAME).exists():
        return {}
    own = {path.resolve() for path in own}
    questions = {}
    for name, entry in read_registry(dataset_dir).items():
        path = dataset_dir / str(entry.get("file_name", ""))
        if path.is_file() and path.resolve() not in own and _is_test_set(name, path):
            questions[name] = {hash_question(record) for record in _read_asking(path, entry)}
    return questions


def _is_test_set(name: str, path: Path) -> bool:
    manifest = read_manifest(path)
    if manifest is not None and manifest.step == "split":
        return bool(manifest.options.get("side") == "test")
    return bool(_TEST_NAME.search(name) or _TEST_NAME.search(path.stem))


def _read_asking(path: Path, entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a registered file under our names for what asks; a row without is none of ours."""
    columns = entry.get("columns") or {}
    prompt, query = columns.get("prompt", "instruction"), columns.get("query", "input")
    turns, value = columns.get("messages", "conversations"), (entry.get("tags") or {}).get("content_tag", "value")
    for row in read_rows(path):
        if not isinstance(row, SourceRow):
            continue
        if isinstance(row.values.get(turns), list):
            texts = [turn.get(value) if isinstance(turn, dict) else "" for turn in row.values[turns]]
            yield {"conversations": [{"value": str(text)} for text in texts]}
        elif isinstance(row.values.get(prompt), str):
            yield {"instruction": row.values[prompt], "input": row.values.get(query)}


def _find_overlap(path: Path, rows: _Rows, test_sets: Mapping[str, set[bytes]], *, drop: bool) -> set[int]:
    """Return the places of rows that a test set asks too, with all of their groups; refuse unless `drop`."""
    overlapping: set[int] = set()
    for name, questions in test_sets.items():
        found = [place for place, question in enumerate(rows.questions) if question in questions]
        if found and not drop:
            raise UserError(
                f"{len(found):,} rows of {path} ask what the registered test set '{name}' asks; "
                f"the first is row {found[0] + 1}",
                hint="--drop-overlap to leave them out",
            )
        overlapping |= {rows.groups[place] for place in found}
    return {place for place, group in enumerate(rows.groups) if group in overlapping}


def _describe_options(options: SplitOptions) -> dict[str, Any]:
    described: dict[str, Any] = {"test": options.sizes.test, "val": options.sizes.val, "seed": options.seed}
    if options.drop_overlap:
        described["drop_overlap"] = True
    return described
