"""The compiled half of pieces.py: `_near.c`."""

from collections.abc import Callable

from typing_extensions import Buffer

def hash_rows(
    rows: list[bytes | tuple[str, int]],
    start: int,
    marker: Callable[[bytes], int],
    table: Buffer,
    output: Buffer,
    /,
) -> list[int]:
    """Hash the pieces of rows from one on; return how many each has. A row is a line, or a text with its mark."""

def compare(one: str, other: str, /) -> tuple[int, int]:
    """Return how many pieces both texts have, and how many one of them or both have."""
