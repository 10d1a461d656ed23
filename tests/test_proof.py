"""The proof: the tokens that LLaMA-Factory trains on are the ones that Qwen3's own template gives.

Our JSONL goes through LLaMA-Factory's own loader; each row's ids are compared with `apply_chat_template` of the
same conversation, and the first token that is trained on with what the think policy promises.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.thinking import EMPTY_THOUGHT, OPEN_TAG, THOUGHT_END

pytestmark = pytest.mark.stack

# Runs in a process of its own, because a second policy needs a second, unspoiled template.
LOAD = """
import json, sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

config, out = json.loads(sys.argv[1]), sys.argv[2]
model_args, data_args, training_args, _, _ = get_train_args(config)
tokenizer_module = load_tokenizer(model_args)
chat_template = tokenizer_module["tokenizer"].chat_template
template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
dataset = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer_module)
rows = [{"ids": row["input_ids"], "labels": row["labels"]} for row in dataset["train_dataset"]]
json.dump({"rows": rows, "chat_template": chat_template}, open(out, "w"))
"""


def run_lfc(*argv: str | Path) -> None:
    result = CliRunner().invoke(lfc, [str(word) for word in argv], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def convert_samples(folder: Path, policy: str) -> Path:
    """Convert, mix and register the sample; returns the mixed JSONL."""
    run_lfc("prep", "sample", "--to", folder / "raw")
    for name, raw in (("medical", "r1_data_example.jsonl"), ("chat", "finetome_example.parquet")):
        run_lfc("prep", "convert", folder / "raw" / raw, "-o", folder / f"{name}.jsonl", "--think-policy", policy)
    mixed = folder / "mixed.jsonl"
    run_lfc("prep", "mix", f"medical={folder / 'medical.jsonl'}", f"chat={folder / 'chat.jsonl'}", "-o", mixed)
    run_lfc("prep", "register", mixed, "--name", "mixed", "--dataset-dir", folder)
    return mixed


def load_with_llamafactory(folder: Path, model: Path) -> dict[str, Any]:
    """Write the YAML with `lfc launch config new`, and return what LLaMA-Factory's loader makes of it."""
    import yaml

    config = folder / "config.yaml"
    pairs = (f"model_name_or_path={model}", "dataset=mixed", f"output_dir={folder / 'out'}", "cutoff_len=4096")
    run_lfc("launch", "config", "new", "cpu-smoke", *pairs, "template=qwen3", "--dataset-dir", folder, "-o", config)
    out = folder / "loaded.json"
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["learning_rate"] = float(values["learning_rate"])
    command = [sys.executable, "-c", LOAD, json.dumps(values), str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    loaded: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return loaded


def render_with_qwen3(tokenizer: Any, record: dict[str, Any]) -> str:
    """Return the conversation as Qwen3's own template writes it."""
    messages = [{"role": "system", "content": record["system"]}] if record["system"] else []
    for question, answer in record["history"]:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages += [
        {"role": "user", "content": record["instruction"]},
        {"role": "assistant", "content": record["output"]},
    ]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def find_faults(mixed: Path, loaded: dict[str, Any], model: Path, policy: str) -> list[str]:
    """Return one line for each row whose ids or loss mask are not what Qwen3 and the policy say."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    records = [json.loads(line) for line in mixed.read_text(encoding="utf-8").splitlines()]
    assert len(records) == len(loaded["rows"])
    faults = []
    for number, (record, row) in enumerate(zip(records, loaded["rows"], strict=True), 1):
        expected = render_with_qwen3(tokenizer, record)
        if row["ids"] != tokenizer.encode(expected, add_special_tokens=False):
            faults.append(f"row {number}: ids of {tokenizer.decode(row['ids'])!r}, not of {expected!r}")
        trained = tokenizer.decode([label for label in row["labels"] if label != -100])
        if trained != expected_training_text(record, policy):
            faults.append(f"row {number}: trained on {trained!r}")
        if row["labels"] != [-100] * row["labels"].count(-100) + row["ids"][row["labels"].count(-100) :]:
            faults.append(f"row {number}: the trained tokens are not the end of the row")
    return faults


def expected_training_text(record: dict[str, Any], policy: str) -> str:
    """Return what a policy promises to train on: the whole output, or the answer behind a masked empty thought."""
    output = record["output"]
    assert output.startswith(OPEN_TAG) or policy == "masked"
    return f"{output}<|im_end|>\n"


@pytest.mark.parametrize("policy", ["tagged", "masked"])
def test_every_row_trains_on_the_tokens_of_qwen3s_own_template(
    policy: str, tmp_path: Path, qwen3_folder: Path
) -> None:
    model = write_model_config(tmp_path / "model", qwen3_folder)
    mixed = convert_samples(tmp_path, policy)
    loaded = load_with_llamafactory(tmp_path, model)
    records = [json.loads(line) for line in mixed.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(record["system"]) for record in records) > 10
    assert sum(bool(record["history"]) for record in records) > 10
    empty_blocks = sum(record["output"].startswith(EMPTY_THOUGHT) for record in records)
    assert empty_blocks == (360 if policy == "tagged" else 0)
    assert find_faults(mixed, loaded, model, policy) == []


def test_the_proof_fails_when_a_newline_of_the_think_block_is_broken(tmp_path: Path, qwen3_folder: Path) -> None:
    model = write_model_config(tmp_path / "model", qwen3_folder)
    mixed = convert_samples(tmp_path, "tagged")
    rows = [json.loads(line) for line in mixed.read_text(encoding="utf-8").splitlines()]
    for row in rows[::2]:
        row["output"] = row["output"].replace(THOUGHT_END, "\n</think>\n", 1)
    mixed.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    loaded = load_with_llamafactory(tmp_path, model)
    assert len(find_faults(mixed, loaded, model, "tagged")) >= len(rows) // 2


def write_model_config(folder: Path, tokenizer_folder: Path) -> Path:
    """Return a folder with Qwen3's tokenizer and a config.json: the loader reads no weights."""
    import shutil

    shutil.copytree(tokenizer_folder, folder)
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
