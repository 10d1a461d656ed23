"""Text files in blocks of whole lines, packed or not, in flat memory: no line beyond a bound."""

import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from prep.errors import InputError
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import open_unpacked

# Larger ones cost more in page faults than they save in calls.
BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 32 << 20
# No less than a block, of which there is always one.
MIN_LINE_BYTES = 4 << 20
MAX_LINE_HINT = "a row for training is never as long; lfc prep convert reads longer ones with --max-line-bytes"
_LONG_LINE = 1_000
_LOOKED_AT_BYTES = 1 << 13
BOM = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Whole lines of a JSONL: where they start in the file, and the first one's number."""

    start: int
    first_row: int
    data: bytes


def read_blocks(
    path: Path, size: int = BLOCK_BYTES, max_line_bytes: int = MAX_LINE_BYTES
) -> Generator[Block, None, None]:
    """Yield a JSONL file in blocks of whole lines of about `size` bytes.

    Shape: `start` counts in what the file holds when unpacked.

    Raises: InputError when it cannot be read or unpacked, is not in UTF-8 at all, or a line is too long.
    """
    start, first_row = 0, 1
    for data in read_byte_blocks(path, size, max_line_bytes):
        yield Block(start, first_row, data)
        start += len(data)
        first_row += count_lines(data)


def read_byte_blocks(path: Path, size: int, max_line_bytes: int = MAX_LINE_BYTES) -> Generator[bytes, None, None]:
    """Yield blocks as `read_blocks` does, for who counts the lines anyway: it takes longer than to read them."""
    with explain_read_error(path), open_unpacked(path) as stream:
        start = 0
        cut = cut_file_into_lines if _is_plain(stream) else cut_into_lines
        for data in cut(stream, path.as_posix(), size, max_line_bytes):
            if not start:
                refuse_utf16(path, data)
            yield data
            start += len(data)


def refuse_utf16(path: Path, head: bytes) -> None:
    """Raise InputError for a file that begins as UTF-16 does."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path} is in UTF-16", hint="save it as UTF-8")


def cut_into_lines(stream: BinaryIO, name: str, size: int, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """Yield what a stream holds in blocks of whole lines; raises InputError when a line is too long."""
    start = 0
    while data := stream.read(size):
        if not data.endswith(b"\n"):
            line = len(data) - 1 - data.rfind(b"\n")
            rest = stream.readline(max(max_line_bytes - line, 0) + 1)
            if line + len(rest) > max_line_bytes:
                raise _describe_long_line(name, start + len(data) - line, max_line_bytes)
            data += rest
        yield data
        start += len(data)


def cut_file_into_lines(
    stream: BinaryIO, name: str, size: int, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[bytes]:
    """Yield the same of a file that can seek: the last line's end is found first, so that no block is copied."""
    start = 0
    while True:
        last = start + size - 1
        end = _find_line_end(stream, last, max_line_bytes)
        stream.seek(start)
        data = stream.read(end - start)
        if not data:
            return
        # As much as was asked for ends amid a line, which the rest ends.
        line = min(len(data), size) - 1 - data.rfind(b"\n", 0, size)
        if line and line + max(len(data) - size, 0) > max_line_bytes:
            raise _describe_long_line(name, start + min(len(data), size) - line, max_line_bytes)
        yield data
        start += len(data)


def _find_line_end(stream: BinaryIO, start: int, max_line_bytes: int) -> int:
    """Return where the line that holds a place ends: beyond the longest, or the file, when its end is not found."""
    stream.seek(start)
    place = start
    while place - start <= max_line_bytes and (data := stream.read(_LOOKED_AT_BYTES)):
        found = data.find(b"\n")
        if found >= 0:
            return place + found + 1
        place += len(data)
    return place + 1


def _is_plain(stream: BinaryIO) -> bool:
    """Whether a stream is a file that can seek."""
    return isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable()


def _describe_long_line(name: str, start: int, max_line_bytes: int) -> InputError:
    return InputError(
        f"{name}: the line from byte {start:,} on is longer than {max_line_bytes:,} bytes", hint=MAX_LINE_HINT
    )


def split_lines(data: bytes, first_row: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) for each line that is not blank."""
    if first_row == 1:
        data = data.removeprefix(BOM)
    for number, line in enumerate(data.split(b"\n"), first_row):
        if line and not line.isspace():
            yield number, line


def count_lines(data: bytes) -> int:
    """Return how many line ends there are."""
    # Python 3.11 and 3.12 count single bytes one by one; `find` and `split` use the CPU's search.
    if data.find(b"\n", 0, _LONG_LINE) >= 0:
        return len(data.split(b"\n")) - 1
    lines, place = 0, data.find(b"\n")
    while place >= 0:
        lines += 1
        place = data.find(b"\n", place + 1)
    return lines
