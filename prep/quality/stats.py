"""What a dataset holds: rows by kind, exact lengths, and what each cutoff_len would cut."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prep.errors import InputError
from prep.frames import make_frame
from prep.parallel.processes import WorkerPool, count_workers
from prep.progress import SILENT, Progress
from prep.registry.dataset import Dataset, align_row, count_noted_rows, find_own_index, read_dataset_rows
from prep.rows.conversation import Conversation
from prep.rows.indexing import EMPTY_THOUGHT, WITH_THOUGHT
from prep.rows.kinds import Kind
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG
from prep.tokens.cutoff import CutoffAdvice, CutoffReplay, advise_cutoff, percentile, replay_cutoff
from prep.tokens.encoder import LengthTable, RowEncoder, TurnLengths, make_measurer
from prep.tokens.turns import TemplateOptions, plan_turns
from prep.wording import in_shell

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("reasoning", "chat", "empty thought")
PERCENTS = (50, 90, 95, 99)
# LLaMA-Factory's default is 2048; the others are what people choose.
USUAL_CUTOFFS = (1024, 2048, 4096, 8192, 16384, 32768)
_MOST_BARS = 20
_PROGRESS_ROWS = 1000
_SHOWN_LINES = 1000
# Below this, starting processes takes longer than they save.
_PARALLEL_BYTES = 16 << 20
_BATCH_ROWS = 512


@dataclass(frozen=True)
class StatsOptions:
    """What to measure with; without `model` lengths are characters, and no cutoff is replayed."""

    model: Path | None = None
    template: TemplateOptions = field(default_factory=TemplateOptions)
    cutoff_lens: tuple[int, ...] = ()
    packing: bool = False


class Bar(NamedTuple):
    """One bar of a histogram: `rows` with lengths from `low` up to, not with, `high`."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class DatasetStats:
    """The result; `cut_lines` are the first lines of rows that the one cutoff asked for would cut."""

    rows: int
    kinds: dict[str, int]
    unit: str
    lengths: dict[str, float]
    histogram: list[Bar]
    advice: CutoffAdvice | None
    replays: list[CutoffReplay]
    cut_lines: list[int]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        replays = [
            {"cutoff_len": replay.cutoff_len, "packing": replay.packing, "rows_cut": len(replay.rows_cut)}
            | {f"rows_losing_{name}": count for name, count in replay.losses.items()}
            | {"rows_dropped": 0}
            for replay in self.replays
        ]
        return {
            "rows": self.rows,
            "kinds": self.kinds,
            "unit": self.unit,
            "lengths": self.lengths,
            "histogram": [bar._asdict() for bar in self.histogram],
            "cutoff_advice": asdict(self.advice) if self.advice else None,
            "cutoffs": replays,
            "cut_lines": self.cut_lines,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Return the histogram: rows by length, from `low` up to, not with, `high`."""
        return make_frame(bar._asdict() for bar in self.histogram)


def collect_stats(dataset: Dataset, options: StatsOptions, on_rows: Progress = SILENT) -> DatasetStats:
    """Read a dataset once and measure every row.

    Raises: InputError at the first row that cannot be read, with file and line.
    """
    options = replace(options, template=replace(options.template, stage=dataset.kind.stages[0]))
    on_rows.expect(count_noted_rows(dataset))
    reader = _Reader(dataset, options.template, on_rows)
    table = LengthTable(options.template.rules.row_tokens)
    if options.model is None:
        totals = reader.count_characters()
    else:
        for turns in _measure_rows(dataset, options.model, options.template, reader.read_conversations()):
            table.append(turns)
        totals = table.total_lengths()
    if not totals:
        raise InputError(f"no rows in {', '.join(str(path) for path in dataset.paths)}")
    ordered = sorted(totals)
    cutoffs = options.cutoff_lens or _choose_cutoffs(ordered[-1])
    replays = [
        replay_cutoff(
            table,
            cutoff,
            mask_history=options.template.mask_history,
            packing=options.packing,
            row_tokens=options.template.rules.row_tokens,
        )
        for cutoff in (cutoffs if options.model else ())
    ]
    shown = replays[0].rows_cut[:_SHOWN_LINES] if len(options.cutoff_lens) == 1 and replays else []
    return DatasetStats(
        rows=len(totals),
        kinds=reader.kinds,
        unit="tokens" if options.model else "characters",
        lengths=summarise_lengths(ordered),
        histogram=make_histogram(ordered),
        advice=advise_cutoff(ordered) if options.model else None,
        replays=replays,
        cut_lines=[reader.lines[place] for place in shown],
    )


def _measure_rows(
    dataset: Dataset, model: Path, template: TemplateOptions, rows: Iterator[Conversation]
) -> Iterator[list[TurnLengths]]:
    """Measure a large dataset in several processes: cutting texts keeps one busy."""
    workers = count_workers() if sum(path.stat().st_size for path in dataset.paths) >= _PARALLEL_BYTES else 1
    if workers == 1:
        yield from RowEncoder(model, template).measure_rows(rows)
        return
    with WorkerPool(workers, make_measurer, model, template) as pool:
        for lengths in pool.map(iter(lambda: list(islice(rows, _BATCH_ROWS)), [])):
            yield from lengths


def summarise_lengths(ordered: Sequence[int]) -> dict[str, float]:
    """Return min, mean, percentiles and max of sorted lengths."""
    mean = round(sum(ordered) / len(ordered), 1)
    middle = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTS}
    return {"min": ordered[0], "mean": mean, **middle, "max": ordered[-1], "total": sum(ordered)}


def make_histogram(ordered: Sequence[int]) -> list[Bar]:
    """Return at most 20 bars of one round width over sorted lengths."""
    width = 1
    while ordered[-1] // width >= _MOST_BARS:
        # 1, 2, 5, 10, 20, 50, …
        width = width * 5 // 2 if str(width)[0] == "2" else width * 2
    counts = [0] * (ordered[-1] // width + 1)
    for length in ordered:
        counts[length // width] += 1
    return [Bar(place * width, (place + 1) * width, count) for place, count in enumerate(counts)]


def name_kind(answer: str) -> str:
    """Return which of KINDS an output is."""
    if OPEN_TAG not in answer:
        return "chat"
    thought = answer.partition(OPEN_TAG)[2].partition(CLOSE_TAG)[0]
    return "empty thought" if thought.isspace() or not thought else "reasoning"


class _Reader:
    def __init__(self, dataset: Dataset, template: TemplateOptions, on_rows: Progress) -> None:
        self.kinds = dict.fromkeys(KINDS, 0)
        self.lines = array("I")
        self._dataset, self._template, self._on_rows = dataset, template, on_rows

    def count_characters(self) -> list[int]:
        """Return the characters of each row: from the files' indexes where they have them."""
        indexes = [find_own_index(self._dataset, path) for path in self._dataset.paths]
        if not all(index is not None for index in indexes):
            return [
                sum(map(len, (row.system, row.tools, row.rejected or "", *(text for _, text in row.messages))))
                for row in self.read_conversations()
            ]
        lengths: list[int] = []
        for index in indexes:
            if index is not None:
                flags = index.column("flags")
                thinks, empty = ((flags & flag).astype(bool).sum() for flag in (WITH_THOUGHT, EMPTY_THOUGHT))
                for kind, count in zip(KINDS, (thinks, len(index) - thinks - empty, empty), strict=True):
                    self.kinds[kind] += int(count)
                lengths += index.column("characters").tolist()
                self._on_rows(len(index))
        return lengths

    def read_conversations(self) -> Iterator[Conversation]:
        for path, line, row in read_dataset_rows(self._dataset):
            try:
                conversation = align_row(row, self._dataset)
                self._check(row, conversation)
            except InputError as error:
                raise InputError(
                    f"{path} line {line}: {error}", hint=f"lfc prep lint {in_shell(path)} tells all"
                ) from error
            self.lines.append(line)
            # A text for pre-training answers nothing.
            answer = "" if self._dataset.kind is Kind.TEXT else conversation.messages[-1][1]
            self.kinds[name_kind(answer)] += 1
            if len(self.lines) % _PROGRESS_ROWS == 0:
                self._on_rows(_PROGRESS_ROWS)
            yield conversation

    def _check(self, row: dict[str, Any], conversation: Conversation) -> None:
        """Raise InputError for what LLaMA-Factory would stop at, and what measuring by itself would not see."""
        history = self._dataset.columns.get("history", "")
        if history in row and row[history] is None:
            raise InputError(f"column '{history}' is null")
        if conversation.tools:
            plan_turns(conversation, self._template)


def _choose_cutoffs(longest: int) -> list[int]:
    return [cutoff for cutoff in USUAL_CUTOFFS if cutoff == 2048 or cutoff < longest]
