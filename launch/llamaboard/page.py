"""What LlamaBoard's page would run: the way from its saved fields to a training YAML's values.

The page does not run its fields as they stand: it builds LLaMA-Factory's arguments from them, lets `extra_args` win
over the first part, and then sets the method's own arguments. `read_page` does the same, so that what a page would
run can be compared with what a YAML runs.
Source: LLaMA-Factory 0.9.5, webui/runner.py; a test compares both on real pages.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from launch.llamaboard.fields import (
    APOLLO,
    BADAM,
    BITS,
    BOOSTER,
    BOOSTERS,
    CACHE_DIR,
    CHECKPOINTS,
    FIELDS,
    FIRST,
    FREEZE,
    GALORE,
    LORA,
    METHOD,
    MODEL_NAME,
    MODEL_PATH,
    OUTPUT_DIR,
    PEFT,
    PLAIN_FIELDS,
    PPO,
    PRECISION,
    PREFERENCE,
    QUANTIZER,
    SAVES,
    STAGE,
    STAGES,
    SWANLAB,
    VAL_SIZE,
    Field,
)
from launch.llamaboard.forms import read_extra_args, read_fields, take_value

# What the page sets on its own, whatever its fields say.
_FIXED = {
    "do_train": True,
    "preprocessing_num_workers": 16,
    "plot_loss": True,
    "trust_remote_code": True,
    "ddp_timeout": 180_000_000,
    "include_num_input_tokens_seen": True,
}
# Of these, what changes no training: left as the page has it unless the YAML says otherwise.
HARMLESS = ("plot_loss", "ddp_timeout", "include_num_input_tokens_seen")
# The page needs a number of rows, and has no word for all of them.
ALL_ROWS = 1_000_000_000
# The page drops null, false and "" on the way to the trainer, but not of these.
KEPT_WHEN_EMPTY = (
    *("packing", "enable_thinking", "use_reentrant_gc", "double_quantization"),
    *("freeze_vision_tower", "freeze_multi_modal_projector"),
)


def read_page(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that LlamaBoard would train with, in its order; absent fields are as at first.

    Raises: ConfigError when `extra_args` is not a JSON object.
    """
    page = {**{field.id: field.default for field in FIELDS.values()}, **page}
    args: dict[str, Any] = {
        "stage": STAGES[page[STAGE]],
        **_FIXED,
        "model_name_or_path": page.get(MODEL_PATH),
        **BOOSTERS[page[BOOSTER]],
        **read_fields(FIRST, page),
        "output_dir": locate_save(page, page.get(OUTPUT_DIR) or "train"),
        **{name: page[PRECISION] == name for name in ("fp16", "bf16", "pure_bf16")},
    }
    args["packing"] = bool(page["train.packing"] or page["train.neat_packing"])
    args |= read_extra_args(page)
    if page[CHECKPOINTS]:
        names = [page[CHECKPOINTS]] if isinstance(page[CHECKPOINTS], str) else page[CHECKPOINTS]
        key = "adapter_name_or_path" if page[METHOD] in PEFT else "model_name_or_path"
        args[key] = ",".join(locate_save(page, name) for name in names)
    if page[BITS] != "none":
        bits = int(page[BITS])
        args |= {"quantization_bit": bits, "quantization_method": page[QUANTIZER], "double_quantization": True}
    for is_on, fields in _list_groups(args, page):
        if is_on:
            args |= read_fields(fields, page)
    return args | _read_method(args, page)


def _read_method(args: Mapping[str, Any], page: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page sets last, on top of one argument a field."""
    more: dict[str, Any] = {}
    if args["finetuning_type"] == "lora":
        more |= {"pissa_convert": page["train.use_pissa"], "lora_target": page["train.lora_target"] or "all"}
        if args["use_llama_pro"]:
            more["freeze_trainable_layers"] = page["train.freeze_trainable_layers"]
    if args["stage"] == "ppo":
        names = page["train.reward_model"] or []
        more["reward_model"] = ",".join(locate_save(page, name) for name in names) or None
        more["reward_model_type"] = "lora" if page[METHOD] == "lora" else "full"
        more |= {"top_k": 0, "top_p": 0.9}
    if page[VAL_SIZE] > 1e-6 and args["stage"] != "ppo":
        more |= {"val_size": page[VAL_SIZE], "eval_strategy": "steps", "eval_steps": args["save_steps"]}
        more["per_device_eval_batch_size"] = args["per_device_train_batch_size"]
    if page["train.ds_stage"] != "none":
        offload = "offload_" if page["train.ds_offload"] else ""
        more["deepspeed"] = (CACHE_DIR / f"ds_z{page['train.ds_stage']}_{offload}config.json").as_posix()
    return more


def _list_groups(args: Mapping[str, Any], page: Mapping[str, Any]) -> tuple[tuple[bool, tuple[Field, ...]], ...]:
    """Return the groups of fields that the page sets after `extra_args`, and whether it does now."""
    return (
        (args["finetuning_type"] == "freeze", FREEZE),
        (args["finetuning_type"] == "lora", LORA),
        (args["stage"] == "ppo", PPO),
        (args["stage"] in ("dpo", "kto"), PREFERENCE),
        (bool(args["use_galore"]), GALORE),
        (bool(args["use_apollo"]), APOLLO),
        (bool(args["use_badam"]), BADAM),
        (bool(page["train.use_swanlab"]), SWANLAB),
    )


def import_page(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training YAML's values that run what a saved page runs.

    Fields that this page does not use, and that say something else than at first, are kept as keys: LLaMA-Factory
    reads over them, and the way back finds them again.
    """
    args = read_page(page)
    values = {key: value for key, value in args.items() if key in KEPT_WHEN_EMPTY or not is_empty(value)}
    if values.get("max_samples") == ALL_ROWS:
        del values["max_samples"]
    for field in PLAIN_FIELDS:
        shown = page.get(field.id, field.default)
        if field.key not in args and shown != field.default:
            values[field.key] = take_value(field, shown)
    if page.get(BITS, "none") == "none" and page.get(QUANTIZER, "bnb") != "bnb":
        values.setdefault("quantization_method", page[QUANTIZER])
    return values


def find_unused(page: Mapping[str, Any]) -> list[str]:
    """Return the fields that this page does not use and that no key of a YAML could keep."""
    unused = []
    if page.get("train.ds_offload") and page.get("train.ds_stage", "none") == "none":
        unused.append("train.ds_offload")
    if page.get("train.reward_model") and STAGES[page.get(STAGE, "Supervised Fine-Tuning")] != "ppo":
        unused.append("train.reward_model")
    return unused


def complete_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with LLaMA-Factory's defaults behind them, and what it derives when a run starts."""
    complete = {**read_defaults(), **values}
    if complete.get("lora_alpha") is None and isinstance(complete.get("lora_rank"), int):
        complete["lora_alpha"] = complete["lora_rank"] * 2
    if complete.get("packing") is None or complete.get("neat_packing"):
        complete["packing"] = complete["stage"] == "pt" or bool(complete.get("neat_packing"))
    if complete.get("max_samples") == ALL_ROWS and not complete.get("streaming"):
        complete["max_samples"] = None
    for key in ("dataset", "eval_dataset"):
        if isinstance(complete.get(key), str):
            complete[key] = ",".join(name.strip() for name in complete[key].split(","))
    return complete


@cache
def read_defaults() -> Mapping[str, Any]:
    """Return LLaMA-Factory's default of every training key."""
    from launch.configs.schema import read_schema

    return {key: item["default"] for key, item in read_schema("train")["properties"].items()}


def locate_save(page: Mapping[str, Any], name: str) -> str:
    """Return the folder that the page means by a run's name: under saves/, or a path when there is a / in it."""
    if "/" in name or "\\" in name:
        return PurePosixPath(name.replace("\\", "/")).as_posix()
    model, method = page.get(MODEL_NAME) or "", page.get(METHOD) or "lora"
    return SAVES.joinpath(*(part.replace(" ", "").strip() for part in (model, method, name))).as_posix()


def is_empty(value: Any) -> bool:
    """Whether the page drops a value on the way to the trainer."""
    return value is None or value is False or value == ""
