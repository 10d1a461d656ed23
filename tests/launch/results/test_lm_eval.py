"""What lm-evaluation-harness is told, and what is read of what it found."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from launch.machine.command import build_harness_command
from launch.results.lm_eval import TaskScore, plan_task_runs, read_task_scores
from prep.errors import InputError

TRAINING: dict[str, Any] = {
    "model_name_or_path": "models/m, a",
    "finetuning_type": "lora",
    "enable_thinking": None,
    "bf16": True,
    "template": "qwen3",
    "output_dir": "saves/a",
}


def test_base_and_adapter_are_asked_alike() -> None:
    overrides = {"num_fewshot": 5, "limit": 10}
    base, adapter = plan_task_runs(
        TRAINING, {"adapter": "saves/a"}, ["mmlu", "ceval-valid"], Path("runs/t"), overrides
    )
    assert base.config == {
        "model": "hf",
        "model_args": {"pretrained": "models/m, a", "dtype": "bfloat16"},
        "tasks": ["mmlu", "ceval-valid"],
        "batch_size": 8,
        "output_path": "runs/t/base/results",
        "num_fewshot": 5,
        "limit": 10,
    }
    assert adapter.config == {
        **base.config,
        "model_args": {**base.config["model_args"], "peft": "saves/a"},
        "output_path": "runs/t/adapter/results",
    }


def test_a_full_fine_tune_is_asked_as_a_model_and_thinking_is_passed_on() -> None:
    training = {**TRAINING, "finetuning_type": "full", "enable_thinking": False, "bf16": False}
    _, trained = plan_task_runs(training, {"adapter": "saves/a"}, ["mmlu"], Path("r"), {})
    assert trained.config["model_args"] == {"pretrained": "saves/a", "enable_thinking": False, "dtype": "auto"}


def test_a_training_that_went_on_from_an_adapter_has_the_bare_model_as_base() -> None:
    training = {**TRAINING, "adapter_name_or_path": "saves/first"}
    base, trained = plan_task_runs(training, {"adapter": "saves/a"}, ["mmlu"], Path("r"), {})
    assert "peft" not in base.config["model_args"]
    assert trained.config["model_args"]["peft"] == "saves/a"


def test_the_command_is_the_harness_with_a_yaml() -> None:
    command = build_harness_command(Path("/env/bin/lm_eval"), Path("runs/t/base/config.yaml"), {"PATH": "/bin"})
    assert command.argv == ("/env/bin/lm_eval", "run", "--config", "runs/t/base/config.yaml")
    assert command.env["PATH"] == os.pathsep.join(["/env/bin", "/bin"])
    assert command.env["PYTHONUTF8"] == "1"


def test_every_metric_of_the_newest_results_is_read(tmp_path: Path) -> None:
    old = {"results": {"toy": {"acc,none": 0.1}}}
    new = {
        "results": {
            "toy": {
                "alias": "toy",
                "sample_len": 4,
                "acc,none": 0.75,
                "acc_stderr,none": 0.25,
                "exact_match,strict": 1,
                "exact_match_stderr,strict": "N/A",
            }
        }
    }
    for number, content in enumerate((old, new)):
        path = tmp_path / "model" / f"results_{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        os.utime(path, (number, number))
    assert read_task_scores(tmp_path) == [
        TaskScore("toy", "acc", 0.75, 0.25),
        TaskScore("toy", "exact_match (strict)", 1.0, None),
    ]


def test_results_that_are_not_there_or_broken_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results of lm-evaluation-harness"):
        read_task_scores(tmp_path)
    (tmp_path / "results_1.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"results_1\.json holds no results"):
        read_task_scores(tmp_path)


def test_without_the_harness_the_line_that_installs_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model_name_or_path: m\nfinetuning_type: lora\noutput_dir: saves/a\n", encoding="utf-8")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(lfc, ["launch", "eval", str(config), "--tasks", "mmlu"])
    assert result.exit_code == 1
    assert "lm-evaluation-harness, which is not installed here" in result.output
    assert "Try: pip install 'llamafactory-companion[harness]'" in result.output
