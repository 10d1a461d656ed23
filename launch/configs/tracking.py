"""What SwanLab's and W&B's own variables ask for → keys of LLaMA-Factory's config; said aloud, never in silence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.machine.variables import is_enabled

_OFF = ("disabled",)


@dataclass(frozen=True)
class Tracker:
    """One service: the variable that wants it, the one that turns it off, {key: the variable that fills it}."""

    name: str
    title: str
    package: str
    wanted_by: str
    mode: str
    keys: Mapping[str, str]
    name_key: str


TRACKERS = (
    Tracker(
        "swanlab",
        "SwanLab",
        "swanlab",
        "SWANLAB_PROJECT",
        "SWANLAB_MODE",
        {
            "swanlab_project": "SWANLAB_PROJECT",
            "swanlab_workspace": "SWANLAB_WORKSPACE",
            "swanlab_run_name": "SWANLAB_RUN_NAME",
            "swanlab_logdir": "SWANLAB_LOG_DIR",
        },
        "swanlab_run_name",
    ),
    # W&B reads its variables itself, once `report_to` names it.
    Tracker("wandb", "W&B", "wandb", "WANDB_PROJECT", "WANDB_MODE", {}, "run_name"),
)
# LLaMA-Factory 0.9.5 passes these two alone on to SwanLab (hparams/finetuning_args.py, swanlab_mode).
_SWANLAB_MODES = {"cloud": "cloud", "online": "cloud", "local": "local", "offline": "local"}
PREFIXES = ("SWANLAB_", "WANDB_")


@dataclass(frozen=True)
class Tracking:
    """What the environment adds to a training's config, and what there is to say about it."""

    changes: dict[str, Any]
    notes: tuple[str, ...]


def read_tracking(
    values: Mapping[str, Any], environ: Mapping[str, str], name: str, installed: set[str]
) -> Tracking:
    """Return the keys that the environment's variables add to a training's config; `name` is the run's.

    A tracker is wanted by the variable with its project, or by the config itself; its mode `disabled` turns it off.
    What the config gives itself stays. `installed` are the trackers' packages beside LLaMA-Factory.
    """
    changes: dict[str, Any] = {}
    notes: list[str] = []
    for tracker in TRACKERS:
        is_in_config = _is_on(tracker, values)
        if not is_in_config and not environ.get(tracker.wanted_by):
            continue
        if not is_in_config and (environ.get(tracker.mode) in _OFF or is_enabled("WANDB_DISABLED", environ)):
            continue
        if not is_in_config and _is_refused(tracker, values):
            notes.append(f"{tracker.wanted_by} is set, but the config says `use_swanlab: false`")
            continue
        if not is_in_config and tracker.package not in installed:
            hint = f"pip install {tracker.package} beside LLaMA-Factory"
            notes.append(f"{tracker.wanted_by} is set, but {tracker.title} is not installed: not tracked ({hint})")
            continue
        added = _read_keys(tracker, {**values, **changes}, environ, name)
        if not is_in_config:
            added |= _turn_on(tracker, {**values, **changes})
            notes.append(
                f"{tracker.wanted_by} is set: {tracker.title} tracks this run; {tracker.mode}=disabled stops it"
            )
        changes |= added
    return Tracking(changes, tuple(notes))


def _is_on(tracker: Tracker, values: Mapping[str, Any]) -> bool:
    return (tracker.name == "swanlab" and values.get("use_swanlab") is True) or tracker.name in _read_report_to(
        values
    )


def _is_refused(tracker: Tracker, values: Mapping[str, Any]) -> bool:
    return tracker.name == "swanlab" and values.get("use_swanlab") is False


def _read_report_to(values: Mapping[str, Any]) -> list[str]:
    told = values.get("report_to")
    names = told if isinstance(told, list) else [told]
    return [str(name) for name in names if name not in (None, "none")]


def _turn_on(tracker: Tracker, values: Mapping[str, Any]) -> dict[str, Any]:
    if tracker.name == "swanlab":
        return {"use_swanlab": True}
    others = _read_report_to(values)
    return {"report_to": [*others, tracker.name] if others else tracker.name}


def _read_keys(
    tracker: Tracker, values: Mapping[str, Any], environ: Mapping[str, str], name: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: environ[variable]
        for key, variable in tracker.keys.items()
        if environ.get(variable) and values.get(key) is None
    }
    mode = _SWANLAB_MODES.get(environ.get("SWANLAB_MODE", ""))
    if tracker.name == "swanlab" and mode and values.get("swanlab_mode") is None:
        found["swanlab_mode"] = mode
    if tracker.name_key not in found and values.get(tracker.name_key) is None:
        found[tracker.name_key] = name
    return found
