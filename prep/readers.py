"""Source files → rows that know their file and row number: parquet, JSONL, JSON and CSV."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prep.errors import InputError

_BATCH_ROWS = 2_000


class SourceRow(NamedTuple):
    """One row as it stands in a file; `number` counts from 1."""

    number: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """One row that could not be read as an object; `number` counts from 1."""

    number: int
    reason: str


def read_rows(path: Path) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of one file in its order, without loading it whole (JSON arrays excepted).

    Raises: InputError when the file is missing, of an unknown type, or broken as a whole.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        allowed = ", ".join(sorted(_READERS))
        raise InputError(f"{path}: files of type '{path.suffix}' cannot be read; allowed are {allowed}")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file", hint="check the path, or download it first")
    return reader(path)


def _read_parquet(path: Path) -> Iterator[SourceRow | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # Without pre_buffer=False memory grows with the file.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield SourceRow(number, values)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a whole parquet file: {error} (after row {number})") from error


def _read_jsonl(path: Path) -> Iterator[SourceRow | BadRow]:
    import orjson

    with path.open("rb") as stream:
        number = 0
        if stream.read(3) != b"\xef\xbb\xbf":
            stream.seek(0)
        for line in stream:
            if not line.strip():
                continue
            number += 1
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield BadRow(number, f"not JSON: {error}")
                continue
            yield _as_row(number, values)


def _read_json(path: Path) -> Iterator[SourceRow | BadRow]:
    import orjson

    try:
        rows = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
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

    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            for number, values in enumerate(csv.DictReader(stream, strict=True), 1):
                if None in values or None in values.values():
                    yield BadRow(number, "its number of fields differs from the header's")
                else:
                    yield SourceRow(number, dict(values))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a whole UTF-8 CSV file: {error}") from error


def _as_row(number: int, values: object) -> SourceRow | BadRow:
    if isinstance(values, dict):
        return SourceRow(number, values)
    return BadRow(number, f"a JSON {type(values).__name__}, not an object")


_READERS: dict[str, Callable[[Path], Iterator[SourceRow | BadRow]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
}
