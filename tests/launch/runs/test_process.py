"""One child process: its log, its end, its signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.machine.command import Command
from launch.runs.causes import find_telling_lines
from launch.runs.process import run_child
from prep.errors import OutputError

ROOT = Path(__file__).parents[3]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def python(code: str) -> Command:
    return Command((sys.executable, "-c", code), {"PYTHONUNBUFFERED": "1"})


def test_the_childs_own_exit_code_is_kept(tmp_path: Path) -> None:
    assert run_child(python("raise SystemExit(7)"), tmp_path / "log.txt") == 7


@posix_only
def test_a_child_that_a_signal_killed_ends_as_a_shell_says(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_child(python(code), tmp_path / "log.txt") == 128 + signal.SIGKILL


def test_a_program_that_does_not_start_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such file"):
        run_child(Command((str(tmp_path / "missing"),), {}), tmp_path / "log.txt")


def test_the_telling_lines_end_a_traceback_and_skip_progress_bars() -> None:
    log = 'step 1\n  0%| | 0/2\r 50%| | 1/2\nTraceback (most recent call last):\n  File "a.py", line 1\n    x()\ntorch.OutOfMemoryError: CUDA out of memory.\nbye\n'
    lines = find_telling_lines(log)
    assert "torch.OutOfMemoryError: CUDA out of memory." in lines
    assert lines[-1] == "bye"
    assert "0/2" not in "".join(lines)


def test_the_causes_of_the_last_error_are_told_too() -> None:
    def trace(error: str) -> str:
        return f'Traceback (most recent call last):\n  File "a.py", line 1\n    x()\n    y()\n    z()\n{error}\n'

    because = "\nThe above exception was the direct cause of the following exception:\n\n"
    first = "OSError: We couldn't connect to 'https://hf.co'.\nCheck your internet connection."
    lines = find_telling_lines(because.join([trace(first), trace("OSError: Failed to load tokenizer.")]))
    assert lines[0] == "OSError: We couldn't connect to 'https://hf.co'."
    assert lines[-1] == "OSError: Failed to load tokenizer."


def test_without_an_error_line_the_last_lines_are_told() -> None:
    assert find_telling_lines("a\n\nb\n") == ["a", "b"]


WAITING_CHILD = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
try:
    (folder / "started").write_text(str(__import__("os").getpid()))
    time.sleep(60)
except KeyboardInterrupt:
    (folder / "saved").write_text("yes")
    raise SystemExit(3)
"""

LAUNCHER = """
import pathlib, sys
from launch.cli import lfc
from launch.machine.command import Command
from launch.runs.process import run_child
import launch.cli, click

@lfc.command("wait-for-child")
def wait_for_child():
    run_child(Command((sys.executable, "-c", sys.argv[2], sys.argv[1]), {}), pathlib.Path(sys.argv[1], "log.txt"))

lfc.main(["wait-for-child"], prog_name="lfc")
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, f"{path.name} never appeared"
        time.sleep(0.05)


@posix_only
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_the_child_once_and_its_end_is_awaited(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path), WAITING_CHILD], cwd=ROOT)
    wait_for(tmp_path / "started")
    child = int((tmp_path / "started").read_text(encoding="utf-8"))
    launcher.send_signal(number)
    assert launcher.wait(timeout=30) == exit_code
    assert (tmp_path / "saved").read_text(encoding="utf-8") == "yes"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
