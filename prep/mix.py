"""Several converted files → one shuffled file in true ratios."""

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prep.dedup import DUPLICATES_SUFFIX, DuplicateFilter
from prep.errors import UserError
from prep.files import Manifest, describe_input, read_manifest
from prep.lines import KINDS, LineFile, form_of, kinds_of
from prep.origins import Origin
from prep.outputs import describe_output, open_outputs

Progress = Callable[[int], None]
# Above any file's number of rows: a place in the mix is its part's number times this, plus its row.
_PART = 1 << 40


@dataclass(frozen=True)
class MixOptions:
    """How to mix; shares need not add up to 1, and without a ratio every row is taken.

    `by` is what a share is of: rows, characters or tokens, the last with the tokenizer in `model`.
    `oversample` repeats rows of the small parts instead of leaving out rows of the large ones.
    """

    ratio: Mapping[str, float] | None = None
    by: str = "rows"
    model: Path | None = None
    oversample: bool = False
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
    """Mix converted files so that each makes exactly its share of the result, and shuffle.

    The largest result that keeps the ratio without repeating a row is made, or with `oversample` the
    smallest that takes every row. Only the rows' places are held in memory.
    Raises: UserError when the ratio does not fit the parts, or they were written under different policies.
    """
    _check_ratio(parts, options)
    duplicates_path = output.with_name(f"{output.name}{DUPLICATES_SUFFIX}")
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(output, (), step="mix", force=options.force))
        policy = check_same_policy(parts)
        files = {name: stack.enter_context(LineFile(path)) for name, path in parts.items()}
        available = {name: len(file) for name, file in files.items()}
        measured = {name: _measure(file, options, on_rows) for name, file in files.items()}
        form = check_same_form(files)
        dropped = outputs.stage(duplicates_path)
        if options.dedup:
            for name, gone in _drop_duplicates(files, measured, options.dedup).items():
                dropped.write(gone)
                available[name] = len(measured[name].places)
        rng = random.Random(options.seed)  # noqa: S311 - a shuffle, not a secret
        places, taken, sizes = _choose_places(measured, options, rng)
        out = outputs.stage(output)
        renamed = _rename_sources(parts, measured)
        counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        names = list(files)
        for place in places:
            name, row = names[place // _PART], place % _PART
            line = files[name].read_line(row)
            out.write(_rename_source(line, renamed[name]) if name in renamed else line)
            counts.update(kinds_of(files[name].read_record(row)))
            on_rows(1)
        manifest = Manifest(
            step="mix",
            options=_describe_options(options, renamed),
            think_policy=policy,
            inputs=[{"name": name, **describe_input(path)} for name, path in parts.items()],
            counts={"records": len(places), "taken": taken, **counts},
            output=describe_output(out, form),
        )
        for file in files.values():
            file.check_unchanged()
        outputs.publish({output: manifest}, without=() if dropped.bytes_written else (duplicates_path,))
    gone_rows = sum(len(file) for file in files.values()) - sum(available.values())
    return MixResult(taken, available, output, options.by, sizes, gone_rows)


def plan_rows(
    available: Mapping[str, int], ratio: Mapping[str, float] | None, *, oversample: bool = False
) -> dict[str, int]:
    """Return how many rows of each part make the largest mix of a true ratio without repeats.

    With `oversample`: the smallest one that takes every row of every part at least once.
    """
    if ratio is None:
        return dict(available)
    scales = [count / ratio[name] for name, count in available.items()]
    scale = max(scales) if oversample else min(scales)
    # Rounding first keeps 300 / 0.3 * 0.3 from becoming 299.
    return {name: int(round(scale * ratio[name], 6)) for name in available}


def check_same_policy(parts: Mapping[str, Path]) -> str | None:
    """Return the think policy that all parts were written under; raises UserError when they differ."""
    policies: dict[str, str | None] = {}
    for name, path in parts.items():
        manifest = read_manifest(path)
        policies[name] = manifest.think_policy if manifest else None
    if len(set(policies.values())) > 1:
        seen = ", ".join(f"{name} is {policy or 'unknown'}" for name, policy in policies.items())
        raise UserError(
            f"the parts were written under different think policies: {seen}",
            hint="convert them again with one --think-policy",
        )
    return next(iter(policies.values()))


def check_same_form(files: Mapping[str, LineFile]) -> str:
    """Return the form of all parts' rows; raises UserError when some are Alpaca and some ShareGPT."""
    forms = {name: form_of(file.read_record(0)) for name, file in files.items()}
    if len(set(forms.values())) > 1:
        seen = ", ".join(f"{name} is {form}" for name, form in forms.items())
        raise UserError(f"the parts are of different forms: {seen}", hint="register them as two datasets")
    return next(iter(forms.values()))


@dataclass
class _Measured:
    """A part's rows: `sizes` are in the unit of --by, `places` the rows that may be taken."""

    sizes: "array[int]"
    places: Sequence[int]
    sources: set[str]


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
        raise UserError("every share of a ratio must be above zero")
    if options.by == "tokens" and options.model is None:
        raise UserError(
            "--by tokens needs the model whose tokenizer counts", hint="--model PATH, or --by characters"
        )


def _measure(file: LineFile, options: MixOptions, on_rows: Progress) -> _Measured:
    sources: set[str] = set()

    def read_texts() -> Iterator[str]:
        for record in file.read_records():
            origin = Origin.parse(record.get("origin"))
            sources.add(origin.source if origin else "")
            on_rows(1)
            yield _join_texts(record)

    if options.by == "tokens" and options.model is not None:
        from prep.tokens import count_tokens

        sizes = array("Q", count_tokens(read_texts(), options.model))
    else:
        sizes = array("Q", (len(text) if options.by == "characters" else 1 for text in read_texts()))
    return _Measured(sizes, range(len(file)), sources)


def _join_texts(record: Mapping[str, Any]) -> str:
    if "conversations" in record:
        turns = [turn["value"] for turn in record["conversations"]]
        return "\n".join((record["system"], record["tools"], *turns))
    history = [text for pair in record["history"] for text in pair]
    return "\n".join((record["system"], *history, record["instruction"], record["input"], record["output"]))


def _drop_duplicates(
    files: Mapping[str, LineFile], measured: Mapping[str, _Measured], kind: str
) -> dict[str, bytes]:
    """Take the copies of earlier rows, in this part or one before it, out of `places`."""
    import orjson

    duplicates = DuplicateFilter(kind)
    gone: dict[str, bytes] = {}
    for name, file in files.items():
        kept = array("Q")
        lines = []
        for place, record in enumerate(file.read_records()):
            first = duplicates.find_first(record)
            if first is None:
                kept.append(place)
            else:
                entry = {"origin": record.get("origin", ""), "duplicate_of": first, "kind": kind, "row": record}
                lines.append(orjson.dumps(entry) + b"\n")
        measured[name].places = kept
        gone[name] = b"".join(lines)
    return gone


def _choose_places(
    measured: Mapping[str, _Measured], options: MixOptions, rng: random.Random
) -> tuple["array[int]", dict[str, int], dict[str, int]]:
    """Draw each part's rows and shuffle them; the same on every machine and Python since 3.11."""
    chosen = array("Q")
    taken: dict[str, int] = {}
    sizes: dict[str, int] = {}
    totals = {name: sum(part.sizes[place] for place in part.places) for name, part in measured.items()}
    wanted = plan_rows(totals, options.ratio, oversample=options.oversample)
    for number, (name, part) in enumerate(measured.items()):
        drawn = _draw(part, wanted[name], totals[name], rng)
        chosen.extend(number * _PART + place for place in drawn)
        taken[name] = len(drawn)
        sizes[name] = sum(part.sizes[place] for place in drawn)
    rng.shuffle(chosen)
    return chosen, taken, sizes


def _draw(part: _Measured, wanted: int, total: int, rng: random.Random) -> list[int]:
    """Draw rows of a wanted size: every row as often as it fits, and then some once more."""
    if not total:
        return []
    copies, rest = divmod(wanted, total)
    drawn = [place for _ in range(copies) for place in part.places]
    size = 0
    for place in rng.sample(part.places, len(part.places)):
        if size >= rest:
            break
        row_size = part.sizes[place]
        # The last row is taken when that brings the sum nearer.
        if size + row_size - rest <= rest - size:
            drawn.append(place)
            size += row_size
    return drawn


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
    return _collect_files(manifest.__dict__) if manifest else {}


def _collect_files(manifest: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    if manifest["step"] == "convert":
        source = Path(manifest["output"]["path"]).stem
        return {(source, entry.get("label", "")): entry["sha256"] for entry in manifest["inputs"]}
    found: dict[tuple[str, str], str] = {}
    for entry in manifest["inputs"]:
        found |= _collect_files(entry["manifest"]) if "manifest" in entry else {}
    return found


def _rename_source(line: bytes, names: Mapping[str, str]) -> bytes:
    import orjson

    record = orjson.loads(line)
    source, slash, rest = str(record.get("origin", "")).partition("/")
    record["origin"] = f"{names.get(source, source)}{slash}{rest}"
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _describe_options(options: MixOptions, renamed: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"ratio": dict(options.ratio) if options.ratio else None, "seed": options.seed}
    if options.ratio:
        described |= {"by": options.by, "oversample": options.oversample}
    if options.dedup:
        described["dedup"] = options.dedup
    if renamed:
        described["renamed_sources"] = dict(renamed)
    return described
