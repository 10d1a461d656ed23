"""LlamaBoard's Chat tab, filled from a chat config, or from a training that one wants to talk to."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from launch.configs.actions import Purpose, tell_purpose
from launch.configs.model_keys import carry_model_keys, list_adapters, set_trained
from launch.configs.schema import read_schema
from launch.llamaboard.fields import CHECKPOINTS, METHOD, MODEL_NAME, MODEL_PATH, SAVES, TEMPLATE
from launch.llamaboard.filling import name_model, name_saves
from prep.errors import ConfigError

# What Qwen3's makers ask for, with and without thoughts.
THINKING = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 8_192}
NOT_THINKING = {"temperature": 0.7, "top_p": 0.8, "max_new_tokens": 2_048}
# The tab's sliders: what they hold, from where to where.
_SLIDERS = {"temperature": (0.01, 1.5), "top_p": (0.01, 1.0), "max_new_tokens": (8, 8_192)}
_FIELDS = {"infer_backend": "huggingface", "infer_dtype": "auto"}
# What stands in a field above the tabs; all else that makes a model goes into the tab's extra arguments.
_ABOVE = {"model_name_or_path", "adapter_name_or_path", "adapter_folder", "finetuning_type", "template"}

# How rows are read, of which a chat has none.
_OF_ROWS = {
    *("dataset_dir", "media_dir", "cutoff_len", "preprocessing_num_workers", "preprocessing_batch_size"),
    *("overwrite_cache", "ignore_pad_token_for_loss", "data_shared_file_system", "dataloader_num_workers", "seed"),
}


def wants_chat(values: Mapping[str, Any]) -> bool:
    """Tell whether a config is one to talk by."""
    return tell_purpose(values) is Purpose.INFER


def make_chat_values(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat config of what a training made.

    Raises: ConfigError when it has no output folder.
    """
    if wants_chat(training):
        return dict(training)
    if not training.get("output_dir"):
        raise ConfigError("`output_dir` is missing: there is nothing to talk to", hint="output_dir=FOLDER")
    method = training.get("finetuning_type", "lora")
    known = read_schema("infer")["properties"]
    values = set_trained(carry_model_keys(training), training, str(training["output_dir"]))
    values |= {"finetuning_type": "lora" if method == "oft" else method}
    return {key: value for key, value in values.items() if key in known and key not in _OF_ROWS}


def choose_sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Chat tab's own fields: thoughts as they were trained, and the sampling that goes with them."""
    thinks = values.get("enable_thinking") is not False
    sampling = {**(THINKING if thinks else NOT_THINKING)}
    for key, (least, most) in _SLIDERS.items():
        if isinstance(given := values.get(key), int | float) and not isinstance(given, bool):
            sampling[key] = min(max(given, least), most)
    return {**{f"infer.{key}": value for key, value in sampling.items()}, "infer.enable_thinking": thinks}


def describe_chat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the page by which LlamaBoard loads a chat config's model and talks to it."""
    model = str(values["model_name_or_path"])
    adapters = list_adapters(values)
    first = PurePosixPath(adapters[0].replace("\\", "/")).parts if adapters else ()
    at_home = len(first) == 4 and first[0] == SAVES.name
    page: dict[str, Any] = {
        MODEL_NAME: first[1] if at_home else name_model(model),
        MODEL_PATH: model,
        TEMPLATE: values.get("template") or "default",
        METHOD: values.get("finetuning_type") or "lora",
    }
    page[CHECKPOINTS] = name_saves(adapters, page)
    shown = {f"infer.{key}": values.get(key) or default for key, default in _FIELDS.items()}
    told = {*_ABOVE, *_FIELDS, *_SLIDERS, "enable_thinking", "default_system"}
    extra = {key: value for key, value in values.items() if key not in told and value is not None}
    return {
        **page,
        **shown,
        "infer.extra_args": json.dumps(extra, ensure_ascii=False),
        "infer.system": str(values.get("default_system") or ""),
        **choose_sampling(values),
    }
