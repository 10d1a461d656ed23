"""Runs on this machine: each has a supervisor, a detached process of its own."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.runs.backends.job import Job
from launch.runs.folder import RunFolder, is_alive, is_supervised
from launch.runs.identity import is_our_group
from launch.runs.logs import read_tail
from launch.runs.process import GRACE_S, POLL_S, kill_group, start_detached
from prep.errors import ChildFailedError, StoppedError
from prep.storage.atomic import write_text
from prep.storage.bounded import read_bounded

_START_S = 60.0
_GRACE_BEFORE_START_S = 5.0
_WORDS_BYTES = 4_096
_PROGRAM = Path(__file__).parent.with_name("start_supervisor.py")


class LocalBackend:
    """Starts supervisors here; a run lives for as long as one of its processes holds its lock."""

    keeps_limit = False

    def start(self, jobs: Sequence[Job]) -> None:
        """Start each run and wait until it has begun; raises ChildFailedError when one does not."""
        for job in jobs:
            start_supervisor(RunFolder(job.folder))

    def is_alive(self, run: RunFolder) -> bool:
        """Tell whether a run's supervisor or child lives."""
        return is_alive(run)

    def stop(self, run: RunFolder) -> None:
        """Ask a run to stop and wait until none of its processes is left; raises ChildFailedError."""
        if not is_alive(run):
            return
        write_text(run.stop_request, "")
        deadline = time.monotonic() + 3 * GRACE_S
        while is_alive(run):
            if time.monotonic() > deadline:
                message = f"{run.path} does not stop; see {run.process} for its processes"
                raise ChildFailedError(message, exit_code=1)
            if not is_supervised(run):
                kill_orphan(run)
            time.sleep(POLL_S)


def open_backend(_folder: Path, _options: Mapping[str, str]) -> LocalBackend:
    """Return the backend; this machine has no options."""
    return LocalBackend()


def start_supervisor(run: RunFolder) -> None:
    """Start the process that runs a prepared run, and wait until it has begun.

    Raises: ChildFailedError when it ends without having begun.
    """
    words = run.path / "supervisor.txt"
    deadline = time.monotonic() + _START_S
    try:
        process = start_detached([sys.executable, "-P", str(_PROGRAM), str(run.path)], words)
        while not run.process.exists() and not run.result.exists():
            # It also ends when the supervisor of a launcher that was killed is at work on this run already.
            ended = process.poll() is not None and not is_alive(run)
            if (ended and not run.process.exists() and not run.result.exists()) or time.monotonic() > deadline:
                said = read_tail(words, _WORDS_BYTES).strip() or "its supervisor said nothing"
                raise ChildFailedError(f"{run.path}: the run did not start: {said}", exit_code=1)
            time.sleep(0.02)
    except (KeyboardInterrupt, StoppedError):
        # The supervisor may be anywhere between its first instruction and its child's: it finds the request.
        write_text(run.stop_request, "")
        patience = time.monotonic() + _GRACE_BEFORE_START_S
        while not run.result.exists() and (is_alive(run) or time.monotonic() < patience):
            time.sleep(POLL_S)
        raise


def kill_orphan(run: RunFolder) -> None:
    """End the child of a supervisor that was killed, when it is proved to be that child.

    Raises: ChildFailedError when that cannot be proved, as of one on another machine.
    """
    try:
        note: Any = json.loads(read_bounded(run.process))
        child, identity = note["child"], note.get("child_identity")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{run.path}: {run.process} does not tell its process: {error}"
        raise ChildFailedError(message, exit_code=1) from error
    if is_our_group(child, identity, run.lock):
        try:
            kill_group(child)
        except ProcessLookupError:
            return
    elif is_alive(run) and not is_supervised(run):
        raise ChildFailedError(
            f"{run.path} is held by a process that cannot be proved to be its own: {child} is another one by now",
            exit_code=1,
            hint=f"fuser {run.lock} names it; end it yourself",
        )
