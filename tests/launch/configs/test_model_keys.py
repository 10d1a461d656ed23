"""Which keys of a training make its model: every key of LLaMA-Factory's is in one class, adapters are in order."""

from pathlib import Path
from typing import Any

import pytest

from launch.configs.model_keys import (
    ALSO_CARRIED,
    CARRIED_GROUPS,
    FREE_KEYS,
    OWN_KEYS,
    TRAINING_ONLY,
    chain_adapters,
    is_carried,
)
from launch.configs.schema import read_schema
from launch.results.evaluate import write_prediction_config

PROPERTIES = read_schema("train")["properties"]
LORA: dict[str, Any] = {"model_name_or_path": "m", "finetuning_type": "lora", "output_dir": "saves/new"}


def test_every_name_in_a_class_is_a_key_of_llamafactory() -> None:
    named = OWN_KEYS | TRAINING_ONLY | ALSO_CARRIED | FREE_KEYS
    assert named - set(PROPERTIES) == set()
    for first, second in ((OWN_KEYS, TRAINING_ONLY), (OWN_KEYS, ALSO_CARRIED), (TRAINING_ONLY, ALSO_CARRIED)):
        assert not first & second
    groups = {key: PROPERTIES[key]["x-group"] for key in TRAINING_ONLY | ALSO_CARRIED}
    assert {groups[key] for key in TRAINING_ONLY} <= set(CARRIED_GROUPS)
    assert {groups[key] for key in ALSO_CARRIED} & set(CARRIED_GROUPS) == set()


def test_every_key_of_the_schema_is_in_one_class() -> None:
    """A key that a new LLaMA-Factory adds to the carried groups shows up here, to be put into its class."""
    carried = {key for key, item in PROPERTIES.items() if is_carried(key, item)}
    assert carried == {
        *("model_name_or_path", "cache_dir", "use_fast_tokenizer", "resize_vocab", "split_special_tokens"),
        *("add_tokens", "add_special_tokens", "new_special_tokens_config", "init_special_tokens"),
        *("model_revision", "low_cpu_mem_usage", "rope_scaling", "flash_attn", "mixture_of_depths"),
        *("train_from_scratch", "offload_folder", "use_kv_cache", "infer_dtype", "hf_hub_token", "ms_hub_token"),
        *("om_hub_token", "trust_remote_code", "quantization_method", "quantization_bit", "quantization_type"),
        *("double_quantization", "quantization_device_map", "image_max_pixels", "image_min_pixels"),
        *("image_do_pan_and_scan", "crop_to_patches", "video_max_pixels", "video_min_pixels", "video_fps"),
        *("video_maxlen", "use_audio_in_video", "audio_sampling_rate", "use_kt", "kt_weight_path"),
        *("kt_expert_checkpoint_path", "kt_use_lora_experts", "kt_lora_expert_num"),
        *("kt_lora_expert_intermediate_size", "template", "dataset_dir", "media_dir", "cutoff_len"),
        *("overwrite_cache", "preprocessing_batch_size", "preprocessing_num_workers", "ignore_pad_token_for_loss"),
        *("tool_format", "default_system", "enable_thinking", "preserve_thinking", "data_shared_file_system"),
        *("pure_bf16", "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "use_cpu", "seed"),
        *("full_determinism", "dataloader_num_workers", "report_to", "skip_special_tokens"),
    }


@pytest.mark.parametrize(
    ("keys", "chain"),
    [
        ({}, ["saves/new"]),
        ({"adapter_name_or_path": "a"}, ["saves/new"]),
        ({"adapter_name_or_path": "a", "create_new_adapter": False}, ["saves/new"]),
        ({"adapter_name_or_path": "a", "create_new_adapter": True}, ["a", "saves/new"]),
        ({"adapter_name_or_path": "a,b"}, ["a", "saves/new"]),
        ({"adapter_name_or_path": " a , b ", "create_new_adapter": True}, ["a", "b", "saves/new"]),
        ({"adapter_name_or_path": ["a", "b"], "create_new_adapter": True}, ["a", "b", "saves/new"]),
        ({"adapter_name_or_path": "a", "create_new_adapter": True, "quantization_bit": 4}, ["saves/new"]),
        ({"adapter_name_or_path": "a", "create_new_adapter": True, "use_unsloth": True}, ["saves/new"]),
        (
            {
                "adapter_name_or_path": "a",
                "create_new_adapter": True,
                "deepspeed": {"zero_optimization": {"stage": 3}},
            },
            ["saves/new"],
        ),
        (
            {
                "adapter_name_or_path": "a",
                "create_new_adapter": True,
                "deepspeed": {"zero_optimization": {"stage": 2}},
            },
            ["a", "saves/new"],
        ),
        (
            {"adapter_name_or_path": "a", "adapter_folder": "ckpt", "create_new_adapter": True},
            ["a/ckpt", "saves/new"],
        ),
        ({"adapter_name_or_path": "saves/new"}, ["saves/new"]),
        ({"adapter_name_or_path": "a,saves/new,c", "create_new_adapter": True}, ["a", "saves/new"]),
    ],
)
def test_the_adapters_of_a_training_are_all_there_in_order(keys: dict[str, Any], chain: list[str]) -> None:
    assert chain_adapters({**LORA, **keys}, "saves/new") == chain


def predict(training: dict[str, Any], trained: str) -> dict[str, Any]:
    return write_prediction_config(training, trained=trained, eval_dataset="t", output_dir="o", overrides={})


def test_a_model_that_was_quantised_on_disk_merges_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"bits": 4}}', encoding="utf-8")
    training = {
        **LORA,
        "model_name_or_path": str(tmp_path),
        "adapter_name_or_path": "a",
        "create_new_adapter": True,
    }
    assert predict(training, "saves/new")["adapter_name_or_path"] == "saves/new"


@pytest.mark.parametrize("stage", ["pt", "sft", "dpo", "kto", "ppo"])
def test_every_stage_is_asked_for_answers_in_the_one_that_generates(stage: str) -> None:
    config = predict({**LORA, "stage": stage, "pref_beta": 0.2, "mask_history": True, "packing": True}, "saves/new")
    assert (config["stage"], config["predict_with_generate"], config["do_predict"]) == ("sft", True, True)
    assert not {"pref_beta", "mask_history", "packing", "do_train"} & set(config)


def test_what_makes_the_model_reaches_both_sides() -> None:
    keys: dict[str, Any] = {
        "add_tokens": "<a>,<b>",
        "add_special_tokens": "<c>",
        "resize_vocab": True,
        "quantization_bit": 4,
        "rope_scaling": "yarn",
        "image_max_pixels": 1024,
        "flash_attn": "sdpa",
        "default_system": "You are kind.",
        "skip_special_tokens": False,
    }
    for trained in ("", "saves/new"):
        config = predict({**LORA, **keys}, trained)
        assert {key: config[key] for key in keys} == keys


def test_a_full_fine_tune_is_its_own_model_and_an_oft_adapter_is_loaded_as_an_adapter() -> None:
    full = predict(
        {**LORA, "finetuning_type": "full", "train_from_scratch": True, "model_revision": "v1"}, "saves/new"
    )
    assert full["model_name_or_path"] == "saves/new"
    assert not {"adapter_name_or_path", "train_from_scratch", "model_revision"} & set(full)
    mixed = predict({**LORA, "finetuning_type": "full", "mixture_of_depths": "convert"}, "saves/new")
    assert mixed["mixture_of_depths"] == "load"
    oft = predict({**LORA, "finetuning_type": "oft"}, "saves/new")
    assert (oft["finetuning_type"], oft["adapter_name_or_path"]) == ("lora", "saves/new")
