"""The seam: rows with their place in a file, what every reader answers, and how the user wants inputs read."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prep.choices import TextRow
from prep.errors import InputError, RecordError
from prep.rows.json_arrays import check_weight
from prep.rows.line_blocks import MAX_LINE_BYTES, split_lines
from prep.rows.repeated_keys import parse_json_once

_PEEK_ROWS = 200
CHOICES = ("encoding", "delimiter", "sheet", "split", "subset", "split_text")


class SourceRow(NamedTuple):
    """One row as it stands in a file; `number` counts from 1, in JSONL the lines.

    `place` is where a person finds it when that is not the number: {"line": 7}, {"sheet row": 4}.
    """

    number: int
    values: dict[str, Any]
    place: Mapping[str, int] = {}


class BadRow(NamedTuple):
    """One row that could not be read as an object; `number` counts from 1."""

    number: int
    reason: str
    place: Mapping[str, int] = {}


def describe_place(place: Mapping[str, int]) -> str:
    """Say a place for a message: ` (sheet row 4, line 9)`, "" when the number says it."""
    return f" ({', '.join(f'{name} {number:,}' for name, number in place.items())})" if place else ""


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
    return as_row(number, values)


def as_row(number: int, values: object, place: Mapping[str, int] = {}) -> SourceRow | BadRow:
    """Return what JSON gave as a row; a value that is no object is a bad one."""
    if isinstance(values, dict):
        return SourceRow(number, values, place)
    if isinstance(values, RecordError):
        return BadRow(number, str(values), place)
    return BadRow(number, f"a JSON {type(values).__name__}, not an object", place)


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise InputError when two columns have one name: which is meant nobody knows. Nameless ones are ignored."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise InputError(
            f"{path} has the column '{twice[0][:80]}' {names.count(twice[0])} times",
            hint="rename all but one in the file",
        )


@dataclass(frozen=True)
class ReadOptions:
    """How to read: what is None or "" is found out from the file.

    `split` and `subset` choose the files of a hub's folder, or "all"; `split_text` cuts a .txt into rows: line,
    blank-line or file. No row may take more than `max_line_bytes`. `stdin_format` is the ending that a file of what
    stdin holds would have, without its dot.
    """

    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    split: str = ""
    subset: str = ""
    split_text: str = TextRow.LINE
    max_line_bytes: int = MAX_LINE_BYTES
    stdin_format: str = ""

    def describe(self) -> dict[str, str]:
        """Return what was chosen, for a manifest; the bound of a row changes no row."""
        usual = ReadOptions()
        return {name: getattr(self, name) for name in CHOICES if getattr(self, name) != getattr(usual, name)}

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "ReadOptions":
        """Return the options that a manifest describes."""
        return cls(**{name: described[name] for name in CHOICES if isinstance(described.get(name), str)})


class InputFile(NamedTuple):
    """One input: `label` is how origins name it, unambiguous among a run's inputs, `name` how messages do.

    No row of it may take more than `max_line_bytes`.
    """

    path: Path
    label: str
    name: str
    max_line_bytes: int = MAX_LINE_BYTES


class Reader(ABC):
    """One input file of one format. `notes` say what was found out, and is not in the file's name."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.notes: list[str] = []
        # The share of the file that has been read, 0 until it is known.
        self.share = 0.0

    @abstractmethod
    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows in the file's order, without loading it whole; it can be called again.

        Raises: InputError when the file is broken as a whole.
        """

    def read_columns(self) -> list[str]:
        """Return the columns of the first rows, in their order; none when no row is an object."""
        rows = (row for row in islice(self.read_rows(), _PEEK_ROWS) if isinstance(row, SourceRow))
        return list(dict.fromkeys(column for row in rows for column in row.values))
