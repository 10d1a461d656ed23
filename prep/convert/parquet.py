"""Parquet → shards: plain ShareGPT rows by the kernel, all else row by row.

A thread decodes batches (pyarrow releases the interpreter's lock meanwhile). A plain conversation's texts never
become Python strings: the kernel reads Arrow's buffers. A row that is not plain (think tags, markup, tools, nulls,
an odd order of turns) takes the slow path, so both give the same bytes.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from prep.convert.kernel import TurnBuffers, TurnForm, TurnKernel, escape_json, has_kernel
from prep.convert.memory import limit_memory
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult, name_origin
from prep.convert.where import condition_columns
from prep.errors import InputError
from prep.formats import SOURCES, map_columns
from prep.formats.columns import list_used
from prep.formats.reading import PLAIN_ROLES
from prep.parallel.threads import WorkAhead
from prep.rows.readers import BadRow, InputFile, SourceRow, open_parquet, refuse_twice
from prep.rows.thinking import EMPTY_THOUGHT, ThinkPolicy

# Large enough for the threads to wait for the GIL seldom, small enough for the CPU's cache.
_BATCH_BYTES = 1_000_000
_MAX_BATCH_ROWS = 8_000
_LARGE_BATCH_BYTES = 8_000_000
_PROBED_ROWS = 64
_BATCHES_AHEAD = 4
_OFFSET_BYTES = 4


def convert_parquet(plan: ConvertPlan, file: InputFile) -> Iterator[ShardResult]:
    """Yield the shards of a parquet file in its order; raises InputError when it is broken."""
    first_row = 1
    bound = limit_memory(file.path, file.max_line_bytes)
    with bound, closing(WorkAhead(_decode(plan, file), _BATCHES_AHEAD)) as batches:
        kernel = _make_kernel(plan, file.label)
        for batch in batches:
            builder = ShardBuilder(plan, file.name, file.label)
            buffers = _find_buffers(plan, batch) if kernel is not None else None
            if kernel is None or buffers is None:
                for row in _read_batch(batch, first_row):
                    builder.add(row)
            else:
                _convert_batch(builder, kernel, buffers, batch, first_row)
            yield builder.finish()
            first_row += batch.num_rows


def read_columns(file: InputFile) -> list[str]:
    """Return the names of a parquet file's columns; raises InputError when two have one name."""
    with limit_memory(file.path, file.max_line_bytes), open_parquet(file.path) as parquet:
        names = list(parquet.schema_arrow.names)
    refuse_twice(file.path, names)
    return names


def read_parquet_rows(path: Path, max_line_bytes: int) -> Iterator[SourceRow | BadRow]:
    """Yield all rows of a parquet file with all their columns, in its order."""
    first_row = 1
    with limit_memory(path, max_line_bytes), open_parquet(path) as parquet:
        refuse_twice(path, parquet.schema_arrow.names)
        for batch in _read_batches(parquet, None, max_line_bytes):
            yield from _read_batch(batch, first_row)
            first_row += batch.num_rows


def _decode(plan: ConvertPlan, file: InputFile) -> Generator[Any, None, None]:
    """Yield record batches."""
    with open_parquet(file.path) as parquet:
        columns = _pick_columns(plan, parquet.schema_arrow.names)
        yield from _read_batches(parquet, columns, file.max_line_bytes)


def _read_batches(parquet: Any, columns: list[str] | None, max_row_bytes: int) -> Iterator[Any]:
    """Yield batches of about _BATCH_BYTES; raises MemoryError at one far beyond what the file let expect."""
    metadata = parquet.metadata
    unpacking = 1.0
    for group in range(metadata.num_row_groups):
        rows, size = metadata.row_group(group).num_rows, max(metadata.row_group(group).total_byte_size, 1)
        if not group and rows > _PROBED_ROWS:
            # A dictionary holds a text once, and may make a batch many times what the file has.
            probe = next(parquet.iter_batches(batch_size=_PROBED_ROWS, row_groups=[0], columns=columns), None)
            unpacking = max(1.0, _measure_row(probe) * rows / size) if probe else 1.0
        batch_rows = max(1, min(_MAX_BATCH_ROWS, int(_BATCH_BYTES * rows / (size * unpacking))))
        read = 0
        for packed in parquet.iter_batches(
            batch_size=batch_rows, row_groups=[group], columns=columns, use_threads=False
        ):
            batch = _unpack_dictionaries(packed)
            read += batch.nbytes
            yield from _slice(batch, max_row_bytes)
        unpacking = max(1.0, read / size)


def _measure_row(batch: Any) -> float:
    return float(_unpack_dictionaries(batch).nbytes / max(batch.num_rows, 1))


def _unpack_dictionaries(batch: Any) -> Any:
    """Return a batch whose texts stand where they are used: so they have a size, and a form the kernel knows."""
    import pyarrow as pa

    if not any(pa.types.is_dictionary(field.type) for field in batch.schema):
        return batch
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in batch.schema
    ]
    return batch.cast(pa.schema(fields))


def _slice(batch: Any, max_row_bytes: int) -> Iterator[Any]:
    """Yield a batch, or parts of one that is too large to become Python's objects at once."""
    if batch.nbytes <= _LARGE_BATCH_BYTES:
        yield batch
        return
    if batch.nbytes > max_row_bytes * min(batch.num_rows, 2):
        raise MemoryError
    rows = max(1, batch.num_rows * _BATCH_BYTES // batch.nbytes)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _pick_columns(plan: ConvertPlan, names: list[str]) -> list[str]:
    """Return the columns to decode, in the file's order; all when a needed one is missing, to say so."""
    try:
        kept = [name for name in names if name not in plan.dropped]
        used = list_used(map_columns(SOURCES[plan.source], kept, plan.column_map), kept)
    except InputError:
        return names
    used |= condition_columns(plan.where) | set(plan.find_lost(names))
    return [name for name in names if name in used]


def _read_batch(batch: Any, first_row: int) -> Iterator[SourceRow | BadRow]:
    try:
        rows = batch.to_pylist()
    except _unreadable():
        for index in range(batch.num_rows):
            yield _read_row(batch, index, first_row)
        return
    for number, values in enumerate(rows, first_row):
        yield SourceRow(number, values)


def _read_row(batch: Any, index: int, first_row: int) -> SourceRow | BadRow:
    try:
        return SourceRow(first_row + index, batch.slice(index, 1).to_pylist()[0])
    except UnicodeDecodeError:
        return BadRow(first_row + index, "not valid UTF-8")
    except _unreadable() as error:
        return BadRow(first_row + index, f"a value cannot be read: {error}")


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for values that Python has no form for: the year 40,000, a name twice."""
    import pyarrow as pa

    # LookupError: a time zone that is not known here.
    return (ValueError, OverflowError, TypeError, LookupError, ImportError, pa.ArrowException)


def _make_kernel(plan: ConvertPlan, label: str) -> TurnKernel | None:
    """Return what converts plain ShareGPT rows, None when it is not there or the plan asks for more."""
    if not has_kernel() or plan.source != "sharegpt" or not plan.is_plain:
        return None

    thought = EMPTY_THOUGHT if plan.policy is ThinkPolicy.TAGGED else ""
    form = TurnForm(
        roles={name: role for name, role in PLAIN_ROLES.items() if name not in dict(plan.roles)},
        turns=plan.turns,
        system=escape_json(plan.system.strip()),
        before_question=b'{"instruction":"',
        before_answer=b'","input":"","output":"' + escape_json(thought),
        before_system=b'","system":"',
        before_history=b'","history":[',
        before_origin=b'],"origin":"' + escape_json(f"{name_origin(plan, label)}:"),
        line_end=b'"}\n',
    )
    return TurnKernel(form)


def _find_buffers(plan: ConvertPlan, batch: Any) -> TurnBuffers | None:
    """Return where a batch's conversations stand in memory, None when it is not plain ShareGPT."""
    import pyarrow as pa

    column = map_columns(SOURCES["sharegpt"], batch.schema.names, plan.column_map)
    if set(column) != {"conversations"} or plan.find_lost(batch.schema.names):
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
    offsets = lists.buffers()[1]
    _, text_offsets, text_data = texts.buffers()
    _, role_offsets, role_data = roles.buffers()
    buffers = (offsets, text_offsets, role_offsets, text_data, role_data)
    if any(buffer is None for buffer in buffers):
        return None
    items = ((offsets, len(lists)), (text_offsets, len(texts)), (role_offsets, len(roles)))
    if any(buffer.size < _OFFSET_BYTES * (count + 1) for buffer, count in items) or len(texts) != len(roles):
        return None
    return TurnBuffers(*buffers, rows=len(lists), all_turns=len(texts))


def _convert_batch(
    builder: ShardBuilder, kernel: TurnKernel, buffers: TurnBuffers, batch: Any, first_row: int
) -> None:
    index = 0
    while index < batch.num_rows:
        done = kernel.convert(buffers, range(index, batch.num_rows), first_row)
        builder.records.append(done.lines)
        builder.count_plain(
            rows=done.rows,
            records=done.records,
            with_system=done.with_system,
            with_history=done.with_history,
        )
        index += done.rows
        if done.rows:
            builder.note_columns(batch.schema.names)
        else:
            builder.add(_read_row(batch, index, first_row))
            index += 1
