"""What `from launch import …` gives does what the commands do, and prints nothing."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

import launch
from prep.errors import ChildFailedError, ConfigError, OutputError
from tests.support.run_folders import write_evaluation, write_run
from tests.support.token_rows import register_kind

TRAINS = """
import json, pathlib
folder = pathlib.Path(config["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
entry = {"current_steps": 1, "total_steps": 1, "loss": 2.5}
(folder / "trainer_log.jsonl").write_text(json.dumps(entry) + "\\n")
"""


@pytest.fixture
def program(tmp_path: Path, qwen3_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in of llamafactory-cli, in a folder with a model, rows and a config."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport sys, yaml\nconfig = yaml.safe_load(open(sys.argv[2], encoding='utf-8'))\n"
        "if config.get('seed') == 13: sys.exit(5)\n" + TRAINS,
        encoding="utf-8",
    )
    path.chmod(0o755)
    shutil.copytree(qwen3_folder, "model")
    Path("model/config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    # A file of weights that holds none.
    Path("model/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    Path("data").mkdir()
    register_kind(Path("data"), "chat", "alpaca", 12)
    config = {
        **{"stage": "sft", "do_train": True, "model_name_or_path": "model", "dataset": "chat", "template": "qwen3"},
        **{"finetuning_type": "lora", "output_dir": "saves/a", "cutoff_len": 300, "enable_thinking": None},
        **{"overwrite_output_dir": True, "report_to": "none"},
    }
    Path("a.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_a_training_is_checked_made_once_and_run_to_its_end(
    program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = launch.train("a.yaml", {"learning_rate": 1e-4}, llamafactory_cli=program)
    assert (run.state, run.values["learning_rate"]) == (launch.RunState.FINISHED, 1e-4)
    assert run.values["tokenized_path"].startswith("data/.lfc/tokens/")
    (row,) = launch.list_runs().to_pandas().to_dict("records")
    assert (row["run"], row["state"], row["output_dir"]) == ("a", "finished", "saves/a")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(OutputError, match="runs/a exists already"):
        launch.train("a.yaml", {"output_dir": "saves/b"}, llamafactory_cli=program)
    plain = launch.train("a.yaml", {"output_dir": "saves/b"}, name="b", tokenize=False, llamafactory_cli=program)
    assert "tokenized_path" not in plain.values
    assert [run.name for run in launch.list_runs()] == ["a", "b"]


def test_a_training_that_cannot_work_or_fails_is_told(program: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.yaml cannot work as it stands: .*dataset") as caught:
        launch.train("a.yaml", {"dataset": "nobody"}, llamafactory_cli=program)
    assert caught.value.hint
    with pytest.raises(ChildFailedError) as failed:
        launch.train("a.yaml", {"seed": 13}, llamafactory_cli=program)
    assert failed.value.exit_code == 5


def test_a_config_is_checked_with_a_row_a_finding(program: Path) -> None:
    assert not launch.check_config("a.yaml").has_errors
    Path("b.yaml").write_text(Path("a.yaml").read_text("utf-8") + "lora_rnk: 8\n", encoding="utf-8")
    check = launch.check_config(Path("b.yaml"))
    assert check.has_errors
    rows = check.to_pandas().to_dict("records")
    assert {"severity": "error", "key": "lora_rnk"}.items() <= rows[0].items()


def test_a_model_is_proved_with_a_row_a_case(program: Path) -> None:
    rows = launch.prove_model("model", "qwen3").to_pandas().to_dict("records")
    assert {"case": "question and answer", "is_equal": True}.items() <= rows[0].items()


def test_a_comparison_is_a_row_a_side(program: Path) -> None:
    compared = write_evaluation(Path("runs/e"), "saves/a", {"base": ["x"], "adapter": ["right"]}, "right")
    rows = compared.to_pandas().to_dict("records")
    assert [row["side"] for row in rows] == ["base", "adapter"]
    assert rows[1]["rouge_l"] == 80.0


def test_an_evaluation_without_its_adapter_is_told_before_anything_starts(program: Path) -> None:
    register_kind(Path("data"), "held_out", "alpaca", 4)
    with pytest.raises(
        ConfigError, match=r"the prediction of adapter cannot work as it stands: .*nothing was trained"
    ):
        launch.evaluate("a.yaml", "held_out", llamafactory_cli=program)
    with pytest.raises(ConfigError, match="configs of different names"):
        launch.evaluate([], "held_out")
    assert not Path("runs").exists()


def test_runs_of_any_folder_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "mine" / "x", {"output_dir": str(tmp_path / "out")}, [2.0])
    runs = launch.list_runs(tmp_path / "mine")
    assert isinstance(runs, launch.Runs)
    assert runs.to_pandas()["seconds"].tolist() == [125.0]
