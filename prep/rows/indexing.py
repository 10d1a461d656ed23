"""What the row index says of a line, and the writing of data files together with their index."""

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from prep.rows.origins import Origin
from prep.rows.questions import hash_text, normalise_question
from prep.rows.records import TrainingRow, read_record
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG
from prep.storage.outputs import OutputSet, describe_output
from prep.storage.row_index import IndexWriter, RowIndex, make_batch

# What `kind` counts in: LLaMA-Factory's formatting.
ROW_KINDS = ("alpaca", "sharegpt")
WITH_SYSTEM, WITH_HISTORY, WITH_THOUGHT, EMPTY_THOUGHT = 1, 2, 4, 8
_FLAGS = (WITH_SYSTEM, WITH_HISTORY, WITH_THOUGHT, EMPTY_THOUGHT)
_BATCH_ROWS = 1 << 13
# A plain line, as convert writes it: these stand between its texts, and cannot stand inside one, where a quote has
# a backslash before it.
_START, _INPUT, _OUTPUT = b'{"instruction":"', b'","input":"","output":"', b'","system":"","history":[],"origin":"'
_END = b'"}'
_EMPTY_BLOCK, _BLOCK, _TAG = b"<think>\\n\\n</think>\\n\\n", b"<think>\\n", b"<think>"
_ORIGIN = re.compile(rb'(([^/"\\]+)/[^"\\]+:\d+)(#0*[1-9]\d*)?')
# The same fields with their keys in order, by which rows are equal however their keys are ordered.
_EXACT_START = hashlib.sha256(b'{"history":[],"input":"","instruction":"')
_EXACT_OUTPUT, _EXACT_END = b'","output":"', b'","system":""}'
_KEY_BYTES: Final = 16


class RowFacts(NamedTuple):
    """What the index says of one row, but for where it lies; see prep/storage/row_index.py."""

    question: bytes
    asked: bytes
    exact: bytes
    conversation: int
    characters: int
    kind: int
    flags: int
    dataset: str


def describe_row(row: TrainingRow) -> RowFacts:
    """Return what the index says of a row."""
    import orjson

    question = hash_text(normalise_question(row.question))
    values = {name: value for name, value in row.values.items() if name != "origin"}
    origin = Origin.parse(row.origin)
    return RowFacts(
        question,
        hash_text(f"{question.hex()} {row.context}") if row.context else question,
        hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).digest()[:_KEY_BYTES],
        hash_conversation(origin.conversation) if origin is not None and origin.answer else 0,
        _count_characters(row),
        ROW_KINDS.index(row.formatting),
        _flag(row),
        origin.source if origin else "",
    )


def describe_line(line: bytes) -> RowFacts:
    """Return what the index says of a line that was just written, without its line end."""
    import orjson

    return _describe_plain_line(line) or describe_row(read_record(orjson.loads(line)))


def _describe_plain_line(line: bytes) -> RowFacts | None:
    """Return what `describe_row` would, in a fraction of its time; None for a line out of the ordinary."""
    asked_end = line.find(_INPUT)
    answer_end = line.rfind(_OUTPUT)
    if asked_end < 0 or answer_end < asked_end or not line.startswith(_START) or not line.endswith(_END):
        return None
    asked, answer = line[len(_START) : asked_end], line[asked_end + len(_INPUT) : answer_end]
    origin = line[answer_end + len(_OUTPUT) : -len(_END)]
    escaped = b"\\" in asked or b"\\" in answer
    way = _ORIGIN.fullmatch(origin)
    if way is None or (escaped and (b"\\u" in asked or b"\\u" in answer)):
        return None
    flags = 0
    if answer.startswith(_EMPTY_BLOCK):
        flags = EMPTY_THOUGHT
    elif answer.startswith(_BLOCK) and answer[len(_BLOCK) : len(_BLOCK) + 1] not in b"\\ <":
        flags = WITH_THOUGHT
    elif _TAG in answer:
        return None
    text = asked.decode()
    key = hash_text(normalise_question(_unescape(text) if "\\" in text else text))
    exact = _EXACT_START.copy()
    exact.update(b"%b%b%b%b" % (asked, _EXACT_OUTPUT, answer, _EXACT_END))
    return RowFacts(
        key,
        key,
        exact.digest()[:_KEY_BYTES],
        hash_conversation(way[1].decode()) if way[3] else 0,
        len(text) + len(answer.decode()) - _count_escapes(asked) - _count_escapes(answer),
        0,
        flags,
        way[2].decode(),
    )


def _unescape(text: str) -> str:
    import orjson

    return str(orjson.loads(f'"{text}"'))


def _count_escapes(text: bytes) -> int:
    """Return how many characters of JSON text stand for one with a backslash, none of them by its number."""
    return text.count(b"\\") - text.count(b"\\\\")


def _count_characters(row: TrainingRow) -> int:
    """Return the characters of all that a row trains on or reads, with the line end between question and input."""
    return sum(map(len, row.texts)) + bool(row.values.get("instruction") and row.values.get("input"))


def _flag(row: TrainingRow) -> int:
    flags = WITH_SYSTEM * bool(row.values.get("system")) + WITH_HISTORY * row.has_history
    if OPEN_TAG not in row.answer:
        return flags
    thought = row.answer.partition(OPEN_TAG)[2].partition(CLOSE_TAG)[0]
    return flags + (WITH_THOUGHT if thought.strip() else EMPTY_THOUGHT)


def hash_conversation(name: str) -> int:
    """Return what the index says of a row that is one of several of a conversation."""
    return int.from_bytes(hash_text(name)[:8], "little") | 1


def count_kinds(flags: Any, places: Sequence[int]) -> dict[str, int]:
    """Return how many of the rows at these places are of each of the kinds that manifests count."""
    import numpy as np

    counts = np.bincount(flags[np.asarray(places, dtype=np.int64)], minlength=1 << 4)
    has = {flag: sum(int(count) for value, count in enumerate(counts) if value & flag) for flag in _FLAGS}
    return {
        "reasoning": has[WITH_THOUGHT],
        "chat": len(places) - has[WITH_THOUGHT],
        "with_system": has[WITH_SYSTEM],
        "with_history": has[WITH_HISTORY],
    }


class IndexBuilder:
    """Gathers what the index says of rows, in their order; `take` gets each full batch."""

    def __init__(self, take: Callable[[Mapping[str, Any], Sequence[int], Sequence[str]], None]) -> None:
        self._take = take
        self._codes: dict[str, int] = {}
        self._begin()

    def add(self, start: int, size: int, facts: RowFacts) -> None:
        """Take a row: where its line begins, and its bytes without the line end."""
        self._starts.append(start)
        self._sizes.append(size)
        self._facts.append(facts)
        if len(self._facts) == _BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand on what was gathered."""
        if not self._facts:
            return
        question, asked, exact, conversation, characters, kind, flags, dataset = zip(*self._facts, strict=True)
        columns = {
            "start": self._starts,
            "size": self._sizes,
            "question": b"".join(question),
            "asked": b"".join(asked),
            "exact": b"".join(exact),
            "conversation": array("Q", conversation),
            "characters": array("I", characters),
            "kind": bytes(kind),
            "flags": bytes(flags),
        }
        codes = [self._codes.setdefault(name, len(self._codes)) for name in dataset]
        self._take(columns, codes, list(self._codes))
        self._begin()

    def _begin(self) -> None:
        self._starts, self._sizes = array("Q"), array("I")
        self._facts: list[RowFacts] = []


class RowWriter:
    """A data file and its index under way, made from the same lines."""

    def __init__(self, outputs: OutputSet, path: Path) -> None:
        self.file = outputs.stage(path)
        self._index_file = outputs.stage_index(path)
        self._writer: IndexWriter | None = None
        self._builder = IndexBuilder(self._add)
        self._is_open = True

    def write(self, lines: bytes, facts: Sequence[RowFacts] | None = None) -> None:
        """Append whole lines that convert wrote; `facts` is what the index says of them, where that is known."""
        start = self.file.bytes_written
        self.file.write(lines)
        for number, line in enumerate(lines.split(b"\n")[:-1]):
            self._builder.add(start, len(line), facts[number] if facts is not None else describe_line(line))
            start += len(line) + 1

    def add_index(self, columns: Mapping[str, Any], codes: Sequence[int], datasets: Sequence[str]) -> None:
        """Take the index of rows whose lines went into `file` by themselves."""
        self._builder.flush()
        self._add(columns, codes, datasets)

    def describe(self, formatting: str) -> dict[str, Any]:
        """Return the manifest's entry of the file, which is whole now."""
        if self._is_open:
            self._builder.flush()
            self._open_writer().close()
            self._is_open = False
        return describe_output(self.file, formatting, self._index_file)

    def _add(self, columns: Mapping[str, Any], codes: Sequence[int], datasets: Sequence[str]) -> None:
        self._open_writer().add(columns, codes, datasets)

    def _open_writer(self) -> IndexWriter:
        self._writer = self._writer or IndexWriter(self._index_file.write)
        return self._writer


def build_index(rows: Iterable[tuple[int, int, RowFacts]]) -> RowIndex:
    """Return an index in memory of (start, size, facts) of each row."""
    batches: list[Any] = []
    builder = IndexBuilder(lambda columns, codes, names: batches.append(make_batch(columns, codes, names)))
    for start, size, facts in rows:
        builder.add(start, size, facts)
    builder.flush()
    return RowIndex(batches)
