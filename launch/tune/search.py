"""The search: what is tried next, within a budget, and which candidate won."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.configs.config import check_values
from launch.configs.rules import Machine
from launch.tune import memory
from launch.tune.candidates import (
    Candidate,
    Way,
    choose_preprocessing_workers,
    list_batches,
    list_ways,
    make_candidate,
    read_batch,
)
from launch.tune.trials import Bench, End, Outcome, Rows, Stops, measure

# An estimate of memory is right within a sixth: what passes the limit by more is not tried.
_TOLERANCE = 1.2
# What a trial is taken to last before one was seen.
_FIRST_GUESS_S = 60.0
# Compiled layers pay for themselves from so many batches on (launch/guest/boost.py).
_COMPILED_FROM_BATCHES = 1_500
# Losses of one step may differ by so much, relatively: rounding in bf16 and float32.
SAME_HALF, SAME_FLOAT32 = 2e-3, 1e-4
BASELINE = "as it is"


@dataclass(frozen=True)
class Search:
    """What a search found: the config as it is first, then in the order of trying."""

    outcomes: tuple[Outcome, ...]
    values: Mapping[str, Any]
    total_tokens: int
    steps: int

    @property
    def baseline(self) -> Outcome:
        """The config as it is."""
        return self.outcomes[0]

    @property
    def best(self) -> Outcome:
        """The fastest of those that train the same; the config as it is where none is faster."""
        good = [outcome for outcome in self.outcomes if outcome.end is End.MEASURED and self.is_same(outcome)]
        return max(good, key=self.rank, default=self.baseline)

    def rank(self, outcome: Outcome) -> float:
        """Return what an outcome is chosen by: the whole training's speed, its start included."""
        seconds = self.expect_seconds(outcome)
        return 1 / seconds if seconds else 0.0

    def expect_seconds(self, outcome: Outcome) -> float:
        """Return how long the whole training takes so; 0 where that is not known."""
        if not outcome.tokens_per_s:
            return 0.0
        return outcome.start_s + self.total_tokens / outcome.tokens_per_s

    def is_same(self, outcome: Outcome) -> bool:
        """Tell whether the losses that both have seen agree with the config's own."""
        limit = SAME_HALF if self.values.get("bf16") or self.values.get("fp16") else SAME_FLOAT32
        return self.differ(outcome) <= limit

    def differ(self, outcome: Outcome) -> float:
        """Return the greatest relative difference of a step's loss from the config's own; 0 where none is shared.

        Where the config as it is does not run, those of the first that does are compared.
        """
        reference = next((each for each in self.outcomes if each.losses), outcome)
        own = dict(outcome.losses)
        shared = [(loss, own[step]) for step, loss in reference.losses if step in own]
        return max((abs(mine - theirs) / max(1.0, abs(theirs)) for theirs, mine in shared), default=0.0)


@dataclass(frozen=True)
class Limits:
    """What a search may take: seconds, bytes of the GPU (0 for no limit), and whether any backend may be chosen."""

    seconds: float
    max_bytes: int = 0
    any_backend: bool = False
    has_gpu: bool = True
    cores: int = 1


Told = Callable[[str, Path], Any]


def search(
    values: Mapping[str, Any],
    bench: Bench,
    limits: Limits,
    on_trial: Callable[[Candidate, int], Any],
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Search:
    """Measure the config as it is, then what may be faster, until the time is spent.

    `on_trial` gives a context that is entered for a trial's time and gives its poll; `on_outcome` hears each end.
    """
    deadline = time.monotonic() + limits.seconds
    outcomes: list[Outcome] = []

    def run(candidate: Candidate) -> Outcome:
        best = max((outcome.tokens_per_s for outcome in outcomes if outcome.end is End.MEASURED), default=0.0)
        with on_trial(candidate, len(outcomes)) as on_poll:
            outcome = measure(candidate, values, bench, len(outcomes), Stops(best, deadline, on_poll))
        outcome = replace(
            outcome, estimated_bytes=_estimate(candidate, values, outcome.rows or _seen_rows(outcomes))
        )
        outcomes.append(outcome)
        on_outcome(outcome)
        return outcome

    baseline = run(Candidate(BASELINE))
    rows = baseline.rows
    steps, tokens = _count_work(values, rows)
    for way in list_ways(
        values,
        has_gpu=limits.has_gpu,
        any_backend=limits.any_backend,
        compiles=steps >= _COMPILED_FROM_BATCHES,
    ):
        rows = rows or _seen_rows(outcomes)
        for candidate in _list_fitting(way, values, rows, limits):
            if any(
                candidate.changes == other.candidate.changes and candidate.boost == other.candidate.boost
                for other in outcomes
            ):
                break
            last = max(
                (outcome.seconds for outcome in outcomes if outcome.end is End.MEASURED), default=_FIRST_GUESS_S
            )
            if time.monotonic() + last > deadline:
                break
            if run(candidate).end is not End.OUT_OF_MEMORY:
                break
    return Search(tuple(outcomes), values, tokens, steps)


def _list_fitting(way: Way, values: Mapping[str, Any], rows: Rows | None, limits: Limits) -> Iterator[Candidate]:
    """Yield one way with the largest batch that may fit, then with smaller ones; none that cannot work."""
    own = _find_errors(values)
    for batch in list_batches(values):
        candidate = make_candidate(way, batch, values)
        applied = candidate.apply(values)
        if not _find_errors(applied) <= own:
            continue
        if limits.max_bytes and _estimate(candidate, values, rows) > _TOLERANCE * limits.max_bytes:
            continue
        yield candidate


def _find_errors(values: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(fault.key, fault.message) for fault in check_values(values, "train", Machine()) if fault.is_error}


def plan(values: Mapping[str, Any], limits: Limits) -> list[tuple[Candidate, int]]:
    """Return what would be tried first of each way, with the memory that it is taken to need, in bytes."""
    found = [(Candidate(BASELINE), _estimate(Candidate(BASELINE), values, None))]
    for way in list_ways(values, has_gpu=limits.has_gpu, any_backend=limits.any_backend, compiles=False):
        candidate = next(_list_fitting(way, values, None, limits), None)
        if candidate:
            found.append((candidate, _estimate(candidate, values, None)))
    return found


def _estimate(candidate: Candidate, values: Mapping[str, Any], rows: Rows | None) -> int:
    lengths = memory.Rows(rows.tokens / max(rows.count, 1), rows.longest) if rows else None
    estimate = memory.estimate_memory(
        candidate.apply(values), lengths, boosted=candidate.boost, compiled=candidate.compiles
    )
    return estimate.total if estimate else 0


def _seen_rows(outcomes: list[Outcome]) -> Rows | None:
    return next((outcome.rows for outcome in outcomes if outcome.rows), None)


def _count_work(values: Mapping[str, Any], rows: Rows | None) -> tuple[int, int]:
    """Return how many steps and real tokens the whole training has; zeros where nobody has seen its rows."""
    if rows is None:
        return 0, 0
    size, accumulation = read_batch(values)
    whole = size * accumulation
    steps = values.get("max_steps")
    if not isinstance(steps, int) or steps <= 0:
        epochs = values.get("num_train_epochs")
        steps = int(-(-rows.count // whole) * float(epochs if isinstance(epochs, int | float) else 3.0))
    return steps, int(steps * whole * rows.tokens / max(rows.count, 1))


def find_workers(values: Mapping[str, Any], rows: Rows | None, cores: int) -> dict[str, int | None]:
    """Return the change of preprocessing_num_workers that suits the set's size, {} where the config's does."""
    key = "preprocessing_num_workers"
    if rows is None:
        return {}
    wanted = choose_preprocessing_workers(rows.count, cores)
    return {} if values.get(key) == wanted else {key: wanted}
