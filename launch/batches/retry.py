"""The config that goes on from where a run ended: same training, other schedule; and what may stand in its way."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.runs.causes import Cause
from prep.errors import ConfigError
from prep.storage.paths import move_aside

_CHECKPOINT = re.compile(r"^checkpoint-(\d{1,18})$", re.ASCII)
# What another start may fix without another config.
_PASSING = (Cause.NETWORK, Cause.KILLED, Cause.HOST_MEMORY, Cause.PREEMPTED)


def find_checkpoint(output_dir: Path) -> Path | None:
    """Return the last whole checkpoint in an output folder: trainer_state.json is what is written last."""
    found = [
        (int(match[1]), path)
        for path in (output_dir.iterdir() if os.path.isdir(output_dir) else ())  # noqa: PTH112 - pathlib may raise
        if (match := _CHECKPOINT.match(path.name)) and (path / "trainer_state.json").is_file()
    ]
    return max(found)[1] if found else None


def plan_retry(values: Mapping[str, Any], cause: Cause) -> dict[str, Any] | None:
    """Return the config that tries a run again from its last checkpoint; None when nothing could change.

    A full disk, a crash of native code and a wrong config are not tried again: they would end alike.
    Out of memory: the batch is divided and the accumulation multiplied, so that the global batch, and so the
    training itself, stays the same.
    """
    changed = dict(values)
    if cause not in (*_PASSING, Cause.OUT_OF_MEMORY):
        return None
    if cause is Cause.OUT_OF_MEMORY:
        batch = values.get("per_device_train_batch_size", 8)
        accumulation = values.get("gradient_accumulation_steps", 1)
        if not isinstance(batch, int) or not isinstance(accumulation, int):
            return None
        smaller = next((size for size in range(batch // 2, 0, -1) if batch % size == 0), None)
        if smaller is None:
            return None
        changed["per_device_train_batch_size"] = smaller
        changed["gradient_accumulation_steps"] = accumulation * batch // smaller
    return resume(changed)


def resume(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with `resume_from_checkpoint` at the last whole checkpoint, if there is one."""
    checkpoint = find_checkpoint(Path(str(values.get("output_dir", ""))))
    kept = {
        key: value for key, value in values.items() if key not in ("resume_from_checkpoint", "overwrite_output_dir")
    }
    return {**kept, "resume_from_checkpoint": checkpoint.as_posix()} if checkpoint else kept


def refuse_to_guess(values: Mapping[str, Any], hint: str) -> None:
    """Raise ConfigError when LLaMA-Factory would go on from a checkpoint that the config does not ask for."""
    if values.get("resume_from_checkpoint") or values.get("overwrite_output_dir"):
        return
    output_dir = Path(str(values.get("output_dir", "")))
    if checkpoint := find_checkpoint(output_dir):
        raise ConfigError(
            f"{output_dir} holds {checkpoint.name} of an earlier run, from which this one would go on", hint=hint
        )


def set_aside(path: Path) -> Path | None:
    """Rename an existing folder to `<name>.old-<n>` and return its new place; nothing is ever deleted.

    Raises: ConfigError for the working folder and those around it, OutputError when it cannot be renamed.
    """
    if not os.path.lexists(path):
        return None
    refuse_working_folder(path)
    # Without its dots, so that it has a name of its own.
    path = Path(os.path.relpath(path)) if not path.is_absolute() else Path(os.path.normpath(path))
    return move_aside(path)


def refuse_working_folder(path: Path) -> None:
    """Raise ConfigError when a folder is the working folder, or one around it."""
    if Path(os.path.realpath(os.curdir)).is_relative_to(os.path.realpath(path)):
        raise ConfigError(f"{path} is the working folder or lies around it", hint="another output_dir=FOLDER")
