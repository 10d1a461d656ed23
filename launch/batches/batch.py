"""A sweep of configs → a queue → one run a slot, until all are done. Its state is the run folders alone.

So a launcher that was killed loses nothing: its runs go on, and the next one reads where the queue stands.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from launch.batches.retry import plan_retry, resume
from launch.choices import BackendName
from launch.configs.config import RunConfig, format_config
from launch.configs.private import restore_secrets
from launch.machine.command import BOOST_VARIABLE
from launch.machine.gpu_use import VARIABLE
from launch.runs.backends.backend import choose_backend
from launch.runs.backends.job import LIMIT, TIME_LIMIT_CODE, Job, JobState, check_placement
from launch.runs.batch_plan import PLAN_FILE, BatchPlan, PlannedRun, write_placement
from launch.runs.causes import Cause, find_cause
from launch.runs.claims import list_claims, refuse_shared_gpus, refuse_taken_folders, share_gpus, starting
from launch.runs.folder import Run, RunFolder, RunState, describe_broken, find_job_state, is_run, read_run
from launch.runs.run import build_command, prepare_llamafactory, stop_run
from launch.runs.tokens import use_tokens
from prep.errors import ChildFailedError, ConfigError, OutputError, StoppedError, UserError
from prep.storage.atomic import write_text
from prep.storage.locks import is_locked, lock_file
from prep.wording import in_shell

_POLL_S = 0.5
_NETWORK_WAIT_S = 30.0
# A launcher that was asked to stop looks twice a second; one that is starting a run looks later.
_LAUNCHER_END_S = 90.0
_HAS_ITS_FOLDER = (RunState.QUEUED, RunState.RUNNING, RunState.FINISHED)


@dataclass(frozen=True)
class QueuedRun:
    """Where one run of a batch stands: every attempt so far, and the config of the next, if there is one."""

    planned: PlannedRun
    attempts: tuple[Run, ...]
    next_values: dict[str, Any] | None
    ready_at: float
    cause: Cause | None = None

    @property
    def last(self) -> Run | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen to it."""
        running = self.last is not None and self.last.state in (RunState.RUNNING, RunState.QUEUED)
        return self.next_values is None and not running


def run_batch(plan: BatchPlan, cli: Path, on_poll: Callable[[list[QueuedRun]], None]) -> list[QueuedRun]:
    """Keep every slot busy until all runs are done; goes on with what stands in the batch's folder.

    Raises: OutputError when another launcher works on this batch, StoppedError when it was asked to stop.
    """
    with lock_file(plan.folder / PLAN_FILE, timeout_s=0):
        while True:
            queue = read_queue(plan)
            on_poll(queue)
            if all(run.is_done for run in queue):
                return queue
            if plan.stop_request.exists():
                raise StoppedError("a stop request", signal.SIGINT)
            _start_more(plan, queue, cli)
            time.sleep(_POLL_S)


def take_up(plan: BatchPlan, *, dry_run: bool = False) -> BatchPlan:
    """Return a plan whose stopped runs are to go on, and withdraw the request to stop it.

    Raises: OutputError when another launcher works on this batch.
    """
    with lock_file(plan.folder / PLAN_FILE, timeout_s=0):
        if not dry_run:
            plan.stop_request.unlink(missing_ok=True)
    return replace(plan, taken_up_at=time.time())


def move_to_cluster(plan: BatchPlan, address: str) -> BatchPlan:
    """Return the plan of a batch on Ray, written down with the address of another cluster.

    What the old one knows of its runs is forgotten where that does not answer any more.
    Raises: ConfigError for another backend, OutputError when the old cluster still has a run of it.
    """
    old = plan.placement.options.get("address", "")
    if plan.placement.backend != BackendName.RAY:
        raise ConfigError(f"{plan.folder.name} is no batch on Ray", hint=f"--continue {plan.folder.name} alone")
    with lock_file(plan.folder / PLAN_FILE, timeout_s=0):
        jobs = [(run, find_job_state(run.folder)) for queued in read_queue(plan) for run in queued.attempts]
        busy = next((run for run, state in jobs if state in (JobState.WAITING, JobState.RUNNING)), None)
        if busy is not None:
            raise OutputError(
                f"the cluster at {old or 'this machine'} answers, and has {busy.name}",
                hint=f"lfc launch stop {in_shell(plan.folder.name)}, then --continue",
            )
        for run, state in jobs:
            if state is JobState.UNKNOWN:
                run.folder.job.unlink(missing_ok=True)
        moved = replace(plan.placement, options={**plan.placement.options, "address": address})
        check_placement(moved)
        return write_placement(plan, moved)


def refuse_taken(plan: BatchPlan, *, shared: bool = False) -> None:
    """Raise OutputError when a live run or another batch has one of the folders or GPUs of a batch."""
    claims = list_claims(ignored=plan.folder)
    for run in read_queue(plan):
        # A run of its own has its folder by right, once it is written down: it may begin at any moment.
        if run.last is None or run.last.state not in _HAS_ITS_FOLDER:
            refuse_taken_folders(run.planned.values, claims)
    refuse_shared_gpus(plan.gpus, claims, {VARIABLE: ",".join(plan.gpus)} | share_gpus(shared))


def read_queue(plan: BatchPlan) -> list[QueuedRun]:
    """Return where every run of a batch stands, as its folders tell."""
    return [read_queued(plan, planned) for planned in plan.runs]


def preview_commands(plan: BatchPlan, cli: Path) -> list[tuple[str, dict[str, Any], str]]:
    """Return (name, config, command) of each run that is to start, on the slots in turn."""
    slots = itertools.cycle(plan.slots)
    found = []
    for run in read_queue(plan):
        if run.next_values is not None:
            folder = RunFolder(_attempt_folder(plan, run.planned, len(run.attempts) + 1))
            env = run_environment(plan, next(slots))
            command = build_command(cli, "train", folder.config, run.next_values, env)
            found.append((run.planned.name, run.next_values, command.format()))
    return found


def is_at_work(plan: BatchPlan) -> bool:
    """Tell whether a launcher works on a batch, a run of it lives, or something of it is still to start."""
    return is_locked(plan.lock) or not all(run.is_done for run in read_queue(plan))


def stop_batch(plan: BatchPlan) -> None:
    """Stop a batch: its launcher starts no more, every run that lives is stopped, and nothing of them is left.

    Raises: ChildFailedError when a run, or the launcher, does not stop.
    """
    write_text(plan.stop_request, "")
    _stop_runs(plan)
    deadline = time.monotonic() + _LAUNCHER_END_S
    while is_locked(plan.lock):
        if time.monotonic() > deadline:
            raise ChildFailedError(f"the launcher of {plan.folder} does not stop", exit_code=1)
        time.sleep(_POLL_S)
    # One that it had just begun to start.
    _stop_runs(plan)


def _stop_runs(plan: BatchPlan) -> None:
    live = [run.last.folder for run in read_queue(plan) if run.last and _is_to_stop(run.last)]
    for folder in live:
        write_text(folder.stop_request, "")
    for folder in live:
        stop_run(folder)


def _is_to_stop(run: Run) -> bool:
    """Tell whether a run lives, or a cluster will begin it, or go on with it."""
    return run.state is RunState.RUNNING or find_job_state(run.folder) in (JobState.WAITING, JobState.RUNNING)


def read_queued(plan: BatchPlan, planned: PlannedRun) -> QueuedRun:
    """Return where one run of a batch stands."""
    attempts: list[Run] = []
    for number in itertools.count(1):
        folder = _attempt_folder(plan, planned, number)
        if not is_run(folder):
            break
        try:
            attempts.append(read_run(folder))
        except UserError as error:
            attempts.append(describe_broken(folder, str(error)))
    if not attempts:
        return QueuedRun(planned, (), planned.values, 0.0)
    last = attempts[-1]
    cause = find_cause(last)
    if cause is None:
        return QueuedRun(planned, tuple(attempts), None, 0.0)
    wait_s = _NETWORK_WAIT_S * 2 ** (len(attempts) - 1) if cause is Cause.NETWORK else 0.0
    again = _plan_next(plan, planned, attempts, cause)
    return QueuedRun(planned, tuple(attempts), again, _ended_at(last) + wait_s, cause)


def _plan_next(
    plan: BatchPlan, planned: PlannedRun, attempts: Sequence[Run], cause: Cause
) -> dict[str, Any] | None:
    """Return the config of a run's next attempt, None when there is to be none.

    What was stopped or killed before the batch was taken up goes on, and does not count as an attempt; nor does
    what a cluster took its machine from.
    """
    last = attempts[-1]
    values = restore_secrets(last.values, planned.values)
    is_earlier = _ended_at(last) < plan.taken_up_at
    if last.state is RunState.STOPPED and is_earlier:
        return resume(values)
    reached = resume(values).get("resume_from_checkpoint")
    spent = [run for run in attempts if _is_spent(plan, run, reached)]
    return plan_retry(values, cause) if len(spent) < plan.max_attempts else None


def _is_spent(plan: BatchPlan, run: Run, reached: object) -> bool:
    """Tell whether an attempt counts against `max_attempts`; `reached` is the last checkpoint by now, if any."""
    if run.state in (RunState.STOPPED, RunState.LOST) and _ended_at(run) < plan.taken_up_at:
        return False
    if not plan.placement.is_cluster or find_cause(run) is not Cause.PREEMPTED:
        return True
    # At its time limit again and again, without a checkpoint further on, it would never end.
    return run.exit_code == TIME_LIMIT_CODE and run.values.get("resume_from_checkpoint") == reached


def _start_more(plan: BatchPlan, queue: Sequence[QueuedRun], cli: Path) -> None:
    """Start what can start now: on a cluster all that has no job yet, here as many as there are free slots."""
    backend = choose_backend(plan.placement, plan.folder)
    if plan.placement.is_cluster:
        due = _list_due(plan, queue)
        if LIMIT in plan.placement.options and not backend.keeps_limit:
            busy = sum(1 for run in queue if not run.is_done and run.attempts and _has_job(run))
            due = due[: max(0, len(plan.slots) - busy)]
        backend.start([_make_job(plan, run.planned, _prepare_due(plan, run, cli), cli) for run in due])
        return
    for folder in _fill_slots(plan, queue, cli):
        backend.start([Job(folder.path, _do_nothing)])


def _list_due(plan: BatchPlan, queue: Sequence[QueuedRun]) -> list[QueuedRun]:
    """Return the runs of a cluster's batch that have no job, and are to have one now."""
    # Read again once no job is left that could write to their folders: what the queue said may be old by now.
    idle = [read_queued(plan, run.planned) for run in queue if not run.is_done and not _has_job(run)]
    due = [
        run
        for run in idle
        if _is_written_down(run) or (run.next_values is not None and run.ready_at <= time.time())
    ]
    return [run for run in due if not _was_cancelled(plan, run)]


def _was_cancelled(plan: BatchPlan, run: QueuedRun) -> bool:
    """Tell whether somebody ended a run's job since the batch was taken up: then it is not begun again."""
    from launch.runs.backends.cluster import accept_cancelling

    last = run.last
    ended_now = last is not None and (not last.result or _ended_at(last) >= plan.taken_up_at)
    waits_for_machine = last is not None and run.cause in (None, Cause.PREEMPTED, Cause.KILLED)
    return last is not None and ended_now and waits_for_machine and accept_cancelling(last)


def _has_job(run: QueuedRun) -> bool:
    """Tell whether a cluster has a job of a run, or cannot be asked; the latest attempt may not name it yet."""
    return any(find_job_state(attempt.folder) is not JobState.GONE for attempt in reversed(run.attempts))


def _is_written_down(run: QueuedRun) -> bool:
    """Tell whether a launcher was killed between writing a run down and handing it on."""
    return run.last is not None and run.last.state is RunState.QUEUED


def _prepare_due(plan: BatchPlan, run: QueuedRun, cli: Path) -> RunFolder:
    if run.last is not None and _is_written_down(run):
        return run.last.folder
    return prepare_attempt(plan, run, plan.placement.backend, cli)


def _make_job(plan: BatchPlan, planned: PlannedRun, folder: RunFolder, cli: Path) -> Job:
    from launch.batches.cluster_job import work_off

    return Job(folder.path, partial(work_off, plan.folder.name, planned.name, str(cli), plan.taken_up_at))


def _do_nothing() -> None:
    """Stand for the work of a run that a supervisor of this machine does."""


def _fill_slots(plan: BatchPlan, queue: Sequence[QueuedRun], cli: Path) -> Iterator[RunFolder]:
    """Yield the runs that are to start on the free slots, each written down."""
    free = list(plan.slots)
    for run in queue:
        if run.last and run.last.state is RunState.RUNNING:
            _take(free, run.last.plan.get("slot"))
    for run in queue:
        if run.last and run.last.state is RunState.QUEUED:
            # Written down by a launcher that was killed before it could start it, or just after.
            if _take(free, run.last.plan.get("slot")):
                yield run.last.folder
        elif free and run.next_values is not None and run.ready_at <= time.time():
            yield prepare_attempt(plan, run, free.pop(0), cli)


def _take(free: list[str], slot: str | None) -> bool:
    """Take a slot from the free ones; return whether it was free."""
    if slot not in free:
        return False
    free.remove(slot)
    return True


def prepare_attempt(plan: BatchPlan, run: QueuedRun, slot: str, cli: Path) -> RunFolder:
    """Write a run's next attempt down for a slot and return its folder: it is then a queued run."""
    values = run.next_values or {}
    number = len(run.attempts) + 1
    header = f"{run.planned.name} of {plan.folder.as_posix()}, attempt {number}"
    config = RunConfig(values, format_config(values, header=header))
    if plan.tokenize:
        # The first run that wants them makes them, before it takes anything.
        config, _ = use_tokens(config)
    place = _attempt_folder(plan, run.planned, number)
    with starting():
        return prepare_llamafactory(cli, "train", config, place, run_environment(plan, slot), slot)


def run_environment(plan: BatchPlan, slot: str) -> dict[str, str]:
    """Return the variables of a batch's run on one of its slots."""
    boost = {BOOST_VARIABLE: "1"} if plan.boost else {}
    # On a cluster the scheduler says which devices a run sees.
    own = {} if plan.placement.is_cluster else slot_environment(slot, len(plan.slots))
    return own | boost


def slot_environment(slot: str, slots: int) -> dict[str, str]:
    """Return the variables that keep a run on its slot: one GPU, or its share of the CPU's cores."""
    if slot == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // slots))}
    return {"CUDA_VISIBLE_DEVICES": slot}


def _attempt_folder(plan: BatchPlan, planned: PlannedRun, number: int) -> Path:
    return plan.folder / (planned.name if number == 1 else f"{planned.name}.{number}")


def _ended_at(run: Run) -> float:
    path = run.folder.result if run.folder.result.exists() else run.folder.process
    return path.stat().st_mtime if path.exists() else 0.0
