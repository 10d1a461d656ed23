"""Arrow batches → shards: plain rows by the kernel, all else row by row.

A thread decodes batches (pyarrow releases the GIL meanwhile). A plain row's texts never become
Python strings: the kernel reads Arrow's buffers. A row that is not plain (markup, tools, an odd order of turns)
takes the slow path, so both give the same bytes.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Any

from prep.convert.kernel import TableBuffers, TableKernel, TextColumn
from prep.convert.plain import CONTENT, ROLE, count_converted, list_turn_fields, list_uses, make_job
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult
from prep.convert.where import all_hold, condition_columns
from prep.errors import InputError, RecordError
from prep.formats import SOURCES, map_columns
from prep.formats.columns import list_used
from prep.inputs.batches import BatchReader, list_unreadable, read_batch, read_row
from prep.parallel.threads import WorkAhead

_BATCHES_AHEAD = 4
_CONVERT, _FILTERED, _FOR_PYTHON = range(3)


def convert_batches(plan: ConvertPlan, reader: BatchReader) -> Generator[ShardResult, None, None]:
    """Yield the shards of a file of batches in its order; raises InputError when it is broken."""
    first_row = 1
    file = reader.file
    columns = _pick_columns(plan, reader.read_columns())
    with reader.bound(), closing(WorkAhead(reader.read_batches(columns), _BATCHES_AHEAD)) as batches:
        job = make_job(plan, file.label)
        kernel = TableKernel(job) if job is not None else None
        uses = None
        for batch in batches:
            builder = ShardBuilder(plan, file.name, file.label)
            # Every batch of a file has the same columns.
            if kernel is not None and first_row == 1:
                uses = list_uses(plan, batch.schema.names)
            buffers = None if uses is None else _find_buffers(plan, uses, batch)
            if kernel is None or buffers is None:
                for row in read_batch(batch, first_row):
                    builder.add(row)
            else:
                _convert_batch(builder, kernel, buffers, batch, first_row)
            yield builder.finish()
            first_row += batch.num_rows


def _pick_columns(plan: ConvertPlan, names: list[str]) -> list[str]:
    """Return the columns to decode, in the file's order; all when a needed one is missing, to say so."""
    try:
        kept = [name for name in names if name not in plan.dropped]
        used = list_used(map_columns(SOURCES[plan.source], kept, plan.column_map), kept)
    except InputError:
        return names
    used |= condition_columns(plan.where) | set(plan.find_lost(names))
    return [name for name in names if name in used]


def _find_buffers(plan: ConvertPlan, uses: Sequence[int], batch: Any) -> TableBuffers | None:
    """Return where a batch's texts stand in memory, None when its columns are not plain."""
    from prep.convert import _kernel

    rows = batch.num_rows
    if not rows:
        return None
    columns: list[tuple[int, TextColumn]] = []
    turns = None
    skips = _judge_rows(plan, batch)
    for place, use in enumerate(uses):
        column = batch.column(place)
        is_needed = use in (_kernel.QUESTION, _kernel.ANSWER, _kernel.TURNS)
        if use == _kernel.UNUSED or (column.null_count == rows and not is_needed):
            continue
        if use == _kernel.TURNS:
            turns = _find_turns(plan, column)
            if turns is None:
                return None
        elif (found := _find_text(column)) is not None:
            columns.append((use, found))
        elif use == _kernel.EMPTY:
            skips = _leave_to_python(skips, column)
        else:
            return None
    if len(columns) > _kernel.MAX_COLUMNS:
        return None
    return TableBuffers(tuple(columns), turns, skips, rows)


def _judge_rows(plan: ConvertPlan, batch: Any) -> bytes | None:
    """Return what the conditions say of each row; None when there are none."""
    if not plan.where:
        return None
    names = sorted(condition_columns(plan.where) & set(batch.schema.names))
    try:
        values = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in names]
    except list_unreadable():
        return bytes([_FOR_PYTHON] * batch.num_rows)
    rows = zip(*values, strict=True) if names else [()] * batch.num_rows
    return bytes(_judge_row(plan, dict(zip(names, row, strict=True))) for row in rows)


def _judge_row(plan: ConvertPlan, values: dict[str, Any]) -> int:
    try:
        return _CONVERT if all_hold(plan.where, values) else _FILTERED
    except RecordError:
        return _FOR_PYTHON


def _leave_to_python(skips: bytes | None, column: Any) -> bytes:
    """Mark the rows in which a column that would be lost holds anything."""
    given = skips or bytes(len(column))
    pairs = zip(given, column.is_valid().to_pylist(), strict=True)
    return bytes(_FOR_PYTHON if is_there and skip == _CONVERT else skip for skip, is_there in pairs)


def _find_text(column: Any) -> TextColumn | None:
    """Return the buffers of a column of texts, None for another one."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        width = 4
    elif pa.types.is_large_string(column.type):
        width = 8
    elif pa.types.is_string_view(column.type):
        return _find_text(column.cast(pa.large_string()))
    else:
        return None
    valid, offsets, data = column.buffers()
    if offsets is None:
        return None
    return TextColumn(column.offset, len(column), width, _or_none(column, valid), offsets, data or b"")


def _find_turns(plan: ConvertPlan, column: Any) -> tuple[TextColumn, TextColumn, TextColumn] | None:
    """Return the buffers of lists of turns, of their roles and of their texts; None for another column."""
    import pyarrow as pa

    if pa.types.is_list(column.type):
        width = 4
    elif pa.types.is_large_list(column.type):
        width = 8
    else:
        return None
    turns = column.values
    if not pa.types.is_struct(turns.type) or turns.null_count or turns.offset:
        return None
    fields = {field.name: turns.field(place) for place, field in enumerate(turns.type)}
    roles = _find_field(fields, list_turn_fields(plan, ROLE))
    texts = _find_field(fields, list_turn_fields(plan, CONTENT))
    if len(fields) != turns.type.num_fields or roles is None or texts is None:
        return None
    known = {name for name, field in fields.items() if field.null_count == len(field)}
    if len(fields) - len(known) > 2:
        return None
    valid, offsets = column.buffers()[:2]
    if offsets is None:
        return None
    lists = TextColumn(column.offset, len(column), width, _or_none(column, valid), offsets, None)
    return lists, roles, texts


def _find_field(fields: dict[str, Any], names: Iterable[str]) -> TextColumn | None:
    """Return the one field of these names that holds something."""
    held = [fields[name] for name in names if name in fields and fields[name].null_count < len(fields[name])]
    return _find_text(held[0]) if len(held) == 1 else None


def _or_none(column: Any, valid: Any) -> Any:
    return valid if column.null_count else None


def _convert_batch(
    builder: ShardBuilder, kernel: TableKernel, table: TableBuffers, batch: Any, first_row: int
) -> None:
    index = 0
    while index < batch.num_rows:
        done = kernel.convert(table, range(index, batch.num_rows), first_row)
        count_converted(builder, done)
        index += done.rows
        if done.rows > done.filtered:
            builder.note_columns(batch.schema.names)
        if not done.rows:
            builder.add(read_row(batch, index, first_row))
            index += 1
