"""Blocks of JSONL → shards: plain rows by the kernel, all else by the slow path, to the same bytes.

The kernel learns the columns of rows as they come: the first row's, and those of a row that it did not know.
"""

from collections.abc import Callable
from typing import NamedTuple

from prep.convert.kernel import ObjectKernel
from prep.convert.plain import count_converted, learn_form, make_object_kernel
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult
from prep.errors import InputError
from prep.inputs.reader import InputFile, SourceRow, parse_line, parse_lines
from prep.rows.line_blocks import count_lines, split_lines
from prep.storage.os_errors import explain_read_error


class LineConverter:
    """Converts a JSONL file's blocks of whole lines, in any order.

    After each block `next_row` is the number of the line that follows it.
    """

    def __init__(self, plan: ConvertPlan, name: str, label: str) -> None:
        self._plan = plan
        self._name = name
        self._label = label
        self._kernel: ObjectKernel | None = None
        self._has_begun = False
        self.next_row = 1

    def convert(self, data: bytes, first_row: int) -> ShardResult:
        """Return the lines and counts of a block whose first line has this number."""
        builder = ShardBuilder(self._plan, self._name, self._label)
        self._convert(builder, data, first_row)
        return builder.finish()

    def is_mostly_plain(self, data: bytes) -> bool:
        """Whether the kernel converts at least every other line of a block."""
        plain = self._convert(ShardBuilder(self._plan, self._name, self._label), data, 1)
        return 2 * plain >= count_lines(data)

    def _convert(self, builder: ShardBuilder, data: bytes, first_row: int) -> int:
        """Convert a block, and return how many lines were plain."""
        if not self._has_begun:
            self._kernel = make_object_kernel(self._plan, self._label, len(data))
            self._has_begun = True
        if self._kernel is not None:
            return self._splice(builder, self._kernel, data, first_row)
        for row in parse_lines(data, first_row):
            builder.add(row)
        self.next_row = first_row + count_lines(data)
        return 0

    def _splice(self, builder: ShardBuilder, kernel: ObjectKernel, data: bytes, first_row: int) -> int:
        start, row, plain, forms = 0, first_row, 0, 0
        while start < len(data):
            done = kernel.convert(data, start, row)
            if done.rows:
                count_converted(builder, done)
                start += done.bytes_read
                row += done.rows
                plain += done.rows
                forms |= done.forms
                continue
            end = data.find(b"\n", start) + 1 or len(data)
            parsed = [parse_line(line, number) for number, line in split_lines(data[start:end], row)]
            if any(
                isinstance(found, SourceRow) and learn_form(self._plan, kernel, list(found.values))
                for found in parsed
            ):
                continue
            for found in parsed:
                builder.add(found)
            start, row = end, row + 1
        self.next_row = row
        builder.note_columns(kernel.list_columns(forms))
        return plain


class LineRange(NamedTuple):
    """Whole lines of a file: where they start, their bytes, and the first one's number."""

    file: InputFile
    start: int
    size: int
    first_row: int


def make_range_converter(plan: ConvertPlan) -> Callable[[LineRange], ShardResult]:
    """Return what reads and converts ranges of files, for a process of its own."""
    converters: dict[InputFile, LineConverter] = {}

    def convert(lines: LineRange) -> ShardResult:
        file = lines.file
        converter = converters.setdefault(file, LineConverter(plan, file.name, file.label))
        with explain_read_error(file.path), file.path.open("rb") as stream:
            stream.seek(lines.start)
            data = stream.read(lines.size)
        if len(data) < lines.size:
            raise InputError(f"{file.name} became shorter while it was read")
        return converter.convert(data, lines.first_row)

    return convert
