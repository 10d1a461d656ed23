"""Training rows as they stand in a JSONL, or in a JSON array, with the line of each."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from prep.errors import InputError

BOM = b"\xef\xbb\xbf"


def iter_json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of a JSONL, or of the elements of a JSON array; a broken line's value is its error.

    Raises: InputError when the file cannot be read, or is a .json that is neither.
    """
    check_json_suffix(path)
    if path.suffix.lower() == ".jsonl" or holds_lines_as_json(path):
        yield from _iter_lines(path)
    else:
        yield from enumerate(_read_json_array(path), 1)


def check_json_suffix(path: Path) -> None:
    """Raise InputError when a file is neither JSONL nor JSON by its name."""
    if path.suffix.lower() not in (".jsonl", ".json"):
        raise InputError(
            f"{path}: files of type '{path.suffix}' are not training rows; allowed are .json, .jsonl",
            hint=f"lfc prep convert {path} -o {path.with_suffix('.jsonl')}",
        )


def holds_lines_as_json(path: Path) -> bool:
    """Whether a file named .json holds objects one a line, and not one JSON document."""
    if path.suffix.lower() != ".json":
        return False
    rows = [row for _, row in islice(_iter_lines(path), 2)]
    return len(rows) == 2 and isinstance(rows[0], dict)


def _iter_lines(path: Path) -> Iterator[tuple[int, Any]]:
    import orjson

    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                content = line.removeprefix(BOM) if number == 1 else line
                if not content.strip():
                    continue
                try:
                    yield number, orjson.loads(content)
                except orjson.JSONDecodeError as error:
                    yield number, error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _read_json_array(path: Path) -> list[Any]:
    import orjson

    try:
        rows = orjson.loads(path.read_bytes().removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno} column {error.colno}: not JSON: {error.msg}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    return rows if isinstance(rows, list) else [rows]
