"""One file → train, validation and test files with no question on two sides."""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.combine.groups import join_groups, number_conversations, number_keys
from prep.combine.hold_out import SIDES, assign_sides
from prep.combine.row_set import RowSet
from prep.errors import InputError, UserError
from prep.frames import make_frame
from prep.inputs.formats import read_rows
from prep.inputs.reader import SourceRow
from prep.progress import SILENT, Progress
from prep.registry.dataset import Dataset, list_entry_files, read_entry
from prep.registry.dataset_info import FILE_NAME, read_registry
from prep.rows.indexing import RowWriter, count_kinds
from prep.rows.questions import hash_text, normalise_question
from prep.rows.row_file import RowFile
from prep.storage.manifests import Manifest, read_manifest
from prep.storage.outputs import open_outputs
from prep.storage.paths import require_name
from prep.storage.row_index import RowIndex
from prep.wording import count_of

if TYPE_CHECKING:
    import pandas as pd

_TEST_NAME = re.compile(r"(^|[_\-.])(test|eval|heldout|held_out|benchmark)$", re.IGNORECASE)


@dataclass(frozen=True)
class SplitSizes:
    """Rows (1 and more) or shares (below 1) to hold out; 0 for none."""

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

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a side: its rows and its file."""
        return make_frame(
            {"side": side, "rows": self.rows[side], "file": path.as_posix()} for side, path in self.outputs.items()
        )


def split_file(path: Path, prefix: Path, options: SplitOptions, on_rows: Progress = SILENT) -> SplitResult:
    """Split a converted file into `<prefix>_train.jsonl`, `<prefix>_test.jsonl` and, if asked, `_val`.

    Rows with the same normalised question, and rows of one conversation, stay on one side; each side
    holds the sources in the proportion of the whole. Where whole groups of rows do not make a size, the
    nearest is taken that is at most one row, or a tenth, off.
    Raises: UserError when the sizes cannot be met so or leave nothing to train on, or the rows ask what a
    registered test set asks.
    """
    require_name(prefix)
    targets = {side: prefix.with_name(f"{prefix.name}_{side}.jsonl") for side in SIDES}
    with ExitStack() as stack:
        held_out = (targets["test"], targets["val"])
        outputs = stack.enter_context(open_outputs(targets["train"], held_out, step="split", force=options.force))
        file = stack.enter_context(RowFile(path, is_input=True))
        form = file.form
        rows = _Rows.of(file.index)
        test_sets = _read_test_sets(options.dataset_dir or prefix.parent, set(targets.values()))
        dropped = _find_overlap(path, rows, test_sets, drop=options.drop_overlap)
        wanted = _count_wanted(options.sizes, len(file) - len(dropped))
        sides = assign_sides(rows.strata(dropped), wanted, options.seed, _refuse_size)
        made = {side: target for side, target in targets.items() if side == "train" or wanted[side]}
        manifest = read_manifest(path)
        manifests = {}
        on_rows.expect(sum(len(sides[side]) for side in made))
        row_set, flags = RowSet([file]), file.index.column("flags")
        for side, target in made.items():
            out = RowWriter(outputs, target)
            row_set.copy(array("Q", sides[side]), out, on_rows)
            manifests[target] = Manifest(
                step="split",
                options={**_describe_options(options), "side": side},
                think_policy=manifest.think_policy if manifest else None,
                inputs=[file.entry],
                counts={"records": len(sides[side]), **count_kinds(flags, sides[side], form.kind)},
                output=out.describe(form.formatting),
            )
        unmade = [target for side, target in targets.items() if side not in made and options.force]
        file.check_unchanged()
        outputs.publish(manifests, without=unmade)
    return SplitResult(made, {side: len(sides[side]) for side in made}, len(dropped), list(test_sets))


@dataclass
class _Rows:
    """What deciding needs of each row, by index: its group, its dataset and its question."""

    groups: Any
    datasets: list[str]
    dataset_codes: Any
    questions: Any

    @classmethod
    def of(cls, index: RowIndex) -> "_Rows":
        """Union the rows that must not part: by question, in whatever context, and by conversation."""
        questions, conversations = index.column("question"), index.column("conversation")
        keys = [number_keys(questions), number_conversations(conversations)]
        return cls(join_groups(keys), index.datasets, index.dataset_codes, questions)

    def strata(self, without: set[int]) -> dict[str, list[list[int]]]:
        """Return the groups of each dataset, a group of several datasets with its first row's."""
        import numpy as np

        stays = np.ones(len(self.groups), dtype=bool)
        stays[list(without)] = False
        rows = np.flatnonzero(stays)
        order = rows[np.argsort(self.groups[rows], kind="stable")]
        begins = np.flatnonzero(np.diff(self.groups[order], prepend=-1))
        codes = self.dataset_codes[order[begins]].tolist()
        ends = [*begins[1:].tolist(), len(order)]
        members = order.tolist()
        strata: dict[str, list[list[int]]] = defaultdict(list)
        for begin, end, code in zip(begins.tolist(), ends, codes, strict=True):
            strata[self.datasets[code]].append(members[begin:end])
        return {source: strata[source] for source in sorted(strata)}


def _count_wanted(sizes: SplitSizes, total: int) -> dict[str, int]:
    wanted = {}
    for side, size in (("test", sizes.test), ("val", sizes.val)):
        if not 0 <= size < float("inf") or (size > 1 and size != int(size)):
            raise UserError(f"a size of {size} rows cannot be held out")
        # A share is of at least one row: a side that was asked for is never left out.
        wanted[side] = max(1, round(size * total)) if 0 < size < 1 else int(size)
    if not any(wanted.values()):
        raise UserError("nothing is to be held out", hint="--test 500, or --test 0.05")
    if sum(wanted.values()) >= total:
        raise UserError(f"test {wanted['test']} and val {wanted['val']} of {total} rows leave none to train on")
    return wanted


def _refuse_size(side: str, rows: int, nearest: list[int]) -> UserError:
    if not nearest:
        return UserError(
            f"{side} of {count_of(rows, 'row')} leaves none for the other sides, because rows of one conversation "
            "or of one question stay together",
            hint="hold out less, or split a file with more questions",
        )
    sizes = " and ".join(f"{size:,}" for size in sorted(nearest))
    return UserError(
        f"{side} cannot be {count_of(rows, 'row')}: rows of one conversation or of one question stay together; "
        f"the nearest sizes that can be held out are {sizes}",
        hint=f"--{side} {nearest[0]}",
    )


def _read_test_sets(dataset_dir: Path, own: set[Path]) -> dict[str, set[bytes]]:
    """Return the questions of each registered test set, but for the files that are made here anew.

    A test set is one that this command made, or whose name ends in test, eval, heldout or benchmark.
    """
    if not (dataset_dir / FILE_NAME).exists():
        return {}
    own = {path.resolve() for path in own}
    questions = {}
    for name, entry in read_registry(dataset_dir).items():
        paths = [path for path in list_entry_files(entry, dataset_dir) if path.resolve() not in own]
        if any(_is_test_set(name, path) for path in paths):
            dataset = read_entry(name, entry, dataset_dir)
            questions[name] = {key for path in paths for key in _hash_asked(path, dataset)}
    return questions


def _is_test_set(name: str, path: Path) -> bool:
    if _TEST_NAME.search(name) or _TEST_NAME.search(path.stem):
        return True
    try:
        manifest = read_manifest(path)
    except InputError:
        # Of a file that is none of this command's business; lint tells of it.
        return False
    return manifest is not None and manifest.step == "split" and manifest.options.get("side") == "test"


def _hash_asked(path: Path, dataset: Dataset) -> Iterator[bytes]:
    """Yield the key of what each row of a registered file asks; a row without a question asks nothing."""
    columns = dataset.columns
    for row in read_rows(path):
        if not isinstance(row, SourceRow):
            continue
        turns = row.values.get(columns.get("messages", "conversations"))
        asked = row.values.get(columns.get("prompt", "instruction"))
        more = row.values.get(columns.get("query", "input"))
        if isinstance(turns, list):
            texts = [turn.get(dataset.tags.get("content_tag")) for turn in turns if isinstance(turn, dict)]
            yield hash_text(normalise_question("\n".join(text for text in texts[:-1] if isinstance(text, str))))
        elif isinstance(asked, str):
            yield hash_text(normalise_question(f"{asked}\n{more if isinstance(more, str) else ''}"))


def _find_overlap(path: Path, rows: _Rows, test_sets: Mapping[str, set[bytes]], *, drop: bool) -> set[int]:
    """Return the indices of rows that a test set asks too, with all of their groups; refuse unless `drop`."""
    import numpy as np

    overlapping: set[int] = set()
    asked = rows.questions.tolist() if test_sets else []
    for name, questions in test_sets.items():
        found = [index for index, question in enumerate(asked) if question in questions]
        if found and not drop:
            raise UserError(
                f"{path}: the registered test set '{name}' asks the same as {count_of(len(found), 'row')} of it; "
                f"the first is row {found[0] + 1}",
                hint="--drop-overlap to leave them out",
            )
        overlapping |= set(rows.groups[found].tolist())
    return set(np.flatnonzero(np.isin(rows.groups, list(overlapping))).tolist()) if overlapping else set()


def _describe_options(options: SplitOptions) -> dict[str, Any]:
    described: dict[str, Any] = {"test": options.sizes.test, "val": options.sizes.val, "seed": options.seed}
    if options.drop_overlap:
        described["drop_overlap"] = True
    return described
