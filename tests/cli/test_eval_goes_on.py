"""An evaluation is checked whole before its first row, and goes on where it broke off; LLaMA-Factory is played."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
# Answers as LLaMA-Factory does; notes each start; ends with 7 on the side that the file `break` names.
PROGRAM = """\
import json, pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
side = pathlib.Path(config["output_dir"]).parent.name
with open("started", "a") as stream:
    stream.write(side + "\\n")
if pathlib.Path("break").is_file() and pathlib.Path("break").read_text() == side:
    sys.exit(7)
out = pathlib.Path(config["output_dir"])
out.mkdir(parents=True)
row = {"prompt": "p", "predict": "the answer of " + side, "label": "the answer"}
(out / "generated_predictions.jsonl").write_text((json.dumps(row) + "\\n") * 3, encoding="utf-8")
(out / "predict_results.json").write_text("{}", encoding="utf-8")
"""
TRAINING: dict[str, Any] = {
    "model_name_or_path": "someone/model",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "dataset": "train",
    "dataset_dir": "data",
    "template": "qwen3",
    "bf16": False,
    "output_dir": "saves/a",
    "report_to": "none",
}
ROW = '{"instruction": "q", "input": "", "output": "a"}\n'


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rouge_chinese")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LFC_PLAIN_EVAL", "1")
    Path("llamafactory-cli").write_text(f"#!{sys.executable}\n{PROGRAM}", encoding="utf-8")
    Path("llamafactory-cli").chmod(0o755)
    Path("data").mkdir()
    Path("data/train.jsonl").write_text(ROW * 2, encoding="utf-8")
    Path("data/test.jsonl").write_text(ROW * 3, encoding="utf-8")
    Path("data/blank.jsonl").write_text("\n", encoding="utf-8")
    entries: dict[str, Any] = {name: {"file_name": f"{name}.jsonl"} for name in ("train", "test", "blank", "gone")}
    entries["copy"] = {"file_name": "copy.jsonl"}
    entries["again"] = {"file_name": "./train.jsonl"}
    entries["pairs"] = {"file_name": "test.jsonl", "ranking": True}
    entries["kto"] = {"file_name": "test.jsonl", "columns": {"kto_tag": "label"}}
    Path("data/copy.jsonl").write_text(ROW * 2, encoding="utf-8")
    Path("data/dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    Path("saves/a").mkdir(parents=True)
    Path("saves/a/adapter_config.json").write_text("{}", encoding="utf-8")
    Path("saves/a/adapter_model.bin").write_bytes(b"weights")
    write_config()


def write_config(**changes: Any) -> None:
    Path("c.yaml").write_text(json.dumps({**TRAINING, **changes}), encoding="utf-8")


def evaluate(*options: str, dataset: str = "test") -> Result:
    words = ["launch", "eval", "c.yaml", "--eval-dataset", dataset, *options]
    return CliRunner().invoke(lfc, [*words, "--llamafactory-cli", "./llamafactory-cli", "--plain"])


def started() -> list[str]:
    return Path("started").read_text(encoding="utf-8").split() if Path("started").is_file() else []


def break_off(side: str) -> None:
    Path("break").write_text(side, encoding="utf-8")
    assert evaluate().exit_code == 7
    Path("break").unlink()


def test_what_has_answered_is_not_asked_again() -> None:
    break_off("adapter")
    result = evaluate()
    assert result.exit_code == 0, result.output
    assert started() == ["base", "adapter", "adapter"]
    assert "Note: base has answered already, under the same config from the same rows" in result.stderr
    assert (
        "Note: adapter answers again: it failed; what stood there is now runs/c-eval/adapter.old-1" in result.stderr
    )
    assert Path("runs/c-eval/comparison.json").is_file()


def test_a_whole_evaluation_is_scored_again_without_a_row_being_asked() -> None:
    assert evaluate().exit_code == 0
    assert evaluate().exit_code == 0
    assert started() == ["base", "adapter"]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("config", "had another config: max_new_tokens"),
        ("rows", "had other rows"),
        ("weights", "had other weights"),
    ],
)
def test_a_side_that_is_another_by_now_answers_again(what: str, reason: str) -> None:
    break_off("adapter")
    options = ()
    if what == "config":
        options = ("max_new_tokens=5",)  # type: ignore[assignment]
    elif what == "rows":
        Path("data/test.jsonl").write_text(ROW * 4, encoding="utf-8")
    else:
        plan = json.loads(Path("runs/c-eval/evaluation.json").read_text(encoding="utf-8"))
        plan["sides"]["base"]["models"] = {"someone/model": {"config.json": "0"}}
        Path("runs/c-eval/evaluation.json").write_text(json.dumps(plan), encoding="utf-8")
    result = evaluate(*options)
    assert result.exit_code == 0, result.output
    assert f"Note: base answers again: it {reason}; what stood there is now runs/c-eval/base.old-1" in result.stderr
    assert started() == ["base", "adapter", "base", "adapter"]
    assert Path("runs/c-eval/base.old-1/predictions/generated_predictions.jsonl").is_file()


def test_an_evaluation_of_something_else_is_numbered_as_trainings_are() -> None:
    assert evaluate().exit_code == 0
    before = Path("runs/c-eval/comparison.json").read_bytes()
    Path("saves/a/adapter_model.bin").write_bytes(b"other weights")
    dry = evaluate("--dry-run")
    assert "runs/c-eval.2/adapter/config.yaml" in dry.stdout
    result = evaluate()
    assert result.exit_code == 0, result.output
    assert (
        "Note: runs/c-eval holds a finished evaluation of something else: adapter had other weights; this one has the "
        "next number" in result.stderr
    )
    assert Path("runs/c-eval.2/comparison.json").is_file()
    assert Path("runs/c-eval/comparison.json").read_bytes() == before
    again = started()
    assert evaluate().exit_code == 0
    assert started() == again, "its answers were taken"
    assert evaluate("max_new_tokens=5").exit_code == 0
    assert Path("runs/c-eval.3/comparison.json").is_file()


def test_a_finished_evaluation_of_something_else_under_the_name_that_was_given_is_left_alone() -> None:
    assert evaluate("--name", "c-eval").exit_code == 0
    before = Path("runs/c-eval/comparison.json").read_bytes()
    Path("saves/a/adapter_model.bin").write_bytes(b"other weights")
    for options in ((), ("--dry-run",)):
        result = evaluate("--name", "c-eval", *options)
        assert result.exit_code == 1
        message = "Error: runs/c-eval holds a finished evaluation of something else: adapter had other weights"
        assert result.stderr.endswith(f"{message}\n  Try: --name ANOTHER_NAME\n")
    assert started() == ["base", "adapter"]
    assert Path("runs/c-eval/comparison.json").read_bytes() == before


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("nope", "'nope'"),
        ("gone", "gone.jsonl"),
        ("blank", "dataset 'blank' has no rows to answer"),
        ("train", "c was trained on 'train', whose rows are those of 'train': nothing is held out"),
        ("again", "c was trained on 'train', whose rows are those of 'again': nothing is held out"),
        ("copy", "c was trained on 'train', whose rows are those of 'copy': nothing is held out"),
        ("test,train", "c was trained on 'train', whose rows are those of 'train': nothing is held out"),
        ("pairs", "dataset 'pairs' holds preference pairs"),
        ("kto", "dataset 'kto' holds good and bad answers (kto_tag)"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--no-check",)])
def test_rows_that_cannot_be_compared_are_refused_before_the_base_answers(
    dataset: str, message: str, options: tuple[str, ...]
) -> None:
    result = evaluate(*options, dataset=dataset)
    assert result.exit_code == 1
    assert message in result.stderr
    assert started() == []
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_dir": "saves/none"}, "saves/none holds no adapter_config.json: nothing was trained there"),
        ({"finetuning_type": "full"}, "saves/a holds no config.json: nothing was trained there"),
        ({"adapter_name_or_path": "saves/first/x", "create_new_adapter": True}, "saves/first/x does not exist"),
        ({"template": "qwen33"}, "`template` is qwen33"),
        ({"model_name_or_path": "./models/none"}, "./models/none does not exist"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_side_that_cannot_answer_is_refused_before_the_base_answers(
    changes: dict[str, Any], message: str, options: tuple[str, ...]
) -> None:
    write_config(**changes)
    result = evaluate(*options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "cannot answer as it stands; nothing was started" in result.stderr
    assert started() == []


def test_a_reward_model_is_told_to_have_no_answers() -> None:
    write_config(stage="rm")
    result = evaluate("--no-check")
    assert result.exit_code == 1
    assert "c.yaml is of stage rm: a reward model scores answers and writes none" in result.stderr


def test_a_dry_run_shows_each_side_and_starts_nothing() -> None:
    write_config(hf_hub_token="hf_abcdefghijkl")
    result = evaluate("--dry-run")
    assert result.exit_code == 0, result.output
    assert "adapter_name_or_path: saves/a" in result.stdout
    assert result.stdout.count("llamafactory-cli train runs/c-eval/") == 2
    assert "hf_abcdefghijkl" not in result.output
    assert started() == []
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "-x", "a\nb", ".."])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    result = evaluate(f"--name={name}")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --name ")
    assert started() == []


def test_an_evaluation_is_never_put_into_a_run() -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/run.json").write_text("{}", encoding="utf-8")
    result = evaluate("--name", "mine")
    assert result.stderr.endswith("Error: runs/mine is a run, and no evaluation\n  Try: --name ANOTHER_NAME\n")
    assert started() == []
