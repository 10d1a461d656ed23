"""Excel sheets, by pandas and openpyxl: the first row is the header, cells become the text that Excel shows."""

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from importlib.util import find_spec
from typing import Any

from prep.errors import InputError
from prep.inputs.memory import limit_memory
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow, refuse_twice
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import unpack_whole

# A sheet of a million rows of text takes about this much when unpacked.
_MAX_UNPACKED_BYTES = 2 << 30
_MAX_UNPACKING = 300
_UNPACKED_FREELY = 64 << 20


class ExcelReader(Reader):
    """One sheet of a workbook; rows without any cell are none."""

    def __init__(self, file: InputFile, options: ReadOptions) -> None:
        super().__init__(file)
        self._sheet = options.sheet

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows; the place is the row number that Excel shows."""
        cells = self._load()
        number = 0
        header: list[str] | None = None
        for sheet_row, row in enumerate(cells, 1):
            texts = [_as_text(cell) for cell in row]
            if not any(texts):
                continue
            if header is None:
                header = texts
                refuse_twice(self.file.path, header)
                continue
            number += 1
            place = {"sheet row": sheet_row}
            stray = [text for name, text in zip(header, texts, strict=True) if text and not name]
            if stray:
                yield BadRow(number, f"the cell '{stray[0][:80]}' stands in a column without a header", place)
            else:
                yield SourceRow(
                    number, {name: text for name, text in zip(header, texts, strict=True) if name}, place
                )

    def _load(self) -> Iterator[tuple[Any, ...]]:
        _require_packages(self.file)
        import pandas as pd

        path = self.file.path
        with (
            explain_read_error(path),
            unpack_whole(path) as stream,
            limit_memory(path, self.file.max_line_bytes * 4),
        ):
            _check_size(self.file, stream)
            stream.seek(0)
            try:
                with pd.ExcelFile(stream, engine="openpyxl") as book:
                    sheet = self._choose(list(map(str, book.sheet_names)))
                    frame = book.parse(sheet, header=None, dtype=object, keep_default_na=False, na_filter=False)
            except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path} is not a whole Excel file: {' '.join(str(error).split())[:200]}",
                    hint="open it in Excel and save it as .xlsx again, or as CSV UTF-8",
                ) from error
        return iter(frame.itertuples(index=False, name=None))

    def _choose(self, sheets: list[str]) -> str:
        if self._sheet and self._sheet not in sheets:
            raise InputError(
                f"{self.file.name} has no sheet '{self._sheet}'; it has {', '.join(sheets)}",
                hint=f'--sheet "{sheets[0]}"',
            )
        chosen = self._sheet or sheets[0]
        others = [name for name in sheets if name != chosen]
        if others and not self._sheet:
            note = f"sheet {chosen} is read, and not {', '.join(others)} (--sheet NAME)"
            if note not in self.notes:
                self.notes.append(note)
        return chosen


def _require_packages(file: InputFile) -> None:
    """Raise InputError with the command that helps when what reads Excel is not installed."""
    missing = [name for name in ("pandas", "openpyxl") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{file.name}: Excel files need the package {missing[0]}",
            hint='pip install "llamafactory-companion[excel]", or save it as CSV UTF-8',
        )


def _check_size(file: InputFile, stream: Any) -> None:
    """Raise InputError for a workbook that unpacks to more than any real one."""
    try:
        with zipfile.ZipFile(stream) as book:
            size = sum(entry.file_size for entry in book.infolist())
            packed = sum(entry.compress_size for entry in book.infolist())
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{file.path} is not an Excel file: {error}",
            hint="an old .xls, or a file with a password: open it in Excel and save it as a plain .xlsx",
        ) from error
    if size > min(_MAX_UNPACKED_BYTES, _UNPACKED_FREELY + _MAX_UNPACKING * packed):
        raise InputError(
            f"{file.path} unpacks to {size >> 20:,} MiB", hint="save the sheet that you need as CSV UTF-8"
        )


def _as_text(cell: object) -> str:
    """Return a cell as Excel shows it, without formatting: 3.0 as 3, dates in ISO form."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return "" if cell != cell else f"{cell:.15g}"  # noqa: PLR0124 - a NaN is an empty cell
    if isinstance(cell, datetime):
        return str(cell.date()) if cell.time() == time() else cell.isoformat(" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)
