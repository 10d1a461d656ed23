"""The compiled half of the row index: `_indexer.c`."""

from typing_extensions import Buffer

def describe_lines(data: Buffer, start: int, output: Buffer, /) -> int: ...
