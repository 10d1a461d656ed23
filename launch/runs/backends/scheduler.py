"""Asks a run's cluster what became of its job: the one door to the backends for whoever reads run folders."""

from collections.abc import Mapping
from typing import Any

from launch.runs.backends.job import RAY, SLURM, JobState


def ask_scheduler(job: Mapping[str, Any]) -> JobState:
    """Return what the cluster says of a job, as a run's job.json describes it; `gone` for {}."""
    if not job:
        return JobState.GONE
    if job.get("backend") == SLURM:
        from launch.runs.backends.slurm import read_state

        return read_state(str(job.get("id")))
    if job.get("backend") == RAY:
        from launch.runs.backends.ray_cluster import read_state as read_actor

        return read_actor(str(job.get("id")), str(job.get("address") or "auto"))
    return JobState.UNKNOWN


def was_cancelled(job: Mapping[str, Any]) -> bool:
    """Tell whether somebody cancelled a job by the cluster's own means; False where that is not known."""
    if job.get("backend") != SLURM:
        return False
    from launch.runs.backends.slurm import was_cancelled as was_job_cancelled

    return was_job_cancelled(str(job.get("id")))


def cancel_job(job: Mapping[str, Any]) -> None:
    """Ask the cluster to end a job, or never to begin it; raises StackError when it cannot be asked."""
    if job.get("backend") == SLURM:
        from launch.runs.backends.slurm import cancel

        cancel(str(job.get("id")))
    elif job.get("backend") == RAY:
        from launch.runs.backends.ray_cluster import cancel as end_actor

        end_actor(str(job.get("id")), str(job.get("address") or "auto"))
