"""What a cluster's machine does with one run of a batch: every attempt, in one job, until nothing is left to try.

So a launcher that ends loses nothing, and a job that the cluster begins again goes on from the last checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from launch.batches.batch import QueuedRun, prepare_attempt, read_queued
from launch.runs.backends.cluster import note_job
from launch.runs.backends.job import TIME_LIMIT_CODE
from launch.runs.backends.local import kill_orphan
from launch.runs.backends.slurm import find_own_job, requeue_own_job
from launch.runs.batch_plan import BatchPlan, read_batch
from launch.runs.causes import Cause, find_cause
from launch.runs.folder import RunFolder, RunState, is_supervised, read_run
from launch.runs.process import stop_signals_raise
from launch.runs.supervisor import supervise
from prep.errors import ChildFailedError, StoppedError
from prep.storage.atomic import write_json
from prep.storage.locks import is_locked

_POLL_S = 1.0
_LOST_CODE = 128 + 9


def work_off(
    batch: str,
    name: str,
    cli: str,
    taken_up_at: float,
    job: Mapping[str, Any] | None = None,
    run_attempt: Callable[[str], None] = supervise,
) -> None:
    """Run one run of a batch to its end, all of its attempts; `job` is what the cluster knows this process by.

    `run_attempt` runs one attempt's folder and returns at its end.
    Raises: StoppedError when the cluster wants its machine back between two attempts.
    """
    own = job or find_own_job(os.environ)
    with stop_signals_raise(), _time_limit_raises():
        while True:
            plan = replace(read_batch(batch), taken_up_at=taken_up_at)
            folder = _choose_folder(plan, name, Path(cli))
            if folder is None:
                return
            if own:
                note_job(folder, own)
            run_attempt(str(folder.path))
            ended = read_run(folder.path)
            if find_cause(ended) is Cause.PREEMPTED:
                if ended.exit_code == TIME_LIMIT_CODE:
                    requeue_own_job()
                return


def _choose_folder(plan: BatchPlan, name: str, cli: Path) -> RunFolder | None:
    """Return the attempt that is to run now, after its wait; None when there is none, or somebody else has it."""
    planned = next((run for run in plan.runs if run.name == name), None)
    if planned is None or plan.stop_request.exists():
        return None
    last = read_queued(plan, planned).last
    if last is not None:
        _await_end(last.folder)
    queued = read_queued(plan, planned)
    if queued.last is not None and queued.last.state is RunState.QUEUED:
        return queued.last.folder
    if queued.next_values is None:
        return None
    if not _wait(plan, queued):
        return None
    return prepare_attempt(plan, queued, plan.placement.backend, cli)


def _wait(plan: BatchPlan, queued: QueuedRun) -> bool:
    """Wait until an attempt may begin; return whether it is still to."""
    while time.time() < queued.ready_at:
        if plan.stop_request.exists():
            return False
        time.sleep(_POLL_S)
    return True


def _await_end(run: RunFolder) -> None:
    """Wait for the end of an attempt whose worker is no more, and write its result where it could not itself."""
    if not run.process.exists():
        return
    # By its lock alone: what the cluster says of this job is said of this process.
    while is_locked(run.lock):
        if not is_supervised(run):
            # What cannot be proved to be its child, or is one of another machine, ends by itself.
            with suppress(ChildFailedError):
                kill_orphan(run)
        time.sleep(_POLL_S)
    if not run.result.exists():
        ending = {"exit_code": _LOST_CODE, "stopped": False, "cause": Cause.PREEMPTED, "flags": []}
        write_json(run.result, ending)


@contextmanager
def _time_limit_raises() -> Iterator[None]:
    """Turn the signal that Slurm sends before a job's time is up into StoppedError."""
    number = getattr(signal, "SIGUSR2", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: int | FrameType | None) -> None:
        raise StoppedError("the time limit", number)

    before = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)
