"""Each action takes the configs that are made for it, and no others; an export writes over nothing."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.configs.actions import Purpose, refuse_other_purpose, tell_purpose
from launch.configs.config import check_values, read_config
from launch.configs.rules import Machine
from prep.errors import ConfigError

MODEL: dict[str, Any] = {"model_name_or_path": "m", "template": "qwen3"}
TRAINS: dict[str, Any] = {**MODEL, "finetuning_type": "lora", "do_train": True, "output_dir": "saves/m/a"}
CONFIGS: dict[str, dict[str, Any]] = {
    "sft": {**TRAINS, "stage": "sft", "dataset": "d"},
    "dpo": {**TRAINS, "stage": "dpo", "dataset": "d"},
    "kto": {**TRAINS, "stage": "kto", "dataset": "d"},
    "pt": {**TRAINS, "stage": "pt", "dataset": "d"},
    "ppo": {**TRAINS, "stage": "ppo", "dataset": "d"},
    "rm": {**TRAINS, "stage": "rm", "dataset": "d"},
    "trains and predicts": {**TRAINS, "do_predict": True, "predict_with_generate": True, "eval_dataset": "d"},
    "a text for true": {**TRAINS, "do_train": "false", "do_predict": True},
    "predict": {**MODEL, "do_predict": True, "predict_with_generate": True, "eval_dataset": "d", "output_dir": "p"},
    "loss alone": {**MODEL, "do_eval": True, "eval_dataset": "d", "output_dir": "p"},
    "idle": {**MODEL, "output_dir": "saves/m/a"},
    "infer": {**MODEL, "temperature": 0.6},
    "export": {**MODEL, "export_dir": "models/merged"},
    "export without its folder": {**MODEL, "export_size": 2},
    "export to null": {**MODEL, "export_dir": None},
    "sweep": {"config": "a.yaml", "grid": {"learning_rate": [1, 2]}},
    "recipe": {"sources": {"a": {"sample": "s"}}, "name": "r"},
    "page": {"top.model_name": "Custom", "train.dataset": ["d"]},
    "tasks": {"model": "hf", "model_args": {"pretrained": "m"}, "tasks": ["mmlu"]},
}
TRAINED = {"sft", "dpo", "kto", "pt", "ppo"}
TAKEN = {
    "train": TRAINED | {"rm", "trains and predicts", "a text for true", "loss alone"},
    "predict": {"predict"},
    "export": {"export"},
    "chat": {"infer"},
    "api": {"infer"},
    "eval": TRAINED | {"trains and predicts", "a text for true", "idle"},
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("action", TAKEN)
def test_each_action_takes_only_what_it_needs(action: str, name: str) -> None:
    path = Path("configs/it.yaml")
    if name in TAKEN[action]:
        refuse_other_purpose(action, path, CONFIGS[name])
        return
    with pytest.raises(ConfigError) as caught:
        refuse_other_purpose(action, path, CONFIGS[name])
    assert str(caught.value).startswith("configs/it.yaml ")
    assert caught.value.hint


def test_what_lies_beside_a_model_is_told_by_its_keys() -> None:
    assert [tell_purpose(CONFIGS[name]) for name in ("sweep", "recipe", "page", "tasks", "idle")] == [
        Purpose.SWEEP,
        Purpose.RECIPE,
        Purpose.PAGE,
        Purpose.TASKS,
        Purpose.IDLE,
    ]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llamafactory-cli that notes that it was started, beside a config of each kind."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nopen('ran', 'w')\n", encoding="utf-8")
    path.chmod(0o755)
    for name, values in CONFIGS.items():
        Path(f"{name}.yaml").write_text(json.dumps(values), encoding="utf-8")
    return path


def launch(program: Path, action: str, *words: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", action, *words, "--llamafactory-cli", str(program)])


@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
@pytest.mark.parametrize("options", [(), ("--no-check",), ("--dry-run",), ("--dry-run", "--no-check")])
@pytest.mark.parametrize("action", ["predict", "export", "chat", "api"])
def test_a_training_config_never_trains_under_another_name(
    action: str, options: tuple[str, ...], program: Path
) -> None:
    result = launch(program, action, "sft.yaml", "eval_dataset=d", "do_predict=true", *options)
    assert result.exit_code == 1, result.output
    assert f"Error: sft.yaml is a training config, and {action} takes" in result.stderr
    assert "  Try: lfc launch config new " in result.stderr
    assert not Path("ran").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("action", ["predict", "export", "chat", "api"])
def test_the_command_that_is_named_makes_the_right_config(action: str, program: Path) -> None:
    Path("data").mkdir()
    Path("data/d.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n', encoding="utf-8")
    Path("data/dataset_info.json").write_text('{"d": {"file_name": "d.jsonl"}}', encoding="utf-8")
    hint = launch(program, action, "sft.yaml", "eval_dataset=d").stderr.partition("  Try: ")[2].strip()
    made = CliRunner().invoke(lfc, shlex.split(hint)[1:])
    assert made.exit_code == 0, made.output
    path = Path(shlex.split(hint)[-1])
    refuse_other_purpose(action, path, read_config(path))
    assert read_config(path)["adapter_name_or_path"] == "saves/m/a"


def lay_out(folder: Path) -> None:
    """Write a base model, an adapter, a full fine-tune's output, an earlier export, and a folder of the user's."""
    for name, files in {
        "models/base": ("config.json", "model.safetensors"),
        "saves/lora": ("adapter_config.json",),
        "saves/full": ("config.json", "trainer_state.json"),
        "saves/cut short": ("trainer_log.jsonl",),
        "models/merged": ("config.json", "Modelfile"),
        "papers": ("thesis.txt",),
        "empty": (),
    }.items():
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / name / file).write_text("{}", encoding="utf-8")
    (folder / "notes.txt").write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("models/base", "is the folder of the model itself, which would be written over"),
        ("models/../models/base/", "is the folder of the model itself, which would be written over"),
        ("./models//base", "is the folder of the model itself, which would be written over"),
        ("{cwd}/models/base", "is the folder of the model itself, which would be written over"),
        ("link", "is the folder of the model itself, which would be written over"),
        ("above/base", "is the folder of the model itself, which would be written over"),
        ("saves/lora", "is the folder of its adapter, which would be written over"),
        ("saves/lora/.", "is the folder of its adapter, which would be written over"),
        ("saves/full", "holds what a training made"),
        ("saves/cut short", "holds what a training made"),
        ("papers", "is not empty, and no export made what is in it"),
        (".", "is not empty, and no export made what is in it"),
        ("notes.txt", "is a file"),
        ("loop", "is a file"),
        ("models/merged", "holds an earlier export, which is written over"),
        ("empty", ""),
        ("models/new", ""),
    ],
)
def test_an_export_writes_over_nothing_that_it_did_not_make(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    Path("link").symlink_to("models/base")
    Path("above").symlink_to("models")
    Path("loop").symlink_to("loop")
    values = {**MODEL, "model_name_or_path": "models/base", "adapter_name_or_path": "saves/lora"}
    values["export_dir"] = target.format(cwd=tmp_path)
    faults = [fault for fault in check_values(values, "infer", Machine()) if fault.key == "export_dir"]
    assert [fault.message.endswith(message) for fault in faults] == ([True] if message else [])
    assert [fault.is_error for fault in faults] == ([target != "models/merged"] if message else [])


@pytest.mark.parametrize(
    ("host", "key", "warns"),
    [
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("192.168.1.20", "", True),
        ("0.0.0.0", "sesame", False),
        ("127.0.0.1", "", False),
        ("127.0.0.9", "", False),
        ("localhost", "", False),
        ("::1", "", False),
    ],
)
def test_an_api_that_others_can_reach_without_a_key_warns(
    host: str, key: str, warns: bool, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.machine.network.choose_port", lambda host, port: port)
    monkeypatch.setenv("API_KEY", key)
    result = launch(program, "api", "infer.yaml", "--host", host, "--dry-run", "--no-check")
    assert result.exit_code == 0, result.output
    assert (f"Warning: --host {host} without API_KEY" in result.stderr) is warns
