"""Which batch a rehearsal starts a training with; the trials are played."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.tune import rehearsal as rehearsal_module
from launch.tune.candidates import Candidate
from launch.tune.rehearsal import Rehearsed, rehearse
from launch.tune.trials import Bench, End, Outcome, Rows, Stops
from prep.errors import ConfigError

GIB = 1 << 30
VALUES: dict[str, Any] = {
    "model_name_or_path": "Qwen/Qwen3-4B", "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 16,
    "lora_target": "all", "bf16": True, "cutoff_len": 2048, "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
}  # fmt: skip
ROWS = Rows(2_000, 1_000_000, 2_048)


def run(
    peaks: dict[int, float], budget_gib: int, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> tuple[Rehearsed, list[int]]:
    """Rehearse where each batch takes so many GiB; 0 is out of memory."""
    values = {**VALUES, **changes}
    asked: list[int] = []

    def play(candidate: Candidate, given: Any, bench: Bench, number: int, stops: Stops) -> Outcome:
        size = candidate.apply(values)["per_device_train_batch_size"]
        asked.append(size)
        assert candidate.apply(values)["gradient_accumulation_steps"] * size == 8
        end = End.MEASURED if peaks[size] else End.OUT_OF_MEMORY
        return Outcome(candidate, end, peak_bytes=int(peaks[size] * GIB), rows=ROWS if peaks[size] else None)

    monkeypatch.setattr(rehearsal_module, "measure", play)
    found = rehearse(
        values, Path("cli"), Path("runs"), budget_gib * GIB, play_view, is_boosted=changes.get("boost", False)
    )
    return found, asked


@contextlib.contextmanager
def play_view(candidate: Candidate, number: int) -> Iterator[Any]:
    yield lambda: None


def test_a_larger_batch_is_taken_where_its_largest_steps_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = run({2: 14.0, 8: 40.0}, 80, monkeypatch)
    assert asked == [2, 8]
    assert found.changes == {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert (
        "40.0 of 80.0 GiB at per_device_train_batch_size 8, with gradient_accumulation_steps 1" in found.describe()
    )


@pytest.mark.parametrize("eight", [0.0, 79.0])
def test_the_configs_own_batch_stays_where_a_larger_one_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, eight: float
) -> None:
    found, asked = run({2: 14.0, 8: eight}, 80, monkeypatch)
    assert (found.changes, found.batch, asked) == ({}, 2, [2, 8])


def test_no_larger_batch_is_tried_that_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = run({2: 14.0}, 16, monkeypatch)
    assert (found.changes, asked) == ({}, [2])


def test_out_of_memory_leads_to_a_smaller_batch_of_the_same_global_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = run({2: 0.0, 1: 9.0}, 12, monkeypatch)
    assert asked == [2, 1]
    assert found.changes == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}


def test_what_never_fits_is_told_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="not even one at a time") as error:
        run({2: 0.0, 1: 0.0}, 8, monkeypatch)
    assert "cutoff_len" in str(error.value.hint)


def test_a_training_that_fails_is_no_question_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Outcome(Candidate("x"), End.FAILED, "ValueError: no such layer")
    monkeypatch.setattr(rehearsal_module, "measure", lambda *_: replace(failed))
    with pytest.raises(ConfigError, match="the rehearsal failed: ValueError: no such layer"):
        rehearse(VALUES, Path("cli"), Path("runs"), 0, play_view)


def test_a_boosted_training_keeps_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = run({2: 5.0}, 80, monkeypatch, boost=True)
    assert (found.changes, asked) == ({}, [2])
