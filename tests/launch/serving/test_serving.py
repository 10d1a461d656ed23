"""What an export made is served as its training asked, and the reports of both tell how."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launch.results.report import write_report
from launch.runs.folder import find_run, list_runs
from launch.serving.exports import find_origin, find_serving, note_serving
from launch.serving.servers import SERVING_FILE, read_serving
from prep.errors import UserError
from tests.support.run_folders import write_run

TRAINING = {"output_dir": "saves/medical", "template": "qwen3", "enable_thinking": False, "mask_history": True}
EXPORT = {"model_name_or_path": "base", "adapter_name_or_path": "saves/medical", "template": "qwen3"}


@pytest.fixture
def exported(qwen3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished export of a trained adapter into models/Q 3, with LLaMA-Factory's Modelfile."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "models" / "Q 3"
    shutil.copytree(qwen3_folder, model)
    (model / "config.json").write_text(json.dumps({"max_position_embeddings": 40_960}), encoding="utf-8")
    (model / "Modelfile").write_text("FROM .\n", encoding="utf-8")
    write_run(tmp_path / "runs" / "medical", TRAINING)
    return write_export(tmp_path / "runs" / "export", EXPORT)


def write_export(path: Path, values: dict[str, Any]) -> Path:
    write_run(path, {**values, "export_dir": "models/Q 3"})
    plan = json.loads((path / "run.json").read_text(encoding="utf-8"))
    (path / "run.json").write_text(json.dumps({**plan, "action": "export"}), encoding="utf-8")
    return path


def test_the_trainings_own_keys_decide_and_both_reports_tell(exported: Path) -> None:
    ollama, vllm = note_serving(exported)
    assert ollama.commands == ("ollama create q-3 -f 'models/Q 3/Modelfile'", "ollama run q-3")
    assert ollama.prompts.startswith("Its prompts are those of training in 4 of 16 kinds of conversation")
    off = "--default-chat-template-kwargs '{\"enable_thinking\": false}'"
    assert vllm.commands == (
        "vllm serve 'models/Q 3' --served-model-name q-3 --max-model-len 16384 --enable-auto-tool-choice "
        f"--tool-call-parser hermes {off}",
    )
    assert vllm.prompts.endswith(" Where not: lfc launch prove 'models/Q 3'")
    modelfile = Path("models/Q 3/Modelfile").read_text(encoding="utf-8")
    assert ".Thinking" not in modelfile
    assert "{{ if $last }}<think>\n\n</think>\n\n{{ end }}" in modelfile
    for name in ("medical", "export"):
        assert find_serving(find_run(name)) == [ollama, vllm]
        assert "ollama run q-3" in write_report(name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "switch"),
    [
        # A checkpoint is of its training; a training that is not here decides nothing.
        ({**EXPORT, "adapter_name_or_path": "saves/medical/checkpoint-20"}, False),
        ({**EXPORT, "adapter_name_or_path": "saves/other"}, True),
        ({"model_name_or_path": "saves/medical", "template": "qwen3"}, False),
    ],
)
def test_what_was_trained_is_found_by_its_folder(exported: Path, values: dict[str, Any], *, switch: bool) -> None:
    ollama, vllm = note_serving(write_export(exported.with_name("again"), values))
    assert ("ollama run q-3 --think=false" in ollama.commands) is switch
    assert ("--reasoning-parser qwen3" in vllm.commands[0]) is switch


def test_a_merged_model_is_of_the_training_that_was_merged_into_it(exported: Path) -> None:
    runs = list_runs()
    for folder in ("saves/medical", "saves/medical/checkpoint-5", "models/Q 3"):
        origin = find_origin(Path(folder), runs)
        assert origin is not None, folder
        assert origin.name == "medical"
    assert find_origin(Path("models/other"), runs) is None


def test_a_model_that_is_quantised_is_not_for_ollama(exported: Path) -> None:
    Path("models/Q 3/config.json").write_text('{"quantization_config": {}}', encoding="utf-8")
    assert [server.name for server in note_serving(exported)] == ["vLLM"]
    assert Path("models/Q 3/Modelfile").read_text(encoding="utf-8") == "FROM .\n"


def test_a_template_that_is_not_known_keeps_llamafactorys_modelfile(exported: Path) -> None:
    Path("runs/medical/run.json").unlink()
    folder = write_export(exported.with_name("new"), {**EXPORT, "template": "of_tomorrow"})
    with pytest.raises(UserError, match="the tokens of template 'of_tomorrow' are not known here"):
        note_serving(folder)
    assert Path("models/Q 3/Modelfile").read_text(encoding="utf-8") == "FROM .\n"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '[{"name": 1}]', '[{"name": "a", "commands": [1], "prompts": ""}]']
)
def test_a_broken_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / SERVING_FILE).write_text(text, encoding="utf-8")
    assert read_serving(tmp_path / SERVING_FILE) == []
