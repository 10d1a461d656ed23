"""What a YAML is for, and which of LLaMA-Factory's actions may be given it: a training YAML never predicts."""

import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from launch.configs.schema import guess_kind
from prep.errors import ConfigError


class Purpose(StrEnum):
    """What a YAML was written for, told by its keys."""

    TRAIN = "a training config"
    PREDICT = "a prediction config"
    EVALUATE = "a config that only measures the loss"
    IDLE = "a config that neither trains nor predicts"
    EXPORT = "an export config"
    INFER = "a chat or API config"
    SWEEP = "a sweep of `lfc launch batch`"
    RECIPE = "a recipe of `lfc run`"
    PAGE = "settings that were saved in the WebUI"
    TASKS = "a config of lm-evaluation-harness"


# What each action takes, and what that is called.
_TAKES: dict[str, tuple[frozenset[Purpose], str]] = {
    "train": (
        frozenset({Purpose.TRAIN, Purpose.EVALUATE}),
        "a training config, with do_train: true",
    ),
    "predict": (
        frozenset({Purpose.PREDICT}),
        "a prediction config, with do_predict: true and without do_train",
    ),
    "export": (frozenset({Purpose.EXPORT}), "an export config, with export_dir"),
    "chat": (frozenset({Purpose.INFER}), "a chat config: a model, a template, and how it answers"),
    "api": (frozenset({Purpose.INFER}), "a chat or API config: a model, a template, and how it answers"),
    "eval": (frozenset({Purpose.TRAIN, Purpose.IDLE}), "training configs, of what is to be compared with its base"),
}
_SWEEP_KEYS = {"grid", "zip", "runs"}
_PRESETS = {"predict": "predict", "export": "export-merge", "chat": "infer-thinking", "api": "infer-thinking"}
# What a config for another action of the same model takes over.
_SAME_MODEL = ("model_name_or_path", "template", "dataset_dir", "enable_thinking")


def tell_purpose(values: Mapping[str, Any]) -> Purpose:
    """Tell what a YAML is for. `do_train` counts as LLaMA-Factory counts it: whatever is not empty is true."""
    keys = {str(key) for key in values}
    if "model_name_or_path" not in keys:
        if any(key.startswith(("top.", "train.")) for key in keys):
            return Purpose.PAGE
        if "sources" in keys:
            return Purpose.RECIPE
        if "config" in keys and keys & (_SWEEP_KEYS | {"set"}):
            return Purpose.SWEEP
        if "tasks" in keys and keys & {"model", "model_args"}:
            return Purpose.TASKS
    for key, purpose in (
        ("do_train", Purpose.TRAIN),
        ("do_predict", Purpose.PREDICT),
        ("do_eval", Purpose.EVALUATE),
    ):
        if values.get(key):
            return purpose
    if guess_kind(values) == "train":
        return Purpose.IDLE
    return Purpose.EXPORT if "export_dir" in keys or _exports(keys) else Purpose.INFER


def refuse_other_purpose(action: str, path: Path, values: Mapping[str, Any]) -> None:
    """Raise ConfigError, with the command that makes the right config, when a YAML is not for this action.

    Shape: `action` is the command's name: train, predict, export, chat, api or eval.
    """
    taken, wanted = _TAKES[action]
    purpose = tell_purpose(values)
    if purpose not in taken:
        raise ConfigError(
            f"{path} is {purpose}, and {action} takes {wanted}", hint=_hint(action, purpose, path, values)
        )
    if action == "export" and not values.get("export_dir"):
        raise ConfigError(
            f"{path} has no export_dir: there is no place to write the model to", hint="export_dir=FOLDER"
        )
    if action == "eval" and values.get("stage") == "rm":
        raise ConfigError(
            f"{path} is of stage rm: a reward model scores answers and writes none, so nothing can be compared",
            hint="its accuracy: lfc launch train FILE do_train=false do_eval=true eval_dataset=NAME",
        )


def _exports(keys: set[str]) -> bool:
    return any(key.startswith("export_") for key in keys)


def _hint(action: str, purpose: Purpose, path: Path, values: Mapping[str, Any]) -> str:
    """Return the command that does what was meant."""
    file = shlex.quote(path.as_posix())
    if purpose is Purpose.SWEEP:
        return f"lfc launch batch {file}"
    if purpose is Purpose.RECIPE:
        return f"lfc run {file}"
    if purpose is Purpose.PAGE:
        return f"lfc launch config import {file} -o FILE"
    if purpose is Purpose.TASKS:
        return f"lm_eval run --config {file}"
    if action in ("train", "eval"):
        command = {Purpose.PREDICT: "predict", Purpose.EXPORT: "export", Purpose.INFER: "chat"}.get(purpose)
        if command and action == "train":
            return f"lfc launch {command} {file}"
        return "do_train=true and a dataset" if action == "train" else "the YAML that trained the model"
    return _write_new_command(action, path, values)


def _write_new_command(action: str, path: Path, values: Mapping[str, Any]) -> str:
    """Return `lfc launch config new …` that makes a config of another action for what this one trained."""
    from launch.configs.document import format_value
    from launch.configs.model_keys import chain_adapters, is_whole_model

    pairs = {key: values[key] for key in _SAME_MODEL if values.get(key) is not None}
    trained = str(values.get("output_dir") or "") if tell_purpose(values) is Purpose.TRAIN else ""
    if action != "predict":
        pairs.pop("dataset_dir", None)
    if is_whole_model(values) and trained:
        pairs["model_name_or_path"] = trained
        pairs["adapter_name_or_path"] = None
    else:
        adapters = chain_adapters(values, trained)
        pairs["adapter_name_or_path"] = ",".join(adapters) if adapters else None
    if action == "predict":
        pairs |= {key: values[key] for key in ("cutoff_len", "bf16") if values.get(key) is not None}
        pairs["eval_dataset"] = values.get("eval_dataset") or "NAME"
        pairs["output_dir"] = f"saves/{path.stem}-predict"
    if action == "export":
        pairs.pop("enable_thinking", None)
        pairs["export_dir"] = f"models/{path.stem}"
    target = path.with_name(f"{path.stem}-{'chat' if action == 'api' else action}.yaml")
    words = [f"{key}={format_value(value)}" for key, value in pairs.items()]
    return shlex.join(["lfc", "launch", "config", "new", _PRESETS[action], *words, "-o", target.as_posix()])
