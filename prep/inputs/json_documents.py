"""JSON in its usual wrappings: an array, a list under a key, columns, objects one after the other; or lines."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from prep.errors import InputError
from prep.inputs.lines import LinesReader
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow, as_row
from prep.inputs.splits import choose_split, find_split
from prep.rows.json_arrays import Element, JsonArrayError, JsonElements, Take
from prep.rows.json_outline import Outline, Part, read_outline
from prep.rows.line_blocks import BOM, refuse_utf16
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import open_unpacked

_HEAD_BYTES = 1 << 20
_MAX_COLUMNS = 200
# Lists of these are turns of one row, and no rows.
_TURN_KEYS = {"role", "from", "speaker", "content", "value", "角色", "内容"}
_IN_ROWS = {"messages", "conversations", "conversation", "tools", "functions", "images", "tool_calls", "history"}


def open_json(file: InputFile, options: ReadOptions, *, is_lines: bool) -> Reader:
    """Return the reader for how a JSON file is really written; `is_lines` says what its name promises."""
    with explain_read_error(file.path), open_unpacked(file.path) as stream:
        head = stream.read(_HEAD_BYTES)
    refuse_utf16(file.path, head)
    text = head.removeprefix(BOM).lstrip()
    if _holds_lines(text, is_whole=len(head) < _HEAD_BYTES, is_lines=is_lines):
        return LinesReader(file)
    if not text.startswith(b"{"):
        return ArrayReader(file, 0, 1)
    try:
        with explain_read_error(file.path), open_unpacked(file.path) as stream:
            outline = read_outline(file.path, stream, file.max_line_bytes)
    except JsonArrayError as error:
        if is_lines:
            return LinesReader(file)
        raise _explain(file, error) from error
    is_one_line = is_lines and not outline.is_followed and b"\n" not in text.rstrip()
    return _open_object(file, outline, options) or (LinesReader(file) if is_one_line else ValuesReader(file))


def _holds_lines(text: bytes, *, is_whole: bool, is_lines: bool) -> bool:
    """Whether a file begins with one whole JSON value a line."""
    import orjson

    lines = [line for line in text.split(b"\n", 50) if line.strip()][:3]
    if not lines or text[:1] not in (b"{", b"["):
        return is_lines
    if len(lines) == 1 and not is_whole:
        return is_lines and text[:1] == b"{"
    try:
        first = orjson.loads(lines[0])
    except orjson.JSONDecodeError:
        # A broken line stands before others; a line of a document written over several does not.
        is_object_next = len(lines) > 1 and lines[1].lstrip()[:1] == b"{"
        return is_lines and (is_object_next or lines[0].count(b'"') % 2 == 1) and lines[0].strip() != b"["
    if len(lines) > 1:
        return isinstance(first, dict) or is_lines
    return is_lines and isinstance(first, list) and not any(isinstance(part, dict) for part in first)


def _open_object(file: InputFile, outline: Outline, options: ReadOptions) -> Reader | None:
    """Return what reads the rows inside an object; None when the object is a row itself."""
    if outline.is_followed or not outline.parts:
        return None
    parts = {part.key: part for part in outline.parts}
    if {"columns", "data"} <= set(parts) and parts["data"].first == "[":
        return TableReader(file, parts["columns"], parts["data"])
    if {"features", "rows"} <= set(parts) and {"row_idx", "row"} <= set(parts["rows"].names):
        return ViewerReader(file, parts["rows"])
    if wrapped := [part for part in outline.parts if _holds_rows(part)]:
        return _open_wrapped(file, wrapped, options)
    openers = {part.opener for part in outline.parts}
    if openers == {"["} and len({part.size for part in outline.parts}) == 1 and all(map(_is_column, outline.parts)):
        return ColumnsReader(file, outline.parts) if len(parts) <= _MAX_COLUMNS else None
    if openers == {"{"} and len(parts) <= _MAX_COLUMNS and _count_up(outline.parts[0].names):
        return ColumnsReader(file, outline.parts)
    if openers == {"{"} and len({frozenset(part.names) for part in outline.parts}) == 1:
        return MembersReader(file)
    return None


def _holds_rows(part: Part) -> bool:
    is_turn = bool(set(part.names) & _TURN_KEYS) and len(part.names) < len(_TURN_KEYS)
    return part.opener == "[" and part.first == "{" and part.key not in _IN_ROWS and not is_turn


def _is_column(part: Part) -> bool:
    """Whether a list holds the cells of a column, and not the turns or files of one row."""
    return part.first == "[" or (part.first not in ("{", "") and part.key not in _IN_ROWS)


def _count_up(names: Sequence[str]) -> bool:
    return bool(names) and all(name.isdecimal() for name in names)


def _open_wrapped(file: InputFile, wrapped: list[Part], options: ReadOptions) -> Reader:
    """Return what reads the list of rows; of several, the one that is the split to train on."""
    if len(wrapped) == 1:
        chosen = wrapped[0]
        reader = ArrayReader(file, chosen.start, chosen.line)
        reader.notes.append(f"the rows under '{chosen.key}' are read")
        return reader
    names = [part.key for part in wrapped]
    if options.split not in names and not any(find_split(name) for name in names):
        raise InputError(
            f"{file.name} holds several lists of rows: {', '.join(names[:20])}",
            hint=f"--split {names[0]} takes that list",
        )
    by_name = {find_split(part.key) or part.key: part for part in wrapped} | {part.key: part for part in wrapped}
    split = choose_split(file.name, list(by_name), options.split)
    chosen = by_name[split]
    reader = ArrayReader(file, chosen.start, chosen.line)
    others = ", ".join(name for name in names if name != chosen.key)
    reader.notes.append(f"the rows under '{chosen.key}' are read, and not those under {others}: --split NAME")
    return reader


class DocumentReader(Reader):
    """A JSON file that is read element by element."""

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows; each one's place is the line on which it begins."""
        try:
            for number, element in enumerate(self._read_elements(), 1):
                yield as_row(number, element.value, {"line": element.line})
        except JsonArrayError as error:
            raise _explain(self.file, error) from error

    @abstractmethod
    def _read_elements(self) -> Iterator[Element]:
        """Yield the elements, each with the line on which it begins."""

    @contextmanager
    def _open(self, start: int = 0, line: int = 1) -> Iterator[JsonElements]:
        path = self.file.path
        with explain_read_error(path), open_unpacked(path) as stream:
            _skip(stream, start)
            yield JsonElements(path, stream, self.file.max_line_bytes, line)


class ArrayReader(DocumentReader):
    """The rows are the elements of an array that begins at a place of the file."""

    def __init__(self, file: InputFile, start: int, line: int) -> None:
        super().__init__(file)
        self._start, self._line = start, line

    def read_elements_beside(self, take: Take) -> Iterator[Element | None]:
        """Yield the elements that `take` leaves, and None after each time that it took some; see JsonElements."""
        try:
            with self._open(self._start, self._line) as elements:
                yield from elements.read_array_beside(take, is_whole=not self._start)
        except JsonArrayError as error:
            raise _explain(self.file, error) from error

    def _read_elements(self) -> Iterator[Element]:
        with self._open(self._start, self._line) as elements:
            yield from elements.read_array(is_whole=not self._start)


class ValuesReader(DocumentReader):
    """The rows stand one after the other, each over as many lines as it likes."""

    def _read_elements(self) -> Iterator[Element]:
        with self._open() as elements:
            yield from elements.read_values()


class MembersReader(DocumentReader):
    """The rows are the values of one object: {"0": {…}, "1": {…}}."""

    def _read_elements(self) -> Iterator[Element]:
        with self._open() as elements:
            yield from elements.read_object()


class ColumnsReader(DocumentReader):
    """Each key of one object is a column: {"question": […], "answer": […]}, or with {"0": …} for the lists."""

    def __init__(self, file: InputFile, parts: Sequence[Part]) -> None:
        super().__init__(file)
        self._parts = parts
        self.notes.append("it is written column by column")

    def _read_elements(self) -> Iterator[Element]:
        names = [part.key for part in self._parts]
        with ExitStack() as stack:
            columns = []
            for part in self._parts:
                elements = stack.enter_context(self._open(part.start, part.line))
                columns.append(elements.read_array() if part.opener == "[" else elements.read_object())
            for number, cells in enumerate(_zip_equal(columns, self._complain), 1):
                if len({cell.key for cell in cells}) > 1:
                    self._complain(number)
                yield Element(cells[0].line, dict(zip(names, (cell.value for cell in cells), strict=True)))

    def _complain(self, number: int) -> None:
        raise InputError(f"{self.file.name} is written column by column, and row {number:,} is not in every column")


class TableReader(DocumentReader):
    """The names of the columns, then lists of cells: {"columns": […], "data": [[…], […]]}."""

    def __init__(self, file: InputFile, columns: Part, data: Part) -> None:
        super().__init__(file)
        self._columns, self._data = columns, data

    def _read_elements(self) -> Iterator[Element]:
        with self._open(self._columns.start, self._columns.line) as elements:
            names = [str(element.value) for element in elements.read_array()]
        with self._open(self._data.start, self._data.line) as elements:
            for element in elements.read_array():
                is_row = isinstance(element.value, list) and len(element.value) == len(names)
                yield element._replace(value=dict(zip(names, element.value, strict=True))) if is_row else element


class ViewerReader(DocumentReader):
    """What the Hugging Face viewer answers: {"features": […], "rows": [{"row_idx": 0, "row": {…}, …}, …]}."""

    def __init__(self, file: InputFile, rows: Part) -> None:
        super().__init__(file)
        self._rows = rows
        self.notes.append("the rows of a viewer's page are read")

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows; one whose cells the viewer has cut is none to train on."""
        for row in super().read_rows():
            cut = row.values.get("truncated_cells") if isinstance(row, SourceRow) else None
            if isinstance(row, BadRow) or not cut:
                yield row if isinstance(row, BadRow) else as_row(row.number, row.values.get("row"), row.place)
            else:
                yield BadRow(row.number, f"the viewer has cut its cells {cut}: download the file itself", row.place)

    def _read_elements(self) -> Iterator[Element]:
        with self._open(self._rows.start, self._rows.line) as elements:
            yield from elements.read_array()


def _zip_equal(
    columns: Sequence[Iterator[Element]], complain: Callable[[int], None]
) -> Iterator[tuple[Element, ...]]:
    number = 0
    while True:
        number += 1
        cells: list[Any] = [next(column, None) for column in columns]
        if all(cell is None for cell in cells):
            return
        if any(cell is None for cell in cells):
            complain(number)
        yield tuple(cells)


def _skip(stream: BinaryIO, count: int) -> None:
    if stream.seekable():
        stream.seek(count)
        return
    while count > 0 and (data := stream.read(min(count, _HEAD_BYTES))):
        count -= len(data)


def _explain(file: InputFile, error: JsonArrayError) -> InputError:
    fault = error.fault
    return InputError(
        f"{file.path} is not a JSON document: {fault.reason}: line {fault.line} column {fault.column}",
        hint="name it .jsonl if it holds one object a line",
    )
