"""The compiled half of conversion: `kernel.c`, by way of `_kernelmodule.c`.

Both functions stop at the first row that is not plain and when the output is full, and return what they made:
lines, bytes read, rows, records, records with a system prompt and records with a history.
"""

from typing_extensions import Buffer

# What a role's name means, and which exchanges of a conversation become records.
SYSTEM: int
USER: int
ASSISTANT: int
EXPAND: int
ALL: int
FIRST: int
LAST: int

def convert_lines(
    names: tuple[bytes, ...],
    places: tuple[int, int, int],
    writes_thought: bool,
    before_question: bytes,
    before_thought: bytes,
    before_answer: bytes,
    after_answer: bytes,
    data: Buffer,
    start: int,
    row: int,
    output: Buffer,
    /,
) -> tuple[bytes, int, int, int, int, int]:
    """Convert lines of JSONL from a place in `data` on, the first of them with the number `row`."""

def convert_turns(
    roles: tuple[tuple[bytes, int], ...],
    turns: int,
    system: bytes,
    before_question: bytes,
    before_answer: bytes,
    before_system: bytes,
    before_history: bytes,
    before_origin: bytes,
    line_end: bytes,
    buffers: tuple[Buffer, Buffer, Buffer, Buffer, Buffer, int, int],
    first: int,
    last: int,
    number: int,
    output: Buffer,
    /,
) -> tuple[bytes, int, int, int, int, int]:
    """Convert rows `first` to `last`, without it, of Arrow's buffers, whose row 0 has the number `number`."""
