"""Slurm, by submitit: a run is a job, several that start together are one array; squeue tells their states."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.choices import BackendName
from launch.runs.backends.cluster import ClusterBackend, note_job
from launch.runs.backends.job import Job, JobState
from launch.runs.folder import RunFolder
from prep.errors import StackError
from prep.storage.locks import working_folder

_ID = re.compile(r"^\d{1,18}(_\d{1,9})?$", re.ASCII)
# scontrol's line of a job, or sacct's one word.
_STATE = re.compile(r"(?:\bJobState=|\A\s*)(?P<state>[A-Z_]{4,})\b")
_ASK_S = 60.0
# One question about all of a user's jobs serves every run that is looked at within this time.
_FRESH_S = 1.0
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_MAX_AT_A_TIME = 1_000
# What submitit calls by another name than sbatch; all else is handed on as sbatch's own option.
_RENAMED = {"cpus": "cpus-per-task", "gpus": "gpus-per-node"}
_SHOWN = 300


class SlurmBackend(ClusterBackend):
    """Submits runs with a batch's options: `partition`, `gpus`, `cpus`, `time`, `slots`, any other of sbatch's."""

    keeps_limit = True

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit runs, as one array where there are several; raises StackError when Slurm refuses them."""
        if not jobs:
            return
        executor = self._build_executor()
        with _explain_refusal():
            if len(jobs) == 1:
                submitted = [executor.submit(jobs[0].work)]
            else:
                with executor.batch():
                    submitted = [executor.submit(job.work) for job in jobs]
        _SNAPSHOT.forget()
        for job, made in zip(jobs, submitted, strict=True):
            note_job(RunFolder(job.folder), {"backend": BackendName.SLURM.value, "id": str(made.job_id)})

    def _build_executor(self) -> Any:
        try:
            import submitit
        except ImportError:
            raise StackError(
                "the Slurm backend needs submitit, which is not installed here",
                hint="pip install 'llamafactory-companion[slurm]'",
            ) from None
        sbatch = {_RENAMED.get(name, name): value for name, value in self._options.items() if name != "slots"}
        # A batch's folder lies on the storage that all machines share.
        folder = working_folder(self._folder / "jobs") / BackendName.SLURM
        with _explain_refusal():
            executor = submitit.SlurmExecutor(folder=folder.absolute())
            executor.update_parameters(
                job_name=f"lfc-{self._folder.name}",
                array_parallelism=int(self._options.get("slots", _MAX_AT_A_TIME)),
                # No module of the working folder takes the place of one that the job imports.
                setup=["export PYTHONSAFEPATH=1"],
                stderr_to_stdout=True,
                additional_parameters={"requeue": True, **sbatch},
            )
        return executor


class _explain_refusal:  # noqa: N801 - reads as a function
    """Turn what submitit raises when a Slurm command fails into one error with Slurm's own words."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | subprocess.SubprocessError | RuntimeError):
            raise StackError(f"Slurm refused: {_read_words(error)}", hint="sinfo and squeue tell") from error


def _read_words(error: BaseException) -> str:
    """Return the last line that says something, of Slurm's own where it said any."""
    chain = [error, *filter(None, (error.__cause__, error.__context__))]
    texts = [str(getattr(part, "stderr", "") or part) for part in chain]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    # submitit's advice to its own callers is none to ours.
    said = [line for line in lines if "sbatch: " in line] or [line for line in lines if not line.startswith("(")]
    return said[-1][:_SHOWN] if said else type(error).__name__


class _Snapshot:
    """What squeue said last of all of this user's jobs."""

    def __init__(self) -> None:
        self._asked_at = 0.0
        self._states: dict[str, str] | None = None

    def forget(self) -> None:
        """Ask anew next time: there is a new job."""
        self._asked_at = 0.0

    def read(self) -> dict[str, str] | None:
        """Return {job: Slurm's word for its state}, None when Slurm cannot be asked."""
        now = time.monotonic()
        if not self._asked_at or now - self._asked_at > _FRESH_S:
            self._states, self._asked_at = _list_jobs(), now
        return self._states


_SNAPSHOT = _Snapshot()


def _list_jobs() -> dict[str, str] | None:
    try:
        # -r: each task of an array in a line of its own.
        said = _call("squeue", "--me", "-h", "-r", "-o", "%i|%T")
    except StackError:
        return None
    pairs = [line.strip().partition("|") for line in said.splitlines() if "|" in line]
    return {job: state for job, _, state in pairs}


def open_backend(folder: Path, options: Mapping[str, str]) -> SlurmBackend:
    """Return the backend of a batch's folder and options."""
    return SlurmBackend(folder, options)


def read_state(job: Mapping[str, Any]) -> JobState:
    """Return where a job stands; one that squeue does not list has ended."""
    states = _SNAPSHOT.read()
    if states is None:
        return JobState.UNKNOWN
    state = states.get(str(job.get("id")))
    if state is None:
        return JobState.GONE
    return JobState.WAITING if state in _WAITING else JobState.RUNNING


def cancel(job: Mapping[str, Any]) -> None:
    """Cancel a job; raises StackError when Slurm cannot be asked."""
    number = str(job.get("id"))
    if _ID.match(number):
        _call("scancel", number)
        _SNAPSHOT.forget()


def was_cancelled(job: str) -> bool:
    """Tell whether somebody cancelled a job, as far as Slurm still knows it: a preempted one was not.

    Slurm's own memory of a job ends some minutes after it (MinJobAge); sacct needs accounting.
    """
    if not _ID.match(job):
        return False
    for command in (("scontrol", "show", "job", "-o", job), ("sacct", "-n", "-X", "-o", "State", "-j", job)):
        try:
            said = _call(*command)
        except StackError:
            continue
        if found := _STATE.search(said):
            return found["state"] == "CANCELLED"
    return False


def find_own_job(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what describes the job that this process is in, None outside of Slurm."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environ.get("SLURM_JOB_ID")
    return {"backend": BackendName.SLURM.value, "id": job} if job else None


def requeue_own_job() -> None:
    """Let Slurm begin this job again, which ends this process; raises StackError when it must not."""
    _call("scontrol", "requeue", os.environ.get("SLURM_JOB_ID", ""))


def _call(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_ASK_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(
            f"{command[0]} failed: {_read_words(error)}", hint="is this a machine of the cluster?"
        ) from error
