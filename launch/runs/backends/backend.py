"""The seam between a run folder and where it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from launch.runs.backends.job import LOCAL, Job, Placement
from launch.runs.backends.scheduler import find_module
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
    module = find_module(name)
    if module is None:
        raise InputError(
            f"there is no backend {name!r:.60} here", hint="a newer llamafactory-companion may have it"
        )
    backend: Backend = module.open_backend(folder, options)
    return backend
