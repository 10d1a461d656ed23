"""Source files → rows that know their file and row number: parquet, JSONL (also .gz, .zst), JSON and CSV."""

import gzip
import io
import os
import sys
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple, cast

import prep
from prep.errors import InputError

BATCH_ROWS = 2_000
# Larger ones cost more in page faults than they save in calls.
BLOCK_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"
_SUFFIXES = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".json": "json",
    ".csv": "csv",
}
# What hubs and this tool write beside data; a folder's data files are all the others.
_NOT_DATA = ("dataset_info.json", "dataset_infos.json", "configuration.json", "config.json")
_NOT_DATA_ENDS = (".manifest.json", ".rejects.jsonl", ".duplicates.jsonl", ".too-long.jsonl")
_CSV_FIELD_BYTES = 1 << 30
_LONG_LINE = 1_000
_NEEDLESS = ("numpy", "pyarrow._s3fs", "pyarrow._gcsfs", "pyarrow._azurefs", "pyarrow._hdfs")


class SourceRow(NamedTuple):
    """One row as it stands in a file; `number` counts from 1, in JSONL the lines."""

    number: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """One row that could not be read as an object; `number` counts from 1."""

    number: int
    reason: str


class InputFile(NamedTuple):
    """One input: `label` is how origins name it, unambiguous among a run's inputs, `name` how messages do."""

    path: Path
    label: str
    kind: str
    name: str


class Block(NamedTuple):
    """Whole lines of a JSONL: where they start in the file, and the first one's number."""

    start: int
    first_row: int
    data: bytes


def find_inputs(arguments: Sequence[Path]) -> tuple[list[InputFile], list[Path]]:
    """Return the input files that files, folders and globs name, and what was left out of folders.

    Raises: InputError when one names nothing, names a file twice, or a type that cannot be read.
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            found = [
                path for path in sorted(argument.rglob("*")) if path.is_file() and not _is_hidden(path, argument)
            ]
            paths += (data := [path for path in found if _is_data(path)])
            left_out += [path for path in found if not _is_data(path)]
            if not data:
                raise InputError(f"{argument} holds no data files; allowed are {', '.join(_SUFFIXES)}")
        elif any(mark in str(argument) for mark in "*?[") and not argument.exists():
            paths += _expand_glob(argument)
        else:
            paths.append(argument)
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice")
    labels = _label_paths(paths)
    files = [
        InputFile(path, label, find_kind(path), path.as_posix()) for path, label in zip(paths, labels, strict=True)
    ]
    return files, left_out


def find_kind(path: Path) -> str:
    """Return how to read a file; raises InputError when it is missing or of an unknown type."""
    name = path.name.lower()
    kind = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)
    if kind is None:
        allowed = ", ".join(_SUFFIXES)
        raise InputError(f"{path}: files of type '{path.suffix}' cannot be read; allowed are {allowed}")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file", hint="check the path, or download it first")
    return kind


def read_rows(path: Path) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of one file in its order, without loading it whole (JSON arrays excepted).

    Raises: InputError when the file is missing, of an unknown type, or broken as a whole.
    """
    kind = find_kind(path)
    if kind.startswith("jsonl"):
        for block in read_blocks(path, kind):
            yield from parse_lines(block.data, block.first_row)
    else:
        yield from {"parquet": _read_parquet, "json": _read_json, "csv": _read_csv}[kind](path)


def read_blocks(path: Path, kind: str = "jsonl", size: int = BLOCK_BYTES) -> Generator[Block, None, None]:
    """Yield a JSONL file in blocks of whole lines of about `size` bytes.

    Shape: `start` counts in what the file holds when unpacked.

    Raises: InputError when it cannot be read or unpacked, or is not in UTF-8 at all.
    """
    start, first_row = 0, 1
    for data in read_byte_blocks(path, kind, size):
        yield Block(start, first_row, data)
        start += len(data)
        first_row += count_lines(data)


def read_byte_blocks(path: Path, kind: str, size: int) -> Generator[bytes, None, None]:
    """Yield blocks as `read_blocks` does, for who counts the lines anyway: it takes longer than to read them."""
    is_first = True
    with explain_read_error(path), _open_stream(path, kind) as stream:
        while data := stream.read(size):
            if not data.endswith(b"\n"):
                data += stream.readline()
            if is_first and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise InputError(f"{path} is in UTF-16", hint="save it as UTF-8")
            is_first = False
            yield data


def count_lines(data: bytes) -> int:
    """Return how many line ends there are."""
    # Python 3.11 and 3.12 count single bytes one by one; `find` and `split` use the processor's search.
    if data.find(b"\n", 0, _LONG_LINE) >= 0:
        return len(data.split(b"\n")) - 1
    lines, place = 0, data.find(b"\n")
    while place >= 0:
        lines += 1
        place = data.find(b"\n", place + 1)
    return lines


def parse_lines(data: bytes, first_row: int) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a block of JSONL; blank lines are counted, and are no rows."""
    return (parse_line(line, number) for number, line in split_lines(data, first_row))


def split_lines(data: bytes, first_row: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) for each line that is not blank."""
    if first_row == 1:
        data = data.removeprefix(_BOM)
    for number, line in enumerate(data.split(b"\n"), first_row):
        if line and not line.isspace():
            yield number, line


def parse_line(line: bytes, number: int) -> SourceRow | BadRow:
    """Return one line's row."""
    import orjson

    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadRow(number, "not valid UTF-8" if "UTF-8" in str(error) else f"not JSON: {error}")
    return _as_row(number, values)


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file for reading in small pieces; raises InputError when it is broken."""
    with _without_needless():
        import pyarrow as pa
        import pyarrow.parquet as pq

    _choose_memory_pool()
    try:
        # Without pre_buffer=False memory grows with the file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not a whole parquet file: {reason}", hint="download it again") from error


@contextmanager
def _without_needless() -> Iterator[None]:
    """Let pyarrow load in half the time: here it never hands over arrays, and reads from no cloud."""
    if not prep.is_own_process or "numpy" in sys.modules or "pyarrow" in sys.modules:
        yield
        return
    # What is None here cannot be imported, which pyarrow allows for.
    sys.modules.update(dict.fromkeys(_NEEDLESS, cast(ModuleType, None)))
    try:
        yield
    finally:
        for name in _NEEDLESS:
            del sys.modules[name]


def _choose_memory_pool() -> None:
    """Let pyarrow use jemalloc where there is one: batches that come and go take less time and memory with it."""
    import pyarrow as pa

    is_left_to_us = prep.is_own_process and "ARROW_DEFAULT_MEMORY_POOL" not in os.environ
    if is_left_to_us and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


@contextmanager
def explain_read_error(path: Path) -> Iterator[None]:
    """Turn what reading a text file can raise into an InputError that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked: {error}", hint="download it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _open_stream(path: Path, kind: str) -> BinaryIO:
    if kind == "jsonl.gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind == "jsonl.zst":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.input_stream(path, compression="zstd"), BLOCK_BYTES))
    return path.open("rb")


def _expand_glob(pattern: Path) -> list[Path]:
    parts = pattern.parts
    fixed = next(place for place, part in enumerate(parts) if any(mark in part for mark in "*?["))
    found = sorted(path for path in Path(*parts[:fixed]).glob("/".join(parts[fixed:])) if path.is_file())
    if not found:
        raise InputError(f"{pattern} matches no file")
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_data(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(tuple(_SUFFIXES)) and name not in _NOT_DATA and not name.endswith(_NOT_DATA_ENDS)


def _label_paths(paths: Sequence[Path]) -> list[str]:
    """Name each path by its last part, or by as many as tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    depths = [1] * len(paths)
    while True:
        labels = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        shared = {label for label, count in Counter(labels).items() if count > 1}
        if not shared:
            return labels
        depths = [depth + (label in shared) for label, depth in zip(labels, depths, strict=True)]


def _read_parquet(path: Path) -> Iterator[SourceRow | BadRow]:
    number = 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield SourceRow(number, values)


def _read_json(path: Path) -> Iterator[SourceRow | BadRow]:
    import orjson

    with explain_read_error(path):
        content = path.read_bytes().removeprefix(_BOM)
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{path} is not a JSON document: {error}", hint="name it .jsonl if it holds one object a line"
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{path} holds one JSON {type(rows).__name__}, not an array of rows")
    for number, values in enumerate(rows, 1):
        yield _as_row(number, values)


def _read_csv(path: Path) -> Iterator[SourceRow | BadRow]:
    import csv

    number = 0
    csv.field_size_limit(_CSV_FIELD_BYTES)
    with explain_read_error(path), path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            for number, values in enumerate(csv.DictReader(stream, strict=True), 1):
                if None in values or None in values.values():
                    yield BadRow(number, "its number of fields differs from the header's")
                else:
                    yield SourceRow(number, dict(values))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} is not in UTF-8 (after row {number}): {error.reason}",
                hint="save it as UTF-8; in Excel: CSV UTF-8",
            ) from error
        except csv.Error as error:
            raise InputError(f"{path} is not a whole CSV file (after row {number}): {error}") from error


def _as_row(number: int, values: object) -> SourceRow | BadRow:
    if isinstance(values, dict):
        return SourceRow(number, values)
    return BadRow(number, f"a JSON {type(values).__name__}, not an object")
