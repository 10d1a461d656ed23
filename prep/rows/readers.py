"""Source files → rows that know their file and row number: parquet, JSONL (also .gz, .zst), JSON and CSV."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import prep
from prep.errors import InputError, RecordError
from prep.rows.json_arrays import JsonArrayError, check_weight, read_json_elements
from prep.rows.line_blocks import MAX_LINE_BYTES, MAX_LINE_HINT, read_blocks, split_lines
from prep.rows.repeated_keys import parse_json_once
from prep.storage.arrow import without_needless
from prep.storage.os_errors import explain_read_error

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
_NOT_DATA_ENDS = (
    ".manifest.json",
    ".index",
    ".rejects.jsonl",
    ".duplicates.jsonl",
    ".too-long.jsonl",
    ".contaminated.jsonl",
)
_MAX_FIELDS = 1_000_000
_SHOWN_CHARACTERS = 300


class SourceRow(NamedTuple):
    """One row as it stands in a file; `number` counts from 1, in JSONL the lines."""

    number: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """One row that could not be read as an object; `number` counts from 1."""

    number: int
    reason: str


class InputFile(NamedTuple):
    """One input: `label` is how origins name it, unambiguous among a run's inputs, `name` how messages do.

    No row of it may take more than `max_line_bytes`.
    """

    path: Path
    label: str
    kind: str
    name: str
    max_line_bytes: int = MAX_LINE_BYTES


def find_inputs(
    arguments: Sequence[Path], max_line_bytes: int = MAX_LINE_BYTES
) -> tuple[list[InputFile], list[Path]]:
    """Return the input files that files, folders and globs name, and what was left out of folders.

    Raises: InputError when one names nothing, names a file twice, or a type that cannot be read.
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    for argument in arguments:
        with explain_read_error(argument):
            found, others = _find_files(argument)
        paths += found
        left_out += others
    kinds = [find_kind(path) for path in paths]
    real_paths = []
    for path in paths:
        with explain_read_error(path):
            # Path.resolve raises RuntimeError at a link that leads to itself.
            real_paths.append(Path(os.path.realpath(path)))
    twice = [path for path, count in Counter(real_paths).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice")
    labels = _label_paths(real_paths)
    files = [
        InputFile(path, label, kind, path.as_posix(), max_line_bytes)
        for path, label, kind in zip(paths, labels, kinds, strict=True)
    ]
    return files, left_out


def _find_files(argument: Path) -> tuple[list[Path], list[Path]]:
    """Return the data files that one argument names, and the other files of a folder."""
    if argument.is_dir():
        found = [path for path in sorted(argument.rglob("*")) if path.is_file() and not _is_hidden(path, argument)]
        data = [path for path in found if _is_data(path)]
        if not data:
            raise InputError(f"{argument} holds no data files; allowed are {', '.join(_SUFFIXES)}")
        return data, [path for path in found if not _is_data(path)]
    if any(mark in str(argument) for mark in "*?[") and not argument.exists():
        return _expand_glob(argument), []
    return [argument], []


def find_kind(path: Path) -> str:
    """Return how to read a file; raises InputError when it is missing or of an unknown type."""
    name = path.name.lower()
    kind = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)
    if kind is None:
        allowed = ", ".join(_SUFFIXES)
        raise InputError(f"{path}: files of type '{path.suffix}' cannot be read; allowed are {allowed}")
    with explain_read_error(path):
        is_file = path.is_file()
    if not is_file:
        raise InputError(f"{path} does not exist or is not a file", hint="check the path, or download it first")
    return kind


def read_rows(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of one file in its order, without loading it whole.

    Raises: InputError when the file is missing, of an unknown type, or broken as a whole.
    """
    kind = find_kind(path)
    if kind.startswith("jsonl"):
        for block in read_blocks(path, kind, max_line_bytes=max_line_bytes):
            yield from parse_lines(block.data, block.first_row)
    else:
        yield from {"parquet": _read_parquet, "json": _read_json, "csv": _read_csv}[kind](path, max_line_bytes)


def parse_lines(data: bytes, first_row: int) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a block of JSONL; blank lines are counted, and are no rows."""
    return (parse_line(line, number) for number, line in split_lines(data, first_row))


def parse_line(line: bytes, number: int) -> SourceRow | BadRow:
    """Return one line's row."""
    import orjson

    try:
        check_weight(line)
        values = parse_json_once(line)
    except orjson.JSONDecodeError as error:
        return BadRow(number, "not valid UTF-8" if "UTF-8" in str(error) else f"not JSON: {error}")
    return _as_row(number, values)


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file for reading in small pieces; raises InputError when it is broken."""
    with without_needless():
        import pyarrow as pa
        import pyarrow.parquet as pq

    _choose_memory_pool()
    try:
        # Without pre_buffer=False memory grows with the file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield file
    except pa.ArrowNotImplementedError as error:
        raise InputError(
            f"{path} holds what cannot be read: {_shorten(error)}",
            hint="write the columns that you need into a new file, as text, numbers and lists of them",
        ) from error
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = _shorten(error)
        raise InputError(f"{path} is not a whole parquet file: {reason}", hint="download it again") from error


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__


def _choose_memory_pool() -> None:
    """Let pyarrow use jemalloc where there is one: batches that come and go take less time and memory with it."""
    import pyarrow as pa

    is_left_to_us = prep.is_own_process and "ARROW_DEFAULT_MEMORY_POOL" not in os.environ
    if is_left_to_us and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


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
    """Name each resolved path by its last part, or by as many as tell it from the others."""
    parts = [path.parts for path in paths]
    depths = [1] * len(paths)
    while True:
        labels = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        shared = {label for label, count in Counter(labels).items() if count > 1}
        if not shared:
            return labels
        depths = [depth + (label in shared) for label, depth in zip(labels, depths, strict=True)]


def _read_parquet(path: Path, max_line_bytes: int) -> Iterator[SourceRow | BadRow]:
    from prep.convert.parquet import read_parquet_rows

    return read_parquet_rows(path, max_line_bytes)


def _read_json(path: Path, max_line_bytes: int) -> Iterator[SourceRow | BadRow]:
    try:
        for number, values in enumerate(read_json_elements(path, max_line_bytes), 1):
            yield _as_row(number, values)
    except JsonArrayError as error:
        fault = error.fault
        raise InputError(
            f"{path} is not a JSON document: {fault.reason}: line {fault.line} column {fault.column}",
            hint="name it .jsonl if it holds one object a line",
        ) from error


def _read_csv(path: Path, max_line_bytes: int) -> Iterator[SourceRow | BadRow]:
    import csv

    number = 0
    csv.field_size_limit(max_line_bytes)
    with explain_read_error(path), path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            reader = csv.DictReader(_read_bounded(path, stream, max_line_bytes), strict=True)
            refuse_twice(path, reader.fieldnames or ())
            for number, values in enumerate(reader, 1):
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


def _read_bounded(path: Path, stream: TextIO, max_line_bytes: int) -> Iterator[str]:
    """Yield lines as the stream does, but none that is too long, or of too many fields to hold."""
    number = 0
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line) > max_line_bytes:
            raise InputError(f"{path} line {number:,} is longer than {max_line_bytes:,} bytes", hint=MAX_LINE_HINT)
        if line.count(",") > _MAX_FIELDS:
            raise InputError(f"{path} line {number:,} has more than {_MAX_FIELDS:,} fields")
        yield line


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise InputError when two columns have one name: which is meant nobody knows. Nameless ones are ignored."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise InputError(
            f"{path} has the column '{twice[0][:80]}' {names.count(twice[0])} times",
            hint="rename all but one in the file",
        )


def _as_row(number: int, values: object) -> SourceRow | BadRow:
    if isinstance(values, dict):
        return SourceRow(number, values)
    if isinstance(values, RecordError):
        return BadRow(number, str(values))
    return BadRow(number, f"a JSON {type(values).__name__}, not an object")
