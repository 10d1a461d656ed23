"""The real llamafactory-cli trains every kind of row from what `lfc prep` wrote, to the end, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.lfc_process import ROOT
from tests.support.qwen2_vl import build_vision_folder, write_picture
from tests.support.qwen3 import build_tokenizer_folder
from tests.support.shapes import write_jsonl

pytestmark = pytest.mark.stack

ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "pairs": ("dpo", [{"prompt": f"Name {n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}."} for n in range(8)]),
    "labels": ("kto", [{"prompt": f"Name {n}?", "completion": f"A {n}.", "label": n % 2 == 0} for n in range(8)]),
    "texts": ("pt", [{"text": f"Page {n} tells of the river."} for n in range(8)]),
    "pictures": (
        "sft",
        [
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": f"{n}?"}],
                    },
                    {"role": "assistant", "content": "Red."},
                ]
            }
            for n in range(8)
        ],
    ),
}


def run(folder: Path, *command: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1"}
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def build_text_folder(folder: Path) -> Path:
    """Write a Qwen3 of a few thousand weights with Qwen3's tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(build_tokenizer_folder(folder))
    return folder


@pytest.mark.parametrize("name", ROWS)
def test_a_training_of_each_kind_ends_with_a_loss(name: str, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("with --full: each is a training of half a minute")
    stage, rows = ROWS[name]
    write_picture(tmp_path / "a.png")
    write_jsonl(tmp_path / "raw.jsonl", rows)
    is_text = name != "pictures"
    model = (
        build_text_folder(tmp_path / "model") if is_text else build_vision_folder(tmp_path / "model", weights=True)
    )
    lfc = (sys.executable, "-m", "launch", "prep")
    run(tmp_path, *lfc, "convert", "raw.jsonl", "-o", f"data/{name}.jsonl", "--think-policy", "strip")
    run(tmp_path, *lfc, "register", f"data/{name}.jsonl", "--name", name, "--dataset-dir", "data")
    config = {
        "model_name_or_path": str(model),
        "stage": stage,
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "q_proj,v_proj",
        "dataset": name,
        "dataset_dir": "data",
        "template": "qwen3" if is_text else "qwen2_vl",
        # The pt stage packs texts into pieces of this size, and drops what fills none.
        "cutoff_len": 16 if stage == "pt" else 512,
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "logging_steps": 1,
        "output_dir": "out",
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run(tmp_path, str(Path(sys.executable).with_name("llamafactory-cli")), "train", "train.yaml")
    log = [json.loads(line) for line in (tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()]
    assert [entry["current_steps"] for entry in log if "loss" in entry] == [1, 2]
