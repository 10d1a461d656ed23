"""Where a config is to run: GPUs, processors, variables and packages, here or on another machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata

from launch.choices import JudgedFor
from launch.machine.gpus import Gpu, GpuReport, read_gpus
from launch.machine.variables import is_enabled

_BF16 = Gpu("GPU", 0, (9, 0))


@dataclass(frozen=True)
class Machine:
    """Where the config is to run: its GPUs and processors (None: not known), and which packages can be asked for.

    `is_here` is true for the machine that this process runs on, where a path that is missing is really missing;
    `has_stack` is true when LLaMA-Factory is installed beside us, so that a missing package is really missing.
    """

    gpus: tuple[Gpu, ...] | None = None
    has_stack: bool = False
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cpus: int | None = None
    is_here: bool = False

    @property
    def uses_ray(self) -> bool:
        """Whether `llamafactory-cli train` would hand the training to Ray."""
        return is_enabled("USE_RAY", self.env)

    @property
    def starts_torchrun(self) -> bool:
        """Whether `llamafactory-cli train` would start torchrun."""
        return is_enabled("FORCE_TORCHRUN", self.env) or (len(self.gpus or ()) > 1 and not self.uses_ray)


def read_machine(report: GpuReport | None = None, env: Mapping[str, str] | None = None) -> Machine:
    """Return the machine that this process runs on, as a run with these variables sees it; None: with its own."""
    try:
        metadata.version("llamafactory")
        has_stack = True
    except metadata.PackageNotFoundError:
        has_stack = False
    return Machine(
        (report or read_gpus(env)).gpus, has_stack, os.environ if env is None else env, os.cpu_count(), is_here=True
    )


def choose_machine(target: str, gpus: int | None = None) -> Machine:
    """Return the machine to judge for: `here`, `gpu` (one with bf16), `cpu`, or `any` (devices left out).

    Shape: with `gpus` it has as many: of the kind that is here, or with bf16.
    """
    found = {JudgedFor.GPU: (_BF16,), JudgedFor.CPU: (), JudgedFor.ANY: None}
    machine = read_machine() if target == JudgedFor.HERE else Machine(found[JudgedFor(target)])
    if gpus is None:
        return machine
    return replace(machine, gpus=tuple((machine.gpus or (_BF16,))[:1]) * gpus)


def is_installed(package: str) -> bool:
    """Whether a package's metadata stands in this environment."""
    return bool(find_version(package))


def find_version(package: str) -> str:
    """Return a package's version in this environment, "" when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
