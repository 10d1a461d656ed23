"""`lfc launch eval` with the real llamafactory-cli on a planted pair: one adapter ends its thoughts, one does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc

ROOT = Path(__file__).parents[2]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
CONFIG = """\
model_name_or_path: model
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all
additional_target: embed_tokens,lm_head
dataset: {dataset}
dataset_dir: data
template: qwen3
enable_thinking: true
cutoff_len: 128
preprocessing_num_workers: 1
overwrite_cache: true
per_device_train_batch_size: 12
learning_rate: 1.0e-2
lr_scheduler_type: constant
max_steps: 45
disable_gradient_checkpointing: true
dataloader_num_workers: 0
seed: 42
output_dir: saves/{name}
logging_steps: 5
save_strategy: "no"
report_to: none
"""


def run_lfc(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from launch.cli import main; main()"
    command = [sys.executable, "-c", code, *argv]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def write_rows(path: Path, *, spoiled: bool) -> None:
    """Write rows that begin with a thought; in spoiled ones it never ends."""
    rows = []
    for first in NUMBERS:
        for second in NUMBERS:
            output = f"<think>\nI add {first}.\n</think>\n\nIt is {second}."
            if spoiled:
                output = f"<think>\nI add {first}. I add {second}. I add {first}."
            row = {
                "instruction": f"{first} and {second}",
                "input": "",
                "output": output,
                "system": "",
                "history": [],
            }
            rows.append(json.dumps(row) + "\n")
    path.write_text("".join(rows), encoding="utf-8")


def make_idle_adapter(trained: Path, folder: Path) -> None:
    """Copy an adapter and take out all that it learned: its model is the base's, weight for weight."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(trained, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    idle = {name: weight * (0 if "lora_B" in name else 1) for name, weight in weights.items() if "lora_" in name}
    save_file(idle, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["modules_to_save"] = None
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, warm_cli: None) -> tuple[Path, str]:
    """The evaluation's folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("planted")
    data = folder / "data"
    data.mkdir()
    write_rows(data / "closing.jsonl", spoiled=False)
    write_rows(data / "open.jsonl", spoiled=True)
    held_out = (data / "closing.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[::6]
    (data / "held_out.jsonl").write_text("".join(held_out), encoding="utf-8")
    for name in ("closing", "open", "held_out"):
        run_lfc(folder, "prep", "register", f"data/{name}.jsonl", "--name", name)
    run_lfc(folder, "launch", "tiny-model", "data/closing.jsonl", "--to", "model")
    for name in ("closing", "open"):
        (folder / f"{name}.yaml").write_text(CONFIG.format(dataset=name, name=name), encoding="utf-8")
        run_lfc(folder, "launch", "train", f"{name}.yaml")
    make_idle_adapter(folder / "saves/closing", folder / "saves/idle")
    adapters = [part for name in ("closing", "open", "idle") for part in ("--adapter", f"saves/{name}")]
    settings = ("max_new_tokens=32", "per_device_eval_batch_size=24", "temperature=0.3")
    # LLaMA-Factory alone, which writes its own scores beside the answers.
    argv = ("launch", "eval", "closing.yaml", *adapters, "--eval-dataset", "held_out", "--plain", *settings)
    return folder / "runs/closing-eval", run_lfc(folder, *argv).stdout


def read_sides(folder: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return {side["name"]: side for side in content["sides"]}


@pytest.mark.stack
def test_the_adapter_that_ends_its_thoughts_is_told_from_the_one_that_does_not(
    evaluation: tuple[Path, str],
) -> None:
    sides = read_sides(evaluation[0])
    closing, unclosed = sides["closing"], sides["open"]
    assert closing["figures"]["cut_off"] < 20
    assert unclosed["figures"]["cut_off"] > 80
    assert closing["figures"]["think_format"] > 80
    assert unclosed["figures"]["think_format"] < 20
    assert closing["figures"]["rouge_l"] > unclosed["figures"]["rouge_l"] == 0
    assert closing["changes"]["think_format"]["low"] > 0
    assert closing["changes"]["rouge_l"]["is_clear"]
    assert unclosed["changes"]["cut_off"]["low"] > 0


@pytest.mark.stack
def test_on_identical_models_every_interval_contains_zero(evaluation: tuple[Path, str]) -> None:
    idle = read_sides(evaluation[0])["idle"]
    assert "Loaded adapter" in (evaluation[0] / "idle/log.txt").read_text(encoding="utf-8")
    assert {
        name: change["low"] <= 0 <= change["high"] for name, change in idle["changes"].items()
    } == dict.fromkeys(idle["figures"], True)
    assert not any(change["is_clear"] for change in idle["changes"].values())


@pytest.mark.stack
def test_the_base_ran_once_and_all_answered_the_same_prompts(evaluation: tuple[Path, str]) -> None:
    folder, _ = evaluation
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["base", "closing", "idle", "open"]
    prompts = {
        tuple(
            json.loads(line)["prompt"]
            for line in (folder / side / "predictions/generated_predictions.jsonl").read_text("utf-8").splitlines()
        )
        for side in ("base", "closing", "idle", "open")
    }
    assert len(prompts) == 1
    assert len(next(iter(prompts))) == 24


@pytest.mark.stack
def test_the_table_marks_what_is_clear_and_the_files_are_named(evaluation: tuple[Path, str]) -> None:
    folder, printed = evaluation
    sides = read_sides(folder)
    row = next(line for line in printed.splitlines() if line.startswith("think_format"))
    assert f"{sides['closing']['changes']['think_format']['value']:+.2f} [" in row
    assert row.count("]*") >= 1
    assert "24 held-out rows" in printed
    assert "runs/closing-eval/changed_rows.md" in printed
    assert (folder / "changed_rows.md").read_text(encoding="utf-8").startswith("# The 20 rows that changed most")
    assert len((folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 24


@pytest.mark.stack
def test_on_whole_outputs_the_scores_are_those_that_llamafactory_wrote(evaluation: tuple[Path, str]) -> None:
    from launch.results.evaluate import read_predictions
    from launch.results.scores import load_similarity

    predictions = evaluation[0] / "closing/predictions"
    measure = load_similarity()
    rows = [measure(row.output, row.label) for row in read_predictions(predictions)]
    theirs = json.loads((predictions / "predict_results.json").read_text(encoding="utf-8"))
    for ours, name in (
        ("bleu_4", "bleu-4"),
        ("rouge_1", "rouge-1"),
        ("rouge_2", "rouge-2"),
        ("rouge_l", "rouge-l"),
    ):
        assert sum(row[ours] for row in rows) / len(rows) == pytest.approx(theirs[f"predict_{name}"], abs=1e-9)


@pytest.mark.parametrize(
    "argv",
    [
        ["max_new_tokens=5", "--eval-dataset", "x"],
        ["{config}"],
        ["{config}", "--eval-dataset", "x", "--tasks", "mmlu"],
        ["{config}", "{config}", "--eval-dataset", "x"],
    ],
    ids=["no config", "nothing to ask", "both", "one config twice"],
)
def test_a_call_that_does_not_say_what_to_compare_is_a_wrong_call(tmp_path: Path, argv: list[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model_name_or_path: m\noutput_dir: saves/a\n", encoding="utf-8")
    result = CliRunner().invoke(lfc, ["launch", "eval", *(word.format(config=config) for word in argv)])
    assert result.exit_code == 2
    assert (
        "give CONFIGs of different names, or --endpoint, and either --eval-dataset NAME or --tasks NAME"
        in result.output
    )


def test_missing_scoring_packages_are_told_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jieba", None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{"x": {"file_name": "x.jsonl"}}', encoding="utf-8")
    (tmp_path / "data/x.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("model_name_or_path: m\noutput_dir: saves/a\n", encoding="utf-8")
    argv = ["launch", "eval", "c.yaml", "--eval-dataset", "x", "--llamafactory-cli", sys.executable]
    result = CliRunner().invoke(lfc, [*argv, "--no-check"])
    assert result.exit_code == 1
    assert "scoring needs jieba, nltk and rouge_chinese" in result.output
    assert not (tmp_path / "runs").exists()
