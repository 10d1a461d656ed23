"""What the operating system says when a file cannot be read or written, in one place: reason and next step."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prep.errors import InputError, OutputError

_NO_LOCKS = "its file system knows no locks: choose a folder on a local disk"
_WRITE_HINTS = {
    errno.ENOSPC: "free some disk space or choose an output on another disk",
    errno.EDQUOT: "free some of your disk quota or choose an output on another disk",
    errno.EFBIG: "choose an output on a disk, and in a shell, that allow larger files (see ulimit -f)",
    errno.EACCES: "choose an output folder that you may write to",
    errno.EPERM: "choose an output folder that you may write to",
    errno.EROFS: "choose an output folder that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
}
_HINTS = {
    errno.EMFILE: "too many files are open in this process: raise the limit with ulimit -n",
    errno.ENFILE: "too many files are open on this machine: end what you do not need",
    errno.EIO: "the disk or its connection is failing: look at the system's log",
}
_READ_HINTS = {
    errno.EACCES: "ask its owner for the right to read it",
    errno.ENOENT: "check the path; the working folder may have been deleted, too",
    errno.ELOOP: "it is a link that leads to itself",
    errno.ENAMETOOLONG: "no file has a name as long as this",
}
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def describe_os_error(error: OSError | ValueError) -> str:
    """Return the reason in lower case, without number and path; a ValueError is that of a zero byte in a path."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


@contextmanager
def explain_os_error(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        hint = (_WRITE_HINTS | _HINTS).get(error.errno or 0)
        raise OutputError(f"{path} cannot be written: {describe_os_error(error)}", hint=hint) from error


@contextmanager
def explain_read_error(path: Path) -> Iterator[None]:
    """Turn an OSError while reading `path` into an InputError that says what to do."""
    try:
        yield
    except OSError as error:
        hint = (_READ_HINTS | _HINTS).get(error.errno or 0)
        raise InputError(f"{path} cannot be read: {describe_os_error(error)}", hint=hint) from error


def is_folder(path: str | Path) -> bool:
    """Whether something is the path of a folder; False for what no path can be, such as one that is too long."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: str | Path) -> bool:
    """Whether something is the path of a file, as `is_folder`."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def find_kind_of_obstacle(path: Path) -> str | None:
    """Return what stands at a path when it is no regular file: a link, a folder, a pipe; None otherwise."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)
