"""What a model's own folder says before it is loaded: its type, its weights, and the room that its training needs."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from launch.choices import Kind
from launch.configs.config import check_values
from launch.configs.rules import Machine, models
from prep.quality.findings import Finding

Usage = namedtuple("Usage", ["total", "used", "free"])
# 4 x 256 in the embedding and as many in each of two layers' q_proj and k_proj.
SHAPES = {
    "model.embed_tokens.weight": [1024, 256],
    **{
        f"model.layers.{layer}.self_attn.{part}.weight": [256, 256]
        for layer in range(2)
        for part in ("q_proj", "k_proj")
    },
}
WEIGHTS = 1024 * 256 + 4 * 256 * 256


def write_model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    told = {"model_type": "qwen3", "vocab_size": 1024, "hidden_size": 256, **config}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in told.items() if value}))
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    header, end = {}, 0
    for name, shape in SHAPES.items():
        start, end = end, end + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return folder


def find(values: dict[str, Any], machine: Machine, rule: str) -> list[Finding]:
    kind: Kind = "infer" if "export_dir" in values else "train"
    return [fault for fault in check_values(values, kind, machine) if fault.rule == rule]


def train(model: Path, **values: Any) -> dict[str, Any]:
    return {
        **{"model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "full"},
        **{"output_dir": str(model.parent / "out"), "max_steps": 100, "dataset": "mini", "template": "qwen3"},
        **values,
    }


@pytest.mark.parametrize(
    ("config", "values", "said"),
    [
        ({}, {}, ""),
        ({"model_type": "nosuch"}, {}, "is of type nosuch"),
        ({"model_type": None}, {}, "says no model_type"),
        ({"model_type": "nosuch", "auto_map": {"AutoConfig": "a.B"}}, {}, "is false, and the model's own code"),
        ({"model_type": "nosuch", "auto_map": {"AutoConfig": "a.B"}}, {"trust_remote_code": True}, ""),
        ({"auto_map": {"AutoConfig": "a.B"}}, {}, ""),
    ],
)
def test_a_type_that_the_installed_transformers_does_not_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], values: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(models, "read_model_types", lambda: '("qwen3", "Qwen3Config"),')
    values = train(write_model(tmp_path / "model", **config), **values)
    found = find(values, Machine((), has_stack=True), "model_type_is_known")
    assert [said in fault.message and fault.is_error for fault in found] == ([True] if said else [])
    assert find(values, Machine(()), "model_type_is_known") == []


@pytest.mark.stack
def test_the_types_of_the_installed_transformers_are_read_without_importing_it() -> None:
    known = models.read_model_types()
    assert all(f'"{kind}"' in known for kind in ("qwen3", "qwen3_5_text", "llama", "gemma3_text", "gpt_oss"))
    assert '"nosuch"' not in known


@pytest.mark.parametrize("left", [0, 1, 8, 300, 0.5])
def test_weights_that_are_cut_off_are_not_a_whole_model(tmp_path: Path, left: float) -> None:
    model = write_model(tmp_path / "model")
    file = model / "model.safetensors"
    whole = file.read_bytes()
    assert find(train(model), Machine(()), "model_folder_is_complete") == []
    file.write_bytes(whole[: left if isinstance(left, int) else int(len(whole) * left)])
    found = find(train(model), Machine(()), "model_folder_is_complete")
    assert [fault.message for fault in found] == [f"{model} is not complete: model.safetensors is cut off"]


def test_a_model_without_a_tokenizer_is_not_whole(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    found = find(train(model), Machine(()), "model_folder_is_complete")
    assert [fault.message for fault in found] == [f"{model} is not complete: there is no tokenizer"]


RESULT = WEIGHTS * 2
CHECKPOINT = WEIGHTS * (2 + 8)
# LoRA of rank 8 on four modules of 256 x 256: an A and a B each.
ADDED = 4 * 8 * (256 + 256)


@pytest.mark.parametrize(
    ("values", "need", "whole"),
    [
        ({}, RESULT + CHECKPOINT, RESULT + CHECKPOINT),
        ({"save_strategy": "no"}, RESULT, RESULT),
        ({"save_only_model": True}, 2 * RESULT, 2 * RESULT),
        ({"optim": "adafactor"}, 2 * RESULT, 2 * RESULT),
        ({"save_steps": 10}, RESULT + CHECKPOINT, RESULT + 10 * CHECKPOINT),
        ({"save_steps": 0.25}, RESULT + CHECKPOINT, RESULT + 4 * CHECKPOINT),
        ({"save_steps": 10, "save_total_limit": 2}, RESULT + CHECKPOINT, RESULT + 2 * CHECKPOINT),
        ({"finetuning_type": "lora"}, ADDED * (4 + 4 + 8), ADDED * (4 + 4 + 8)),
        ({"finetuning_type": "lora", "lora_target": "q_proj"}, ADDED * 8, ADDED * 8),
    ],
)
def test_what_a_training_writes_has_room_or_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], need: int, whole: int
) -> None:
    config = train(write_model(tmp_path / "model"), **{"optim": "adamw_torch", **values})
    machine = Machine((), is_here=True)
    for free, errors in ((need - 1, [True]), (need, [False] if whole > need else []), (whole, [])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(free, 0, free))
        assert [fault.is_error for fault in find(config, machine, "results_have_room")] == errors
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    assert find(config, Machine(()), "results_have_room") == []


def test_an_export_has_room_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"model_name_or_path": str(write_model(tmp_path / "model")), "template": "qwen3"}
    values["export_dir"] = str(tmp_path / "merged")
    for free, said in ((RESULT - 1, ["needs 1 MiB at least, and 1 MiB are free there"]), (RESULT, [])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(free, 0, free))
        assert [fault.message for fault in find(values, Machine((), is_here=True), "results_have_room")] == said


@pytest.mark.parametrize(
    ("config", "values", "said"),
    [
        ({}, {"flash_attn": "fa2", "neat_packing": True, "per_device_train_batch_size": 2}, "must be 1 with"),
        ({}, {"flash_attn": "fa2", "neat_packing": True, "per_device_train_batch_size": 1}, ""),
        ({}, {"flash_attn": "sdpa", "neat_packing": True, "per_device_train_batch_size": 2}, ""),
        (
            {"model_type": "gpt_oss"},
            {"flash_attn": "fa2", "neat_packing": True, "per_device_train_batch_size": 1},
            "cannot go with fa2 and gpt_oss",
        ),
    ],
)
def test_packed_rows_with_fa2_go_one_at_a_time(
    tmp_path: Path, config: dict[str, Any], values: dict[str, Any], said: str
) -> None:
    values = train(write_model(tmp_path / "model", **config), **values)
    found = find(values, Machine(()), "packing_goes_with_the_attention")
    assert [said in fault.message for fault in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("architecture", "said"), [("Qwen3ForCausalLM", ""), ("InternVLChatModel", "is a InternVLChatModel, which")]
)
def test_a_model_in_another_format_than_transformers_is_refused(
    tmp_path: Path, architecture: str, said: str
) -> None:
    values = train(write_model(tmp_path / "model", architectures=[architecture]))
    found = find(values, Machine(()), "architecture_can_be_loaded")
    assert [said in fault.message for fault in found] == ([True] if said else [])
