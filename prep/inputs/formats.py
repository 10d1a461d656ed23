"""Which reader reads a file: a table of names' endings, corrected by what the file really begins with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import drop_packed_suffix, open_unpacked


def _open_lines(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.json_documents import open_json

    return open_json(file, options, is_lines=True)


def _open_document(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.json_documents import open_json

    return open_json(file, options, is_lines=False)


def _open_csv(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.tables import DelimitedReader

    return DelimitedReader(file, options)


def _open_tsv(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.tables import DelimitedReader

    return DelimitedReader(file, options, "\t")


def _open_text(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.text import TextReader

    return TextReader(file, options)


def _open_excel(file: InputFile, options: ReadOptions) -> Reader:
    from prep.inputs.excel import ExcelReader

    return ExcelReader(file, options)


def _open_parquet(file: InputFile, _: ReadOptions) -> Reader:
    from prep.inputs.parquet import ParquetReader

    return ParquetReader(file)


def _open_arrow(file: InputFile, _: ReadOptions) -> Reader:
    from prep.inputs.arrow import ArrowReader

    return ArrowReader(file)


FORMATS: dict[str, Callable[[InputFile, ReadOptions], Reader]] = {
    ".parquet": _open_parquet,
    ".jsonl": _open_lines,
    ".ndjson": _open_lines,
    ".json": _open_document,
    ".csv": _open_csv,
    ".tsv": _open_tsv,
    ".xlsx": _open_excel,
    ".xlsm": _open_excel,
    ".arrow": _open_arrow,
    ".feather": _open_arrow,
    ".txt": _open_text,
}
# In a folder these are data only when nothing else is: README.txt, labels.xlsx.
_SELDOM_DATA = (".txt", ".xlsx", ".xlsm")
_MARKS: dict[bytes, Callable[[InputFile, ReadOptions], Reader]] = {
    b"PAR1": _open_parquet,
    b"ARROW1": _open_arrow,
    b"\xff\xff\xff\xff": _open_arrow,
    b"PK\x03\x04": _open_excel,
}
_NO_DATA = {
    b"version https://git-lfs": ("is a pointer of Git LFS, and not the data", "git lfs pull, or lfc prep download"),
    b"<!doctype html": ("is a web page, and not the data", "download the file itself: lfc prep download"),
    b"<html": ("is a web page, and not the data", "download the file itself: lfc prep download"),
    b"\xd0\xcf\x11\xe0": ("is an old Excel file, or one with a password", "in Excel, save it as .xlsx"),
}
_HINTS = {
    ".xls": "in Excel, save it as .xlsx or as CSV UTF-8",
    ".et": "in WPS, save it as .xlsx",
    ".ods": "save it as .xlsx or .csv",
    ".zip": "unpack it, and give the folder",
    ".tar": "unpack it, and give the folder",
    ".tgz": "unpack it, and give the folder",
    ".rar": "unpack it, and give the folder",
    ".7z": "unpack it, and give the folder",
    ".bz2": "unpack it with bunzip2, or pack it with gzip",
    ".xz": "unpack it with unxz, or pack it with gzip",
    ".docx": "save it as plain text, .txt in UTF-8",
    ".doc": "save it as plain text, .txt in UTF-8",
    ".pdf": "save its text as .txt in UTF-8",
    ".md": "copy it to a name that ends in .txt",
    ".pkl": "pandas.read_pickle(…).to_parquet(…), if you trust where it comes from",
    ".pickle": "pandas.read_pickle(…).to_parquet(…), if you trust where it comes from",
    ".yaml": "write it as JSON",
    ".yml": "write it as JSON",
    ".xml": "write it as JSON or CSV",
}
_HEAD_BYTES = 32


def find_suffix(path: Path) -> str | None:
    """Return the ending of the table that a file's name has, without that of packing; None when it has none."""
    name = drop_packed_suffix(path.name.lower())
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def is_seldom_data(path: Path) -> bool:
    """Whether files of this ending mostly stand beside data."""
    return find_suffix(path) in _SELDOM_DATA


def require_suffix(path: Path) -> None:
    """Raise InputError when a name is of a type that cannot be read, with what makes it readable."""
    if find_suffix(path) is None:
        allowed = ", ".join(FORMATS)
        raise InputError(
            f"{path}: files of type '{path.suffix}' cannot be read; allowed are {allowed}, and .gz or .zst of them",
            hint=_HINTS.get(path.suffix.lower()),
        )


def require_format(path: Path) -> None:
    """Raise InputError when a file is missing, or of a type that cannot be read, with what makes it readable."""
    require_suffix(path)
    with explain_read_error(path):
        is_file = path.is_file()
    if not is_file:
        raise InputError(f"{path} does not exist or is not a file", hint="check the path, or download it first")


def open_reader(file: InputFile, options: ReadOptions | None = None) -> Reader:
    """Return what reads a file; raises InputError when it is missing, of an unknown type, or clearly no data."""
    require_format(file.path)
    with explain_read_error(file.path), open_unpacked(file.path) as stream:
        head = stream.read(_HEAD_BYTES)
    for mark, (fault, hint) in _NO_DATA.items():
        if head.lstrip().lower().startswith(mark):
            raise InputError(f"{file.path} {fault}", hint=hint)
    usual = FORMATS[find_suffix(file.path) or ".jsonl"]
    found = next((opener for mark, opener in _MARKS.items() if head.startswith(mark)), None)
    reader = (found or usual)(file, options or ReadOptions())
    if found not in (None, usual):
        reader.notes.append(f"it is a {type(reader).__name__.removesuffix('Reader')} file by its content")
    return reader


def read_rows(path: Path, options: ReadOptions | None = None) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of one file in its order, without loading it whole.

    Raises: InputError when the file is missing, of an unknown type, or broken as a whole.
    """
    return open_reader(InputFile(path, path.name, path.as_posix()), options).read_rows()


def read_values(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the number of each row of a file, and its values, or why it cannot be read."""
    for row in read_rows(path):
        yield row.number, row.values if isinstance(row, SourceRow) else row.reason
