"""Files as they are when unpacked: .gz and .zst, told by their first bytes, and never far beyond their size."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from prep.errors import InputError
from prep.storage.os_errors import explain_os_error, explain_read_error

PACKED_SUFFIXES = (".gz", ".zst")
_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BUFFER_BYTES = 1 << 18
# Text packs to a tenth or, very even text, a fiftieth; gzip's own limit is 1,032, zstd has none.
_MAX_UNPACKING = 300
_UNPACKED_FREELY = 64 << 20


def find_packing(path: Path) -> str | None:
    """Return how a file is packed: gzip, zstd, or None; by its first bytes, and else by its name."""
    with explain_read_error(path), path.open("rb") as stream:
        head = stream.read(4)
    by_content = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    by_name = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    return by_content or by_name


def drop_packed_suffix(name: str) -> str:
    """Return a file's name as that of the unpacked file: `a.jsonl.gz` → `a.jsonl`."""
    suffix = next((suffix for suffix in PACKED_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file for reading what it holds when unpacked; only a plain one can seek.

    Raises: InputError, also while it is read: when it cannot be unpacked, or is far larger than text can be.
    """
    packing = find_packing(path)
    with explain_read_error(path):
        if packing is None:
            return path.open("rb")
        if packing == "gzip":
            packed = cast(BinaryIO, gzip.GzipFile(path, "rb"))
        else:
            import pyarrow as pa

            packed = cast(BinaryIO, pa.input_stream(path, compression="zstd"))
        return io.BufferedReader(_Unpacked(path, packed), _BUFFER_BYTES)


@contextmanager
def unpack_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that can seek: itself, or a nameless copy of what it holds, which goes away by itself."""
    if find_packing(path) is None:
        with path.open("rb") as stream:
            yield stream
        return
    import tempfile

    with open_unpacked(path) as packed, tempfile.TemporaryFile() as copy:
        while data := packed.read(_BUFFER_BYTES):
            with explain_os_error(Path(tempfile.gettempdir())):
                copy.write(data)
        copy.seek(0)
        yield cast(BinaryIO, copy)


class _Unpacked(io.RawIOBase):
    """What a packed file holds, up to a bound."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self._path = path
        self._packed = packed
        self._left = _UNPACKED_FREELY + _MAX_UNPACKING * path.stat().st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            data = self._packed.read(len(buffer))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{self._path} cannot be unpacked: {error}", hint="download it again") from error
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"{self._path} unpacks to more than {_MAX_UNPACKING} times its size, as no text does",
                hint="unpack it yourself, look at it, and give the unpacked file",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._packed.close()
        super().close()
