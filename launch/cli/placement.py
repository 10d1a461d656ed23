"""Where a batch's runs go: the options that name a cluster and what each run asks for there."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from launch.choices import BackendName
from prep.cli.options import choice_of
from prep.cli.output import echo
from prep.errors import ConfigError

if TYPE_CHECKING:
    from launch.batches.batch import QueuedRun
    from launch.runs.backends.job import Placement
    from launch.runs.batch_plan import BatchPlan


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a backend to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


# How long a cluster may be silent before that is told.
SILENT_S = 15.0
_SILENT_HINTS = {
    "slurm": "squeue, on this machine",
    "ray": "ray status; once it runs elsewhere: Ctrl-C, then lfc launch batch --continue {} --address HOST:PORT",
}
_OPTIONS_OF = {
    "slurm": ("partition", "gres", "time", "gpus", "cpus"),
    "ray": ("address", "gpus", "cpus"),
}
_NAMES = {"gpus": "gpus-each", "cpus": "cpus-each"}
_OPTIONS = (
    click.option(
        "--backend",
        type=choice_of(BackendName),
        default=BackendName.LOCAL.value,
        show_default=True,
        help="Where the runs go: this machine, or a Slurm or Ray cluster that shares this folder.",
    ),
    click.option("--gpus-each", type=click.IntRange(0), help="On a cluster: GPUs of each run."),
    click.option("--cpus-each", type=click.IntRange(1), help="On a cluster: CPU cores of each run."),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Ray: its head; the one on this machine if not given. With --continue, a new one.",
    ),
    click.option("--partition", metavar="NAME", help="Slurm: the partition."),
    click.option("--gres", metavar="gpu:1", help="Slurm: what each run gets of the machine."),
    click.option("--time", "time_limit", metavar="D-HH:MM:SS", help="Slurm: the time of one start of a run."),
    click.option("--sbatch", "more", multiple=True, metavar="KEY=VALUE", help="Slurm: any other option of sbatch."),
)


def read_placement(backend: str, given: Mapping[str, object], more: tuple[str, ...]) -> "Placement":
    """Return where a batch's runs go; `given` is {option: its value, or None}, as each backend names it.

    Raises: ConfigError for an option that the backend does not have.
    """
    from launch.runs.backends.job import Placement, check_placement

    options = {name: str(value) for name, value in given.items() if value is not None}
    for pair in more:
        name, equals, value = pair.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"--sbatch {pair!r:.60} has no value", hint="--sbatch qos=high")
        options[name] = value
    allowed = _OPTIONS_OF.get(backend, ())
    foreign = [name for name in given if name in options and name not in allowed] + (
        ["sbatch"] if more and backend != "slurm" else []
    )
    if foreign:
        option = _NAMES.get(foreign[0], foreign[0])
        owner = next(name for name, own in _OPTIONS_OF.items() if foreign[0] in (*own, "sbatch"))
        raise ConfigError(f"--{option} is no option of --backend {backend}", hint=f"--backend {owner}")
    placement = Placement(backend, options)
    check_placement(placement)
    return placement


def wants_gpu(placement: "Placement") -> bool:
    """Tell whether each run of a batch gets a GPU of the cluster."""
    words = [f"{name}={value}" for name, value in placement.options.items() if (name, value) != ("gpus", "0")]
    return any("gpu" in word for word in words)


def place_slots(placement: "Placement", at_a_time: int | None) -> "tuple[tuple[str, ...], Placement]":
    """Return the slots of a cluster's batch, all of the backend's name, and the placement with them."""
    from dataclasses import replace

    from launch.runs.backends.job import LIMIT

    if at_a_time is None:
        return (placement.backend,), placement
    limited = replace(placement, options={**placement.options, LIMIT: str(at_a_time)})
    return (placement.backend,) * at_a_time, limited


class SilenceTeller:
    """Says on stderr, once for each time, that a batch's cluster cannot be asked: nothing is begun until it can."""

    def __init__(self, plan: "BatchPlan") -> None:
        self._plan = plan
        self._since: float | None = None
        self._is_told = False

    def look(self, queue: "Sequence[QueuedRun]") -> None:
        """Look once at what the cluster says of the runs that are not done."""
        from launch.runs.backends.job import JobState
        from launch.runs.folder import find_job_state

        if not self._plan.placement.is_cluster:
            return
        waiting = next((run.last for run in queue if run.last is not None and not run.is_done), None)
        if waiting is None or find_job_state(waiting.folder) is not JobState.UNKNOWN:
            self._since, self._is_told = None, False
            return
        self._since = self._since or time.monotonic()
        if not self._is_told and time.monotonic() - self._since >= SILENT_S:
            self._is_told = True
            backend = self._plan.placement.backend
            echo(f"Warning: {backend} does not answer: nothing of the batch is begun until it does", err=True)
            echo(f"  Try: {_SILENT_HINTS[backend].format(self._plan.folder.name)}", err=True)
