"""JSON documents, element by element in flat memory: orjson reads each, this finds where it ends."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from prep.errors import InputError
from prep.rows.line_blocks import BOM, MAX_LINE_BYTES, MAX_LINE_HINT
from prep.rows.repeated_keys import parse_json_once
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import open_unpacked

_SPACE = b" \t\r\n"
_CHUNK_BYTES = 1 << 20
# A whole string, or one byte that counts; a quote alone is a string whose end has not been read yet.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


_LINES_HINT = "name it .jsonl if it holds one object a line"
# Beyond this the objects that a text becomes take many times its own bytes: `[],[],[]`.
_WEIGHED_BYTES = 4 << 20
_MAX_VALUES = 2_000_000


# Takes whole elements from a place in a window on, and returns their bytes, with the commas behind them.
Take = Callable[[bytes, int], int]


class ArrayFault(NamedTuple):
    """Why an array is no JSON: where in the file, counted from 1, and what is wrong."""

    line: int
    column: int
    reason: str


class JsonArrayError(Exception):
    """The document is not JSON; `fault` says where."""

    def __init__(self, fault: ArrayFault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class NoArrayError(InputError):
    """The document is JSON, and no array."""

    def __init__(self, path: Path, value: Any) -> None:
        super().__init__(f"{path} holds one JSON {type(value).__name__}, not an array of rows")
        self.value = value


def read_json_elements(path: Path, max_element_bytes: int = MAX_LINE_BYTES) -> Iterator[Any]:
    """Yield the elements of the array that a JSON file holds; one that names a key twice is a RecordError.

    Raises: JsonArrayError when it is not JSON; InputError when it cannot be read, holds something else than an
    array, or one element is too long.
    """
    with explain_read_error(path), open_unpacked(path) as stream:
        for element in JsonElements(path, stream, max_element_bytes).read_array(is_whole=True):
            yield element.value


def check_weight(content: bytes) -> None:
    """Raise JSONDecodeError for a text that would become very many values."""
    import orjson

    if len(content) > _WEIGHED_BYTES and sum(map(content.count, (b"[", b"{", b","))) > _MAX_VALUES:
        raise orjson.JSONDecodeError(f"more than {_MAX_VALUES:,} values in one row", "", 0)


class Element(NamedTuple):
    """A value in a document, and the line on which it begins, counted from 1; `key` in an object."""

    line: int
    value: Any
    key: str = ""


class JsonElements:
    """A window on the file, from the place that is read next on.

    `stream` stands at the byte that is read first, on `line`; no element may take more than `max_bytes`.
    """

    def __init__(self, path: Path, stream: BinaryIO, max_bytes: int = MAX_LINE_BYTES, line: int = 1) -> None:
        self._path = path
        self._stream = stream
        self._max_bytes = max_bytes
        self._data = stream.read(_CHUNK_BYTES).removeprefix(BOM)
        self._at = 0
        # Of the window's first byte.
        self._line, self._column = line, 1
        # Whether a comma stands before this place, and nothing more can be read.
        self._ends_in_comma = self._has_ended = False
        # Lines that end in the window before this place.
        self._counted_to, self._counted = 0, 0

    def read_array(self, *, is_whole: bool = False) -> Iterator[Element]:
        """Yield the elements of the array that begins here; `is_whole` when nothing may follow it."""
        self._begin_array()
        yield from self._read_members(is_object=False)
        if is_whole:
            self._check_end()

    def read_array_beside(self, take: Take, *, is_whole: bool = False) -> Iterator[Element | None]:
        """Yield what `take` leaves of an array's elements, and None after each time that it took some."""
        self._begin_array()
        self._at += 1
        count, is_last = 0, False
        while not is_last:
            while taken := self._take_some(take):
                count += taken
                yield None
            if count and self._data[self._at : self._at + 1] == b"]" and not self._ends_in_comma:
                self._at += 1
                break
            element, is_last = self._read_member(count, is_object=False)
            if element is not None:
                count += 1
                self._ends_in_comma = not is_last
                yield element
        if is_whole:
            self._check_end()

    def _take_some(self, take: Take) -> int:
        """Let `take` have whole elements; read on, and let it try again, when what is left may be half of one."""
        while True:
            taken = take(self._data, self._at)
            if taken:
                self._at += taken
                self._ends_in_comma = self._data[self._at - 1 : self._at] == b","
                return taken
            is_known = self._has_ended or len(self._data) - self._at >= _CHUNK_BYTES // 2
            if is_known or not self._read_on():
                return 0

    def _begin_array(self) -> None:
        self._skip_space()
        if self._data[self._at : self._at + 1] != b"[":
            self._refuse_other()

    def _check_end(self) -> None:
        self._skip_space()
        if self._at < len(self._data):
            raise self._fault(self._at, "text follows the array")

    def read_object(self) -> Iterator[Element]:
        """Yield the values of the object that begins here, under their keys."""
        self._skip_space()
        yield from self._read_members(is_object=True)

    def read_values(self) -> Iterator[Element]:
        """Yield values that stand one after the other, with or without line ends or commas between them."""
        while True:
            self._skip_space()
            if self._data[self._at : self._at + 1] == b",":
                self._at += 1
                continue
            if self._at >= len(self._data):
                return
            content, line = self._take_value(), self._line_here()
            yield Element(line, self._parse(content))
            self._at += len(content)

    def _read_members(self, *, is_object: bool) -> Iterator[Element]:
        self._at += 1
        count, is_last = 0, False
        while not is_last:
            element, is_last = self._read_member(count, is_object=is_object)
            if element is not None:
                count += 1
                yield element

    def _read_member(self, count: int, *, is_object: bool) -> tuple[Element | None, bool]:
        """Return the next element, None where nothing stands, and whether it is the last one."""
        # What was yielded lets go of the window: no line is counted twice.
        content, is_last = self._take_element(b"}" if is_object else b"]")
        element = None
        if content.strip(_SPACE) or count or not is_last:
            line = self._line_here(len(content) - len(content.lstrip(_SPACE)))
            if is_object:
                pair = self._parse(b"{" + content + b"}")
                key = next(iter(pair), "") if isinstance(pair, dict) else ""
                element = Element(line, pair[key] if isinstance(pair, dict) else pair, key)
            else:
                element = Element(line, self._parse(content))
        self._at += len(content) + 1
        return element, is_last

    def _line_here(self, further: int = 0) -> int:
        place = self._at + further
        self._counted += self._data.count(b"\n", self._counted_to, place)
        self._counted_to = place
        return self._line + self._counted

    def _take_value(self) -> bytes:
        """Return the bytes of the value that begins here."""
        while True:
            depth = 0
            for match in _TOKEN.finditer(self._data, self._at):
                token = match[0]
                if token == b'"':
                    break
                depth += _STEPS.get(token, 0)
                if depth <= 0:
                    return self._data[self._at : match.end()]
            if not self._read_on():
                if not depth and self._data[self._at :]:
                    return self._data[self._at :]
                raise self._fault(len(self._data), "unexpected end of data")

    def _take_element(self, closing: bytes) -> tuple[bytes, bool]:
        """Return the bytes up to the next comma of the array or object, or to its end, and whether that comes."""
        depth, place = 0, self._at
        while True:
            for match in _TOKEN.finditer(self._data, place):
                token, place = match[0], match.end()
                if token == b'"':
                    place -= 1
                    break
                if not depth and token in (b",", closing):
                    return self._data[self._at : match.start()], token == closing
                depth += _STEPS.get(token, 0)
            else:
                place = len(self._data)
            place -= self._at
            if not self._read_on():
                raise self._fault(len(self._data), "unexpected end of data")

    def _read_on(self) -> bool:
        """Let go of what was read, and read as much again as is left over, or a chunk."""
        self._line, self._column = self._locate(self._at)
        kept = self._data[self._at :]
        if len(kept) > self._max_bytes:
            raise InputError(
                f"{self._path}: the row from line {self._line:,} on is longer than {self._max_bytes:,} bytes",
                hint=MAX_LINE_HINT,
            )
        more = self._stream.read(max(_CHUNK_BYTES, len(kept)))
        self._data, self._at = kept + more, 0
        self._counted_to, self._counted = 0, 0
        self._has_ended = not more
        return bool(more)

    def _skip_space(self) -> None:
        while True:
            rest = self._data[self._at :]
            self._at += len(rest) - len(rest.lstrip(_SPACE))
            if self._at < len(self._data) or not self._read_on():
                return

    def _parse(self, content: bytes) -> Any:
        import orjson

        try:
            check_weight(content)
            return parse_json_once(content)
        except orjson.JSONDecodeError as error:
            place = len(content.decode("utf-8", "replace")[: error.pos].encode()) if content else 0
            raise self._fault(self._at + place, error.msg) from error

    def _refuse_other(self) -> NoReturn:
        """Tell what a document is that is no array."""
        import orjson

        document = self._data + self._stream.read(self._max_bytes + 1)
        if len(document) > self._max_bytes:
            raise InputError(f"{self._path} does not begin with an array of rows", hint=_LINES_HINT)
        try:
            value = orjson.loads(document)
        except orjson.JSONDecodeError as error:
            raise JsonArrayError(ArrayFault(error.lineno, error.colno, error.msg)) from error
        raise NoArrayError(self._path, value)

    def _fault(self, place: int, reason: str) -> JsonArrayError:
        return JsonArrayError(ArrayFault(*self._locate(place), reason))

    def _locate(self, place: int) -> tuple[int, int]:
        lines = self._data.count(b"\n", 0, place)
        if not lines:
            return self._line, self._column + place
        return self._line + lines, place - self._data.rfind(b"\n", 0, place)
