"""Writing files so that the old or the new one stands there, never half of one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from prep.errors import OutputError
from prep.parallel.threads import WorkBehind
from prep.storage.locks import NO_FOLLOW, lock_file, refuse_obstacle, working_folder
from prep.storage.os_errors import explain_os_error, find_kind_of_obstacle
from prep.storage.stream_hash import open_hash

_WRITE_AHEAD_BYTES = 16 << 20
# Below this a thread is not worth its start.
_BEHIND_BYTES = 1 << 20


class AtomicFile:
    """A binary file under way: it counts and hashes what is written, and becomes `path` on `publish`.

    Until then it is a hidden `.partial` file on the target's disk, which the next run overwrites.
    """

    def __init__(self, path: Path, stream: BinaryIO, partial: Path) -> None:
        self.path = path
        self.partial = partial
        self.bytes_written = 0
        self._stream = stream
        self._hash = open_hash()
        self._taken = self._on_its_way = 0
        self._behind: WorkBehind | None = None

    def write(self, block: bytes | bytearray) -> None:
        """Append a block, of a large file in a thread.

        Raises: OutputError, here or later, when the disk is full or the file cannot be written.
        """
        self.bytes_written += len(block)
        if self._behind is None and self.bytes_written >= _BEHIND_BYTES:
            self._behind = WorkBehind(self._take)
        if self._behind is None:
            self._take(block)
        else:
            self._behind.put(block)

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes written so far."""
        self._wait()
        return self._hash.hexdigest()

    def flush(self) -> None:
        """Wait until the disk has all that was written."""
        self._wait()
        with explain_os_error(self.path):
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def publish(self) -> None:
        """Flush to the disk and rename onto the target."""
        self.flush()
        with explain_os_error(self.path):
            self._stream.close()
            self.partial.replace(self.path)

    def close(self) -> None:
        """Let go of the file; what was not published is lost."""
        if self._behind is not None:
            self._behind.stop()
        self._hash.close()
        # Closing flushes: on a full disk that fails again, and the first error is the one to show.
        with suppress(OSError):
            self._stream.close()

    def _wait(self) -> None:
        if self._behind is not None:
            self._behind.wait()

    def _take(self, block: bytes | bytearray) -> None:
        with explain_os_error(self.path):
            self._stream.write(block)
        self._hash.update(block)
        self._taken += len(block)
        if self._taken - self._on_its_way >= _WRITE_AHEAD_BYTES:
            self._start_writing()

    def _start_writing(self) -> None:
        """Let the system begin with what it would else hold back until `flush`, which then waits less."""
        if hasattr(os, "posix_fadvise"):
            start, size = self._on_its_way, self._taken - self._on_its_way
            # A hint alone: a file system that does not know it loses nothing.
            with suppress(OSError):
                os.posix_fadvise(self._stream.fileno(), start, size, os.POSIX_FADV_DONTNEED)
        self._on_its_way = self._taken


@contextmanager
def open_atomic(path: Path) -> Iterator[AtomicFile]:
    """Open a file that appears under its name only when the block ends without an exception.

    Raises: OutputError when the target cannot be written, or another process is writing it now.
    """
    with lock_file(path, timeout_s=0), stage_file(path) as staged:
        yield staged
        staged.publish()


@contextmanager
def stage_file(path: Path) -> Iterator[AtomicFile]:
    """Open a file that appears only when the caller, who holds its lock, calls `publish`."""
    with _open_partial(path, working_folder(path) / f"{path.name}.partial") as staged:
        yield staged


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document atomically: ASCII-escaped, so that every locale reads it."""
    _replace_file(path, encode_json(content))


def encode_json(content: Any) -> bytes:
    """Return an indented JSON document as ASCII bytes."""
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def write_text(path: Path, text: str) -> None:
    """Write one UTF-8 text file atomically, with `\\n` line ends on every system."""
    _replace_file(path, text.encode())


def _replace_file(path: Path, content: bytes) -> None:
    """Write a small file whole: the last of several writers wins, and none leaves half of one."""
    with explain_os_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _open_partial(path, path.with_name(f".{path.name}.{os.getpid()}.partial")) as staged:
        staged.write(content)
        staged.publish()


@contextmanager
def _open_partial(path: Path, partial: Path) -> Iterator[AtomicFile]:
    staged = AtomicFile(path, _create_partial(path, partial), partial)
    try:
        yield staged
    finally:
        staged.close()
        partial.unlink(missing_ok=True)


def _create_partial(path: Path, partial: Path) -> BinaryIO:
    """Make a new file for what becomes `path`; one that a dead process of ours left goes, all else is refused."""
    refuse_obstacle(partial)
    refuse_no_file(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | getattr(os, "O_BINARY", 0)
    with explain_os_error(path):
        partial.unlink(missing_ok=True)
        return os.fdopen(os.open(partial, flags, 0o666), "wb")


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError when `path` stands already and may not be replaced."""
    with explain_os_error(path):
        is_there = path.is_symlink() or path.exists()
    if is_there and not force:
        raise OutputError(f"{path} exists already", hint="--force to replace it, or another -o")


def refuse_no_file(path: Path) -> None:
    """Raise OutputError when a folder, a device or a pipe stands where a file is to be: it is not replaced."""
    with explain_os_error(path):
        # Where a link leads counts: /dev/stdout is one.
        kind = find_kind_of_obstacle(Path(os.path.realpath(path)))
    if kind not in (None, "a link"):
        raise OutputError(f"{path} is {kind}, and is not replaced by a file", hint="choose another name")
