"""Paths of somebody else, looked at before they are opened: a pipe waits forever, a device never ends."""

from pathlib import Path

from prep.errors import InputError, OutputError


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
