"""The largest steps of a training, done once before it starts: whether they fit, and in which batch."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from launch.tune import memory
from launch.tune.candidates import Candidate, list_batches, read_batch
from launch.tune.trials import Bench, End, Outcome, Stops, measure
from prep.errors import ConfigError

FOLDER = ".rehearsals"
_GIB = 1 << 30


@dataclass(frozen=True)
class Rehearsed:
    """What was found: the keys to change, {} where the config's batch is the largest that fits, and its peak."""

    changes: dict[str, int]
    batch: int
    peak_bytes: int
    budget_bytes: int
    tried: tuple[Outcome, ...]

    def describe(self) -> str:
        """Return one line for a person."""
        accumulation = self.changes.get("gradient_accumulation_steps")
        kept = f", with gradient_accumulation_steps {accumulation}" if accumulation else ""
        share = f" of {self.budget_bytes / _GIB:.1f}" if self.budget_bytes else ""
        return (
            f"the largest steps take {self.peak_bytes / _GIB:.1f}{share} GiB at per_device_train_batch_size "
            f"{self.batch}{kept}"
        )


def rehearse(
    values: Mapping[str, Any],
    cli: Path,
    root: Path,
    budget_bytes: int,
    on_trial: Callable[[Candidate, int], AbstractContextManager[Callable[[], None]]],
    *,
    is_boosted: bool = False,
) -> Rehearsed:
    """Do the two largest steps of a training, and find the largest batch of its global size that fits.

    Shape: `budget_bytes` is what the GPU, or the machine without one, has; 0 where nobody knows. A boosted training
    keeps its batch where that fits: it chooses by itself what to do with the memory that is left.
    Raises: ConfigError when not even one row at a time fits, or the training does not work.
    """
    bench = Bench(cli, root / FOLDER / token_hex(4), steps=2, seconds=0)
    tried: list[Outcome] = []

    def do(batch: Mapping[str, int]) -> Outcome:
        changes = {key: value for key, value in batch.items() if values.get(key) != value}
        size = batch["per_device_train_batch_size"]
        candidate = Candidate(f"{size} at once", changes, "keep" if is_boosted else "")
        with on_trial(candidate, len(tried)) as on_poll:
            tried.append(measure(candidate, values, bench, len(tried), Stops(0.0, float("inf"), on_poll)))
        return tried[-1]

    try:
        return _find_batch(values, budget_bytes, tried, do, may_grow=not is_boosted)
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
        # Empty where no other rehearsal is under way.
        with suppress(OSError):
            bench.folder.parent.rmdir()


def _find_batch(
    values: Mapping[str, Any],
    budget_bytes: int,
    tried: list[Outcome],
    do: Callable[[Mapping[str, int]], Outcome],
    *,
    may_grow: bool,
) -> Rehearsed:
    batches = list_batches(values)
    size, _ = read_batch(values)
    own = next(batch for batch in batches if batch["per_device_train_batch_size"] == size)
    first = _require_answer(do(own))
    if first.end is End.MEASURED:
        larger = _choose_larger(values, first, batches, budget_bytes) if may_grow else None
        if larger:
            second = _require_answer(do(larger))
            if second.end is End.MEASURED and _fits(second, budget_bytes):
                return _conclude(larger, second, budget_bytes, tried)
        return _conclude({}, first, budget_bytes, tried, size)
    for batch in batches:
        if batch["per_device_train_batch_size"] < size:
            outcome = _require_answer(do(batch))
            if outcome.end is End.MEASURED:
                return _conclude(batch, outcome, budget_bytes, tried)
    raise ConfigError(
        "the largest rows do not fit into memory, not even one at a time",
        hint="a smaller cutoff_len, quantization_bit: 4, or a smaller model; lfc launch tune finds more",
    )


def _require_answer(outcome: Outcome) -> Outcome:
    """Return an outcome that tells of memory; raises ConfigError for any other."""
    if outcome.end in (End.MEASURED, End.OUT_OF_MEMORY):
        return outcome
    raise ConfigError(f"the rehearsal {outcome.end}: {outcome.reason}", hint="lfc launch config check CONFIG")


def _choose_larger(
    values: Mapping[str, Any], first: Outcome, batches: list[dict[str, int]], budget_bytes: int
) -> dict[str, int] | None:
    """Return the largest batch that is told to fit, by what the config's own took; None where it is that one."""
    rows = first.rows
    lengths = memory.Rows(rows.tokens / max(rows.count, 1), rows.longest) if rows else None
    own = memory.estimate_memory(values, lengths)
    if own is None or not budget_bytes:
        return None
    for batch in batches:
        if batch["per_device_train_batch_size"] <= read_batch(values)[0]:
            return None
        estimate = memory.estimate_memory({**values, **batch}, lengths)
        # What was measured for the weights and the rows corrects the estimate of the larger batch.
        if estimate and estimate.total * first.peak_bytes / own.total <= memory.USABLE_SHARE * budget_bytes:
            return batch
    return None


def _fits(outcome: Outcome, budget_bytes: int) -> bool:
    return not budget_bytes or outcome.peak_bytes <= memory.USABLE_SHARE * budget_bytes


def _conclude(
    batch: dict[str, int], outcome: Outcome, budget_bytes: int, tried: list[Outcome], size: int = 0
) -> Rehearsed:
    chosen = batch.get("per_device_train_batch_size", size)
    return Rehearsed(batch, chosen, outcome.peak_bytes, budget_bytes, tuple(tried))
