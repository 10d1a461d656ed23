"""CSV and its kin: encoding and delimiter are found, and a row's place is that of a spreadsheet."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TextIO

from prep.errors import InputError
from prep.inputs.encodings import find_encoding
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow, refuse_twice
from prep.rows.line_blocks import MAX_LINE_HINT
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import find_packing, open_unpacked
from prep.storage.text_window import TextWindow

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_NAMED = {"\\t": "\t", **{name: sign for sign, name in _DELIMITERS.items()}}
_TRIED_ROWS = 50
_TRIED_CHARACTERS = 1 << 18
_MAX_FIELDS = 1_000_000


class DelimitedReader(Reader):
    """A header, then rows of as many fields; empty lines are no rows."""

    def __init__(self, file: InputFile, options: ReadOptions, usual: str = ",") -> None:
        super().__init__(file)
        self.is_packed = find_packing(file.path) is not None
        with explain_read_error(file.path), open_unpacked(file.path) as stream:
            self._encoding, note = find_encoding(file.name, stream, options.encoding)
        # Who is not told the encoding finds it by reading all of a file in UTF-8.
        self._was_judged_whole = self._encoding == "utf-8" and not options.encoding
        if note:
            self.notes.append(note)
        self.delimiter = _NAMED.get(options.delimiter, options.delimiter) or self._find_delimiter(usual)

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows; the header is row 1 of the sheet, and a cell may hold line ends."""
        with self._open() as stream:
            yield from self.read(stream, LineCount())

    @contextmanager
    def read_beside(self, count: "LineCount", watch: Callable[[bytes], None] | None = None) -> Iterator[TextWindow]:
        """Open the file for who takes some lines as they stand; `read` gives rows from where the window is.

        `watch` gets all bytes as they are read.
        """
        path = self.file.path
        with explain_read_error(path), open_unpacked(path) as stream:
            try:
                yield TextWindow(stream, self._encoding, is_sound=self._was_judged_whole, watch=watch)
            except UnicodeDecodeError as error:
                raise self._explain_encoding(count.rows, error) from error

    def read(self, stream: "TextIO | TextWindow", count: "LineCount") -> Generator[SourceRow | BadRow, None, None]:
        """Yield the rows of a stream; who takes some of its lines meanwhile adds them to the count."""
        csv.field_size_limit(self.file.max_line_bytes)
        reader = csv.reader(
            _BoundedLines(self.file, stream, self.delimiter, count), delimiter=self.delimiter, strict=True
        )
        try:
            count.header = next((fields for fields in reader if fields), [])
            refuse_twice(self.file.path, count.header)
            while True:
                line = count.lines + 1
                fields = next(reader, None)
                if fields is None:
                    return
                count.sheet_rows += 1
                # A spreadsheet writes rows without any cell as commas.
                if any(fields):
                    count.rows += 1
                    place = {"sheet row": count.sheet_rows, "line": line}
                    yield _make_row(count.rows, count.header, fields, place)
        except UnicodeDecodeError as error:
            raise self._explain_encoding(count.rows, error) from error
        except csv.Error as error:
            raise InputError(
                f"{self.file.path} is not a whole CSV file (after row {count.rows}): {error}"
            ) from error

    def _explain_encoding(self, number: int, error: UnicodeDecodeError) -> InputError:
        encoding = self._encoding.removesuffix("-sig").upper()
        return InputError(
            f"{self.file.path} is not in {encoding} (after row {number}): {error.reason}",
            hint="save it as UTF-8 (in Excel: CSV UTF-8), or --encoding NAME",
        )

    @contextmanager
    def _open(self) -> Iterator[TextIO]:
        path = self.file.path
        with explain_read_error(path), open_unpacked(path) as stream:
            encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
            yield io.TextIOWrapper(stream, encoding=encoding, newline="")

    def _find_delimiter(self, usual: str) -> str:
        """Return what cuts the first rows into as many fields each: the usual sign when it does."""
        with self._open() as stream:
            try:
                sample = stream.read(_TRIED_CHARACTERS)
            except UnicodeDecodeError as error:
                raise self._explain_encoding(0, error) from error
        widths = {sign: _measure(sample, sign) for sign in (usual, *_DELIMITERS)}
        found = [sign for sign in widths if widths[sign] > 1]
        if not found or found[0] == usual:
            return usual
        if len(found) > 1:
            names = " or ".join(_DELIMITERS[sign] for sign in found)
            raise InputError(
                f"{self.file.name}: its fields could be parted by {names}",
                hint=f"--delimiter {_DELIMITERS[found[0]]}",
            )
        self.notes.append(f"its fields are parted by {_DELIMITERS[found[0]]}s")
        return found[0]


def _measure(sample: str, delimiter: str) -> int:
    """Return how many fields every one of the first rows has, 0 when they differ."""
    rows = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    try:
        widths = [len(fields) for fields in islice(rows, _TRIED_ROWS) if fields]
    except csv.Error:
        return 0
    if len(sample) == _TRIED_CHARACTERS and len(widths) < _TRIED_ROWS:
        # The last one is cut.
        widths = widths[:-1]
    if not widths:
        return 0
    # One bad row in ten leaves it clear what is meant.
    width, count = Counter(widths).most_common(1)[0]
    return width if widths[0] == width and count >= 0.9 * len(widths) else 0


def _make_row(
    number: int, header: Sequence[str], fields: Sequence[str], place: dict[str, int]
) -> SourceRow | BadRow:
    if len(fields) != len(header):
        return BadRow(number, "its number of fields differs from the header's", place)
    return SourceRow(number, dict(zip(header, fields, strict=True)), place)


@dataclass
class LineCount:
    """How far a file was read: its header, lines, rows of the sheet with the header, and rows."""

    header: list[str] = field(default_factory=list)
    lines: int = 0
    sheet_rows: int = 1
    rows: int = 0


class _BoundedLines:
    """Lines as the stream gives them, but none that is too long, or of too many fields to hold."""

    def __init__(self, file: InputFile, stream: TextIO | TextWindow, delimiter: str, count: LineCount) -> None:
        self._file, self._stream, self._delimiter, self._count = file, stream, delimiter, count

    def __iter__(self) -> Iterator[str]:
        path, most = self._file.path, self._file.max_line_bytes
        while line := self._stream.readline(most + 1):
            self._count.lines += 1
            if len(line) > most:
                raise InputError(
                    f"{path} line {self._count.lines:,} is longer than {most:,} bytes", hint=MAX_LINE_HINT
                )
            if line.count(self._delimiter) > _MAX_FIELDS:
                raise InputError(f"{path} line {self._count.lines:,} has more than {_MAX_FIELDS:,} fields")
            yield line
