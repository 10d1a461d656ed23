"""LLaMA-Factory's trainer_log.jsonl → what a person wants to see while it runs; reads, never imports torch."""

import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from prep.errors import InputError, UserError

_BARS = "▁▂▃▄▅▆▇█"
_TAIL_BYTES = 4_096
# Read again several times a second.
_LIVE_BYTES = 4 << 20
_LOSSES = ("loss", "eval_loss")
_FIGURES = (*_LOSSES, "current_steps", "total_steps", "throughput", "vram_reserved")
_ELAPSED = re.compile(r"^(\d+ days?, )?\d+:\d\d:\d\d$", re.ASCII)
# tqdm's line: ` 50%|█████     | 1/2 [00:00<00:00, …`
_TQDM = re.compile(rb"(\d+)%\|[^|]*\| *(\d+)/(\d+) \[")


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training run stands; `losses` are the logged training losses in order.

    `tokens_per_s` and `memory_gib` are None where LLaMA-Factory did not log them.
    """

    step: int
    total_steps: int
    losses: tuple[float, ...]
    elapsed: str
    remaining: str
    tokens_per_s: float | None = None
    memory_gib: float | None = None


def read_trainer_log(path: Path, max_bytes: int = 64 << 20) -> list[dict[str, Any]]:
    """Return the entries of a trainer_log.jsonl; a last line that is still being written is left out.

    Of a very large one its end. Raises: ValueError when a line is no entry, or its figures are no numbers.
    """
    with suppress(FileNotFoundError):
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - max_bytes))
            content = stream.read(max_bytes)
        return parse_trainer_log(content.partition(b"\n")[2] if size > max_bytes else content)
    return []


def parse_trainer_log(content: bytes) -> list[dict[str, Any]]:
    """Return the entries of a trainer_log.jsonl's content; raises ValueError as `read_trainer_log` does."""
    lines = content.decode("utf-8").split("\n")[:-1]
    return [_parse_entry(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _parse_entry(number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except RecursionError as error:
        raise ValueError(f"line {number} is nested too deep") from error
    if not isinstance(entry, dict):
        raise ValueError(f"line {number} is no entry")
    for key in _FIGURES:
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"line {number}: `{key}` is no number")
    if not isinstance(entry.get("current_steps"), int | float) and any(entry.get(key) for key in _LOSSES):
        raise ValueError(f"line {number}: a loss without `current_steps`")
    return entry


def read_progress(path: Path, *, since: float = 0) -> TrainingProgress | None:
    """Return where the run that writes `path` stands, or None before its first log step.

    `since` is the run's start in seconds of the epoch: an older file is a former run's.
    """
    try:
        if path.stat().st_mtime < since:
            return None
        entries = read_trainer_log(path, _LIVE_BYTES)
        last = entries[-1]
        return TrainingProgress(
            step=last["current_steps"],
            total_steps=last["total_steps"],
            losses=tuple(float(entry["loss"]) for entry in entries if is_finite(entry.get("loss"))),
            elapsed=str(last["elapsed_time"]),
            remaining=str(last["remaining_time"]),
            tokens_per_s=last.get("throughput"),
            memory_gib=last.get("vram_reserved"),
        )
    except (OSError, ValueError, KeyError, IndexError):
        # Nothing to see yet, or nothing that can be read: the run itself goes on.
        return None


def is_finite(value: object) -> bool:
    """Tell whether a value is a number that can be drawn: neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe_progress(progress: TrainingProgress) -> str:
    """Return one line: step, loss and its course, speed, memory, time spent and left."""
    parts = [f"step {progress.step}/{progress.total_steps}"]
    if progress.losses:
        parts.append(f"loss {progress.losses[-1]:.3f} {draw_sparkline(progress.losses)}")
    if progress.tokens_per_s:
        parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    elif seconds := _read_seconds(progress.elapsed):
        parts.append(f"{progress.step / seconds:.2g} steps/s")
    if progress.memory_gib:
        parts.append(f"{progress.memory_gib:.1f} GiB")
    return ", ".join([*parts, f"{progress.elapsed} spent", f"{progress.remaining} left"])


def _read_seconds(elapsed: str) -> int:
    """Return the seconds of LLaMA-Factory's `0:01:05`, or of its `2 days, 0:01:05`."""
    if not _ELAPSED.match(elapsed):
        return 0
    days, _, time = elapsed.rpartition(", ")
    hours, minutes, seconds = map(int, time.split(":"))
    return int(days.partition(" ")[0] or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds


def check_learning(trainer_log: Path) -> str:
    """Return what a trainer's own log says of the loss; raises UserError when it did not fall to its half."""
    losses = [entry["loss"] for entry in read_trainer_log(trainer_log) if is_finite(entry.get("loss"))]
    if len(losses) < 2 or losses[-1] > losses[0] / 2:
        raise UserError(f"{trainer_log}: the loss did not fall to half of its first value")
    return (
        f"the loss fell from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps ({trainer_log.as_posix()})"
    )


def find_best_checkpoint(output_dir: Path) -> Path:
    """Return the checkpoint of a training with the lowest loss on validation rows; of equal ones the first.

    Raises: InputError when no validation loss was logged, or no checkpoint stands where one was.
    """
    try:
        entries = read_trainer_log(output_dir / "trainer_log.jsonl")
    except ValueError as error:
        raise InputError(f"{output_dir / 'trainer_log.jsonl'} cannot be read: {error}") from error
    losses = {
        int(entry["current_steps"]): entry["eval_loss"] for entry in entries if is_finite(entry.get("eval_loss"))
    }
    if not losses:
        raise InputError(
            f"{output_dir} has no losses on validation rows, which tell the best checkpoint",
            hint="train with val_size=0.1 eval_strategy=steps eval_steps=N save_steps=N",
        )
    told_by = ("adapter_config.json", "config.json")
    for step in sorted(losses, key=lambda step: (losses[step], step)):
        folder = output_dir / f"checkpoint-{step}"
        if any((folder / name).is_file() for name in told_by):
            return folder
    raise InputError(
        f"{output_dir} holds no checkpoint of a step with a validation loss: steps {', '.join(map(str, losses))}",
        hint="train with save_steps the same as eval_steps, and save_total_limit left out",
    )


def draw_sparkline(values: tuple[float, ...], width: int = 24) -> str:
    """Draw values as a line of bars; more values than `width` are averaged into bins."""
    if not values:
        return ""
    bins = min(width, len(values))
    edges = [len(values) * number // bins for number in range(bins + 1)]
    means = [sum(values[left:right]) / (right - left) for left, right in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def read_bar(log: Path) -> tuple[int, int] | None:
    """Return (done, total) of the last progress bar in a child's log, or None when there is none yet."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            found = _TQDM.findall(stream.read())
    except OSError:
        return None
    return (int(found[-1][1]), int(found[-1][2])) if found else None
