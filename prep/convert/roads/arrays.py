"""Arrays of JSON → shards: plain elements by the kernel, where they stand in the file; all else one by one."""

from collections.abc import Generator

from prep.convert.kernel import ObjectKernel
from prep.convert.plain import count_converted, learn_form, make_object_kernel
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult
from prep.inputs.json_documents import ArrayReader
from prep.inputs.reader import SourceRow, as_row
from prep.rows.json_arrays import Element

_SHARD_ROWS = 500
_WINDOW_BYTES = 1 << 20


def convert_array(plan: ConvertPlan, reader: ArrayReader) -> Generator[ShardResult, None, None]:
    """Yield the shards of an array in its order; raises InputError when it is broken."""
    converter = _ArrayConverter(plan, reader)
    for element in reader.read_elements_beside(converter.take):
        if element is not None:
            converter.add(element)
        if element is None or converter.waiting >= _SHARD_ROWS:
            yield converter.finish()
    yield converter.finish()


class _ArrayConverter:
    def __init__(self, plan: ConvertPlan, reader: ArrayReader) -> None:
        self._plan = plan
        self._file = reader.file
        self._kernel: ObjectKernel | None = make_object_kernel(plan, reader.file.label, _WINDOW_BYTES)
        self._row = 1
        self._begin()
        first = next(iter(reader.read_rows()), None)
        if self._kernel is not None and isinstance(first, SourceRow):
            learn_form(plan, self._kernel, list(first.values))

    def take(self, window: bytes, start: int) -> int:
        """Convert plain elements; return how many bytes of them there were."""
        if self._kernel is None:
            return 0
        done = self._kernel.convert(window, start, self._row, is_array=True)
        if done.rows:
            count_converted(self._builder, done)
            self._builder.note_columns(self._kernel.list_columns(done.forms))
            self._row += done.rows
        return done.bytes_read

    def add(self, element: Element) -> None:
        """Convert an element that is not plain."""
        row = as_row(self._row, element.value, {"line": element.line})
        if self._kernel is not None and isinstance(row, SourceRow):
            learn_form(self._plan, self._kernel, list(row.values))
        self._builder.add(row)
        self._row += 1
        self.waiting += 1

    def finish(self) -> ShardResult:
        """Return what was converted since the last time."""
        shard = self._builder.finish()
        self._begin()
        return shard

    def _begin(self) -> None:
        self._builder = ShardBuilder(self._plan, self._file.name, self._file.label)
        self.waiting = 0
