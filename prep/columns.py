"""Parquet → shards, column by column: the fast way for ShareGPT, and row by row for all else.

A thread decodes batches (pyarrow releases the interpreter's lock meanwhile). A plain conversation's texts
never become rows: their bytes are joined into blocks, checked, stripped and escaped a block at a time. A
row that is not plain (think tags, markup, tools, nulls, an odd order of turns) takes the general way, so
both ways give the same bytes.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from prep.ahead import work_ahead
from prep.errors import InputError
from prep.filters import condition_columns
from prep.readers import BadRow, InputFile, SourceRow, open_parquet
from prep.shards import ConvertPlan, ShardBuilder, ShardResult
from prep.sources import SOURCES, map_columns
from prep.sources.conversation import ASSISTANT, SYSTEM, USER
from prep.sources.sharegpt import ROLES
from prep.thinking import EMPTY_THOUGHT, ThinkPolicy

# Large enough for the threads to meet at the interpreter's lock seldom, small enough for the processor's cache.
_BATCH_BYTES = 2_000_000
_MAX_BATCH_ROWS = 8_000
_BATCHES_AHEAD = 4
_BLOCK_BYTES = 200_000
# A byte that JSON does not escape, in ASCII, so that a block of ASCII stays one; hardly any text holds it.
_BREAK = "\x7f"
_START, _END = b'{"instruction":"', b'"}\n'
_BEFORE_SYSTEM, _BEFORE_HISTORY = b'","system":"', b'","history":['


def convert_parquet(plan: ConvertPlan, file: InputFile) -> Iterator[ShardResult]:
    """Yield the shards of a parquet file in its order; raises InputError when it is broken."""
    first_row = 1
    with closing(work_ahead(_decode(plan, file), _BATCHES_AHEAD)) as batches:
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


def _decode(plan: ConvertPlan, file: InputFile) -> Generator[Any, None, None]:
    """Yield record batches, and them as buffers."""
    with open_parquet(file.path) as parquet:
        columns = _pick_columns(plan, parquet.schema_arrow.names)
        batch_rows = _count_batch_rows(parquet.metadata)
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False):
            yield batch, _FastBatch.of(plan, batch)


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
    data[text_offsets[t]:text_offsets[t+1]], and its role stands likewise in role_data.

    Shape: int32 arrays of rows + 1 and turns + 1 items. `may_strip` says for each turn whether white space may
    stand at an end of its text, which is known for certain only when it is false.
    """

    batch: Any
    offsets: Any
    text_offsets: Any
    data: memoryview
    role_offsets: Any
    role_data: memoryview
    may_strip: Any

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
        if turns.null_count or turns.offset or any(part.null_count or part.offset for part in (roles, texts)):
            return None
        if not len(texts):
            return None
        text_offsets, data = _read_strings(texts)
        role_offsets, role_data = _read_strings(roles)
        offsets = _as_int32(lists.buffers()[1], len(lists) + 1)
        may_strip = _find_space(data, text_offsets)
        return cls(batch, offsets, text_offsets, data, role_offsets, role_data, may_strip)


def _read_strings(array: Any) -> tuple[Any, memoryview]:
    """Return a string array's offsets and bytes."""
    _, offsets, data = array.buffers()
    return _as_int32(offsets, len(array) + 1), memoryview(data or b"")


def _as_int32(buffer: Any, count: int) -> Any:
    import numpy as np

    return np.frombuffer(buffer, np.int32, count)


def _find_space(data: memoryview, offsets: Any) -> Any:
    import numpy as np

    texts = np.frombuffer(data, np.uint8)
    if not len(texts):
        return np.zeros(len(offsets) - 1, bool)
    first, last = texts.take(offsets[:-1], mode="clip"), texts.take(offsets[1:] - 1, mode="clip")
    # ASCII's white space is below 0x21; other white space begins and ends with a byte above 0x7f.
    return (first < 0x21) | (first > 0x7F) | (last < 0x21) | (last > 0x7F)


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
        self._after_answer = _BEFORE_SYSTEM + self._system + _BEFORE_HISTORY + self._before_number
        # The lines' pieces, one after the other; the general way puts its lines among them.
        self._out = builder.records
        self._rows = self._records = self._with_system = self._with_history = 0
        # {the lengths and bytes of a row's roles: whether it has a system turn; None when it is not plain}
        self._shapes: dict[tuple[bytes, bytes], bool | None] = {}

    def write(self) -> None:
        """Convert the whole batch, in blocks."""
        bounds = self._fast.offsets.tolist()
        bytes_before = self._fast.text_offsets[self._fast.offsets].tolist()
        self._builder.note_columns(self._fast.batch.schema.names)
        start, rows = 0, self._fast.batch.num_rows
        for stop in range(1, rows + 1):
            if bytes_before[stop] - bytes_before[start] >= _BLOCK_BYTES or stop == rows:
                self._write_block(start, bounds[start : stop + 1])
                start = stop
        self._builder.count_plain(
            rows=self._rows,
            records=self._records,
            with_system=self._with_system,
            with_history=self._with_history,
        )

    def _write_block(self, start: int, bounds: list[int]) -> None:
        """Convert the rows from `start` on, whose turns these bounds part."""
        first_turn, last_turn = bounds[0], bounds[-1]
        escaped = self._escape_turns(first_turn, last_turn)
        role_offsets = self._fast.role_offsets[first_turn : last_turn + 1]
        role_sizes = (role_offsets[1:] - role_offsets[:-1]).tobytes()
        roles = self._fast.role_data[role_offsets[0] : role_offsets[-1]].tobytes()
        turns = [bound - first_turn for bound in bounds]
        role_bounds = (role_offsets[turns] - role_offsets[0]).tolist()
        pairs = 0
        for row, ((begin, end), (role_begin, role_end)) in enumerate(
            zip(pairwise(turns), pairwise(role_bounds), strict=True), start
        ):
            shape = role_sizes[4 * begin : 4 * end], roles[role_begin:role_end]
            has_system = self._shapes[shape] if shape in self._shapes else self._learn_shape(shape)
            texts = escaped[begin:end]
            # An escaped text is empty where it needs the general way.
            if has_system is None or not all(texts):
                self._builder.add(_read_row(self._fast.batch, row, self._first_row))
            elif has_system:
                self._add_row(b"%d" % (self._first_row + row), texts[1:], texts[0])
            elif len(texts) == 2:
                # Most rows: written here, because this loop's time is the whole command's.
                pairs += 1
                number = b"%d" % (self._first_row + row)
                self._out += (_START, texts[0], self._before_answer, texts[1], self._after_answer, number, _END)
            else:
                self._add_row(b"%d" % (self._first_row + row), texts, self._system)
        self._rows += pairs
        self._records += pairs
        self._with_system += pairs if self._system else 0

    def _escape_turns(self, first: int, last: int) -> list[memoryview]:
        """Strip and escape the texts of turns first:last; an empty one must go the general way."""
        import numpy as np

        data, nothing = self._fast.data, memoryview(b"")
        bounds = self._fast.text_offsets[first : last + 1].tolist()
        # A break before the first and after the last one too.
        joined = _BREAK.encode().join([b"", *[data[a:b] for a, b in pairwise(bounds)], b""])
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            return [nothing] * (last - first)
        if self._fast.may_strip[first:last].any():
            text = _BREAK.join([part.strip() for part in text.split(_BREAK)])
        escaped = self._dumps(text)
        breaks = np.flatnonzero(np.frombuffer(escaped, np.uint8) == ord(_BREAK)).tolist()
        if len(breaks) - 1 != last - first:
            return [nothing] * (last - first)
        view = memoryview(escaped)
        texts = [view[a + 1 : b] for a, b in pairwise(breaks)]
        if "<" in text and ("<|" in text or "think>" in text):
            for place, part in enumerate(text.split(_BREAK)[1:-1]):
                if "<|" in part or "think>" in part:
                    texts[place] = nothing
        return texts

    def _learn_shape(self, shape: tuple[bytes, bytes]) -> bool | None:
        sizes, names = memoryview(shape[0]).cast("i"), shape[1]
        bounds = pairwise(accumulate(sizes, initial=0))
        roles = [ROLES.get(names[begin:end].decode(errors="replace")) for begin, end in bounds]
        has_system = roles[:1] == [SYSTEM]
        plain = roles[has_system:]
        alternates = bool(plain) and plain == [USER, ASSISTANT] * (len(plain) // 2)
        self._shapes[shape] = has_system if alternates else None
        return self._shapes[shape]

    def _add_row(self, number: bytes, texts: list[memoryview], system: bytes | memoryview) -> None:
        self._rows += 1
        if len(texts) == 2 or self._turns == "first":
            self._add_line(texts[0], texts[1], system, b"", number)
        elif self._turns == "expand":
            self._expand(texts, system, number)
        else:
            history = b"" if self._turns == "last" else _write_history(texts[:-2])
            self._add_line(texts[-2], texts[-1], system, history, number)

    def _expand(self, texts: list[memoryview], system: bytes | memoryview, number: bytes) -> None:
        history = b""
        for answer in range(len(texts) // 2):
            question, reply = texts[2 * answer : 2 * answer + 2]
            self._add_line(question, reply, system, history, b"%b#%d" % (number, answer + 1))
            history += (b"," if history else b"") + _write_history([question, reply])

    def _add_line(
        self, question: memoryview, answer: memoryview, system: bytes | memoryview, history: bytes, number: bytes
    ) -> None:
        self._records += 1
        if system:
            self._with_system += 1
        if history:
            self._with_history += 1
        self._out += (
            _START,
            question,
            self._before_answer,
            answer,
            _BEFORE_SYSTEM,
            system,
            _BEFORE_HISTORY,
            history,
        )
        self._out += (self._before_number, number, _END)

    def _escape(self, text: str) -> bytes:
        return bytes(self._dumps(text)[1:-1])


def _write_history(turns: list[memoryview]) -> bytes:
    pairs = zip(turns[::2], turns[1::2], strict=True)
    return b",".join(b'["%b","%b"]' % (bytes(question), bytes(answer)) for question, answer in pairs)
