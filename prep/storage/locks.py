"""The hidden folder `.lfc` beside an output, and locks in it."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prep.errors import InputError, OutputError
from prep.storage.os_errors import describe_os_error, explain_os_error, find_kind_of_obstacle

_LOCK_WAIT_S = 0.01
# Not there on Windows, where a link needs rights that a file of ours does not give.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def lock_file(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold an exclusive lock for `path`, in the hidden folder `.lfc` beside it.

    Raises: OutputError when another process still holds it after `timeout_s` seconds.
    """
    with try_lock(working_folder(path) / f"{path.name}.lock", patience_s=timeout_s) as handle:
        if handle is None:
            raise OutputError(
                f"{path} is being written by another process", hint="wait until it has finished, then run again"
            )
        yield


@contextmanager
def try_lock(path: Path, *, patience_s: float = 0) -> Iterator[int | None]:
    """Hold an exclusive lock that ends with the last process that has its file open; None when it is taken.

    Yields: the file descriptor, which a child may inherit to hold the lock as well.
    Raises: OutputError when the lock's file cannot be written, is no file, or its file system knows no locks.
    """
    deadline = time.monotonic() + patience_s
    refuse_obstacle(path)
    with explain_os_error(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    try:
        with explain_os_error(path):
            while not (held := _lock(handle)) and time.monotonic() < deadline:
                time.sleep(_LOCK_WAIT_S)
        yield handle if held else None
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of a file; nothing is made or written, so it also works read-only.

    Raises: InputError when the file is there and cannot be opened.
    """
    try:
        try:
            handle = os.open(path, os.O_RDWR | NO_FOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            handle = os.open(path, os.O_RDONLY | NO_FOLLOW)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {describe_os_error(error)}") from error
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def working_folder(path: Path) -> Path:
    """Return `.lfc` beside `path`: on the same disk, so that a rename out of it is atomic.

    Raises: OutputError when it cannot be made, or something else stands there: a link would lead elsewhere.
    """
    folder = path.parent / ".lfc"
    with explain_os_error(path):
        kind = find_kind_of_obstacle(folder)
    if kind not in (None, "a folder"):
        raise OutputError(f"{folder} is {kind}, not lfc's own folder", hint=f"move it away: {folder}")
    with explain_os_error(path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_obstacle(path: Path) -> None:
    """Raise OutputError when something else than a file stands where a file of our own is to be."""
    with explain_os_error(path):
        kind = find_kind_of_obstacle(path)
    if kind:
        raise OutputError(f"{path} is {kind}, not lfc's own file", hint=f"move it away: {path}")
