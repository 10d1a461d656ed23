"""Where a run can be seen in SwanLab or W&B: its id and link, from what these two wrote."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# LLaMA-Factory 0.9.5 writes what SwanLab says of the run (extras/constants.py, SWANLAB_CONFIG).
_SWANLAB_FILE = "swanlab_public_config.json"
_MAX_BYTES = 1 << 20
_MAX_LINK = 500
_LINK = re.compile(r"(?P<tool>wandb|swanlab): \S* ?View run (?:\S+ )?at:? ?(?P<url>https?://[\w.:@%/~+-]+)")
_FOLDER = re.compile(
    r"(?P<tool>wandb|swanlab): (?:\S+ )?"
    r"(?:Run data (?:is |will be )?saved (?:locally )?(?:in|at)|wandb sync) ?:?\s*(?P<path>\S+)"
)
# `offline-run-20261128_101500-x1y2z3`, `run-20261128_101500-x1y2z3`
_ID = re.compile(r"run-\d{8}_\d{6}-(?P<id>[\w-]{4,64})$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
            entry["folder"] = match["path"][:_MAX_LINK]
            if known := _ID.search(match["path"].rstrip("/.,")):
                entry["id"] = known["id"]
    if output_dir is not None:
        found.setdefault("swanlab", {}).update(_read_swanlab(output_dir / _SWANLAB_FILE))
    return [{"tool": tool, **entry} for tool, entry in sorted(found.items()) if entry]


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


def format_tracking(entries: object) -> list[str]:
    """Return a result's trackers as lines: `SwanLab abcd1234 https://…`; what is not of their shape is left out."""
    lines = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            parts = [entry.get("tool"), entry.get("id"), entry.get("url") or entry.get("folder")]
            lines.append(" ".join(str(part) for part in parts if part))
    return lines
