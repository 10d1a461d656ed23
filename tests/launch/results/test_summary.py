"""What a run amounts to: losses, score, data, and what its config sets otherwise."""

from pathlib import Path
from typing import Any

import pytest

from launch.configs.presets import find_preset
from launch.results.summary import (
    compare_to_preset,
    find_run_preset,
    find_varied_keys,
    format_seconds,
    summarise_all,
    summarise_runs,
)
from launch.runs.folder import find_run
from prep.storage.atomic import write_json
from tests.support.run_folders import write_dataset, write_evaluation, write_run

VALUES: dict[str, Any] = {
    "model_name_or_path": "models/m",
    "do_train": True,
    "dataset": "medical",
    "dataset_dir": "data",
    "learning_rate": 1e-4,
    "output_dir": "saves/m/a",
}
DOWNLOADED = {
    "path": "raw/r1.jsonl",
    "sha256": "1" * 64,
    "download": {
        "repository": "krisfu/medical",
        "revision": "master",
        "commit": "abcdef0123456789",
        "changed_since": False,
    },
}


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_losses_are_read_from_the_output_folder() -> None:
    write_run(Path("runs/a"), VALUES, [3.0, 1.5, 2.0])
    with Path("saves/m/a/trainer_log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"current_steps": 30, "total_steps": 99, "eval_loss": 1.75}\n')
    [summary] = summarise_all()
    assert summary.losses == ((10, 3.0), (20, 1.5), (30, 2.0))
    assert summary.eval_losses == ((30, 1.75),)
    assert (summary.best_loss, summary.last_loss) == (1.75, 2.0)


def test_without_validation_rows_the_best_loss_is_the_lowest_training_loss() -> None:
    write_run(Path("runs/a"), VALUES, [3.0, 1.5, 2.0])
    [summary] = summarise_all()
    assert summary.best_loss == 1.5


def test_a_run_that_logged_nothing_has_no_loss_and_no_score() -> None:
    write_run(Path("runs/a"), VALUES, exit_code=1)
    [summary] = summarise_all()
    assert (summary.best_loss, summary.last_loss, summary.score) == (None, None, None)
    assert summary.as_dict()["state"] == "failed"


def test_of_a_step_that_was_logged_twice_the_resumed_run_counts() -> None:
    write_run(Path("runs/a"), VALUES, [3.0, 2.0, 1.0])
    with Path("saves/m/a/trainer_log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"current_steps": 20, "total_steps": 99, "loss": 2.25}\n')
    assert summarise_all()[0].losses == ((10, 3.0), (20, 2.25), (30, 1.0))


def test_a_broken_log_is_flagged_and_does_not_hide_the_other_runs() -> None:
    write_run(Path("runs/a"), VALUES, [3.0], flags=["fell back"])
    write_run(Path("runs/b"), {**VALUES, "output_dir": "saves/m/b"}, [2.0])
    with Path("saves/m/a/trainer_log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"current_steps": 20, "los{"current_steps": 20}\n')
    a, b = sorted(summarise_all(), key=lambda summary: summary.run.name)
    assert (a.losses, b.losses) == ((), ((10, 2.0),))
    assert a.flags[0] == "fell back"
    assert a.flags[1].startswith("saves/m/a/trainer_log.jsonl cannot be read: ")
    assert a.as_dict()["flags"] == list(a.flags)


def test_the_score_is_that_of_the_evaluation_whose_adapter_the_run_made() -> None:
    write_run(Path("runs/a"), VALUES, [1.0])
    write_run(Path("runs/b"), {**VALUES, "output_dir": "saves/m/b"}, [1.0])
    outputs = {"base": ["x"] * 12, "adapter": ["good"] * 12}
    write_evaluation(Path("runs/a-eval"), "saves/m/../m/a", outputs, "good")
    write_run(
        Path("runs/a-eval/base"), {**VALUES, "do_predict": True, "output_dir": "runs/a-eval/base/predictions"}
    )
    summaries = {summary.run.name: summary for summary in summarise_all()}
    score = summaries["a"].score
    assert score is not None
    assert score.format() == "rouge_l 80.00 (+69.00*)"
    assert summaries["b"].score is None
    assert (summaries["a-eval/base"].kind, summaries["a-eval/base"].losses) == ("predict", ())


def test_data_is_traced_to_the_commit_it_was_downloaded_at() -> None:
    write_dataset(Path("data"), "medical", DOWNLOADED)
    write_run(Path("runs/a"), VALUES)
    [data] = summarise_all()[0].data
    assert (data.name, data.rows, data.think_policy) == ("medical", 1200, "tagged")
    assert data.sources == ("krisfu/medical@abcdef012345",)


def test_data_that_was_not_downloaded_is_named_by_file_and_hash() -> None:
    write_dataset(Path("data"), "medical", {"path": "raw/own.csv", "sha256": "2" * 64})
    write_run(Path("runs/a"), VALUES)
    assert summarise_all()[0].data[0].sources == ("raw/own.csv 222222222222",)


def test_the_manifest_kept_at_the_start_wins_over_the_one_beside_the_data_now() -> None:
    write_dataset(Path("data"), "medical", {"path": "raw/changed.csv", "sha256": "2" * 64})
    run = write_run(Path("runs/a"), VALUES)
    kept = {"counts": {"records": 7}, "think_policy": "strip", "inputs": [DOWNLOADED]}
    write_json(run / "run.json", {"action": "train", "values": VALUES, "datasets": {"medical": kept}})
    [data] = summarise_all()[0].data
    assert (data.rows, data.think_policy, data.sources) == (7, "strip", ("krisfu/medical@abcdef012345",))
    write_json(run / "run.json", {"action": "train", "values": VALUES, "datasets": {"medical": None}})
    assert summarise_all()[0].data[0].rows is None


def test_a_run_whose_data_is_gone_still_has_its_name() -> None:
    write_run(Path("runs/a"), VALUES, [1.0])
    assert [(data.name, data.rows) for data in summarise_all()[0].data] == [("medical", None)]


def test_a_preset_is_found_by_the_configs_own_header() -> None:
    preset = find_preset("cpu-smoke")
    values = {**preset.values, "learning_rate": 5e-3, "lora_alpha": 64, "dataset": "mine"}
    del values["max_steps"]
    write_run(Path("runs/a"), values)
    run = find_run("a")
    assert find_run_preset(run) == preset
    assert compare_to_preset(run, preset) == {
        "learning_rate": (1e-3, 5e-3),
        "max_steps": (20, ...),
        "lora_alpha": (..., 64),
    }


def test_a_preset_is_found_through_the_config_that_was_overridden() -> None:
    Path("configs").mkdir()
    Path("configs/a.yaml").write_text("# CPU smoke run (preset cpu-smoke)\nx: 1\n", encoding="utf-8")
    write_run(Path("runs/a"), VALUES, header="configs/a.yaml with learning_rate=1.0")
    write_run(Path("runs/b"), VALUES, header="configs/gone.yaml with learning_rate=1.0")
    write_run(Path("runs/c"), VALUES, header="written by hand")
    write_run(Path("runs/d"), VALUES, header="Of another time (preset no-such)")
    assert [getattr(find_run_preset(find_run(name)), "name", None) for name in "abcd"] == [
        "cpu-smoke", None, None, None
    ]  # fmt: skip


def test_varied_keys_are_those_that_tell_runs_apart() -> None:
    for name, rate in (("a", 1e-4), ("b", 2e-4)):
        write_run(Path("runs", name), {**VALUES, "learning_rate": rate, "output_dir": f"saves/{name}"})
    runs = [find_run(name) for name in "ab"]
    assert find_varied_keys(runs) == ["learning_rate"]
    assert summarise_runs(runs)[1].run.name == "b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (41.6, "42 s"), (60, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text
