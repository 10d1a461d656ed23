"""Start a child process, keep its log, pass signals on, and end it with all its own children."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from launch.machine.command import Command
from launch.runs.causes import find_telling_lines
from launch.runs.logs import read_tail
from prep.errors import StoppedError
from prep.storage.os_errors import explain_os_error

Poll = Callable[[], None]
POLL_S = 0.25
GRACE_S = 30.0
_INTERACTIVE_GRACE_S = 10.0


@dataclass(frozen=True)
class Child:
    """What `run_child` gives its child besides the command: called with its id, and files it keeps open.

    `on_stop` is called before the child is asked to end; it then has `grace_s` seconds before it is made to.
    `on_end` is called with the exit code of a child that ended by itself, also when a signal came just then, and of
    one that ended well although it was asked to end.
    """

    on_start: Callable[[int], None] = lambda _: None
    kept_open: tuple[int, ...] = ()
    on_stop: Callable[[], None] = lambda: None
    grace_s: float = GRACE_S
    on_end: Callable[[int], None] = lambda _: None


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
            if process.poll() is not None:
                child.on_end(_read_exit_code(process))
            child.on_stop()
            _stop_child(process, child.grace_s)
            if process.returncode == 0:
                # It was at its end when it was asked.
                child.on_end(0)
            raise
        child.on_end(_read_exit_code(process))
    on_poll()
    return _read_exit_code(process)


def _read_exit_code(process: subprocess.Popen[bytes]) -> int:
    """Return an ended child's exit code as a shell tells it."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def describe_failure(program: str, exit_code: int, log: Path) -> str:
    """Return what a failed child said last, and where the whole log lies."""
    said = "\n".join(f"  | {line}" for line in find_telling_lines(read_tail(log))) or "  | (it printed nothing)"
    return f"{Path(program).name} ended with exit code {exit_code}:\n{said}\n  whole log: {log}"


def run_interactive(command: Command) -> int:
    """Run a command on this terminal, as if it had been typed, and return its exit code.

    SIGTERM and SIGHUP end the child too. A Ctrl-C in a terminal reaches the child without us; without a terminal
    a SIGINT to us alone is passed on.
    """
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    with stop_signals_raise():
        with explain_os_error(Path(command.argv[0])):
            process = subprocess.Popen(command.argv, env={**os.environ, **command.env})
        while True:
            try:
                process.wait()
                return _read_exit_code(process)
            except KeyboardInterrupt:
                if not is_terminal and process.poll() is None:
                    process.send_signal(signal.SIGINT)
            except StoppedError:
                _end_alone(process)
                raise


def _end_alone(process: subprocess.Popen[bytes]) -> None:
    """End a child that shares our process group: asked first, made to after a while."""
    for end in (process.terminate, process.kill):
        end()
        try:
            process.wait(timeout=_INTERACTIVE_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt, StoppedError):
            continue
        return


def start_detached(argv: list[str], words: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one, with what it says in `words`."""
    with words.open("wb") as out:
        return subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, **_NEW_GROUP)


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into StoppedError in the main thread, as Ctrl-C is KeyboardInterrupt.

    SIGINT too when it was ignored, as a shell leaves it for what it starts in the background: children then do not
    ignore it either. An ignored SIGHUP, nohup's, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(signal.Signals(number).name, number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers: dict[int, Any] = {
        number: stop
        for number in numbers
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    }
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        handlers[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

    def _keep_open(_: tuple[int, ...]) -> dict[str, Any]:
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

    def _keep_open(handles: tuple[int, ...]) -> dict[str, Any]:
        return {"pass_fds": handles}

    def _interrupt(pid: int) -> None:
        os.kill(pid, signal.SIGINT)

    def _terminate_group(pid: int) -> None:
        os.killpg(pid, signal.SIGTERM)

    def kill_group(pid: int) -> None:
        """End a process and its whole group at once."""
        os.killpg(pid, signal.SIGKILL)
