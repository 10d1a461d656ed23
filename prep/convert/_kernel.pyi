"""The compiled half of conversion: rows.c, json.c, csv.c and arrow.c, by way of `_kernelmodule.c`.

Every function stops at the first row that is not plain and when its output, of `room` bytes, is full. It returns
lines, which are the caller's own, bytes read, rows, records, those with a thought, with a system prompt and with
a history, rows that a condition sorted out, a bit for each form of objects that a written row had, and the line
ends in lines of fields.
"""

from collections.abc import Callable

from typing_extensions import Buffer

# What a role's name means, which exchanges of a conversation become records, and how thoughts are written.
SYSTEM: int
USER: int
ASSISTANT: int
EXPAND: int
ALL: int
FIRST: int
LAST: int
TAGGED: int
MASKED: int
STRIP: int
# What a column is for.
UNUSED: int
BLANK: int
EMPTY: int
QUESTION: int
ANSWER: int
THOUGHT: int
SYSTEM_PROMPT: int
INPUT: int
TURNS: int
MAX_COLUMNS: int
MAX_FORMS: int

_Job = tuple[tuple[bytes, ...], int, int, tuple[tuple[bytes, int], ...], tuple[bytes, ...], tuple[bytes, ...]]
_Column = tuple[int, int, int, Buffer | None, Buffer, Buffer | None]
_Made = tuple[bytearray, int, int, int, int, int, int, int, int, int]

def convert_objects(
    job: _Job,
    names: tuple[bytes, ...],
    forms: tuple[tuple[int, bytes], ...],
    judged: tuple[int, ...],
    judge: Callable[..., int],
    is_array: bool,
    data: Buffer,
    start: int,
    row: int,
    room: int,
    /,
) -> _Made:
    """Convert objects from a place in `data` on, the first of them with the number `row`."""

def convert_fields(
    job: _Job,
    uses: bytes,
    delimiter: bytes,
    judged: tuple[int, ...],
    judge: Callable[..., int],
    is_last: bool,
    data: Buffer,
    start: int,
    row: int,
    room: int,
    /,
) -> _Made:
    """Convert lines of fields from a place in `data` on, the first of them with the number `row`."""

def convert_table(
    job: _Job,
    columns: tuple[tuple[int, _Column], ...],
    turns: tuple[_Column, _Column, _Column] | None,
    skips: bytes | None,
    rows: int,
    first: int,
    last: int,
    number: int,
    room: int,
    /,
) -> _Made:
    """Convert rows `first` to `last`, without it, of Arrow's columns, whose row 0 has the number `number`."""
