"""Ray: a run is a detached actor, which outlives its launcher and is begun again when its machine is gone."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from launch.choices import BackendName
from launch.machine.command import list_telling
from launch.runs.backends.cluster import ClusterBackend, note_job
from launch.runs.backends.job import Job, JobState
from launch.runs.folder import RunFolder
from prep.errors import StackError
from prep.parallel.cluster import DEFAULT_ADDRESS, NAMESPACE, connect
from prep.secrets import holds_secret

_PROGRAM = Path(__file__).parent.with_name("start_supervisor.py")


class RayBackend(ClusterBackend):
    """Gives runs to a Ray cluster with the options of a batch: `address`, and `gpus` and `cpus` of each run."""

    keeps_limit = False

    def start(self, jobs: Sequence[Job]) -> None:
        """Hand runs to the cluster; raises StackError when it cannot be reached."""
        if not jobs:
            return
        address = self._options.get("address", DEFAULT_ADDRESS)
        ray = connect(address)
        asked = {
            "num_cpus": float(self._options.get("cpus", 1)),
            "num_gpus": float(self._options.get("gpus", 0)),
        }
        environ = {name: value for name, value in list_telling(os.environ).items() if _is_to_be_passed(name, value)}
        for job in jobs:
            name = f"{job.folder.as_posix()}-{token_hex(4)}"
            noted = {"backend": BackendName.RAY.value, "id": name, "address": address}
            note_job(RunFolder(job.folder), noted)
            keeper = ray.remote(RunKeeper).options(
                name=name, namespace=NAMESPACE, lifetime="detached", max_restarts=-1, **asked
            )
            keeper.remote(noted, job.work, str(Path.cwd()), environ)


class RunKeeper:
    """The actor: does a run's work beside Ray's own loop, each time that it is made, and ends itself afterwards."""

    def __init__(
        self, job: Mapping[str, str], work: Callable[..., None], folder: str, environ: Mapping[str, str]
    ) -> None:
        os.environ.update(environ)
        os.chdir(folder)
        self._job = job
        self._work = work
        # A supervisor is a process of its own here: signals, and what it asks of its process, are not Ray's.
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        import ray

        try:
            self._work(job=self._job, run_attempt=supervise_on_leash)
        finally:
            ray.kill(ray.get_actor(self._job["id"], namespace=NAMESPACE), no_restart=True)


def supervise_on_leash(folder: str) -> None:
    """Run a supervisor that stops its run when this process is no more, and wait for its end."""
    command = [sys.executable, "-P", str(_PROGRAM), folder, "--until-stdin-ends"]
    words = RunFolder(Path(folder)).path / "supervisor.txt"
    with words.open("wb") as out:
        # A session of its own: what Ray ends its workers with does not reach it.
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True).wait()


def open_backend(folder: Path, options: Mapping[str, str]) -> RayBackend:
    """Return the backend of a batch's folder and options."""
    return RayBackend(folder, options)


def read_state(job: Mapping[str, Any]) -> JobState:
    """Return whether an actor is there; Ray does not tell whether it has begun, the run's own files do."""
    try:
        ray = _connect(job)
        named = ray.util.list_named_actors(all_namespaces=True)
    except (StackError, RuntimeError, ConnectionError):
        return JobState.UNKNOWN
    is_there = any(entry["name"] == job.get("id") and entry["namespace"] == NAMESPACE for entry in named)
    return JobState.RUNNING if is_there else JobState.GONE


def cancel(job: Mapping[str, Any]) -> None:
    """End an actor for good; one that is not there has ended. Raises: StackError when Ray cannot be reached."""
    ray = _connect(job)
    try:
        ray.kill(ray.get_actor(str(job.get("id")), namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return


def _connect(job: Mapping[str, Any]) -> Any:
    return connect(str(job.get("address") or DEFAULT_ADDRESS))


def _is_to_be_passed(name: str, value: str) -> bool:
    # Which devices a run sees is Ray's to say; what Ray keeps of an actor may be seen by all who use the cluster.
    return not name.startswith(("CUDA_", "RAY_")) and not holds_secret({name: value})
