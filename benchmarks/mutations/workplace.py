"""The folder in which mutated configs run: tiny models, adapters and datasets, whole ones and broken ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.configs.presets import list_presets
from launch.configs.schema import guess_kind

ROWS = 40
_ASKED: dict[str, Any] = {"instruction": "what is this", "input": "", "system": "", "history": []}
_ANSWER = "<think>\na thought\n</think>\n\nan answer"
# name → the row that its file repeats; `mini_STAGE` is what a stage other than sft takes.
_SETS: dict[str, dict[str, Any]] = {
    "mini": {**_ASKED, "output": _ANSWER},
    "other": {**_ASKED, "output": "another answer"},
    "mini_dpo": {**_ASKED, "chosen": "an answer", "rejected": "no answer"},
    "mini_rm": {**_ASKED, "chosen": "an answer", "rejected": "no answer"},
    "mini_kto": {**_ASKED, "output": "an answer", "kto_tag": True},
    "mini_pt": {"text": "a page of a book, which is long enough to be trained. " * 100},
    "short_pt": {"text": "a line"},
}
# What this machine has not, and what only costs time.
_LEFT_OUT = ("fsdp", "fsdp_config", "quantization_bit", "preprocessing_num_workers", "plot_loss", "report_to")
_STEPS = ("save_steps", "eval_steps", "logging_steps")


def make_workplace(folder: Path) -> None:
    """Write `data/`, `models/` and `adapters/` into a new folder, with what is broken beside what is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_datasets(folder / "data")
    _write_models(folder / "models", folder / "data" / "mini.jsonl")
    _write_adapters(folder / "adapters")


def find_bases(folder: Path) -> list[dict[str, Any]]:
    """Return valid configs: the presets as they run here in two steps, each on a small set of its stage."""
    bases = []
    for preset in list_presets():
        values = preset.values
        if guess_kind(values) != "train" or "deepspeed" in values:
            continue
        stage = values.get("stage", "sft")
        dataset = f"mini_{stage}" if f"mini_{stage}" in _SETS else "mini"
        values.update(model_name_or_path=str(folder / "models" / "tiny"), dataset_dir=str(folder / "data"))
        values.update(output_dir=str(folder / "out"), bf16=False, max_steps=2, gradient_accumulation_steps=1)
        values.update({key: dataset for key in ("dataset", "eval_dataset") if key in values})
        values.update(
            {key: str(folder / "adapters" / "whole") for key in ("adapter_name_or_path",) if key in values}
        )
        values.update({key: 1 for key in _STEPS if key in values})
        values.update({key: 4 for key in ("max_new_tokens",) if key in values})
        values.update({key: False for key in ("use_unsloth",) if key in values})
        values = {key: value for key, value in values.items() if key not in _LEFT_OUT}
        bases.append(values)
    return bases


def list_datasets() -> list[str]:
    """Return names for `dataset` that the registry holds, and some that it does not or whose file is broken."""
    return [*_SETS, *_BROKEN_SETS, "nosuch", "mini,other", "mini,mini_dpo", ""]


def list_models(folder: Path) -> list[str]:
    """Return paths for `model_name_or_path`: folders in every state."""
    return [str(folder / "models" / name) for name in (*_BROKEN_MODELS, "tiny", "nosuch")]


def list_adapters(folder: Path) -> list[str]:
    """Return values for `adapter_name_or_path`: folders in every state, one and several."""
    one = [str(folder / "adapters" / name) for name in ("whole", "empty", "no_weights", "broken", "nosuch", "wide")]
    return [*one, f"{one[0]},{one[0]}", ""]


# What stands in dataset_info.json and is odd: name → (entry, text of its file).
_BROKEN_SETS: dict[str, tuple[dict[str, Any], str | None]] = {
    "gone": ({"file_name": "gone.jsonl"}, None),
    "empty": ({"file_name": "empty.jsonl"}, ""),
    "not_json": ({"file_name": "not_json.jsonl"}, "hello\n"),
    "odd_ending": ({"file_name": "odd.md"}, "hello\n"),
    "no_column": (
        {"file_name": "no_column.jsonl", "columns": {"prompt": "question", "response": "output"}},
        json.dumps(_SETS["other"]) + "\n",
    ),
    "odd_formatting": ({"file_name": "mini.jsonl", "formatting": "nosuch"}, None),
    "sharegpt_on_alpaca": ({"file_name": "mini.jsonl", "formatting": "sharegpt"}, None),
    "ranking_on_alpaca": ({"file_name": "mini.jsonl", "ranking": True}, None),
    "no_place": ({"formatting": "alpaca"}, None),
    "a_folder": ({"file_name": "a_folder"}, None),
    "more_samples": ({"file_name": "mini.jsonl", "num_samples": 100}, None),
    "null_output": ({"file_name": "null_output.jsonl"}, json.dumps({**_ASKED, "output": None}) + "\n"),
}


def _write_datasets(folder: Path) -> None:
    from prep.registry.dataset_info import register_dataset

    folder.mkdir()
    for name, row in _SETS.items():
        (folder / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * ROWS, encoding="utf-8")
        register_dataset(folder / f"{name}.jsonl", name, folder)
    (folder / "a_folder").mkdir()
    for part in ("one", "two"):
        shutil.copyfile(folder / "mini.jsonl", folder / "a_folder" / f"{part}.jsonl")
    registry = folder / "dataset_info.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    for name, (entry, text) in _BROKEN_SETS.items():
        entries[name] = entry
        if text is not None:
            (folder / entry["file_name"]).write_text(text * ROWS, encoding="utf-8")
    registry.write_text(json.dumps(entries), encoding="utf-8")


def _change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}), "utf-8")

    return change


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _name_shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


# Each is a copy of the tiny model with one thing wrong.
_BROKEN_MODELS: dict[str, Callable[[Path], None]] = {
    "no_config": _remove("config.json"),
    "no_weights": _remove("model.safetensors"),
    "no_tokenizer": _remove("tokenizer.json", "tokenizer_config.json"),
    "half": _cut_weights,
    "no_shards": _name_shards,
    "no_type": _change_config(model_type=...),
    "new_type": _change_config(model_type="nosuch_model", architectures=["NosuchForCausalLM"]),
    "own_code": _change_config(
        model_type="nosuch_model", auto_map={"AutoConfig": "configuration_nosuch.Config", "AutoModel": "x.Y"}
    ),
    "gptq": _change_config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "odd_quantised": _change_config(quantization_config={"quant_method": "nosuch"}),
    "wider": _change_config(hidden_size=256),
    "not_json": _spoil_config,
}


def _write_models(folder: Path, data: Path) -> None:
    from launch.recipes.tiny_model import write_tiny_model

    write_tiny_model(data, folder / "tiny")
    for name, spoil in _BROKEN_MODELS.items():
        shutil.copytree(folder / "tiny", folder / name)
        spoil(folder / name)


def _write_adapters(folder: Path) -> None:
    folder.mkdir()
    whole = {
        **{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"},
        **{"bias": "none", "base_model_name_or_path": "tiny"},
    }
    for name, config, rank_of in (
        ("whole", whole, 128),
        ("wide", whole, 512),
        ("no_weights", whole, 0),
        ("broken", {"peft_type": "NOSUCH"}, 128),
    ):
        (folder / name).mkdir()
        (folder / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        if rank_of:
            (folder / name / "adapter_model.safetensors").write_bytes(_pack_lora(rank_of))
    (folder / "empty").mkdir()


def _pack_lora(hidden: int) -> bytes:
    """Return a safetensors file of rank 2 over the first layer's q_proj, all zeros."""
    shapes = {"lora_A": [2, hidden], "lora_B": [128, 2]}
    header, offset = {}, 0
    for part, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        name = f"base_model.model.model.layers.0.self_attn.q_proj.{part}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(offset)
