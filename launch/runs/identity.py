"""Which process a number meant: systems use the numbers of ended processes again."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
# Fields of /proc/PID/stat, counted behind the program's name.
_STATE, _SESSION, _START_TIME = 0, 3, 19


def identify_process(pid: int) -> str | None:
    """Return what tells a running process from every other that had or will have its number.

    Shape: the system's start and the process's own start; None when there is no such process, or it has ended.
    """
    if sys.platform == "win32":
        return _read_creation_time(pid)
    if (_PROC / "self" / "stat").exists():
        fields = _read_stat(pid)
        if fields is None or fields[_STATE] in ("Z", "X"):
            return None
        return f"{_read_boot()}/{fields[_START_TIME]}"
    asked = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


def describe_process(pid: int) -> dict[str, Any]:
    """Return a process's number and identity, to be written down; `is_same_process` reads it."""
    return {"pid": pid, "identity": identify_process(pid)}


def is_same_process(record: object) -> bool:
    """Tell whether the process that `describe_process` wrote down still runs."""
    if not isinstance(record, Mapping):
        return False
    pid, identity = record.get("pid"), record.get("identity")
    if not isinstance(pid, int) or not _is_process(pid) or not isinstance(identity, str):
        return False
    return identify_process(pid) == identity


def is_another_process(record: object) -> bool:
    """Tell whether the process that `describe_process` wrote down still runs, and is not this one."""
    return isinstance(record, Mapping) and record.get("pid") != os.getpid() and is_same_process(record)


def is_our_group(pid: object, identity: object, lock: Path) -> bool:
    """Tell whether a process group is the one that a run's supervisor started.

    Proved by the leader's identity; or, when the leader has ended or the record is an older one, by a process of
    the leader's session that holds the run's lock open.
    """
    if not isinstance(pid, int) or not _is_process(pid):
        return False
    if isinstance(identity, str) and identify_process(pid) == identity:
        return True
    return any(_read_session(holder) == pid for holder in _list_holders(lock))


def _is_process(pid: int) -> bool:
    # Up to 1: everybody's process, what `kill` takes for groups, and true.
    return pid > 1


def _read_stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None
    # The program's name stands in brackets and may hold anything, brackets too.
    return text.rpartition(")")[2].split()


def _read_session(pid: int) -> int | None:
    fields = _read_stat(pid)
    return int(fields[_SESSION]) if fields else None


def _read_boot() -> str:
    try:
        return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _list_holders(lock: Path) -> list[int]:
    """Return the processes that have a file open, of those that we may look at; Linux alone tells."""
    try:
        wanted = lock.stat()
        numbers = [int(path.name) for path in _PROC.iterdir() if path.name.isdecimal()]
    except OSError:
        return []
    return [pid for pid in numbers if pid != os.getpid() and _holds(pid, wanted)]


def _holds(pid: int, wanted: os.stat_result) -> bool:
    try:
        for handle in (_PROC / str(pid) / "fd").iterdir():
            found = handle.stat()
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:
        # Another user's, or ended while we looked.
        return False
    return False


if sys.platform == "win32":

    def _read_creation_time(pid: int) -> str | None:
        import ctypes
        from ctypes import wintypes

        query_limited_information, still_active = 0x1000, 259
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        handle = kernel.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return None
        try:
            code = wintypes.DWORD()
            times = [wintypes.FILETIME() for _ in range(4)]
            known = kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
            if not known or code.value != still_active:
                return None
            if not kernel.GetProcessTimes(wintypes.HANDLE(handle), *map(ctypes.byref, times)):
                return None
            return f"{times[0].dwHighDateTime}/{times[0].dwLowDateTime}"
        finally:
            kernel.CloseHandle(wintypes.HANDLE(handle))
