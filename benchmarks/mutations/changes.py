"""How a valid config is changed: slips of the hand, odd values, pairs that do not go together, broken folders."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutations.workplace import list_adapters, list_datasets, list_models


@dataclass(frozen=True)
class Material:
    """What the changes choose from: the schema's properties, and the workplace's folder."""

    properties: dict[str, Any]
    folder: Path


Change = Callable[[dict[str, Any], random.Random, Material], str]
ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        8,
        0.5,
        1.5,
        1e-4,
        -0.1,
        1e30,
        "",
        "no",
        "true",
        "abc",
        "1e-4",
        "8",
        "{",
        "{}",
    ),
    *([], ["a"], [1], {}, {"a": 1}, "steps", "epoch", "a,b", "none", "auto"),
]
ODD_NUMBERS: tuple[float, ...] = (0, 1, -1, 2, 3, 7, 100, 0.0, 0.5, 1.0, 2.0, -0.5, 1e-12, 10**6)


def mutate(values: dict[str, Any], rng: random.Random, material: Material) -> tuple[dict[str, Any], str]:
    """Change a config in one to three places and say how."""
    values = copy.deepcopy(values)
    told = [rng.choice(MUTATIONS)(values, rng, material) for _ in range(rng.choice((1, 1, 2, 3)))]
    return values, "; ".join(told)


def misspell_key(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    key = rng.choice(list(values))
    place = rng.randrange(len(key))
    wrong = key[:place] + rng.choice("_aexs") + key[place + rng.choice((0, 1)) :]
    values[wrong] = values.pop(key)
    return f"{key} → {wrong}"


def remove_key(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    key = rng.choice(list(values))
    del values[key]
    return f"-{key}"


def odd_value(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    key = rng.choice([*values, *rng.sample(sorted(material.properties), 8)])
    values[key] = rng.choice(ODD_VALUES)
    return f"{key}={values[key]!r}"


def flip_switch(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    switches = [key for key, item in material.properties.items() if item["default"] in (True, False)]
    key = rng.choice(sorted(switches))
    values[key] = not values.get(key, material.properties[key]["default"])
    return f"{key}={values[key]}"


def other_choice(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    choosing = {
        key: choices
        for key, item in material.properties.items()
        for part in item.get("anyOf", [item])
        if (choices := part.get("enum"))
    }
    key = rng.choice(sorted(choosing))
    values[key] = rng.choice(choosing[key])
    return f"{key}={values[key]}"


def likely_pair(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    changes = rng.choice(PAIRS)
    values.update(changes)
    return json.dumps(changes)


def odd_number(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    numeric = [
        key
        for key, item in material.properties.items()
        if {part.get("type") for part in item.get("anyOf", [item])} & {"number", "integer"}
    ]
    key = rng.choice(sorted(numeric))
    values[key] = rng.choice(ODD_NUMBERS)
    return f"{key}={values[key]!r}"


def odd_text(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    texts = [
        key
        for key, item in material.properties.items()
        if "string" in {part.get("type") for part in item.get("anyOf", [item])}
    ]
    key = rng.choice(sorted(texts))
    values[key] = rng.choice(("", "abc", "a,b", "none", "auto", "no/such/path"))
    return f"{key}={values[key]!r}"


def other_dataset(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    key = rng.choice(("dataset", "dataset", "eval_dataset"))
    values[key] = rng.choice(list_datasets())
    return f"{key}={values[key]!r}"


def other_stage(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    stage = rng.choice(("pt", "sft", "rm", "ppo", "dpo", "kto"))
    values["stage"] = stage
    values["dataset"] = rng.choice((f"mini_{stage}", "mini", "short_pt")).replace("mini_sft", "mini")
    return f"stage={stage} dataset={values['dataset']}"


def other_model(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    values["model_name_or_path"] = rng.choice(list_models(material.folder))
    return f"model_name_or_path={values['model_name_or_path']!r}"


def other_adapter(values: dict[str, Any], rng: random.Random, material: Material) -> str:
    values["adapter_name_or_path"] = rng.choice(list_adapters(material.folder))
    return f"adapter_name_or_path={values['adapter_name_or_path']!r}"


MUTATIONS: list[Change] = [
    *(misspell_key, remove_key, odd_value, odd_value, flip_switch, flip_switch, other_choice, likely_pair),
    *(odd_number, odd_number, odd_text, other_dataset, other_stage, other_model, other_adapter),
]
PAIRS: list[dict[str, Any]] = [
    {"val_size": 0.1},
    {"val_size": 0.1, "eval_strategy": "steps", "eval_steps": 2.5},
    {"eval_dataset": "mini", "val_size": 0.1},
    {"eval_strategy": "steps"},
    {"do_predict": True},
    {"streaming": True},
    {"streaming": True, "max_steps": 5, "val_size": 0.1},
    {"mask_history": True, "train_on_prompt": True},
    {"stage": "dpo", "mask_history": True},
    {"finetuning_type": "full", "quantization_bit": 4},
    {"finetuning_type": "full", "use_dora": True},
    {"finetuning_type": "freeze", "adapter_name_or_path": "a"},
    {"use_galore": True},
    {"finetuning_type": "full", "use_galore": True, "use_badam": True},
    {"load_best_model_at_end": True},
    {"load_best_model_at_end": True, "val_size": 2, "eval_strategy": "steps", "eval_steps": 7, "save_steps": 20},
    {"stage": "ppo", "reward_model": "r"},
    {"stage": "ppo"},
    {"interleave_probs": "0.5,0.5"},
    {"interleave_probs": "0.5", "mix_strategy": "interleave_over"},
    {"interleave_probs": "a,b", "mix_strategy": "interleave_over"},
    {"fp16": True, "bf16": True},
    {"fsdp": "offload"},
    {"fsdp": "full_shard shard_grad_op"},
    {"deepspeed": "nowhere.json"},
    {"accelerator_config": {"nope": 1}},
    {"warmup_ratio": -0.5},
    {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 0},
    {"lr_scheduler_type": "reduce_lr_on_plateau"},
    {"quantization_bit": 4, "resize_vocab": True},
    {"quantization_bit": 4, "pissa_init": True},
    {"stage": "kto", "pissa_init": True},
    {"infer_backend": "vllm"},
    {"pref_loss": "hinge", "stage": "dpo", "dpo_label_smoothing": 0.1},
    {"report_to": ["trackio"], "project": ""},
    {"image_max_pixels": 1},
    {"export_quantization_bit": 4},
    {"predict_with_generate": True, "compute_accuracy": True, "val_size": 0.1},
    {"fp8": True, "quantization_bit": 8},
]
