"""What went wrong with a run, and the config that goes on from there: same training, other schedule."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from launch.runs import Run, RunState
from prep.errors import ConfigError

_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE)
_NETWORK = re.compile(
    r"Connect(ion)?Error|ConnectTimeout|ReadTimeout|MaxRetryError|couldn't connect to|failure in name resolution"
    r"|HTTPError: 5\d\d|50[0234] (Server Error|Bad Gateway|Service|Gateway)|ChunkedEncodingError|RemoteDisconnected"
)
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
_TAIL_BYTES = 65_536
_SIGNALLED = 128


class Cause(StrEnum):
    """Why a run ended before its time."""

    OUT_OF_MEMORY = "out of memory"
    NETWORK = "network"
    KILLED = "killed"
    CONFIG = "config or data"


def find_cause(run: Run) -> Cause:
    """Return why a failed or lost run ended, from its exit code and the end of its log."""
    text = _read_tail(run.folder.log)
    if _OUT_OF_MEMORY.search(text):
        return Cause.OUT_OF_MEMORY
    if run.state is RunState.LOST or (run.exit_code or 0) > _SIGNALLED:
        return Cause.KILLED
    return Cause.NETWORK if _NETWORK.search(text) else Cause.CONFIG


def find_checkpoint(output_dir: Path) -> Path | None:
    """Return the last whole checkpoint in an output folder: trainer_state.json is what is written last."""
    found = [
        (int(match[1]), path)
        for path in (output_dir.iterdir() if output_dir.is_dir() else ())
        if (match := _CHECKPOINT.match(path.name)) and (path / "trainer_state.json").is_file()
    ]
    return max(found)[1] if found else None


def plan_retry(values: Mapping[str, Any], cause: Cause) -> dict[str, Any] | None:
    """Return the config that tries a run again from its last checkpoint; None when nothing could change.

    Out of memory: the batch is divided and the accumulation multiplied, so that the global batch, and so the
    training itself, stays the same.
    """
    changed = dict(values)
    if cause is Cause.CONFIG:
        return None
    if cause is Cause.OUT_OF_MEMORY:
        batch = int(values.get("per_device_train_batch_size", 8))
        smaller = next((size for size in range(batch // 2, 0, -1) if batch % size == 0), None)
        if smaller is None:
            return None
        accumulation = int(values.get("gradient_accumulation_steps", 1))
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
    """Rename an existing folder to `<name>.old-<n>` and return its new place; nothing is ever deleted."""
    if not path.exists():
        return None
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(target)
    return target


def _read_tail(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return stream.read().decode("utf-8", errors="replace")
