"""Locks: one holder at a time, whoever it is, and none that outlives its holder."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prep.errors import OutputError
from prep.storage.locks import lock_file, try_lock

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from prep.storage.locks import lock_file
with lock_file(Path(sys.argv[1]), timeout_s=0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_one_is_refused_at_once_and_told_why(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with lock_file(path, timeout_s=0):
        with pytest.raises(OutputError, match="is being written by another process"):
            lock_file(path, timeout_s=0).__enter__()
        with lock_file(tmp_path / "other.jsonl", timeout_s=0):
            pass
    with lock_file(path, timeout_s=0):
        pass


def test_one_that_may_wait_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    path, order = tmp_path / "dataset_info.json", list[str]()

    def hold() -> None:
        with lock_file(path, timeout_s=0):
            held.set()
            time.sleep(0.2)
            order.append("first")

    held = threading.Event()
    first = threading.Thread(target=hold)
    first.start()
    held.wait(10)
    with lock_file(path, timeout_s=10):
        order.append("second")
    first.join()
    assert order == ["first", "second"]


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process in another way")
def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder, holder.stdout as output:
        assert output.readline() == "held\n"
        with pytest.raises(OutputError):
            lock_file(path, timeout_s=0).__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with lock_file(path, timeout_s=0):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows locks by another call")
def test_a_file_system_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OutputError, match="cannot be written: no locks available"):
        try_lock(tmp_path / "lock").__enter__()
