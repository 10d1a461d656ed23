"""What the row index says of a line, and the writing of data files together with their index."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate
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
_ROWS_A_CALL = 1 << 11
# The bytes of each column in the output of the compiled half, in its order; its kind is always the first.
_COMPILED: Final = {"question": 16, "asked": 16, "conversation": 8, "size": 4, "characters": 4, "flags": 1}
_COMPILED_BYTES: Final = sum(_COMPILED.values())
_KEY_BYTES: Final = 16


class RowFacts(NamedTuple):
    """What the index says of one row, but for where it lies; see prep/storage/row_index.py."""

    question: bytes
    asked: bytes
    conversation: int
    characters: int
    kind: int
    flags: int
    dataset: str


def describe_row(row: TrainingRow) -> RowFacts:
    """Return what the index says of a row."""
    question = hash_text(normalise_question(row.question))
    context = write_context(row)
    origin = Origin.parse(row.origin)
    return RowFacts(
        question,
        _hash(context + question) if context else question,
        hash_conversation(origin.conversation) if origin is not None and origin.answer else 0,
        _count_characters(row),
        ROW_FORMS.index(row.form),
        _flag(row),
        origin.source if origin else "",
    )


class RowColumns:
    """What the index says of rows, column by column and in their order, but for where they lie."""

    def __init__(self) -> None:
        self.sizes = array("I")
        self.codes = array("i")
        # {a dataset: its code}.
        self.datasets: dict[str, int] = {}
        self._question, self._asked = bytearray(), bytearray()
        self._conversations, self._characters = array("Q"), array("I")
        self._kinds, self._flags = bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the index by its names, but for `start`."""
        return {
            "size": self.sizes,
            "question": self._question,
            "asked": self._asked,
            "conversation": self._conversations,
            "characters": self._characters,
            "kind": self._kinds,
            "flags": self._flags,
        }

    def list_keys(self, name: str) -> list[bytes]:
        """Return a column of keys, `question` or `asked`, row by row."""
        keys = bytes(self.columns[name])
        return [keys[start : start + _KEY_BYTES] for start in range(0, len(keys), _KEY_BYTES)]

    def add(self, size: int, facts: RowFacts) -> None:
        """Take a row: the bytes of its line without the line end, and what the index says of it."""
        self.sizes.append(size)
        self._question += facts.question
        self._asked += facts.asked
        self._conversations.append(facts.conversation)
        self._characters.append(facts.characters)
        self._kinds.append(facts.kind)
        self._flags.append(facts.flags)
        self.codes.append(self._code(facts.dataset))

    def extend(self, other: "RowColumns") -> None:
        """Take the rows of others, after one's own."""
        mine, others = self.columns, other.columns
        for name in mine:
            mine[name].extend(others[name])
        codes = array("i", (self._code(name) for name in other.datasets))
        if len(codes) == 1:
            self.codes.extend(codes * len(other))
        else:
            self.codes.extend(array("i", (codes[code] for code in other.codes)))

    def select(self, stays: Sequence[bool]) -> "RowColumns":
        """Return the rows for which that is said."""
        kept = RowColumns()
        for name, column in self.columns.items():
            width = len(column) // max(len(self), 1)
            parts = (column[place * width : (place + 1) * width] for place, stay in enumerate(stays) if stay)
            into = kept.columns[name]
            for part in parts:
                into += part
        kept.datasets = self.datasets
        kept.codes.extend(code for code, stay in zip(self.codes, stays, strict=True) if stay)
        return kept

    def add_lines(self, lines: bytes | bytearray) -> None:
        """Take whole lines that convert wrote."""
        import orjson

        describe = _load_indexer()
        output, start = bytearray(_ROWS_A_CALL * _COMPILED_BYTES), 0
        while start < len(lines):
            rows, read, dataset = describe(lines, start, output) if describe else (0, 0, b"")
            if rows:
                self._add_compiled(output, rows, dataset.decode())
                start += read
                continue
            end = lines.find(b"\n", start)
            self.add(end - start, describe_row(read_record(orjson.loads(lines[start:end]))))
            start = end + 1

    def _add_compiled(self, output: bytearray, rows: int, dataset: str) -> None:
        view, begin = memoryview(output), 0
        columns = self.columns
        for name, width in _COMPILED.items():
            part = view[begin : begin + width * rows]
            column = columns[name]
            column.frombytes(part) if isinstance(column, array) else column.extend(part)
            begin += width * _ROWS_A_CALL
        self._kinds += bytes(rows)
        self.codes.extend(array("i", [self._code(dataset)]) * rows)

    def _code(self, dataset: str) -> int:
        return self.datasets.setdefault(dataset, len(self.datasets))


def describe_lines(lines: bytes | bytearray) -> RowColumns:
    """Return what the index says of whole lines that convert wrote."""
    described = RowColumns()
    described.add_lines(lines)
    return described


def list_origins(lines: bytes | bytearray) -> bytes:
    """Return the origins of whole lines that convert wrote as they stand there, with a line end behind each."""
    import orjson

    if _load_indexer() is not None:
        from prep.rows import _indexer

        if (found := _indexer.list_origins(lines)) is not None:
            return found
    origins = (orjson.loads(line)["origin"] for line in lines.split(b"\n")[:-1])
    return b"".join(orjson.dumps(origin)[1:-1] + b"\n" for origin in origins)


@cache
def _load_indexer() -> "Callable[[bytes | bytearray, int, bytearray], tuple[int, int, bytes]] | None":
    try:
        from prep.rows import _indexer
    except ImportError:
        return None
    return _indexer.describe_lines


def write_context(row: TrainingRow) -> bytes:
    """Return what makes the same question another one, as it stands in a line; b"" without any."""
    import orjson

    if not row.context:
        return b""
    if row.formatting != "alpaca" or any(row.values.get(name) for name in MEDIA):
        return row.context.encode("utf-8", "surrogatepass")
    return orjson.dumps({name: row.values[name] for name in ("system", "history")})[1:-1]


def hash_exactly(row: TrainingRow) -> bytes:
    """Return 16 bytes that are equal for rows whose fields are, in whatever order and but for the origin."""
    return hashlib.sha256(_write_values(row.values)).digest()[:_KEY_BYTES]


def _write_values(values: Mapping[str, Any]) -> bytes:
    """Return a row's fields but its origin, as convert orders and writes them, without the last bracket."""
    import orjson

    own = {name: values[name] for name in AlpacaRecord._fields if name in values and name != "origin"}
    others = {name: values[name] for name in sorted(values) if name not in AlpacaRecord._fields}
    return orjson.dumps(own | others)[:-1]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_KEY_BYTES).digest()


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
        self._starts, self._rows = array("Q"), RowColumns()

    def add(self, start: int, size: int, facts: RowFacts) -> None:
        """Take a row: where its line begins, and its bytes without the line end."""
        self._starts.append(start)
        self._rows.add(size, facts)
        self._flush_full()

    def extend(self, start: int, rows: RowColumns) -> None:
        """Take rows whose lines follow each other from a place on."""
        self._starts.extend(accumulate((size + 1 for size in rows.sizes[:-1]), initial=start))
        self._rows.extend(rows)
        self._flush_full()

    def flush(self) -> None:
        """Hand on what was gathered."""
        rows = self._rows
        if len(rows):
            self._take({"start": self._starts, **rows.columns}, rows.codes, list(rows.datasets))
        self._starts, self._rows = array("Q"), RowColumns()

    def _flush_full(self) -> None:
        if len(self._rows) >= _BATCH_ROWS:
            self.flush()


class RowWriter:
    """A data file and its index under way, made from the same lines."""

    def __init__(self, outputs: OutputSet, path: Path) -> None:
        self.file = outputs.stage(path)
        self._index_file = outputs.stage_index(path)
        self._writer: IndexWriter | None = None
        self._builder = IndexBuilder(self._add)
        self._is_open = True

    def write(self, lines: bytes | bytearray, rows: RowColumns | None = None) -> None:
        """Append whole lines that convert wrote; `rows` is what the index says of them, where that is known."""
        start = self.file.bytes_written
        self.file.write(lines)
        if lines:
            self._builder.extend(start, describe_lines(lines) if rows is None else rows)

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
