"""Lines of fields (CSV and its kin) → shards: plain lines by the kernel, all else as the reader reads them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from prep.convert.kernel import Converted, FieldKernel, Job
from prep.convert.plain import count_converted, list_uses, make_judge
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult, convert_rows
from prep.convert.where import condition_columns
from prep.inputs.tables import DelimitedReader, LineCount
from prep.storage.text_window import TextWindow

_SHARD_ROWS = 500
# Less than this may be half a row.
_LEAST_WAITING = 1 << 19


def convert_fields(
    plan: ConvertPlan, reader: DelimitedReader, job: Job, watch: Callable[[bytes], None]
) -> Generator[ShardResult, None, None]:
    """Yield the shards of a file of fields in its order; raises InputError when it is broken.

    `watch` gets all bytes of the file as they are read.
    """
    file, count = reader.file, LineCount()
    with reader.read_beside(count, watch) as window, closing(reader.read(window, count)) as rows:
        # The header is read with the first row.
        first = next(rows, None)
        yield convert_rows(plan, [] if first is None else [first], file.name, file.label)
        kernel = _make_kernel(plan, job, count.header, reader.delimiter)
        builder, waiting = ShardBuilder(plan, file.name, file.label), 0
        while True:
            done = None if kernel is None else _take(kernel, window, count)
            if done is not None and done.rows:
                count_converted(builder, done)
                if done.records:
                    builder.note_columns(count.header)
            elif (row := next(rows, None)) is not None:
                builder.add(row)
                waiting += 1
            else:
                break
            if waiting == _SHARD_ROWS or (done is not None and done.rows):
                yield builder.finish()
                builder, waiting = ShardBuilder(plan, file.name, file.label), 0
        yield builder.finish()


def _make_kernel(plan: ConvertPlan, job: Job, header: Sequence[str], delimiter: str) -> FieldKernel | None:
    """Return what converts plain lines; None when the header says that there are none."""
    columns = sorted(condition_columns(plan.where))
    uses = list_uses(plan, header)
    if not uses or not set(columns) <= set(header) or header.count("") > 1 or len(delimiter.encode()) != 1:
        return None
    judge = make_judge(plan.where, columns, _read_field)
    return FieldKernel(job, uses, delimiter, [header.index(column) for column in columns], judge)


def _read_field(field: bytes) -> str:
    text = field.decode()
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _take(kernel: FieldKernel, window: TextWindow, count: LineCount) -> Converted:
    """Convert what is plain, and count it; when nothing is, it may be that half a row was read."""
    while True:
        done = kernel.convert(window.data, window.at, count.rows + 1, is_last=window.has_ended)
        if done.rows:
            count.lines += done.line_ends
            count.sheet_rows += done.rows
            count.rows += done.rows
            window.at += done.bytes_read
            return done
        if window.waiting >= _LEAST_WAITING or not window.read_on():
            return done
