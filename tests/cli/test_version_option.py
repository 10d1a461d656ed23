"""`--llamafactory-version` decides by which LLaMA-Factory a command judges, for that command alone."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc, options

VARIABLE = "LFC_LLAMAFACTORY_VERSION"


def check(path: Path, *arguments: str) -> tuple[int, Any]:
    call = ["launch", "config", "check", str(path), "--for", "any", "--json", *arguments]
    result = CliRunner().invoke(lfc, call, catch_exceptions=False)
    return result.exit_code, json.loads(result.stdout) if result.stdout else result.stderr


def test_a_config_is_judged_by_the_version_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "chat.yaml"
    path.write_text("model_name_or_path: Own/Model\ntemplate: qwen3_8\n", encoding="utf-8")
    assert check(path, "--llamafactory-version", "0.9.6")[0] == 0
    code, told = check(path, "--llamafactory-version", "0.9.5")
    assert code == 1 and "qwen3_8" in json.dumps(told)
    assert VARIABLE not in os.environ
    code, message = check(path, "--llamafactory-version", "0.1")
    assert code == 1 and "LLaMA-Factory 0.1 is not known here; known are 0.9.5, 0.9.6" in message


@pytest.mark.parametrize("version", ["", "0.9.6"])
def test_training_asks_an_unknown_llamafactory_once_unless_told_whose_keys_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    asked: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, version)
    monkeypatch.setattr(options, "find_unknown_release", lambda: "0.7.1")
    monkeypatch.setattr(options, "learn_version", asked.append)
    Path("bad.yaml").write_text(
        "model_name_or_path: o/m\nstage: sft\ndo_train: true\nnosuch: 1\n", encoding="utf-8"
    )
    (tmp_path / "cli").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "cli").chmod(0o755)
    result = CliRunner().invoke(lfc, ["launch", "train", "bad.yaml", "--llamafactory-cli", str(tmp_path / "cli")])
    assert result.exit_code == 1
    assert asked == ([] if version else ["0.7.1"])
