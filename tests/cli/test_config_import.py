"""`lfc launch config import` and `export`: the same settings on the page and in the terminal."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.configs.config import read_config, write_config
from launch.llamaboard.page import complete_values
from tests.launch.llamaboard.test_page import BASE, differ

CONFIG = {**BASE, "lora_rank": 24, "enable_thinking": None, "warmup_steps": 0.1, "bf16": False, "seed": 3}


def run(*argv: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", "config", *argv], catch_exceptions=False)


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A training YAML, configs/mine.yaml, that was exported to the page."""
    monkeypatch.chdir(tmp_path)
    write_config(Path("configs/mine.yaml"), CONFIG, header="a config")
    result = run("export", "configs/mine.yaml", "-o", "llamaboard_config/mine.yaml")
    assert result.exit_code == 0, result.output
    return "llamaboard_config/mine.yaml"


def test_an_exported_config_says_it_all_in_fields_and_extra_args(saved: str) -> None:
    page = yaml.safe_load(Path(saved).read_text(encoding="utf-8"))
    assert (page["train.lora_rank"], page["train.dataset"], page["top.model_path"]) == (
        24,
        ["medical"],
        "models/tiny-qwen3",
    )
    extra = json.loads(page["train.extra_args"])
    assert (extra["enable_thinking"], extra["warmup_steps"], extra["seed"]) == (None, 0.1, 3)


def test_an_imported_page_is_the_config_that_was_exported(saved: str) -> None:
    result = run("import", saved, "-o", "configs/back.yaml")
    assert result.exit_code == 0, result.output
    back = read_config(Path("configs/back.yaml"))
    assert differ(CONFIG, back) == {}
    assert complete_values(back)["enable_thinking"] is None
    text = Path("configs/back.yaml").read_text(encoding="utf-8")
    assert text.startswith("# From the WebUI's llamaboard_config/mine.yaml\n")


def test_an_import_takes_overrides_and_tells_as_json(saved: str) -> None:
    result = run("import", saved, "lora_rank=4", "-o", "configs/back.yaml", "--json")
    told = json.loads(result.stdout)
    assert (told["config"], told["values"]["lora_rank"], told["notes"]) == ("configs/back.yaml", 4, [])


@pytest.mark.parametrize("argv", [("import", "llamaboard_config/mine.yaml"), ("export", "configs/mine.yaml")])
def test_a_file_that_stands_there_is_not_replaced(argv: tuple[str, ...]) -> None:
    Path("there.yaml").write_text("mine: 1\n", encoding="utf-8")
    result = run(*argv, "-o", "there.yaml")
    assert result.exit_code == 1
    assert "Error: there.yaml exists already" in result.stderr
    assert Path("there.yaml").read_text(encoding="utf-8") == "mine: 1\n"
    assert run(*argv, "-o", "there.yaml", "--force").exit_code == 0


def test_importing_what_is_no_saved_page_is_refused() -> None:
    result = run("import", "configs/mine.yaml", "-o", "configs/back.yaml")
    assert result.exit_code == 1
    assert "LlamaBoard cannot load configs/mine.yaml:" in result.stderr
    assert not Path("configs/back.yaml").exists()
