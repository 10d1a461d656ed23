"""Training rows as they stand in a JSONL, or in a JSON array, with the line of each."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from prep.errors import InputError, RecordError
from prep.rows.json_arrays import JsonArrayError, NoArrayError, check_weight, read_json_elements
from prep.rows.line_blocks import read_blocks, split_lines
from prep.rows.repeated_keys import parse_json_once
from prep.wording import in_shell


def iter_json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of a JSONL, or of the elements of a JSON array; that of a broken one is its error.

    Raises: InputError when the file cannot be read, or is a .json that is neither.
    """
    check_json_suffix(path)
    if path.suffix.lower() == ".jsonl" or holds_lines_as_json(path):
        yield from _iter_lines(path)
    else:
        yield from enumerate(_read_json_array(path), 1)


def describe_bad_row(value: object) -> str:
    """Return why a value of `iter_json_rows` is no row."""
    if isinstance(value, RecordError):
        return str(value)
    if isinstance(value, Exception):
        return f"not JSON: {value}"
    return f"a JSON {type(value).__name__}, not an object"


def check_json_suffix(path: Path) -> None:
    """Raise InputError when a file is neither JSONL nor JSON by its name."""
    if path.suffix.lower() not in (".jsonl", ".json"):
        raise InputError(
            f"{path}: files of type '{path.suffix}' are not training rows; allowed are .json, .jsonl",
            hint=f"lfc prep convert {in_shell(path)} -o {in_shell(path.with_suffix('.jsonl'))}",
        )


def holds_lines_as_json(path: Path) -> bool:
    """Whether a file named .json holds objects one a line, and not one JSON document."""
    if path.suffix.lower() != ".json":
        return False
    rows = [row for _, row in islice(_iter_lines(path), 2)]
    return len(rows) == 2 and isinstance(rows[0], dict)


def _iter_lines(path: Path) -> Iterator[tuple[int, Any]]:
    import orjson

    for block in read_blocks(path):
        for number, line in split_lines(block.data, block.first_row):
            try:
                check_weight(line)
                yield number, parse_json_once(line)
            except orjson.JSONDecodeError as error:
                yield number, error


def _read_json_array(path: Path) -> Iterator[Any]:
    try:
        yield from read_json_elements(path)
    except JsonArrayError as error:
        fault = error.fault
        raise InputError(f"{path} line {fault.line} column {fault.column}: not JSON: {fault.reason}") from error
    except NoArrayError as error:
        yield error.value
