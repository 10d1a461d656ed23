"""`lfc launch prove` as it is called."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from launch.configs.proofs import find_proof
from tests.support.chat_templates import DROPS_THOUGHTS, PLAIN

ROWS = [
    {"instruction": "2+2?", "input": "", "output": "Four.", "history": []},
    {"instruction": "And 3+3?", "input": "", "output": "Six.", "history": [["2+2?", "Four."]]},
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model", DROPS_THOUGHTS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    columns = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
    entry = {"rows": {"file_name": "rows.jsonl", "columns": columns}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(entry), encoding="utf-8")
    return tmp_path


def write_model(folder: Path, chat_template: str) -> None:
    folder.mkdir()
    settings = {"eos_token": "<|im_end|>", "chat_template": chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def prove(*arguments: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", "prove", *arguments], catch_exceptions=False)


def prove_json(*arguments: str) -> tuple[int, Any]:
    result = prove(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_a_difference_is_shown_from_its_first_byte_with_the_setting_that_undoes_it(project: Path) -> None:
    result = prove("model", "--template", "qwen3")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert "question and answer equal" in lines and "history different mask_history: true" in lines
    start = next(index for index, line in enumerate(lines) if line.startswith("history, and "))
    assert lines[start].endswith("more: differs from byte 57")
    assert "<think>" in lines[start + 1] and "<think>" not in lines[start + 2]
    assert result.stderr == "Note: model has no tokenizer.json: texts are compared, not their tokens\n"


def test_the_config_decides_by_its_own_rows(project: Path) -> None:
    keys = ["model_name_or_path: model", "template: qwen3", "dataset: rows", "enable_thinking: null"]
    config = project / "train.yaml"
    config.write_text("\n".join(keys), encoding="utf-8")
    code, told = prove_json("model", "--config", str(config))
    assert (code, told["refused"], [row["equal"] for row in told["rows"]]) == (1, True, [True, False])
    assert told["rows"][1]["settings"] == {"mask_history": True}
    config.write_text("\n".join([*keys, "mask_history: true"]), encoding="utf-8")
    code, told = prove_json("model", "--config", str(config))
    assert (code, told["refused"], [row["equal"] for row in told["rows"]]) == (0, False, [True, True])


def test_a_template_of_another_model_is_refused_without_any_dataset(project: Path) -> None:
    shutil.rmtree(project / "model")
    write_model(project / "model", PLAIN)
    code, told = prove_json("model", "--template", "qwen3")
    plain = next(case for case in told["cases"] if case["case"] == "question and answer")
    assert (code, plain["settings"]) == (1, {"template": "qwen3_nothink"})
    assert prove_json("model", "--template", "qwen3_nothink")[0] == 0


def test_tokens_are_compared_where_there_is_a_tokenizer(qwen3_folder: Path) -> None:
    code, told = prove_json(str(qwen3_folder), "--template", "qwen3")
    assert (code, told["tokens"], told["llamafactory"]) == (0, True, "0.9.5")
    code, told = prove_json(str(qwen3_folder), "--template", "qwen3", "--llamafactory-version", "0.9.6")
    tools = next(case for case in told["cases"] if case["case"] == "tools")
    assert (code, told["llamafactory"], tools["equal"]) == (0, "0.9.6", True)


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("Some/Model",), "Some/Model is no folder, and no cache", "lfc prep download --model Some/Model"),
        (("data", "--template", "qwen3"), "data has no chat template", "name the model's folder"),
        (("model",), "which template model needs is not known", "--template NAME"),
        (("model", "--template", "qwen_3"), "the tokens of template 'qwen_3' are not known", "--template qwen3"),
        (("model", "--template", "qwen3", "--dataset", "none"), "none", "rows"),
    ],
)
def test_what_is_missing_is_one_error_with_the_next_step(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: str, hint: str
) -> None:
    for name in ("MODELSCOPE_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(project / "nowhere"))
    result = prove(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert error in result.stderr and hint in result.stderr


def test_a_hubs_name_is_found_in_either_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(project / "ms"))
    monkeypatch.setenv("HF_HOME", str(project / "hf"))
    for place in ("ms/models/Own/Model-1___5", "hf/hub/models--Own--Model-2/snapshots/abc"):
        shutil.copytree(project / "model", project / place)
        (project / place / "config.json").write_text("{}", encoding="utf-8")
    assert prove_json("Own/Model-1.5", "--template", "qwen3")[1]["model"].endswith("ms/models/Own/Model-1___5")
    assert prove_json("Own/Model-2", "--template", "qwen3")[1]["model"].endswith("snapshots/abc")


def test_what_was_proved_is_found_again_until_the_model_or_a_key_changes(project: Path) -> None:
    values: dict[str, Any] = {"model_name_or_path": "model", "template": "qwen3"}
    assert find_proof(values) is None
    prove("model", "--template", "qwen3", "--dataset", "rows")
    found = find_proof(values)
    assert found is not None
    assert (found.template, found.rows, found.equal_rows) == ("qwen3", 2, 1)
    assert found.describe().endswith(", and 1 of 2 rows as the model's own chat template does.")
    for other in ({"mask_history": True}, {"template": "qwen3_nothink"}, {"model_name_or_path": "elsewhere"}):
        assert find_proof({**values, **other}) is None
    (kept,) = Path(".lfc/proofs").iterdir()
    kept.write_text("[]", encoding="utf-8")
    assert find_proof(values) is None
    prove("model", "--template", "qwen3")
    (project / "model" / "chat_template.jinja").write_text(PLAIN, encoding="utf-8")
    assert find_proof(values) is None
