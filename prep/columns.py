"""Parquet → shards, column by column: the fast way for ShareGPT, and row by row for all else.

A thread decodes batches (pyarrow releases the interpreter's lock meanwhile). A plain conversation's texts
never become rows: their bytes are joined into blocks, checked, stripped and escaped a block at a time. A
row that is not plain (think tags, markup, tools, nulls, an odd order of turns) takes the general way, so
both ways give the same bytes.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.filters import condition_columns
from prep.readers import BadRow, InputFile, SourceRow, open_parquet
from prep.shards import ConvertPlan, ShardBuilder, ShardResult
from prep.sources import SOURCES, map_columns
from prep.sources.conversation import ASSISTANT, SYSTEM, USER
from prep.sources.sharegpt import ROLES
from prep.thinking import EMPTY_THOUGHT, ThinkPolicy

# A batch and its lines stay below what the allocator gives back to the system after each use: faulting those
# pages in again takes longer than all the rest.
_BATCH_BYTES = 250_000
_MAX_BATCH_ROWS = 1_000
_BATCHES_AHEAD = 4
# Blocks of 256 KB and more cost page faults.
_BLOCK_BYTES = 100_000
# A byte that JSON does not escape, in ASCII, so that a block of ASCII stays one; hardly any text holds it.
_BREAK = "\x7f"


def convert_parquet(plan: ConvertPlan, file: InputFile) -> Iterator[ShardResult]:
    """Yield the shards of a parquet file in its order; raises InputError when it is broken."""
    first_row = 1
    with closing(_decode_ahead(plan, file)) as batches:
        for batch, fast in batches:
            builder = ShardBuilder(plan, file.name, file.label)
            if fast is None:
                for row in _read_batch(batch, first_row):
                    builder.add(row)
            else:
                _FastWriter(plan, builder, fast, first_row, file.label).write()
            yield builder.finish()
            first_row += batch.num_rows


def read_columns(file: InputFile) -> list[str]:
    """Return the names of a parquet file's columns."""
    with open_parquet(file.path) as parquet:
        return list(parquet.schema_arrow.names)


def _decode_ahead(plan: ConvertPlan, file: InputFile) -> Generator[Any, None, None]:
    """Yield record batches, and them as buffers, that a thread decodes ahead; its errors are raised here."""
    batches: queue.Queue[Any] = queue.Queue(maxsize=_BATCHES_AHEAD)
    stop = threading.Event()

    def decode() -> None:
        try:
            with open_parquet(file.path) as parquet:
                columns = _pick_columns(plan, parquet.schema_arrow.names)
                batch_rows = _count_batch_rows(parquet.metadata)
                for batch in parquet.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False):
                    batches.put((batch, _FastBatch.of(plan, batch)))
                    if stop.is_set():
                        return
            batches.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the batches are used
            batches.put(error)

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    try:
        while (item := batches.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            _drain(batches)
            thread.join(timeout=0.01)


def _drain(batches: "queue.Queue[Any]") -> None:
    while True:
        try:
            batches.get_nowait()
        except queue.Empty:
            return


def _count_batch_rows(metadata: Any) -> int:
    sizes = [metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups)]
    mean_bytes = sum(sizes) / max(metadata.num_rows, 1)
    return max(1, min(_MAX_BATCH_ROWS, int(_BATCH_BYTES / max(mean_bytes, 1))))


def _pick_columns(plan: ConvertPlan, names: list[str]) -> list[str]:
    """Return the columns to decode, in the file's order; all when a needed one is missing, to say so."""
    try:
        used = set(map_columns(SOURCES[plan.source], names, plan.column_map).values())
    except InputError:
        return names
    used |= condition_columns(plan.where)
    return [name for name in names if name in used]


def _read_batch(batch: Any, first_row: int) -> Iterator[SourceRow | BadRow]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            yield _read_row(batch, place, first_row)
        return
    for number, values in enumerate(rows, first_row):
        yield SourceRow(number, values)


def _read_row(batch: Any, place: int, first_row: int) -> SourceRow | BadRow:
    try:
        return SourceRow(first_row + place, batch.slice(place, 1).to_pylist()[0])
    except UnicodeDecodeError:
        return BadRow(first_row + place, "not valid UTF-8")


class _FastBatch(NamedTuple):
    """A batch's conversations as buffers: row r's turns are offsets[r]:offsets[r+1], turn t's text is
    data[text_offsets[t]:text_offsets[t+1]], and its role roles[role_indices[t]].
    """

    batch: Any
    offsets: memoryview
    text_offsets: memoryview
    data: memoryview
    role_indices: memoryview
    roles: list[str]

    @classmethod
    def of(cls, plan: ConvertPlan, batch: Any) -> "_FastBatch | None":
        """Look at a batch as buffers, or return None when it is not plain ShareGPT.

        `pa.array` and `to_numpy` are avoided: they import pandas, which takes longer than the batch.
        """
        import pyarrow as pa

        if plan.source != "sharegpt" or plan.where or plan.length_limit is not None:
            return None
        column = map_columns(SOURCES["sharegpt"], batch.schema.names, plan.column_map)
        if set(column) != {"conversations"}:
            return None
        lists = batch.column(column["conversations"])
        turn = pa.struct([("from", pa.string()), ("value", pa.string())])
        plain = pa.types.is_list(lists.type) and lists.type.value_type.equals(turn)
        if not plain or lists.null_count or lists.offset or not len(lists):
            return None
        turns = lists.values
        roles, texts = turns.field("from"), turns.field("value")
        if turns.null_count or turns.offset or roles.null_count or texts.null_count or texts.offset:
            return None
        if not len(texts):
            return None
        encoded = roles.dictionary_encode()
        try:
            names = encoded.dictionary.to_pylist()
        except UnicodeDecodeError:
            return None
        text_buffers, data = texts.buffers()[1:]
        return cls(
            batch,
            _as_int32(lists.buffers()[1]),
            _as_int32(text_buffers),
            memoryview(data or b""),
            _as_int32(encoded.indices.buffers()[1]),
            names,
        )


def _as_int32(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view[: len(view) // 4 * 4].cast("B").cast("i")


class _FastWriter:
    """Writes a batch's plain rows from its buffers, and hands the others to the general way, in order."""

    def __init__(
        self, plan: ConvertPlan, builder: ShardBuilder, fast: _FastBatch, first_row: int, label: str
    ) -> None:
        import orjson

        self._dumps = orjson.dumps
        self._builder = builder
        self._fast = fast
        self._first_row = first_row
        self._turns = plan.turns
        thought = EMPTY_THOUGHT if plan.policy is ThinkPolicy.TAGGED else ""
        self._before_answer = b'","input":"","output":"' + self._escape(thought)
        self._system = self._escape(plan.system.strip())
        origin = self._escape(f"{plan.prefix}/{label}:".encode("utf-8", "backslashreplace").decode())
        self._before_number = b'],"origin":"' + origin
        self._lines: list[bytes] = []
        self._rows = self._with_system = self._with_history = 0
        # {the bytes of a row's role indices: whether it has a system turn; None when it is not plain}
        self._shapes: dict[bytes, bool | None] = {}

    def write(self) -> None:
        """Convert the whole batch."""
        text_offsets, offsets = self._fast.text_offsets, self._fast.offsets
        self._builder.note_columns(self._fast.batch.schema.names)
        rows = self._fast.batch.num_rows
        start, bytes_before = 0, text_offsets[offsets[0]]
        for row in range(rows):
            end = text_offsets[offsets[row + 1]]
            if end - bytes_before >= _BLOCK_BYTES or row == rows - 1:
                self._write_block(start, row + 1)
                start, bytes_before = row + 1, end

    def _write_block(self, start: int, stop: int) -> None:
        bounds = self._fast.offsets[start : stop + 1].tolist()
        first_turn = bounds[0]
        escaped = self._escape_turns(first_turn, bounds[-1])
        indices = self._fast.role_indices[first_turn : bounds[-1]].tobytes()
        shapes = self._shapes
        for row, (begin, end) in enumerate(pairwise(bounds), start):
            key = indices[4 * (begin - first_turn) : 4 * (end - first_turn)]
            has_system = shapes[key] if key in shapes else self._learn_shape(key, begin, end)
            pieces = escaped[begin - first_turn : end - first_turn]
            # An escaped piece is b"" or None where a text needs the general way.
            if has_system is None or not all(pieces):
                self._flush()
                self._builder.add(_read_row(self._fast.batch, row, self._first_row))
            else:
                self._add_pieces(row, pieces, has_system)
        self._flush()

    def _flush(self) -> None:
        self._builder.add_plain(
            self._lines, rows=self._rows, with_system=self._with_system, with_history=self._with_history
        )
        self._lines = []
        self._rows = self._with_system = self._with_history = 0

    def _escape_turns(self, first: int, last: int) -> list[bytes]:
        """Strip and escape the texts of turns first:last; b"" for one that must go the general way."""
        data = self._fast.data
        bounds = self._fast.text_offsets[first : last + 1].tolist()
        joined = _BREAK.encode().join([data[a:b] for a, b in pairwise(bounds)])
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            return [b""] * (last - first)
        parts = text.split(_BREAK)
        if len(parts) != last - first:
            return [b""] * (last - first)
        stripped = [part.strip() for part in parts]
        escaped = self._escape(_BREAK.join(stripped)).split(_BREAK.encode())
        if "<" in text and ("<|" in text or "think>" in text):
            for place, part in enumerate(stripped):
                if "<|" in part or "think>" in part:
                    escaped[place] = b""
        return escaped

    def _learn_shape(self, key: bytes, begin: int, end: int) -> bool | None:
        roles = [ROLES.get(self._fast.roles[index]) for index in self._fast.role_indices[begin:end]]
        has_system = roles[:1] == [SYSTEM]
        plain = roles[has_system:]
        alternates = bool(plain) and plain == [USER, ASSISTANT] * (len(plain) // 2)
        self._shapes[key] = has_system if alternates else None
        return self._shapes[key]

    def _add_pieces(self, row: int, pieces: list[bytes], has_system: bool) -> None:
        system = self._system
        if has_system:
            system, pieces = pieces[0], pieces[1:]
        number = b"%d" % (self._first_row + row)
        self._rows += 1
        if len(pieces) == 2 or self._turns == "first":
            self._lines.append(self._write_line(pieces[0], pieces[1], system, b"", number))
            self._with_system += system != b""
        elif self._turns == "expand":
            self._expand(pieces, system, number)
        else:
            history = b"" if self._turns == "last" else _write_history(pieces[:-2])
            self._lines.append(self._write_line(pieces[-2], pieces[-1], system, history, number))
            self._with_system += system != b""
            self._with_history += history != b""

    def _expand(self, pieces: list[bytes], system: bytes, number: bytes) -> None:
        answers = len(pieces) // 2
        history = b""
        for answer in range(answers):
            question, reply = pieces[2 * answer : 2 * answer + 2]
            own_number = b"%b#%d" % (number, answer + 1)
            self._lines.append(self._write_line(question, reply, system, history, own_number))
            history += (b"," if history else b"") + _write_history([question, reply])
        self._with_system += answers * (system != b"")
        self._with_history += answers - 1

    def _write_line(self, question: bytes, answer: bytes, system: bytes, history: bytes, number: bytes) -> bytes:
        return b"%b%b%b%b%b%b%b%b%b%b%b" % (
            b'{"instruction":"',
            question,
            self._before_answer,
            answer,
            b'","system":"',
            system,
            b'","history":[',
            history,
            self._before_number,
            number,
            b'"}\n',
        )

    def _escape(self, text: str) -> bytes:
        return bytes(self._dumps(text)[1:-1])


def _write_history(turns: list[bytes]) -> bytes:
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return b",".join(b'["%b","%b"]' % pair for pair in pairs)
