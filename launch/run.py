"""Start one child process, keep its log, pass signals on: the only file that starts processes."""

import os
import re
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

from launch.command import Command, build_llamafactory_command, record_environment
from launch.config import RunConfig
from prep.errors import ChildFailedError, OutputError, StoppedError
from prep.files import explain_os_error, write_json, write_text

Poll = Callable[[], None]
_POLL_S = 0.25
_GRACE_S = 30.0
_TELLING_LINES = 12
# Lines that say what went wrong: the end of a traceback, or what the shell and the kernel say.
_ERROR_LINE = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b|^Killed|out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class RunFolder:
    """Everything of one run: `config.yaml`, `command.txt`, `environment.json`, `log.txt`, `result.json`."""

    path: Path

    @property
    def config(self) -> Path:
        """The exact YAML that ran."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Everything that the child printed."""
        return self.path / "log.txt"

    @property
    def result(self) -> Path:
        """Exit code and seconds, written when the child ended."""
        return self.path / "result.json"


def run_llamafactory(
    cli: Path, action: str, config: RunConfig, folder: Path, on_poll: Poll = lambda: None
) -> float:
    """Run one LLaMA-Factory action in a new run folder and return its seconds.

    Raises: OutputError when a run of that name stands there, ChildFailedError when the action failed.
    """
    run = create_run_folder(folder)
    write_text(run.config, config.text)
    command = build_llamafactory_command(cli, action, run.config, config.values, os.environ)
    return run_in_folder(command, run, on_poll)


def create_run_folder(path: Path) -> RunFolder:
    """Make an empty run folder; raises OutputError when a run of that name stands there."""
    with explain_os_error(path):
        if path.exists() and any(path.iterdir()):
            raise OutputError(f"run folder {path} exists already", hint="--name ANOTHER_NAME")
        path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def run_in_folder(command: Command, folder: RunFolder, on_poll: Poll = lambda: None) -> float:
    """Run a command to its end in the current directory and return its seconds.

    The folder keeps the command, the environment without secrets, the whole log and the result.
    Raises: ChildFailedError with the child's own exit code and its last telling lines.
    """
    write_text(folder.path / "command.txt", command.format() + "\n")
    write_json(folder.path / "environment.json", record_environment(command, os.environ))
    started = time.monotonic()
    exit_code: int | None = None
    try:
        exit_code = run_child(command, folder.log, on_poll)
    finally:
        seconds = round(time.monotonic() - started, 1)
        write_json(folder.result, {"exit_code": exit_code, "seconds": seconds})
    if exit_code:
        raise ChildFailedError(describe_failure(command, exit_code, folder.log), exit_code=exit_code)
    return seconds


def run_child(command: Command, log: Path, on_poll: Poll = lambda: None) -> int:
    """Run a command with its output in `log`; call `on_poll` about four times a second.

    Ctrl-C, SIGTERM and SIGHUP are passed on, and the child's end is awaited before they are raised again.
    Returns: the exit code; 128 + n when signal n ended the child.
    """
    env: Mapping[str, str] = {**os.environ, **command.env}
    with log.open("wb") as out, _stop_signals_raise():
        with explain_os_error(Path(command.argv[0])):
            # A group of its own: a Ctrl-C in the terminal reaches the child once, through us.
            child = subprocess.Popen(
                command.argv, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, **_NEW_GROUP
            )
        try:
            while child.poll() is None:
                on_poll()
                time.sleep(_POLL_S)
        except BaseException:
            _stop_child(child)
            raise
    on_poll()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def describe_failure(command: Command, exit_code: int, log: Path) -> str:
    """Return what a failed child said last, and where the whole log lies."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = find_telling_lines(text)
    said = "\n".join(f"  | {line}" for line in lines) or "  | (it printed nothing)"
    return f"{Path(command.argv[0]).name} ended with exit code {exit_code}:\n{said}\n  whole log: {log}"


def find_telling_lines(text: str) -> list[str]:
    """Return the last error line of a log with a few lines before it, or else the log's last lines."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line.strip()]
    for position in range(len(lines) - 1, -1, -1):
        if _ERROR_LINE.match(lines[position]):
            return lines[max(0, position - 4) : position + _TELLING_LINES - 4]
    return lines[-_TELLING_LINES:]


def _stop_child(child: subprocess.Popen[bytes]) -> None:
    """Ask a child to end as Ctrl-C would, then insist, then end its whole group."""
    for ask in (_interrupt, _terminate_group, _kill_group):
        if child.poll() is not None:
            return
        ask(child)
        try:
            child.wait(timeout=_GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue


@contextmanager
def _stop_signals_raise() -> Iterator[None]:
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


_NEW_GROUP: dict[str, Any]
if sys.platform == "win32":
    _NEW_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _interrupt(child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.CTRL_BREAK_EVENT)

    def _terminate_group(child: subprocess.Popen[bytes]) -> None:
        child.terminate()

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        child.kill()

else:
    _NEW_GROUP = {"start_new_session": True}

    def _interrupt(child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.SIGINT)

    def _terminate_group(child: subprocess.Popen[bytes]) -> None:
        os.killpg(child.pid, signal.SIGTERM)

    def _kill_group(child: subprocess.Popen[bytes]) -> None:
        os.killpg(child.pid, signal.SIGKILL)
