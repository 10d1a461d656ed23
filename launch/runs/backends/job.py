"""What a cluster knows a run by, and where a batch's runs go."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from launch.choices import BackendName
from prep.errors import ConfigError

LOCAL = str(BackendName.LOCAL)
BACKENDS = tuple(map(str, BackendName))
# The option of a placement that says how many of its runs there are at a time.
LIMIT = "slots"
# What a run's result says when its job came near its time limit: Slurm then sends SIGUSR2.
TIME_LIMIT_CODE = 128 + 12
_OPTION = re.compile(r"^[a-z][a-z-]{0,40}$", re.ASCII)
_MAX_VALUE = 500


class JobState(StrEnum):
    """What a cluster says of a job: `gone` has ended or never was, `unknown` when the cluster cannot be asked."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Job:
    """A prepared run folder, and what a machine of the cluster calls to work it off, which can be pickled."""

    folder: Path
    work: Callable[..., None]


@dataclass(frozen=True)
class Placement:
    """The backend of a batch, and what each of its runs asks for there: `{"partition": "gpu", "time": "60"}`."""

    backend: str = LOCAL
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_cluster(self) -> bool:
        """Whether a cluster decides where and when a run starts."""
        return self.backend != LOCAL


def check_placement(placement: Placement) -> None:
    """Raise ConfigError for an option's name or value that no cluster takes; values end up in a script's lines."""
    if placement.backend not in BACKENDS:
        raise ConfigError(f"there is no backend {placement.backend!r:.60}", hint=" or ".join(BACKENDS))
    for name, value in placement.options.items():
        if not _OPTION.match(name):
            raise ConfigError(f"{name!r:.60} is no name of an option of {placement.backend}", hint="qos=high")
        if not value or not value.isprintable() or len(value) > _MAX_VALUE:
            raise ConfigError(f"`{name}` of {placement.backend} is {value!r:.60}, allowed is one line of text")
