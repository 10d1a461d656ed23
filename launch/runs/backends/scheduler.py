"""The modules of the backends, by name, and what a run's cluster says of its job: for whoever reads run folders."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from launch.choices import BackendName
from launch.runs.backends.job import BACKENDS, LOCAL, JobState


def find_module(name: str) -> ModuleType | None:
    """Return a backend's module, which has `open_backend` and, for a cluster, `read_state` and `cancel`.

    None for a backend of a later version.
    """
    return importlib.import_module(f"{__package__}.{name}") if name in BACKENDS else None


def ask_scheduler(job: Mapping[str, Any]) -> JobState:
    """Return what the cluster says of a job, as a run's job.json describes it; `gone` for {}."""
    if not job:
        return JobState.GONE
    cluster = _find_cluster(job)
    return JobState.UNKNOWN if cluster is None else JobState(cluster.read_state(job))


def was_cancelled(job: Mapping[str, Any]) -> bool:
    """Tell whether somebody cancelled a job by the cluster's own means; False where that is not known."""
    if job.get("backend") != BackendName.SLURM:
        return False
    from launch.runs.backends.slurm import was_cancelled as was_job_cancelled

    return was_job_cancelled(str(job.get("id")))


def cancel_job(job: Mapping[str, Any]) -> None:
    """Ask the cluster to end a job, or never to begin it; raises StackError when it cannot be asked."""
    if cluster := _find_cluster(job):
        cluster.cancel(job)


def _find_cluster(job: Mapping[str, Any]) -> ModuleType | None:
    name = str(job.get("backend"))
    return None if name == LOCAL else find_module(name)
