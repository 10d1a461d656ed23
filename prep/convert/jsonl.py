"""Blocks of JSONL → shards: plain question, think, answer lines by the kernel, all else by the slow path.

Both ways give the same bytes. A line is plain without think tags and chat markup, with three texts that are not
empty, and just the columns of the file's first line.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from prep.choices import ThinkPolicy
from prep.convert.kernel import LineForm, LineKernel, escape_json, has_kernel
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult, name_origin
from prep.errors import InputError
from prep.formats import SOURCES, map_columns
from prep.inputs.reader import InputFile, SourceRow, parse_line, parse_lines
from prep.rows.line_blocks import count_lines, split_lines
from prep.rows.thinking import THOUGHT_END, THOUGHT_START
from prep.storage.os_errors import explain_read_error

_TEXTS = ("question", "think", "answer")


class LineConverter:
    """Converts a JSONL file's blocks of whole lines, in any order.

    After each block `next_row` is the number of the line that follows it.
    """

    def __init__(self, plan: ConvertPlan, name: str, label: str) -> None:
        self._plan = plan
        self._name = name
        self._label = label
        self._kernel: LineKernel | None = None
        self.next_row = 1

    def convert(self, data: bytes, first_row: int) -> ShardResult:
        """Return the lines and counts of a block whose first line has this number."""
        builder = ShardBuilder(self._plan, self._name, self._label)
        self._kernel = self._kernel or self._make_kernel(data)
        if self._kernel is None:
            for row in parse_lines(data, first_row):
                builder.add(row)
            self.next_row = first_row + count_lines(data)
        else:
            self._splice(builder, self._kernel, data, first_row)
        return builder.finish()

    def is_mostly_plain(self, data: bytes) -> bool:
        """Whether the kernel converts at least every other line of a block."""
        kernel = self._make_kernel(data)
        if kernel is None:
            return False
        builder = ShardBuilder(self._plan, self._name, self._label)
        return 2 * self._splice(builder, kernel, data, 1) >= count_lines(data)

    def _splice(self, builder: ShardBuilder, kernel: LineKernel, data: bytes, first_row: int) -> int:
        """Convert a block, and return how many lines were plain."""
        has_system, thinks = self._plan.system.strip() != "", self._plan.policy is not ThinkPolicy.STRIP
        start, row, plain = 0, first_row, 0
        while start < len(data):
            done = kernel.convert(data, start, row)
            builder.records.append(done.lines)
            start += done.bytes_read
            row += done.rows
            plain += done.rows
            if not done.rows:
                end = data.find(b"\n", start) + 1 or len(data)
                for number, line in split_lines(data[start:end], row):
                    builder.add(parse_line(line, number))
                start, row = end, row + 1
        self.next_row = row
        if plain:
            builder.note_columns(kernel.columns)
        builder.count_plain(
            rows=plain,
            records=plain,
            with_system=plain * has_system,
            with_history=0,
            reasoning=plain * thinks,
        )
        return plain

    def _make_kernel(self, data: bytes) -> LineKernel | None:
        """Return what converts lines like a block's first one; None when there is no such thing."""
        plan = self._plan
        if not has_kernel() or plan.source != "medical-cot" or not plan.is_plain:
            return None
        row = next(islice(parse_lines(data, 1), 1), None)
        if not isinstance(row, SourceRow):
            return None
        columns = list(row.values)
        try:
            mapping = map_columns(SOURCES[plan.source], columns, plan.column_map)
        except InputError:
            return None
        if set(mapping) != set(_TEXTS) or plan.find_lost(columns):
            return None
        form = self._describe_form(columns, [columns.index(mapping[text]) for text in _TEXTS])
        return LineKernel(form, len(data))

    def _describe_form(self, columns: list[str], places: list[int]) -> LineForm:
        thinks = self._plan.policy is not ThinkPolicy.STRIP
        system, origin = self._plan.system.strip(), f"{name_origin(self._plan, self._label)}:"
        after = b'","system":"%b","history":[],"origin":"%b' % (escape_json(system), escape_json(origin))
        return LineForm(
            columns=columns,
            places=places,
            writes_thought=thinks,
            before_question=b'{"instruction":"',
            before_thought=b'","input":"","output":"' + (escape_json(THOUGHT_START) if thinks else b""),
            before_answer=escape_json(THOUGHT_END) if thinks else b"",
            after_answer=after,
        )


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
