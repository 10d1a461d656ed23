"""Several converted files → one shuffled file in true ratios."""

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from prep.combine.draw import Draw, PartRows, Wish, draw_rows, take_all
from prep.errors import InputError, UserError
from prep.rows.duplicates.copies import DUPLICATES_SUFFIX, DuplicateFilter
from prep.rows.line_file import LineFile
from prep.rows.origins import Origin, explain_broken_way
from prep.rows.records import KINDS, TrainingRow
from prep.storage.manifests import Manifest, describe_input, read_manifest
from prep.storage.outputs import describe_output, open_outputs
from prep.storage.paths import require_file, require_name

Progress = Callable[[int], None]
# Above any file's number of rows: a position in the mix is its part's number times this, plus its row.
_PART = 1 << 40
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
    by: str = "rows"
    model: Path | None = None
    oversample: bool = False
    tolerance: float = 2.0
    dedup: str | None = None
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class MixResult:
    """Rows taken from each part, in the order given, and what the shares are of.

    `sizes` are what each part makes of the result in the unit of `by`; `duplicates` is what --dedup dropped.
    """

    taken: dict[str, int]
    available: dict[str, int]
    output: Path
    by: str = "rows"
    sizes: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def rows(self) -> int:
        """Rows in the result."""
        return sum(self.taken.values())


def mix_files(
    parts: Mapping[str, Path], output: Path, options: MixOptions, on_rows: Progress = lambda _: None
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
    duplicates_path = output.with_name(f"{output.name}{DUPLICATES_SUFFIX}")
    with ExitStack() as stack:
        others = (duplicates_path,) if options.dedup else ()
        outputs = stack.enter_context(open_outputs(output, others, step="mix", force=options.force))
        policy = check_same_policy(parts)
        files = {name: stack.enter_context(LineFile(path)) for name, path in parts.items()}
        available = {name: len(file) for name, file in files.items()}
        measured = {name: _measure(file, options, on_rows) for name, file in files.items()}
        form = _check_same_formatting(measured)
        has_duplicates = False
        if options.dedup:
            dropped = outputs.stage(duplicates_path)
            for name, gone in _drop_duplicates(files, measured, options.dedup).items():
                dropped.write(gone)
                available[name] = len(measured[name].indices)
            has_duplicates = bool(dropped.bytes_written)
        draw, order = _choose_rows(measured, options)
        out = outputs.stage(output)
        renamed = _rename_sources(parts, measured)
        counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        names = list(files)
        for number in order:
            name, index = names[number // _PART], number % _PART
            line = files[name].read_line(index)
            out.write(_rename_source(line, renamed[name]) if name in renamed else line)
            counts.update(files[name].read_row(index).kinds)
            on_rows(1)
        taken = {name: len(indices) for name, indices in draw.indices.items()}
        manifest = Manifest(
            step="mix",
            options=_describe_options(options, renamed),
            think_policy=policy,
            inputs=[{"name": name, **describe_input(path)} for name, path in parts.items()],
            counts={"records": len(order), "taken": taken, **counts},
            output=describe_output(out, form),
        )
        for file in files.values():
            file.check_unchanged()
        outputs.publish({output: manifest}, without=() if has_duplicates else (duplicates_path,))
    gone_rows = sum(len(file) for file in files.values()) - sum(available.values())
    return MixResult(taken, available, output, options.by, draw.sizes, gone_rows)


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
    """A part's rows, the sources that they name and the formatting that they have."""

    sources: set[str]
    formatting: str


def _check_ratio(parts: Mapping[str, Path], options: MixOptions) -> None:
    ratio = options.ratio
    if ratio is None:
        if options.oversample or options.by != "rows":
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
    if options.by == "tokens" and options.model is None:
        raise UserError(
            "--by tokens needs the model whose tokenizer counts", hint="--model PATH, or --by characters"
        )


def _share_out(ratio: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of 1 that a ratio says."""
    total = sum(ratio.values())
    return {name: share / total for name, share in ratio.items()}


def _measure(file: LineFile, options: MixOptions, on_rows: Progress) -> _Measured:
    sources: set[str] = set()
    first = file.read_row(0).formatting

    def read_rows() -> Iterator[TrainingRow]:
        for index, row in enumerate(file.read_rows()):
            if row.formatting != first:
                raise InputError(
                    f"{file.path} row {index + 1} is {row.formatting}, and row 1 is {first}",
                    hint=f"lfc prep lint {file.path} tells all",
                )
            origin = Origin.parse(row.origin)
            sources.add(origin.source if origin else "")
            on_rows(1)
            yield row

    if options.by == "tokens" and options.model is not None:
        from prep.tokens.encoder import count_tokens

        sizes = array("Q", count_tokens(("\n".join(row.texts) for row in read_rows()), options.model))
    elif options.by == "characters":
        sizes = array("Q", (sum(map(len, row.texts)) for row in read_rows()))
    else:
        sizes = array("Q", (1 for _ in read_rows()))
    return _Measured(sizes, range(len(file)), sources, first)


def _check_same_formatting(measured: Mapping[str, _Measured]) -> str:
    """Return the formatting of all parts' rows; raises UserError when some are Alpaca and some ShareGPT."""
    if len({part.formatting for part in measured.values()}) > 1:
        seen = ", ".join(f"{name} is {part.formatting}" for name, part in measured.items())
        raise UserError(f"the parts are of different forms: {seen}", hint="register them as two datasets")
    return next(iter(measured.values())).formatting


def _drop_duplicates(
    files: Mapping[str, LineFile], measured: Mapping[str, _Measured], kind: str
) -> dict[str, bytes]:
    """Take the copies of earlier rows, in this part or one before it, out of `indices`."""
    duplicates = DuplicateFilter(kind)
    gone: dict[str, bytes] = {}
    for name, file in files.items():
        kept = array("Q")
        lines = []
        rows = file.read_rows()
        start = 0
        while batch := list(islice(rows, _BATCH_ROWS)):
            for index, (row, first) in enumerate(zip(batch, duplicates.find_firsts(batch), strict=True), start):
                if first is None:
                    kept.append(index)
                else:
                    lines.append(duplicates.describe(row, first))
            start += len(batch)
        measured[name].indices = kept
        gone[name] = b"".join(lines)
    return gone


def _choose_rows(measured: Mapping[str, _Measured], options: MixOptions) -> tuple[Draw, "array[int]"]:
    """Draw each part's rows and shuffle them; the same on every machine and Python since 3.11."""
    rng = random.Random(options.seed)  # noqa: S311 - a shuffle, not a secret
    if options.ratio is None:
        draw = take_all(measured, rng)
    else:
        wish = Wish(
            shares={name: _share_out(options.ratio)[name] for name in measured},
            by_rows=options.by == "rows",
            oversample=options.oversample,
            tolerance=options.tolerance / _ALL_POINTS,
        )
        draw = draw_rows(measured, wish, rng)
    order = array("Q")
    for number, indices in enumerate(draw.indices.values()):
        order.extend(number * _PART + index for index in indices)
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


def _rename_source(line: bytes, names: Mapping[str, str]) -> bytes:
    import orjson

    record = orjson.loads(line)
    source, slash, rest = str(record.get("origin", "")).partition("/")
    record["origin"] = f"{names.get(source, source)}{slash}{rest}"
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _describe_options(options: MixOptions, renamed: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"ratio": dict(options.ratio) if options.ratio else None, "seed": options.seed}
    if options.ratio:
        described |= {"by": options.by, "oversample": options.oversample, "tolerance": options.tolerance}
    if options.dedup:
        described["dedup"] = options.dedup
    if renamed:
        described["renamed_sources"] = dict(renamed)
    return described
