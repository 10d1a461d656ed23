"""Logs read in bounds: one may be larger than the memory, or a single line without an end."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

TAIL_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 20
# What is shown of a log's end at most, and the longest line that is looked at as one.
_MAX_LINES_BYTES = 16 << 20
_MAX_LINE = 1 << 16


def read_tail(path: Path, max_bytes: int = TAIL_BYTES) -> str:
    """Return the end of a text file; what is missing or cannot be read says nothing."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - max_bytes))
            return stream.read(max_bytes).decode("utf-8", errors="replace")
    except OSError:
        return ""


def read_last_lines(path: Path, count: int) -> str:
    """Return the last lines of a text file, at most 16 MiB of them."""
    max_bytes = 1 << 16
    while True:
        text = read_tail(path, max_bytes)
        lines = text.splitlines(keepends=True)
        # Of the first line only the end may have been read.
        if len(lines) > count or max_bytes >= _MAX_LINES_BYTES or len(text.encode()) < max_bytes:
            return "".join(lines[-count:])
        max_bytes *= 4


def iter_blocks(path: Path) -> Iterator[str]:
    """Yield a text file in blocks that end with a line, as far as its lines are of bounded length."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                text = rest + decoder.decode(block)
                end = text.rfind("\n") + 1
                if end == 0 and len(text) > _MAX_LINE:
                    end = len(text)
                rest = text[end:][-_MAX_LINE:]
                yield text[:end]
    except OSError:
        # A log that a run never had, or that cannot be read, has nothing in it.
        pass
    yield rest
