"""`lfc launch config`: exit codes, streams and JSON."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from launch.cli import lfc
from tests.test_launch_config import make_dataset


def run_config(*arguments: str | Path) -> Result:
    return CliRunner().invoke(lfc, ["launch", "config", *map(str, arguments)])


def test_config_ls_names_every_preset() -> None:
    result = run_config("ls", "--json")
    assert result.exit_code == 0
    assert "medical-hybrid" in [preset["name"] for preset in json.loads(result.stdout)["presets"]]


def test_config_show_prints_the_shipped_file() -> None:
    result = run_config("show", "cpu-smoke")
    assert result.exit_code == 0
    shipped = Path("llamafactory_configs/presets/cpu-smoke.yaml")
    assert result.stdout == shipped.read_text(encoding="utf-8")


def test_config_show_of_an_unknown_preset_exits_1() -> None:
    result = run_config("show", "cpu-smok")
    assert result.exit_code == 1
    assert "Try: cpu-smoke\n" in result.stderr


def test_config_new_writes_a_yaml_and_prints_it_as_json(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine", policy="masked")
    target = tmp_path / "cpu.yaml"
    result = run_config(
        *("new", "cpu-smoke", "dataset=mine", "max_steps=3", "-o", target),
        *("--dataset-dir", tmp_path / "data", "--json"),
    )
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)["values"]
    assert (values["enable_thinking"], values["max_steps"]) == (None, 3)
    assert target.is_file()


def test_config_new_of_an_unknown_dataset_exits_1_and_writes_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    target = tmp_path / "cpu.yaml"
    result = run_config("new", "cpu-smoke", "dataset=other", "-o", target, "--dataset-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: dataset 'other' is not in")
    assert not target.exists()
