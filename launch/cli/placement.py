"""Where a batch's runs go: the options that name a cluster and what each run asks for there."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from launch.choices import BackendName
from prep.cli.options import choice_of
from prep.errors import ConfigError

if TYPE_CHECKING:
    from launch.runs.backends.job import Placement


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a backend to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--backend",
        type=choice_of(BackendName),
        default=BackendName.LOCAL.value,
        show_default=True,
        help="Where the runs go: this machine, or jobs of a Slurm cluster that shares this folder.",
    ),
    click.option("--partition", metavar="NAME", help="Slurm: the partition."),
    click.option("--gres", metavar="gpu:1", help="Slurm: what each run gets of the machine."),
    click.option("--time", "time_limit", metavar="D-HH:MM:SS", help="Slurm: the time of one start of a run."),
    click.option("--sbatch", "more", multiple=True, metavar="KEY=VALUE", help="Slurm: any other option of sbatch."),
)


def read_placement(
    backend: str, partition: str | None, gres: str | None, time_limit: str | None, more: tuple[str, ...]
) -> "Placement":
    """Return where a batch's runs go; raises ConfigError for an option that the backend does not have."""
    from launch.runs.backends.job import SLURM, Placement, check_placement

    given = {"partition": partition, "gres": gres, "time": time_limit}
    options = {name: value for name, value in given.items() if value is not None}
    for pair in more:
        name, equals, value = pair.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"--sbatch {pair!r:.60} has no value", hint="--sbatch qos=high")
        options[name] = value
    if options and backend != SLURM:
        raise ConfigError(f"--{next(iter(options))} is an option of Slurm", hint="--backend slurm")
    placement = Placement(backend, options)
    check_placement(placement)
    return placement


def wants_gpu(placement: "Placement") -> bool:
    """Tell whether each run of a batch gets a GPU of the cluster."""
    return any("gpu" in f"{name}={value}" for name, value in placement.options.items())


def place_slots(placement: "Placement", at_a_time: int | None) -> "tuple[tuple[str, ...], Placement]":
    """Return the slots of a cluster's batch, all of the backend's name, and the placement with them."""
    from dataclasses import replace

    if at_a_time is None:
        return (placement.backend,), placement
    limited = replace(placement, options={**placement.options, "slots": str(at_a_time)})
    return (placement.backend,) * at_a_time, limited
