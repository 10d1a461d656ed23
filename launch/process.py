"""Start a child process, keep its log, pass signals on, and end it with all its own children."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from launch.command import Command
from prep.errors import StoppedError
from prep.files import explain_os_error

Poll = Callable[[], None]
POLL_S = 0.25
GRACE_S = 30.0
_TELLING_LINES = 12
_TOLD_CAUSES = 2
_CAUSE_LINE = "The above exception was the direct cause"
# Lines that say what went wrong: the end of a traceback, or what the shell and the kernel say.
_ERROR_LINE = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b|^Killed|out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class Child:
    """What `run_child` gives its child besides the command: called with its id, and a file it keeps open.

    `on_stop` is called before the child is asked to end; it then has `grace_s` seconds before it is made to.
    """

    on_start: Callable[[int], None] = lambda _: None
    kept_open: int | None = None
    on_stop: Callable[[], None] = lambda: None
    grace_s: float = GRACE_S


def run_child(command: Command, log: Path, on_poll: Poll = lambda: None, child: Child | None = None) -> int:
    """Run a command with its output in `log`; call `on_poll` about four times a second.

    Ctrl-C, SIGTERM and SIGHUP are passed on, and the child's end is awaited before they are raised again.
    Returns: the exit code; 128 + n when signal n ended the child.
    """
    child = child or Child()
    env: Mapping[str, str] = {**os.environ, **command.env}
    with log.open("wb") as out, stop_signals_raise():
        with explain_os_error(Path(command.argv[0])):
            # A group of its own: a Ctrl-C in the terminal reaches the child once, through us.
            process = subprocess.Popen(
                command.argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                **_keep_open(child.kept_open),
                **_NEW_GROUP,
            )
        try:
            child.on_start(process.pid)
            while process.poll() is None:
                on_poll()
                time.sleep(POLL_S)
        except BaseException:
            child.on_stop()
            _stop_child(process, child.grace_s)
            raise
    on_poll()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def describe_failure(program: str, exit_code: int, log: Path) -> str:
    """Return what a failed child said last, and where the whole log lies."""
    text = log.read_text(encoding="utf-8", errors="replace")
    said = "\n".join(f"  | {line}" for line in find_telling_lines(text)) or "  | (it printed nothing)"
    return f"{Path(program).name} ended with exit code {exit_code}:\n{said}\n  whole log: {log}"


def find_telling_lines(text: str) -> list[str]:
    """Return the last error line of a log with its causes and a few lines around, or else the log's last lines."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line.strip()]
    position = _find_error(lines, len(lines))
    if position is None:
        return lines[-_TELLING_LINES:]
    begin = max(0, position - 4)
    causes = [_find_error(lines, place) for place, line in enumerate(lines[:begin]) if line.startswith(_CAUSE_LINE)]
    said = list(dict.fromkeys(lines[place] for place in causes if place is not None))
    return [*said[-_TOLD_CAUSES:], *lines[begin : position + _TELLING_LINES - 4]]


def _find_error(lines: Sequence[str], end: int) -> int | None:
    """Return where the last error line before `end` stands."""
    return next((place for place in range(end - 1, -1, -1) if _ERROR_LINE.match(lines[place])), None)


def run_interactive(command: Command) -> int:
    """Run a command on this terminal, as if it had been typed, and return its exit code."""
    with explain_os_error(Path(command.argv[0])):
        process = subprocess.Popen(command.argv, env={**os.environ, **command.env})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent it to the child as well, whose own choice it is.
            continue


def start_detached(argv: list[str], words: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one, with what it says in `words`."""
    with words.open("wb") as out:
        return subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, **_NEW_GROUP)


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into StoppedError in the main thread, as Ctrl-C is KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(signal.Signals(number).name, number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _stop_child(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask a child to end as Ctrl-C would, then insist, then end its whole group; another Ctrl-C insists at once."""
    for ask, patience_s in ((_interrupt, grace_s), (_terminate_group, GRACE_S), (kill_group, GRACE_S)):
        if process.poll() is not None:
            return
        ask(process.pid)
        try:
            process.wait(timeout=patience_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue


_NEW_GROUP: dict[str, Any]
if sys.platform == "win32":
    _NEW_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _keep_open(_: int | None) -> dict[str, Any]:
        return {}

    def _interrupt(pid: int) -> None:
        os.kill(pid, signal.CTRL_BREAK_EVENT)

    def _terminate_group(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    def kill_group(pid: int) -> None:
        """End a process at once."""
        os.kill(pid, signal.SIGTERM)

else:
    _NEW_GROUP = {"start_new_session": True}

    def _keep_open(handle: int | None) -> dict[str, Any]:
        return {} if handle is None else {"pass_fds": (handle,)}

    def _interrupt(pid: int) -> None:
        os.kill(pid, signal.SIGINT)

    def _terminate_group(pid: int) -> None:
        os.killpg(pid, signal.SIGTERM)

    def kill_group(pid: int) -> None:
        """End a process and its whole group at once."""
        os.killpg(pid, signal.SIGKILL)
