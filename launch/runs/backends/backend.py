"""The seam between a run folder and where it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from launch.runs.backends.job import LOCAL, RAY, SLURM, Job, Placement
from launch.runs.folder import RunFolder, read_job
from prep.errors import InputError


class Backend(Protocol):
    """Starts, asks and stops prepared run folders, and nothing else.

    `keeps_limit`: whether it takes all runs at once and itself starts only as many as a batch has slots.
    """

    keeps_limit: bool

    def start(self, jobs: Sequence[Job]) -> None:
        """Start prepared runs, or hand them to a cluster that will."""

    def is_alive(self, run: RunFolder) -> bool:
        """Tell whether a process of a run lives."""

    def stop(self, run: RunFolder) -> None:
        """Ask a run to stop and wait until nothing of it is left; raises ChildFailedError."""


def choose_backend(placement: Placement, folder: Path) -> Backend:
    """Return the backend that a batch names; `folder` is the batch's, where a cluster keeps its own files."""
    return _build(placement.backend, placement.options, folder)


def find_backend(run: RunFolder) -> Backend:
    """Return the backend that a run was given to; raises InputError when it is one of a later version."""
    job = read_job(run)
    return _build(str(job.get("backend", LOCAL)), {}, run.path.parent)


def _build(name: str, options: Mapping[str, Any], folder: Path) -> Backend:
    if name == LOCAL:
        from launch.runs.backends.local import LocalBackend

        return LocalBackend()
    if name == SLURM:
        from launch.runs.backends.slurm import SlurmBackend

        return SlurmBackend(folder, options)
    if name == RAY:
        from launch.runs.backends.ray_cluster import RayBackend

        return RayBackend(folder, options)
    raise InputError(f"there is no backend {name!r:.60} here", hint="a newer llamafactory-companion may have it")
