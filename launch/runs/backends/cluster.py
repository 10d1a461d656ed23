"""What runs on any cluster have in common: their job is written down, and ends with the run's own files told."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.runs.backends.job import JobState
from launch.runs.backends.scheduler import cancel_job, was_cancelled
from launch.runs.causes import Cause
from launch.runs.folder import Run, RunFolder, find_job_state, is_alive, is_supervised, read_job, read_run
from launch.runs.process import GRACE_S, POLL_S
from prep.errors import ChildFailedError
from prep.storage.atomic import write_json, write_text

_ENDED_S = 60.0


def note_job(run: RunFolder, job: Mapping[str, Any]) -> None:
    """Write down what the cluster knows a run by."""
    write_json(run.job, dict(job))


class ClusterBackend:
    """A backend with a batch's folder and options, whose runs are jobs; the cluster's own adds `start`."""

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        self._folder = folder
        self._options = options

    def is_alive(self, run: RunFolder) -> bool:
        """Tell whether a run's job is at work or is still to begin."""
        return is_alive(run) or find_job_state(run) in (JobState.WAITING, JobState.RUNNING)

    def stop(self, run: RunFolder) -> None:
        """Ask a run to stop, and wait until neither its processes nor its job are left.

        The run itself ends as at Ctrl-C when it finds the request; a job that has not begun, or whose run does not
        end, is cancelled. Raises: ChildFailedError when it lives on, StackError when the cluster cannot be asked.
        """
        if run.result.exists() and not self.is_alive(run):
            return
        write_text(run.stop_request, "")
        job = read_job(run)
        patience, deadline = time.monotonic() + GRACE_S, time.monotonic() + 2 * GRACE_S + _ENDED_S
        is_cancelled = False
        while self.is_alive(run):
            if time.monotonic() > deadline:
                raise ChildFailedError(f"{run.path} does not stop: job {job.get('id')} goes on", exit_code=1)
            has_begun = run.process.exists() and (is_supervised(run) or time.monotonic() < patience)
            if not is_cancelled and not run.result.exists() and not has_begun:
                cancel_job(job)
                is_cancelled = True
            time.sleep(POLL_S)
        if not run.result.exists():
            # It never began, was taken away with its machine, or its cluster is no more.
            write_stopped(run)


def write_stopped(run: RunFolder) -> None:
    """Write the result of a run that was stopped before it began."""
    ending = {"exit_code": 128 + signal.SIGINT, "stopped": True, "cause": Cause.STOPPED, "seconds": 0.0}
    write_json(run.result, {**ending, "flags": []})


def accept_cancelling(run: Run) -> bool:
    """Note that a run whose job was cancelled by the cluster's own means is stopped; return whether it was.

    Its process sees the same signal as when the cluster wants its machine back, and took it for that.
    """
    if not was_cancelled(read_job(run.folder)):
        return False
    if not run.result:
        write_stopped(run.folder)
    told = read_run(run.path).result
    flags = [*told.get("flags", []), "its job was cancelled from outside, as by scancel"]
    write_json(run.folder.result, {**told, "stopped": True, "cause": Cause.STOPPED, "flags": flags})
    return True
