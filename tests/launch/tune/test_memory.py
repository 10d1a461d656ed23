"""Estimated memory beside what runs on one card took (benchmarks/results/train_speed*.json and forerunners)."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.tune.memory import GIB, Rows, describe_memory, estimate_memory
from launch.tune.model_shape import read_model_shape

LORA = {"lora_rank": 16, "lora_target": "all", "bf16": True, "per_device_train_batch_size": 1}
UNSLOTH = {"use_unsloth": True}


@pytest.mark.parametrize(
    ("model", "boosted", "changes", "tokens", "measured_gib"),
    [
        ("Qwen/Qwen3-0.6B", "off", UNSLOTH, 12_000, 15.2),
        ("Qwen/Qwen3-0.6B", "off", UNSLOTH, 25_816, 28.63),
        ("Qwen/Qwen3-0.6B", "off", {}, 12_000, 25.8),
        ("Qwen/Qwen3-0.6B", "compiled", {}, 12_000, 18.77),
        ("Qwen/Qwen3-4B", "compiled", {}, 12_000, 57.46),
        ("Qwen/Qwen3-0.6B", "off", {**UNSLOTH, "quantization_bit": 4}, 12_000, 13.74),
        ("Qwen/Qwen3-4B", "off", UNSLOTH, 12_000, 45.06),
        ("Qwen/Qwen3-4B", "keep", UNSLOTH, 30_515, 11.62),
        ("Qwen/Qwen3-4B", "", {}, 2_300, 11.9),
        ("Qwen/Qwen3-0.6B", "", {}, 2_300, 4.9),
    ],
)
def test_what_was_measured_is_told_beforehand_within_a_sixth(
    model: str, boosted: str, changes: dict[str, Any], tokens: int, measured_gib: float
) -> None:
    values = {"model_name_or_path": model, **LORA, **changes}
    is_compiled = boosted == "compiled"
    boosted = "off" if is_compiled else boosted
    estimate = estimate_memory(values, Rows(tokens, tokens), boosted=boosted, compiled=is_compiled)
    assert estimate is not None
    # CUDA's own context is in no figure of torch.
    assert estimate.total_gib - 0.7 == pytest.approx(measured_gib, rel=1 / 6)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-0.6B", 0.6),
        ("Qwen/Qwen3-1.7B", 1.7),
        ("Qwen/Qwen3-4B-Instruct-2507", 4.0),
        ("unsloth/Qwen3-8B", 8.2),
        ("Qwen/Qwen3-14B", 14.8),
        ("Qwen/Qwen3-32B-unsloth-bnb-4bit", 32.8),
        ("Qwen/Qwen2.5-7B-Instruct", 7.6),
        ("Qwen/Qwen2.5-32B", 32.8),
        ("meta-llama/Llama-3.1-8B", 8.0),
        ("LLM-Research/Meta-Llama-3-8B-Instruct", 8.0),
    ],
)
def test_a_well_known_name_tells_how_many_weights_a_model_has(name: str, billions: float) -> None:
    shape = read_model_shape(name)
    assert shape is not None
    assert shape.weights / 1e9 == pytest.approx(billions, rel=0.03)


def test_a_folder_tells_its_own_shape_and_nonsense_tells_none(tmp_path: Path) -> None:
    sizes = {"num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = {**sizes, "vocab_size": 1_000, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shape = read_model_shape(tmp_path.as_posix())
    assert shape is not None
    assert (shape.weights, shape.count_lora(8, "q_proj,v_proj")) == (
        64_000 + 2 * (4 * 64 * 64 + 3 * 64 * 128),
        4 * 8 * 128,
    )
    for broken in ({"vocab_size": -1}, {"hidden_size": "64"}, {"num_attention_heads": 0}, {"num_experts": 8}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **broken}), encoding="utf-8")
        assert read_model_shape(tmp_path.as_posix()) is None
    assert read_model_shape("someone/unknown") is None
    assert read_model_shape(None) is None


@pytest.mark.parametrize(
    "values",
    [
        {"model_name_or_path": "someone/unknown"},
        {"stage": "rm"},
        {"deepspeed": "z3.json"},
        {"finetuning_type": "oft"},
    ],
)
def test_what_is_not_known_is_not_guessed(values: dict[str, Any]) -> None:
    assert estimate_memory({"model_name_or_path": "Qwen/Qwen3-4B", **LORA, **values}) is None


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"quantization_bit": 4}, {}),
        ({"cutoff_len": 1_024}, {"cutoff_len": 4_096}),
        ({"per_device_train_batch_size": 1}, {"per_device_train_batch_size": 8}),
        ({}, {"disable_gradient_checkpointing": True}),
        ({"enable_liger_kernel": True}, {}),
        ({"use_unsloth_gc": True}, {}),
        ({}, {"stage": "dpo"}),
        ({}, {"finetuning_type": "full"}),
        ({"optim": "adamw_8bit", "finetuning_type": "full"}, {"finetuning_type": "full"}),
    ],
)
def test_what_saves_memory_lowers_the_estimate(less: dict[str, Any], more: dict[str, Any]) -> None:
    small, large = (
        estimate_memory({"model_name_or_path": "Qwen/Qwen3-4B", **LORA, **each}) for each in (less, more)
    )
    assert small is not None
    assert large is not None
    assert small.total < large.total
    assert small.card_gb * 1e9 > small.total > GIB


@pytest.mark.parametrize("key", ["cutoff_len", "lora_rank", "per_device_train_batch_size"])
@pytest.mark.parametrize("value", ["many", [1], {"a": 1}])
def test_a_number_that_is_none_is_left_to_the_check(key: str, value: object) -> None:
    assert describe_memory({"model_name_or_path": "Qwen/Qwen3-4B", **LORA, key: value}) == ""
