"""The compiled half of the row index: `_indexer.c`."""

from typing_extensions import Buffer

def describe_lines(data: Buffer, start: int, output: Buffer, /) -> tuple[int, int, bytes]:
    """Describe lines from a place in `data` on; return how many, their bytes, and the dataset of them all."""

def list_origins(lines: Buffer, /) -> bytes | None:
    """Return the origin of each line with a line end behind it; None when a line does not end with a plain one."""
