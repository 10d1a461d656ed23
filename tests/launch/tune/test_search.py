"""What the search tries and takes: trials are played, but for those behind --full, which are real."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.configs.document import parse_document
from launch.guest import trial as trial_program
from launch.machine.command import find_llamafactory_cli
from launch.tune import search as search_module
from launch.tune.candidates import Candidate, choose_preprocessing_workers, list_batches, list_ways
from launch.tune.report import describe_changes, describe_head, list_lines
from launch.tune.search import BASELINE, Limits, Search, plan, search
from launch.tune.trials import Bench, End, Outcome, Rows, Stops, measure
from launch.tune.tuned_config import write_tuned_text
from tests.support.boost_variants import BASE, write_data, write_models

GIB = 1 << 30
VALUES: dict[str, Any] = {
    "model_name_or_path": "Qwen/Qwen3-4B", "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 16,
    "lora_target": "all", "dataset": "mine", "template": "qwen3", "cutoff_len": 1024, "bf16": True, "output_dir": "out",
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "num_train_epochs": 2.0,
}  # fmt: skip
LOSSES = ((1, 12.0), (2, 11.5))
ROWS = Rows(2_000, 2_000_000, 1_024)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> dict[str, Outcome]:
    """How trials end, by the start of their names; what is not named is measured at 100 tokens a second."""
    ends: dict[str, Outcome] = {}

    def play(candidate: Candidate, values: Any, bench: Bench, number: int, stops: Stops) -> Outcome:
        known = next((end for name, end in ends.items() if candidate.name.startswith(name)), None)
        outcome = known or Outcome(candidate, End.MEASURED, "", 100.0, GIB, 20.0, 30.0, LOSSES, ROWS)
        return replace(outcome, candidate=candidate)

    monkeypatch.setattr(search_module, "measure", play)
    return ends


def look(limits: Limits, **changes: Any) -> Search:
    return search({**VALUES, **changes}, Bench(Path("cli"), Path("runs/x")), limits, play_view)


@contextlib.contextmanager
def play_view(candidate: Candidate, number: int) -> Iterator[Any]:
    yield lambda: None


def end(kind: End, speed: float = 0.0, **changes: Any) -> Outcome:
    outcome = Outcome(Candidate("x"), kind, "", speed, 4 * GIB, 20.0, 30.0, LOSSES if speed else (), ROWS)
    return replace(outcome, **changes)


def names(found: Search) -> list[str]:
    return [outcome.candidate.name for outcome in found.outcomes]


def test_the_fastest_of_the_same_training_wins(played: dict[str, Outcome]) -> None:
    played["boosted, no"] = end(End.MEASURED, 500.0)
    played["no checkpointing"] = end(End.MEASURED, 900.0, losses=((1, 12.1), (2, 11.5)))
    found = look(Limits(600))
    assert found.best.candidate.name == "boosted, no checkpointing, 8 × 1"
    assert found.best.candidate.apply(VALUES)["per_device_train_batch_size"] == 8
    assert not found.is_same(found.outcomes[names(found).index("no checkpointing, 8 × 1")])
    said = next(line for line in list_lines(found) if line[0].startswith("no checkpointing"))
    assert "not the same training: a loss differs by 8.3e-03" in said[-1]


def test_out_of_memory_leads_to_the_next_smaller_batch(played: dict[str, Outcome]) -> None:
    played["boosted, no checkpointing, 8"] = played["boosted, no checkpointing, 4"] = end(End.OUT_OF_MEMORY)
    tried = [name for name in names(look(Limits(600))) if name.startswith("boosted, no")]
    assert tried == [f"boosted, no checkpointing, {size}" for size in ("8 × 1", "4 × 2", "2 × 4")]


def test_what_the_memory_model_refuses_is_not_tried(played: dict[str, Outcome]) -> None:
    found = look(Limits(600, max_bytes=16 * GIB))
    assert "boosted, no checkpointing, 8 × 1" not in names(found)
    assert all(outcome.estimated_bytes <= 1.2 * 16 * GIB for outcome in found.outcomes)
    assert "Liger, no checkpointing, 8 × 1" not in names(found)


def test_a_crash_and_a_refusal_are_answers(played: dict[str, Outcome]) -> None:
    played["boosted"] = end(End.REFUSED, reason="boost refused: no")
    played["plain"] = end(End.FAILED, reason="ValueError: no")
    found = look(Limits(600))
    assert found.best.end is End.MEASURED
    assert {outcome.end for outcome in found.outcomes} >= {End.REFUSED, End.FAILED, End.MEASURED}


def test_the_backend_stays_unless_any_is_allowed(played: dict[str, Outcome]) -> None:
    assert not any("Unsloth, " in name for name in names(look(Limits(600))))
    unsloth = names(look(Limits(600), use_unsloth=True))
    assert all(name.startswith("Unsloth") for name in unsloth[1:])
    everything = names(look(Limits(600, any_backend=True)))
    assert {"Unsloth, boosted, no checkpointing, 8 × 1", "Liger, 8 × 1"} <= set(everything)


def test_compiled_layers_are_tried_where_the_run_is_long_enough(played: dict[str, Outcome]) -> None:
    assert not any(name.startswith("compiled") for name in names(look(Limits(600))))
    assert any(name.startswith("compiled") for name in names(look(Limits(600), num_train_epochs=30)))


def test_no_trial_begins_that_would_not_end_in_time(played: dict[str, Outcome]) -> None:
    # A trial took 30 s, and no more than 20 are left.
    assert names(look(Limits(20))) == [BASELINE]


def test_a_plan_says_what_would_be_tried_first() -> None:
    found = plan(VALUES, Limits(600, max_bytes=24 * GIB))
    assert found[0][0].name == BASELINE
    assert all(0 < needed <= 1.2 * 24 * GIB for _, needed in found[1:])


@pytest.mark.parametrize(
    ("rows", "steps", "sizes"),
    [(1, 8, [8, 4, 2, 1]), (3, 2, [6, 3, 2, 1]), (None, None, [8, 4, 2, 1]), (1, 1, [1])],
)
def test_every_batch_has_the_configs_own_global_size(rows: Any, steps: Any, sizes: list[int]) -> None:
    batches = list_batches({"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps})
    assert [batch["per_device_train_batch_size"] for batch in batches] == sizes
    assert (
        len({batch["per_device_train_batch_size"] * batch["gradient_accumulation_steps"] for batch in batches}) == 1
    )


def test_without_a_gpu_nothing_for_gpus_is_tried() -> None:
    ways = list_ways(VALUES, has_gpu=False, any_backend=True, compiles=True)
    assert not any("Liger" in way.name or "Unsloth" in way.name or way.compiles for way in ways)


@pytest.mark.parametrize(
    ("rows", "cores", "workers"),
    [(300, 16, None), (2_100, 2, None), (10_500, 2, 2), (100_000, 16, 16), (25_000, 4, 4)],
)
def test_preprocessing_workers_follow_the_sets_size(rows: int, cores: int, workers: int | None) -> None:
    assert choose_preprocessing_workers(rows, cores) == workers


CONFIG = """\
# yaml-language-server: $schema=../x.json
# Mine
model_name_or_path: Qwen/Qwen3-4B  # a note
use_unsloth_gc: true  # to go
per_device_train_batch_size: 1
list:
  - 1

gradient_accumulation_steps: 8  # eight
"""


@pytest.mark.parametrize(
    "text", [CONFIG, CONFIG.rstrip("\n"), "{per_device_train_batch_size: 1, use_unsloth_gc: true}\n"]
)
def test_the_users_own_lines_stay_and_the_winning_keys_are_explained(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    changes = {"per_device_train_batch_size": 8, "use_unsloth_gc": None, "enable_liger_kernel": True}
    tuned = write_tuned_text(tmp_path / "c.yaml", changes, dict.fromkeys(changes, "why"), ["twice as fast"])
    before = parse_document(text, "c.yaml").values
    wanted = {**before, **changes}
    del wanted["use_unsloth_gc"]
    assert parse_document(tuned, "tuned").values == wanted
    assert "# Tuned: twice as fast\n" in tuned
    if text.startswith("#"):
        assert tuned.startswith("# yaml-language-server")
        for line in (
            "model_name_or_path: Qwen/Qwen3-4B  # a note",
            "per_device_train_batch_size: 8  # why",
            "  - 1",
        ):
            assert f"{line}\n" in tuned
        # Tuned again, the old heading goes.
        (tmp_path / "c.yaml").write_text(tuned, encoding="utf-8")
        again = write_tuned_text(tmp_path / "c.yaml", {}, {}, ["anew"])
        assert again.count("# Tuned: ") == 1


def test_the_result_tells_the_time_before_and_now(played: dict[str, Outcome]) -> None:
    played["boosted, no"] = end(End.MEASURED, 500.0)
    found = look(Limits(600))
    head = describe_head(found, Path("c.tuned.yaml"))
    assert head[0] == "500 real tokens/s instead of 100: 2 h 14 min instead of 11 h 7 min"
    assert head[-1] == "lfc launch train c.tuned.yaml --boost"
    changes, comments = describe_changes(found, cores=2)
    assert changes == {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert comments["per_device_train_batch_size"] == "5.0 times as fast with it all; was 1"


@pytest.mark.parametrize("size", [1, 2, 8])
def test_where_no_order_is_known_the_longest_rows_come_first_and_then_all_lengths_alike(size: int) -> None:
    lengths = [10 + (37 * number) % 500 for number in range(700)]
    places = trial_program.order_rows(lengths, size, 40)
    assert len(places) == 40 * size
    assert [lengths[place] for place in places[: 2 * size]] == sorted(lengths, reverse=True)[: 2 * size]
    others = [lengths[place] for place in places[2 * size :]]
    assert sum(others) / len(others) == pytest.approx(sum(lengths) / len(lengths), rel=0.05)
    # The same rows whatever the batch: it depends on the global size alone.
    assert places == trial_program.order_rows(lengths, size, 40)


def test_the_first_steps_are_the_largest_of_the_trainings_own_order() -> None:
    import torch

    lengths = [10 + (37 * number) % 500 for number in range(700)]
    training = SimpleNamespace(seed=7, data_seed=None, num_train_epochs=1.5)
    orders = list(trial_program.list_orders(len(lengths), 8, 0, training))
    assert [order[:3] for order in orders] == [
        torch.randperm(700, generator=torch.Generator().manual_seed(7 + epoch)).tolist()[:3] for epoch in (0, 1)
    ]
    large = trial_program.find_largest(lengths, 8, orders)
    batches = [order[start : start + 8] for order in orders for start in range(0, 696, 8)]
    assert large[:8] in batches
    assert sum(lengths[place] for place in large[:8]) == max(sum(lengths[p] for p in batch) for batch in batches)
    assert max(lengths) in [lengths[place] for place in large[8:]]
    assert trial_program.order_rows(lengths, 8, 40, large)[:16] == large
    assert len(list(trial_program.list_orders(700, 8, 100, training))) == 2


def test_a_set_smaller_than_a_trial_is_gone_through_again() -> None:
    assert sorted(set(trial_program.order_rows([5, 6, 7], 4, 10))) == [0, 1, 2]


@pytest.mark.stack
def test_real_trials_measure_crash_and_run_out_of_memory(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("--full")
    write_data(tmp_path)
    write_models(tmp_path, set())
    values = {
        **BASE, "dataset_dir": str(tmp_path), "model_name_or_path": str(tmp_path / "qwen3"), "output_dir": "unused",
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4,
    }  # fmt: skip
    bench = Bench(find_llamafactory_cli(), tmp_path / "tune", steps=12, seconds=0.5)
    stops = Stops(0.0, float("inf"))
    plain = measure(Candidate("plain"), values, bench, 0, stops)
    assert (plain.end, plain.reason) == (End.MEASURED, "")
    assert plain.rows is not None
    assert plain.tokens_per_s > 0
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    boosted = measure(Candidate("boosted", batch, boost="off"), values, bench, 1, stops)
    assert boosted.end is End.MEASURED
    shared = len(dict(boosted.losses).keys() & dict(plain.losses).keys())
    assert shared > 5
    found = Search((plain, boosted), {**values, "bf16": False}, 0, 0)
    assert found.differ(boosted) < 1e-4
    crashed = measure(Candidate("crash", {"lora_target": "no_such_layer"}), values, bench, 2, stops)
    assert crashed.end is End.FAILED
    assert "no_such_layer" in crashed.reason
    large = {"per_device_train_batch_size": 2_048, "gradient_accumulation_steps": 1}
    small = measure(Candidate("small", large), values, replace(bench, max_bytes=400 << 20), 3, stops)
    assert small.end is End.OUT_OF_MEMORY
    late = measure(Candidate("late"), values, bench, 4, Stops(0.0, 0.0))
    assert late.end is End.NO_TIME
    assert not list(bench.folder.glob("*/out"))
    assert json.loads((bench.folder / "01" / "boost.json").read_text(encoding="utf-8"))["active"] is True
