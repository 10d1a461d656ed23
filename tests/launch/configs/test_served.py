"""`config check` compares the first rows of a config with what the model's own chat template writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import check_values
from launch.configs.rules import Machine
from prep.quality.findings import Finding, Severity
from tests.support.chat_templates import DROPS_THOUGHTS, PLAIN

THOUGHT = "<think>\nAdd.\n</think>\n\nFour."
RULE = "rows_are_served_as_they_are_trained"


def check(folder: Path, chat_template: str | None, answer: str, **keys: Any) -> list[Finding]:
    model = folder / "model"
    model.mkdir()
    settings = {"eos_token": "<|im_end|>", **({"chat_template": chat_template} if chat_template else {})}
    (model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = [{"instruction": f"{n}+2?", "input": "", "output": answer} for n in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl"}}), encoding="utf-8")
    values = {
        "model_name_or_path": str(model),
        "dataset": "rows",
        "dataset_dir": str(folder),
        "stage": "sft",
        **keys,
    }
    return [fault for fault in check_values(values, "train", Machine()) if fault.rule == RULE]


@pytest.mark.parametrize(
    ("chat_template", "answer", "keys"),
    [
        (DROPS_THOUGHTS, "Four.", {"template": "qwen3"}),
        (DROPS_THOUGHTS, THOUGHT, {"template": "qwen3"}),
        (DROPS_THOUGHTS, "Four.", {"template": "qwen3", "enable_thinking": None}),
        (PLAIN, "Four.", {"template": "qwen3_nothink"}),
        # Nothing to compare with, or nothing of its own to say.
        (None, "Four.", {"template": "qwen3"}),
        (PLAIN, "Four.", {"template": "no such"}),
        (PLAIN, "Four.", {"template": "qwen3", "dataset": "missing"}),
        (PLAIN, "Four.", {"template": "qwen3", "stage": "pt"}),
    ],
)
def test_rows_that_are_served_as_they_are_trained_pass(
    tmp_path: Path, chat_template: str | None, answer: str, keys: dict[str, Any]
) -> None:
    assert check(tmp_path, chat_template, answer, **keys) == []


@pytest.mark.parametrize(
    ("chat_template", "keys", "fix"),
    [
        (PLAIN, {"template": "qwen3"}, "template: qwen3_nothink"),
        (DROPS_THOUGHTS, {"template": "qwen3_nothink"}, "template: qwen3"),
        (
            PLAIN.replace("assistant", "model"),
            {"template": "qwen3"},
            "no setting makes it equal; lfc launch prove ",
        ),
    ],
)
def test_rows_that_are_not_are_a_warning_with_the_setting_that_undoes_it(
    tmp_path: Path, chat_template: str, keys: dict[str, Any], fix: str
) -> None:
    (fault,) = check(tmp_path, chat_template, "Four.", **keys)
    assert fault.message.startswith(
        "writes 3 of the first 3 rows otherwise than the model's own chat template does"
    )
    assert fault.severity == Severity.WARNING and str(fault.fix).startswith(fix)
