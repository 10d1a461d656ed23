"""SwanLab and W&B: what their own variables add to a config, and the id and link that they left of a run."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
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
# LLaMA-Factory 0.9.5 writes what SwanLab says of the run (extras/constants.py, SWANLAB_CONFIG).
_SWANLAB_FILE = "swanlab_public_config.json"
_MAX_BYTES = 1 << 20
_MAX_LINK = 500
_MOST_LINES = 6
_LINK = re.compile(r"(?P<tool>wandb|swanlab): \S* ?View run (?:\S+ )?at:? ?(?P<url>https?://[\w.:@%/~+-]+)")
_FOLDER = re.compile(
    r"(?P<tool>wandb|swanlab): (?:\S+ )?"
    r"(?:Run data (?:is |will be )?saved (?:locally )?(?:in|at)|wandb sync) ?:?\s*(?P<path>\S+)"
)
# `offline-run-20261128_101500-x1y2z3`, `run-20261128_101500-x1y2z3`
_ID = re.compile(r"run-\d{8}_\d{6}-(?P<id>[\w-]{4,64})$")
# What a line holds that goes on with a broken path.
_PIECE = re.compile(r"[\w./-]+")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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


def find_tracking(log: Iterable[str], output_dir: Path | None) -> list[dict[str, str]]:
    """Return what is known of a run's trackers: `tool`, `id`, `url` when it is online, `folder` when it is here.

    Shape: `log` comes in blocks of whole lines; one entry a tool.
    """
    found: dict[str, dict[str, str]] = {}
    for block in log:
        if "swanlab" not in block and "wandb" not in block:
            continue
        text = _COLOUR.sub("", block)
        for match in _LINK.finditer(text):
            entry = found.setdefault(match["tool"], {})
            entry["url"] = match["url"][:_MAX_LINK]
            entry.setdefault("id", entry["url"].rstrip("/").rpartition("/")[2])
        for match in _FOLDER.finditer(text):
            entry = found.setdefault(match["tool"], {})
            entry["folder"] = _join_broken(match["path"], text[match.end() :])[:_MAX_LINK]
            if known := _ID.search(entry["folder"].rstrip("/.,")):
                entry["id"] = known["id"]
    if output_dir is not None:
        found.setdefault("swanlab", {}).update(_read_swanlab(output_dir / _SWANLAB_FILE))
    return [{"tool": tool, **entry} for tool, entry in sorted(found.items()) if entry]


def _join_broken(path: str, rest: str) -> str:
    """Return a run's folder whole: SwanLab breaks a long one over lines as wide as a terminal."""
    lines = rest[: _MAX_LINK * 2].splitlines()[1 : _MOST_LINES + 1] if rest.startswith("\n") else []
    pieces = takewhile(_PIECE.fullmatch, lines)
    named = [whole for whole in accumulate(pieces, initial=path) if _ID.search(whole.rstrip("/.,"))]
    # What stands before a break may look like a whole name, too.
    return next((whole for whole in named if Path(whole).is_dir()), named[0] if named else path)


def _read_swanlab(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        told: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    cloud = told.get("cloud")
    url = cloud.get("experiment_url") if isinstance(cloud, dict) else None
    entry = {"id": told.get("run_id"), "url": url, "folder": told.get("run_dir")}
    return {key: str(value)[:_MAX_LINK] for key, value in entry.items() if isinstance(value, str) and value}


def list_tracking(entries: object) -> list[dict[str, str]]:
    """Return a result's trackers: `tool`, `id`, `url`, `folder`; what is not of their shape is left out."""
    names = ("tool", "id", "url", "folder")
    dicts = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [{name: str(entry[name])[:_MAX_LINK] for name in names if entry.get(name)} for entry in dicts]


def format_tracking(entries: object) -> list[str]:
    """Return a result's trackers as lines: `SwanLab abcd1234 https://…`."""
    lines = []
    for entry in list_tracking(entries):
        parts = (entry.get("tool"), entry.get("id"), entry.get("url") or entry.get("folder"))
        lines.append(" ".join(filter(None, parts)))
    return lines
