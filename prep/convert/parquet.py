"""Arrow batches → shards: plain ShareGPT rows by the kernel, all else row by row.

A thread decodes batches (pyarrow releases the interpreter's lock meanwhile). A plain conversation's texts never
become Python strings: the kernel reads Arrow's buffers. A row that is not plain (think tags, markup, tools, nulls,
an odd order of turns) takes the slow path, so both give the same bytes.
"""

from collections.abc import Generator
from contextlib import closing
from typing import Any

from prep.choices import ThinkPolicy
from prep.convert.kernel import TurnBuffers, TurnForm, TurnKernel, escape_json, has_kernel
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult, name_origin
from prep.convert.where import condition_columns
from prep.errors import InputError
from prep.formats import SOURCES, map_columns
from prep.formats.columns import list_used
from prep.formats.reading import PLAIN_ROLES
from prep.inputs.batches import BatchReader, read_batch, read_row
from prep.parallel.threads import WorkAhead
from prep.rows.thinking import EMPTY_THOUGHT

_BATCHES_AHEAD = 4
_OFFSET_BYTES = 4


def convert_batches(plan: ConvertPlan, reader: BatchReader) -> Generator[ShardResult, None, None]:
    """Yield the shards of a file of batches in its order; raises InputError when it is broken."""
    first_row = 1
    file = reader.file
    columns = _pick_columns(plan, reader.read_columns())
    with reader.bound(), closing(WorkAhead(reader.read_batches(columns), _BATCHES_AHEAD)) as batches:
        kernel = _make_kernel(plan, file.label)
        for batch in batches:
            builder = ShardBuilder(plan, file.name, file.label)
            buffers = _find_buffers(plan, batch) if kernel is not None else None
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
            builder.add(read_row(batch, index, first_row))
            index += 1
