"""Paths of somebody else, looked at before they are opened: a pipe waits forever, a device never ends."""

import os
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path

from prep.errors import InputError, OutputError
from prep.storage.os_errors import explain_os_error

_MOST_DIGITS = 10


def is_file(path: Path) -> bool:
    """Whether a path leads to a file; False for one that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def require_file(path: Path) -> None:
    """Raise InputError when a path does not lead to a file."""
    if not is_file(path):
        raise InputError(f"{path} does not exist or is not a file", hint="check the path")


def require_name(output: Path) -> None:
    """Raise OutputError when an output's path names a folder alone, such as `.` or `/`."""
    if not output.name:
        raise OutputError(f"'{output}' names no file to write", hint="-o with the name of a file")


def require_writable(path: Path) -> None:
    """Raise OutputError when nothing can be written at a path, or in the folder in which it would be made.

    Nothing is left behind: the file that is tried has no name.
    """
    existing = next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path())
    if existing != path and not existing.is_dir():
        raise OutputError(f"{path} cannot be written: {existing} is a file", hint=f"rename {existing}")
    import tempfile

    with explain_os_error(path), tempfile.TemporaryFile(dir=existing if existing.is_dir() else existing.parent):
        pass


def find_free_path(path: Path, mark: str, is_taken: Callable[[Path], bool] = os.path.lexists) -> Path:
    """Return a path, or the first of `<path><mark>2`, `<path><mark>3`, … that is free."""
    return next(candidate for candidate in chain([path], _number_names(path, mark, 2)) if not is_taken(candidate))


def number_next(path: Path) -> Path:
    """Return the name after a name: `a.2` after `a`, `a.3` after `a.2`."""
    stem, _, number = path.name.rpartition(".")
    if stem and number.isdecimal() and number.isascii() and len(number) < _MOST_DIGITS:
        return path.with_name(f"{stem}.{int(number) + 1}")
    return path.with_name(f"{path.name}.2")


def move_aside(path: Path) -> Path:
    """Rename what stands at a path to `<path>.old-1`, or `-2`, …, the first that is free, and return its new path.

    Raises: OutputError when it cannot be renamed.
    """
    with explain_os_error(path):
        target = next(name for name in _number_names(path, ".old-", 1) if not os.path.lexists(name))
        path.rename(target)
    return target


def _number_names(path: Path, mark: str, first: int) -> Iterator[Path]:
    return (path.with_name(f"{path.name}{mark}{number}") for number in count(first))
