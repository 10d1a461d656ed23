"""What the row index says of a line, and the writing of data files together with their index."""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from prep.rows.kinds import MEDIA, Form, Kind, get_form
from prep.rows.origins import Origin
from prep.rows.questions import hash_text, normalise_question
from prep.rows.records import AlpacaRecord, TrainingRow, read_record
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG
from prep.storage.outputs import OutputSet, describe_output
from prep.storage.row_index import IndexWriter, RowIndex, make_batch

# What the column `kind` counts in; a new one comes last, as files hold the numbers.
ROW_FORMS = (
    get_form(Kind.SFT, "alpaca"),
    get_form(Kind.SFT, "sharegpt"),
    get_form(Kind.PREFERENCE, "alpaca"),
    get_form(Kind.PREFERENCE, "sharegpt"),
    get_form(Kind.KTO, "alpaca"),
    get_form(Kind.KTO, "sharegpt"),
    get_form(Kind.TEXT, "alpaca"),
)
WITH_SYSTEM, WITH_HISTORY, WITH_THOUGHT, EMPTY_THOUGHT = 1, 2, 4, 8
_FLAGS = (WITH_SYSTEM, WITH_HISTORY, WITH_THOUGHT, EMPTY_THOUGHT)
# The media columns that a row has, empty or not.
MEDIA_FLAGS: Final = {name: 16 << place for place, name in enumerate(MEDIA)}
_BATCH_ROWS = 1 << 13
# A record that the compiled half writes: see _indexer.c.
_RECORD = struct.Struct("@16s16sQIIIIIBB2x")
_RECORDS_A_CALL = 256
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
    question = hash_text(normalise_question(row.question))
    context = _write_context(row)
    origin = Origin.parse(row.origin)
    return RowFacts(
        question,
        _hash(question + context) if context else question,
        _hash_exactly(_write_values(row.values)),
        hash_conversation(origin.conversation) if origin is not None and origin.answer else 0,
        _count_characters(row),
        ROW_FORMS.index(row.form),
        _flag(row),
        origin.source if origin else "",
    )


def describe_lines(lines: bytes) -> Iterator[tuple[int, RowFacts]]:
    """Yield for each line that convert wrote its bytes without the line end, and what the index says of it."""
    import orjson

    describe = _load_indexer()
    output, start = bytearray(_RECORDS_A_CALL * _RECORD.size), 0
    names: dict[bytes, str] = {}
    while start < len(lines):
        done = describe(lines, start, output) if describe else 0
        for record in islice(_RECORD.iter_unpack(output), done):
            question, asked, conversation, size, characters, dataset_at, dataset_size, exact, kind, flags = record
            name = lines[start + dataset_at : start + dataset_at + dataset_size]
            dataset = names.get(name) or names.setdefault(name, name.decode())
            key = _hash_exactly(lines[start : start + exact])
            yield size, RowFacts(question, asked, key, conversation, characters, kind, flags, dataset)
            start += size + 1
        if done < _RECORDS_A_CALL and start < len(lines):
            end = lines.find(b"\n", start)
            yield end - start, describe_row(read_record(orjson.loads(lines[start:end])))
            start = end + 1


@cache
def _load_indexer() -> "Callable[[bytes, int, bytearray], int] | None":
    try:
        from prep.rows import _indexer
    except ImportError:
        return None
    return _indexer.describe_lines


def _write_context(row: TrainingRow) -> bytes:
    """Return what makes the same question another one, as it stands in a line; b"" without any."""
    import orjson

    if not row.context:
        return b""
    if row.formatting != "alpaca" or any(row.values.get(name) for name in MEDIA):
        return row.context.encode("utf-8", "surrogatepass")
    return orjson.dumps({name: row.values[name] for name in ("system", "history")})[1:-1]


def _write_values(values: Mapping[str, Any]) -> bytes:
    """Return a row's fields but its origin, as convert orders and writes them, without the last bracket."""
    import orjson

    own = {name: values[name] for name in AlpacaRecord._fields if name in values and name != "origin"}
    others = {name: values[name] for name in sorted(values) if name not in AlpacaRecord._fields}
    return orjson.dumps(own | others)[:-1]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_KEY_BYTES).digest()


def _hash_exactly(content: bytes) -> bytes:
    # Of a whole row: the processor's own instructions make it faster than the other one.
    return hashlib.sha256(content).digest()[:_KEY_BYTES]


def _count_characters(row: TrainingRow) -> int:
    """Return the characters of all that a row trains on or reads, with the line end between question and input."""
    return sum(map(len, row.texts)) + bool(row.values.get("instruction") and row.values.get("input"))


def _flag(row: TrainingRow) -> int:
    flags = WITH_SYSTEM * bool(row.values.get("system")) + WITH_HISTORY * row.has_history
    flags += sum(flag for name, flag in MEDIA_FLAGS.items() if name in row.values)
    if OPEN_TAG not in row.answer:
        return flags
    thought = row.answer.partition(OPEN_TAG)[2].partition(CLOSE_TAG)[0]
    return flags + (WITH_THOUGHT if thought.strip() else EMPTY_THOUGHT)


def hash_conversation(name: str) -> int:
    """Return what the index says of a row that is one of several of a conversation."""
    return int.from_bytes(hash_text(name)[:8], "little") | 1


def describe_form(form: Form, flags: int) -> str:
    """Return what rows are, for a message: `sft (alpaca, with images)`."""
    media = [name for name, flag in MEDIA_FLAGS.items() if flags & flag]
    return f"{form.kind} ({form.formatting}{', with ' if media else ''}{' and '.join(media)})"


def count_kinds(flags: Any, places: Sequence[int], kind: Kind) -> dict[str, int]:
    """Return how many of the rows at these places, all of one kind, are of each that manifests count."""
    import numpy as np

    counts = np.bincount(flags[np.asarray(places, dtype=np.int64)])
    has = {flag: sum(int(count) for value, count in enumerate(counts) if value & flag) for flag in _FLAGS}
    return {
        "reasoning": has[WITH_THOUGHT],
        "chat": 0 if kind is Kind.TEXT else len(places) - has[WITH_THOUGHT],
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

    def write(self, lines: bytes, facts: Sequence[tuple[int, RowFacts]] | None = None) -> None:
        """Append whole lines that convert wrote; `facts` is what the index says of them, where that is known."""
        start = self.file.bytes_written
        self.file.write(lines)
        for size, row in describe_lines(lines) if facts is None else facts:
            self._builder.add(start, size, row)
            start += size + 1

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
