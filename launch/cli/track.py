"""SwanLab's and W&B's variables, taken up by a training's config, and told."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.cli.output import echo

if TYPE_CHECKING:
    from launch.configs.config import RunConfig


def add_tracking(config: "RunConfig", cli: Path, name: str) -> "RunConfig":
    """Return a training's config with what the environment's variables ask for; say on stderr what that is."""
    from launch.configs.config import RunConfig, format_config

    values = add_tracking_values({name: config.values}, cli)[name]
    if values == config.values:
        return config
    added = ", ".join(key for key in values if values[key] != config.values.get(key))
    return RunConfig(values, format_config(values, header=f"{name}, with {added} of the environment"))


def add_tracking_values(configs: Mapping[str, dict[str, Any]], cli: Path) -> dict[str, dict[str, Any]]:
    """Return configs by their runs' names with what the environment's variables ask for; say each thing once."""
    from launch.configs.rules.machine import is_installed
    from launch.configs.tracking import TRACKERS, read_tracking
    from launch.runs.record import read_versions

    found = read_versions(cli)
    packages = {tracker.package for tracker in TRACKERS}
    installed = {package for package in packages if package in found or is_installed(package)}
    tracked, notes = {}, dict[str, None]()
    for name, values in configs.items():
        tracking = read_tracking(values, os.environ, name, installed)
        tracked[name] = {**values, **tracking.changes}
        notes.update(dict.fromkeys(tracking.notes))
    for note in notes:
        echo(f"Note: {note}", err=True)
    return tracked


def list_tracking_variables() -> dict[str, str]:
    """Return the user's own variables of SwanLab and W&B, which a run gets too."""
    from launch.configs.tracking import PREFIXES

    # The command itself spells the project of SwanLab.
    own = {name: value for name, value in sorted(os.environ.items()) if name != "SWANLAB_PROJECT"}
    return {name: value for name, value in own.items() if name.startswith(PREFIXES)}
