"""A training's figures, read from what its run folder and its trainer's log hold."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launch.results.speed import NO_SPEED, read_speed
from launch.runs.folder import read_run
from tests.support.run_folders import write_run

VALUES: dict[str, Any] = {
    "model_name_or_path": "Qwen/Qwen3-4B", "stage": "sft", "do_train": True, "finetuning_type": "lora",
    "output_dir": "saves/a", "include_num_input_tokens_seen": "non_padding",
}  # fmt: skip
ENTRIES: list[dict[str, Any]] = [
    {"current_steps": 1, "throughput": 9_000.0, "vram_reserved": 40.0},
    {"current_steps": 2, "throughput": 18_000.0, "vram_reserved": 45.0},
    {"current_steps": 2},
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(cards: Any = None, visible: str | None = None, **changes: Any) -> Any:
    path = write_run(Path("runs/a"), {**VALUES, **changes}, [2.0])
    plan = json.loads((path / "run.json").read_text(encoding="utf-8"))
    plan |= {"cards": cards, "env": {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}}
    (path / "run.json").write_text(json.dumps(plan), encoding="utf-8")
    return read_run(path)


def test_a_cards_share_of_its_peak_follows_the_formula(work: Path) -> None:
    run = make_run(["NVIDIA H100 80GB HBM3"])
    speed = read_speed(run, ENTRIES)
    assert (speed.tokens_per_s, speed.counts_padding, speed.peak_gib) == (18_000.0, False, 45.0)
    # 4.02 billion weights with the head, tied to the embeddings: 4 operations for each and a token.
    assert speed.peak_share == pytest.approx(18_000 * 4 * 4.02e9 / 989e12, rel=0.01)
    assert speed.gpu_hours == pytest.approx(run.seconds / 3600, abs=1e-4)
    assert dict(speed.list_figures())["real tokens/s"] == "18,000"


@pytest.mark.parametrize(("visible", "cards"), [("0,1", 2), ("3", 1), (None, 2)])
def test_gpu_hours_count_every_card_that_the_run_had(work: Path, visible: str | None, cards: int) -> None:
    run = make_run(["NVIDIA H100 80GB HBM3"] * 2, visible)
    assert read_speed(run, ENTRIES).gpu_hours == pytest.approx(cards * run.seconds / 3600, abs=1e-4)


@pytest.mark.parametrize("counted", [True, "all", None])
def test_tokens_with_padding_are_called_that_and_have_no_share(work: Path, counted: Any) -> None:
    speed = read_speed(make_run(["NVIDIA H100"], include_num_input_tokens_seen=counted), ENTRIES)
    assert speed.counts_padding
    assert speed.peak_share is None
    assert next(name for name, _ in speed.list_figures()) == "tokens/s with padding"


def test_the_way_to_the_first_step_is_from_the_process_to_the_first_batch(work: Path) -> None:
    run = make_run()
    started = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    run.folder.process.write_text(json.dumps({"started_at": started.isoformat()}), encoding="utf-8")
    began = (started + timedelta(seconds=42)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    run.folder.log.write_text(
        f"[INFO|trainer.py:9] {began},123 >> ***** Running training *****\n", encoding="utf-8"
    )
    assert read_speed(run, []).first_step_s == 42
    assert dict(read_speed(run, []).list_figures()) == {"to the first step": "42 s"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "trainable params: 32,768 || all params: 1,354,752 || trainable%: 2.4187",
            ("trained of 1,354,752 weights", "32,768 (2.42%)"),
        ),
        (
            "trainable params: 596,049,920 || all params: 596,049,920 || x",
            ("trained of 596,049,920 weights", "596,049,920 (100.00%)"),
        ),
        ("trainable params: 9 || all params: 3 || trainable%: 300", None),
        ("trainable params: ,,, || all params: , || trainable%: 300", None),
    ],
)
def test_the_trained_weights_are_those_of_the_log(work: Path, line: str, told: tuple[str, str] | None) -> None:
    run = make_run()
    run.folder.log.write_text(f"[INFO|2026] llamafactory.model.loader:144 >> {line}\n", encoding="utf-8")
    assert read_speed(run, []).list_figures() == ([told] if told else [])


@pytest.mark.parametrize("note", ["{", "[]", '{"started_at": 7}', '{"started_at": "yesterday"}'])
def test_what_the_logs_do_not_tell_is_left_out(work: Path, note: str) -> None:
    run = make_run("no list", model_name_or_path="someone/unknown")
    run.folder.process.write_text(note, encoding="utf-8")
    assert read_speed(run, [{"throughput": "fast", "vram_reserved": None}]) == NO_SPEED
