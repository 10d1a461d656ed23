"""Several converted files → one shuffled file in true ratios."""

import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.choices import Dedup, ShareOf
from prep.combine.draw import Draw, PartRows, Wish, draw_rows, take_all
from prep.combine.row_set import RowSet
from prep.errors import UserError
from prep.frames import make_frame
from prep.inputs.formats import read_values
from prep.progress import SILENT, Progress
from prep.rows.duplicates.copies import CONTAMINATED_SUFFIX, DUPLICATES_SUFFIX, CopyFinder, describe_copy
from prep.rows.indexing import RowWriter, count_kinds
from prep.rows.kinds import Form
from prep.rows.origins import explain_broken_way
from prep.rows.records import TrainingRow
from prep.rows.row_file import RowFile
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, read_manifest
from prep.storage.outputs import open_outputs, refuse_inputs
from prep.storage.paths import require_file, require_name

if TYPE_CHECKING:
    import pandas as pd

# Takes lines for a file of what was left out.
Tell = Callable[[bytes], None]
_ALL_POINTS = 100
_BATCH_ROWS = 500


@dataclass(frozen=True)
class MixOptions:
    """How to mix; shares need not add up to 1, and without a ratio every row is taken.

    `by` is what a share is of: rows, characters or tokens, the last with the tokenizer in `model`.
    `tolerance` is how many percentage points a share may be off; half a row is always allowed.
    `oversample` repeats rows of the small parts instead of leaving out rows of the large ones.
    """

    ratio: Mapping[str, float] | None = None
    by: str = ShareOf.ROWS
    model: Path | None = None
    oversample: bool = False
    tolerance: float = 2.0
    dedup: str | None = None
    decontaminate: tuple[Path, ...] = ()
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class MixResult:
    """Rows taken from each part, in the order given, and what the shares are of.

    `sizes` are what each part makes of the result in the unit of `by`; `duplicates` and `contaminated` are what
    --dedup and --decontaminate dropped.
    """

    taken: dict[str, int]
    available: dict[str, int]
    output: Path
    by: str = ShareOf.ROWS
    sizes: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    contaminated: int = 0

    @property
    def rows(self) -> int:
        """Rows in the result."""
        return sum(self.taken.values())

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a part: what was taken of it, what it has, and its size in the unit of `by`."""
        return make_frame(
            {"part": name, "taken": taken, "available": self.available[name], self.by: self.sizes.get(name, taken)}
            for name, taken in self.taken.items()
        )


def mix_files(
    parts: Mapping[str, Path], output: Path, options: MixOptions, on_rows: Progress = SILENT
) -> MixResult:
    """Mix converted files so that each makes its share of the result, and shuffle.

    The largest result that keeps the ratio without repeating a row is made, or with `oversample` the
    smallest that takes every row. Only the rows' indices are held in memory.
    Raises: UserError when the ratio does not fit the parts, or they were written under different policies.
    """
    _check_ratio(parts, options)
    require_name(output)
    for path in parts.values():
        require_file(path)
    gone = {
        output.with_name(f"{output.name}{suffix}"): drop if wanted else None
        for suffix, drop, wanted in (
            (CONTAMINATED_SUFFIX, _drop_contaminated, options.decontaminate),
            (DUPLICATES_SUFFIX, _drop_duplicates, options.dedup),
        )
    }
    with ExitStack() as stack:
        others = [path for path, drop in gone.items() if drop]
        outputs = stack.enter_context(open_outputs(output, others, step="mix", force=options.force))
        refuse_inputs((output, *gone), options.decontaminate)
        policy = check_same_policy(parts)
        files = {name: stack.enter_context(RowFile(path, is_input=True)) for name, path in parts.items()}
        available = {name: len(file) for name, file in files.items()}
        form = _check_same_form(files)
        measured_rows = sum(available.values()) if options.by == ShareOf.TOKENS else 0
        # Rows that are counted in tokens are read twice; how many are copied is known when they are drawn.
        on_rows.expect(2 * measured_rows)
        measured = {name: _measure(file, options, on_rows) for name, file in files.items()}
        dropped = dict.fromkeys(gone, 0)
        for path, drop in gone.items():
            if drop is not None:
                told = outputs.stage(path)
                drop(files, measured, options, told.write)
                dropped[path] = sum(available.values()) - sum(len(part.indices) for part in measured.values())
                available = {name: len(part.indices) for name, part in measured.items()}
        draw, order = _choose_rows(measured, options)
        out = RowWriter(outputs, output)
        renamed = _rename_sources(parts, measured)
        rows = RowSet(
            list(files.values()),
            {number: renamed[name] for number, name in enumerate(files) if name in renamed},
        )
        on_rows.expect(measured_rows + len(order))
        rows.copy(order, out, on_rows)
        taken = {name: len(indices) for name, indices in draw.indices.items()}
        manifest = Manifest(
            step="mix",
            options=_describe_options(options, renamed),
            think_policy=policy,
            inputs=[{"name": name, **file.entry} for name, file in files.items()],
            counts={"records": len(order), "taken": taken, **count_kinds(rows.column("flags"), order, form.kind)},
            output=out.describe(form.formatting),
        )
        for file in files.values():
            file.check_unchanged()
        outputs.publish({output: manifest}, without=[path for path, rows in dropped.items() if not rows])
    contaminated, duplicates = dropped.values()
    return MixResult(taken, available, output, options.by, draw.sizes, duplicates, contaminated)


def check_same_policy(parts: Mapping[str, Path]) -> str | None:
    """Return the think policy that all parts were written under; raises UserError when they differ."""
    policies: dict[str, str | None] = {}
    for name, path in parts.items():
        manifest = read_manifest(path)
        policies[name] = manifest.think_policy if manifest else None
    if len({str(policy) for policy in policies.values()}) > 1:
        seen = ", ".join(f"{name} is {policy or 'unknown'}" for name, policy in policies.items())
        raise UserError(
            f"the parts were written under different think policies: {seen}",
            hint="convert them again with one --think-policy",
        )
    return next(iter(policies.values()))


@dataclass
class _Measured(PartRows):
    """A part's rows, and the sources that they name."""

    sources: set[str]


def _check_ratio(parts: Mapping[str, Path], options: MixOptions) -> None:
    ratio = options.ratio
    if ratio is None:
        if options.oversample or options.by != ShareOf.ROWS:
            raise UserError("--oversample and --by need a --ratio")
        return
    if set(ratio) != set(parts):
        raise UserError(
            f"the ratio names {', '.join(sorted(ratio))}; the parts are {', '.join(sorted(parts))}",
            hint="--ratio " + ",".join(f"{name}=1" for name in parts),
        )
    if any(not 0 < share < float("inf") for share in ratio.values()):
        raise UserError(
            "every share of a ratio must be above zero", hint="leave out the part that should give none"
        )
    if not 0 < sum(ratio.values()) < float("inf") or not all(_share_out(ratio).values()):
        raise UserError("the shares of the ratio are too large or too small to be added up")
    if not 0 <= options.tolerance <= _ALL_POINTS:
        raise UserError(f"--tolerance {options.tolerance:g} is not from 0 to {_ALL_POINTS} percentage points")
    if options.by == ShareOf.TOKENS and options.model is None:
        raise UserError(
            "--by tokens needs the model whose tokenizer counts", hint="--model PATH, or --by characters"
        )


def _share_out(ratio: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of 1 that a ratio says."""
    total = sum(ratio.values())
    return {name: share / total for name, share in ratio.items()}


def _measure(file: RowFile, options: MixOptions, on_rows: Progress) -> _Measured:
    if options.by == ShareOf.TOKENS and options.model is not None:
        from prep.tokens.encoder import count_tokens

        def read_texts() -> Iterator[str]:
            for row in file.read_rows():
                on_rows(1)
                yield "\n".join(row.texts)

        sizes = array("Q", count_tokens(read_texts(), options.model))
    elif options.by == ShareOf.CHARACTERS:
        sizes = array("Q", file.index.column("characters").tolist())
    else:
        sizes = array("Q", [1]) * len(file)
    return _Measured(sizes, range(len(file)), set(file.index.datasets))


def _check_same_form(files: Mapping[str, RowFile]) -> Form:
    """Return the form of all parts' rows; raises UserError when some are of another kind than others."""
    forms = {name: file.form for name, file in files.items()}
    seen = {name: file.describe_form(0) for name, file in files.items()}
    if len(set(seen.values())) > 1:
        told = ", ".join(f"{name} is {form}" for name, form in seen.items())
        raise UserError(
            f"the parts are of different kinds: {told}; LLaMA-Factory trains on one kind in one form",
            hint="register each as a dataset of its own; a YAML names several of one kind: dataset: a,b",
        )
    return next(iter(forms.values()))


def _drop_contaminated(
    files: Mapping[str, RowFile], measured: Mapping[str, _Measured], options: MixOptions, tell: Tell
) -> None:
    """Take the rows that stand in a benchmark out of `indices`, and tell of them."""
    from prep.rows.duplicates.contamination import Benchmarks, describe_contaminated

    benchmarks = Benchmarks(options.decontaminate, read_values)
    for name, file in files.items():
        kept = array("Q")
        rows, place = file.read_rows(), 0
        while batch := list(islice(rows, _BATCH_ROWS)):
            for row, match in zip(batch, benchmarks.find(batch), strict=True):
                if match is None:
                    kept.append(place)
                else:
                    tell(describe_contaminated(row, match))
                place += 1
        measured[name].indices = kept


def _drop_duplicates(
    files: Mapping[str, RowFile], measured: Mapping[str, _Measured], options: MixOptions, tell: Tell
) -> None:
    """Take the copies of earlier rows, in this part or one before it, out of `indices`, and tell of them."""
    kind = options.dedup or ""
    wanted = {name: measured[name].indices for name in files}
    looked_at = _LookedAt([(file, wanted[name]) for name, file in files.items()])
    finder = CopyFinder(kind, looked_at.read_line)
    if kind == Dedup.NEAR:
        found = [finder.find_near(file.stream_lines(wanted[name])) for name, file in files.items()]
    else:
        found = finder.find_in_files(files, wanted)
    for (name, file), copied in zip(files.items(), found, strict=True):
        copies = {place: first for place, first in zip(wanted[name], copied, strict=True) if first is not None}
        measured[name].indices = array("Q", (place for place in wanted[name] if place not in copies))
        for row, first in zip(file.read_rows(copies), copies.values(), strict=True):
            tell(describe_copy(row, looked_at.read_row(first).origin, kind))


class _LookedAt:
    """The rows that are compared, counted from 0 over all parts."""

    def __init__(self, parts: Sequence[tuple[RowFile, Sequence[int]]]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(len(places) for _, places in parts)]

    def read_line(self, number: int) -> bytes:
        """Return a row's line."""
        file, place = self._find(number)
        return file.read_lines([place])[0]

    def read_row(self, number: int) -> TrainingRow:
        """Return a row."""
        file, place = self._find(number)
        return file.read_row(place)

    def _find(self, number: int) -> tuple[RowFile, int]:
        part = bisect_right(self._starts, number) - 1
        file, places = self._parts[part]
        return file, places[number - self._starts[part]]


def _choose_rows(measured: Mapping[str, _Measured], options: MixOptions) -> tuple[Draw, "array[int]"]:
    """Draw each part's rows and shuffle them; the same on every machine and Python since 3.11."""
    rng = random.Random(options.seed)  # noqa: S311 - a shuffle, not a secret
    if options.ratio is None:
        draw = take_all(measured, rng)
    else:
        wish = Wish(
            shares={name: _share_out(options.ratio)[name] for name in measured},
            by_rows=options.by == ShareOf.ROWS,
            oversample=options.oversample,
            tolerance=options.tolerance / _ALL_POINTS,
        )
        draw = draw_rows(measured, wish, rng)
    order = array("Q")
    start = 0
    for name, indices in draw.indices.items():
        order.extend(start + index for index in indices)
        start += len(measured[name].sizes)
    rng.shuffle(order)
    return draw, order


def _rename_sources(parts: Mapping[str, Path], measured: Mapping[str, _Measured]) -> dict[str, dict[str, str]]:
    """Return {part: {source: its new name}} where two parts use one source name for different files."""
    files: dict[str, dict[tuple[str, str], str]] = {name: _origin_files(path) for name, path in parts.items()}
    renamed: dict[str, dict[str, str]] = {}
    for name, part in measured.items():
        for other, other_part in measured.items():
            for source in (part.sources & other_part.sources) - {""} if other != name else ():
                mine = {file: digest for file, digest in files[name].items() if file[0] == source}
                theirs = {file: digest for file, digest in files[other].items() if file[0] == source}
                if not mine or mine != theirs:
                    renamed.setdefault(name, {})[source] = f"{name}-{source}"
    return renamed


def _origin_files(path: Path) -> dict[tuple[str, str], str]:
    """Return {(source, file label): sha256} of the source files that a converted file's origins name."""
    manifest = read_manifest(path)
    with explain_broken_way(path):
        ways = list(manifest.lineage()) if manifest else []
        return {
            (Path(way[0].manifest.output["path"]).stem, entry.label): entry.sha256
            for way in ways
            # What a conversion read from a converted file has origins of its own.
            if all(step.manifest.step != "convert" for step in way[1:])
            for entry in way[0].manifest.read_inputs()
        }


def _describe_options(options: MixOptions, renamed: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"ratio": dict(options.ratio) if options.ratio else None, "seed": options.seed}
    if options.ratio:
        described |= {"by": options.by, "oversample": options.oversample, "tolerance": options.tolerance}
        if options.model is not None:
            described["model"] = options.model.as_posix()
    if options.dedup:
        described["dedup"] = options.dedup
    if options.decontaminate:
        described["decontaminate"] = [
            {"path": path.as_posix(), "sha256": hash_file(path)} for path in options.decontaminate
        ]
    if renamed:
        described["renamed_sources"] = dict(renamed)
    return described
