"""The compiled half of lint: `_sound.c`."""

from typing_extensions import Buffer

def sort_lines(data: Buffer, output: Buffer, /) -> int:
    """Write of each line what it is, one byte a line, until the output is full; return how many lines that were."""
