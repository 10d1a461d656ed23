"""A training YAML on LlamaBoard's page: the fields that run the same, and what they cannot say.

What differs from the YAML is put into `extra_args`; what the page sets after them is told.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from launch.configs.document import format_value
from launch.llamaboard.fields import (
    BITS,
    BOOSTER,
    BOOSTERS,
    CACHE_DIR,
    CHECKPOINTS,
    EXTRA_ARGS,
    FIELDS,
    FIRST,
    LORA,
    MODEL_NAME,
    MODEL_PATH,
    OUTPUT_DIR,
    PAGE_BITS,
    PEFT,
    PLAIN_FIELDS,
    PRECISION,
    QUANTIZER,
    QUANTIZERS,
    SAVES,
    STAGE,
    STAGES,
    VAL_SIZE,
)
from launch.llamaboard.forms import read_extra_args, show_value
from launch.llamaboard.page import (
    ALL_ROWS,
    HARMLESS,
    KEPT_WHEN_EMPTY,
    complete_values,
    is_empty,
    locate_save,
    read_defaults,
    read_page,
)
from prep.errors import ConfigError


@dataclass(frozen=True)
class Loss:
    """A key that the page cannot carry: what the YAML says, and what the page would run."""

    key: str
    wanted: Any
    got: Any

    def describe(self) -> str:
        """Say it in one line."""
        return f"`{self.key}: {format_value(self.wanted)}` cannot be set there: it runs {format_value(self.got)}"


@dataclass(frozen=True)
class Filled:
    """A page's values by field, and what of the YAML they do not say."""

    page: dict[str, Any]
    lost: list[Loss]

    @property
    def shadowed(self) -> list[str]:
        """The keys that `extra_args` says although they have a field: what the field shows does not count."""
        own = {field.key for field in FIRST}
        return [key for key in read_extra_args(self.page) if key in own]


def fill_page(values: Mapping[str, Any]) -> Filled:
    """Return the page that runs what a training YAML runs: LLaMA-Factory's defaults where the YAML is silent.

    What has no field goes into `extra_args`; what the page overwrites after them is in `lost`.
    Raises: ConfigError when the YAML does not name its model, dataset or output folder.
    """
    wanted = complete_values(values)
    for key in ("model_name_or_path", "dataset", "output_dir"):
        if not wanted.get(key):
            raise ConfigError(f"`{key}` is missing", hint=f"{key}=NAME")
    page = {field.id: field.default for field in FIELDS.values()}
    page[EXTRA_ARGS] = "{}"
    page |= _place_run(wanted)
    for field in PLAIN_FIELDS:
        if field.key in values or field in FIRST or field in LORA:
            page[field.id] = show_value(field, wanted.get(field.key))
    page |= _fill_special(wanted, page)
    extra = {}
    for key, value, _ in _compare(page, wanted, values):
        # The trainer gets 0 where the page would drop a false.
        is_dropped = value is False and key not in KEPT_WHEN_EMPTY and key in values
        extra[key] = 0 if is_dropped and read_defaults().get(key) else value
    page[EXTRA_ARGS] = json.dumps(extra, ensure_ascii=False)
    return Filled(page, [Loss(*difference) for difference in _compare(page, wanted, values)])


def _place_run(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the page's model and output folder: `saves/<model>/<method>/<run>` in three fields, or a path."""
    model = str(wanted["model_name_or_path"])
    output = PurePosixPath(str(wanted["output_dir"]).replace("\\", "/"))
    page = {MODEL_NAME: name_model(model), MODEL_PATH: model}
    parts = output.parts
    if (
        len(parts) == 4
        and parts[0] == SAVES.name
        and parts[2] == wanted["finetuning_type"]
        and " " not in str(output)
    ):
        page[MODEL_NAME] = parts[1]
        return {**page, OUTPUT_DIR: parts[3]}
    return {**page, OUTPUT_DIR: output.as_posix() if len(parts) > 1 else f"./{output}"}


def name_model(model_name_or_path: str) -> str:
    """Return the name that a model has on the page and under saves/: that of its folder, without spaces."""
    return PurePosixPath(model_name_or_path.replace("\\", "/")).name.replace(" ", "-") or "model"


def _fill_special(wanted: Mapping[str, Any], page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields whose arguments are not one key and one value, as far as the page can say them."""
    filled: dict[str, Any] = {}
    filled[STAGE] = next((name for name, stage in STAGES.items() if stage == wanted["stage"]), page[STAGE])
    filled[BOOSTER] = next(
        (
            name
            for name, keys in reversed(BOOSTERS.items())
            if all(wanted[key] == value for key, value in keys.items() if value)
        ),
        "auto",
    )
    filled[PRECISION] = next((name for name in ("pure_bf16", "bf16", "fp16") if wanted[name]), "fp32")
    if wanted["max_samples"] is None and not wanted["streaming"]:
        filled["train.max_samples"] = str(ALL_ROWS)
    if wanted["enable_thinking"] is None:
        filled["train.enable_thinking"] = True
    if wanted.get("adapter_name_or_path") and wanted["finetuning_type"] in PEFT:
        filled[CHECKPOINTS] = name_saves(wanted["adapter_name_or_path"], page)
    if wanted.get("reward_model") and wanted["stage"] == "ppo":
        filled["train.reward_model"] = name_saves(wanted["reward_model"], page)
    bits = str(wanted["quantization_bit"])
    if wanted["quantization_method"] in QUANTIZERS:
        filled[QUANTIZER] = wanted["quantization_method"]
        if bits in PAGE_BITS and wanted["double_quantization"]:
            filled[BITS] = bits
    if _validates_as_the_page_does(wanted):
        filled[VAL_SIZE] = show_value(FIELDS[VAL_SIZE], wanted["val_size"])
    for stage in ("2", "3"):
        for offload in (False, True):
            path = CACHE_DIR / f"ds_z{stage}_{'offload_' if offload else ''}config.json"
            if wanted["deepspeed"] == path.as_posix():
                filled |= {"train.ds_stage": stage, "train.ds_offload": offload}
    return filled


def _validates_as_the_page_does(wanted: Mapping[str, Any]) -> bool:
    return bool(
        wanted["eval_strategy"] == "steps"
        and wanted["eval_steps"] == wanted["save_steps"]
        and wanted["per_device_eval_batch_size"] == wanted["per_device_train_batch_size"]
    )


def name_saves(paths: Any, page: Mapping[str, Any]) -> list[str]:
    """Return the names under which the page knows folders of runs; a folder elsewhere keeps its path."""
    names = []
    for path in paths.split(",") if isinstance(paths, str) else paths:
        place = PurePosixPath(path.strip().replace("\\", "/"))
        home = PurePosixPath(locate_save(page, "run")).parent
        is_at_home = place.parent == home and " " not in place.name
        names.append(place.name if is_at_home else place.as_posix() if len(place.parts) > 1 else f"./{place}")
    return names


def _compare(
    page: Mapping[str, Any], wanted: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, what the YAML runs, what the page would run) where these differ."""
    sent = {key: value for key, value in read_page(page).items() if key in KEPT_WHEN_EMPTY or not is_empty(value)}
    got = complete_values(sent)
    for key in [*values, *(key for key in got if key not in values)]:
        if key in HARMLESS and key not in values:
            continue
        if not _is_same(wanted.get(key), got.get(key)):
            yield key, wanted.get(key), got.get(key)


def _is_same(left: Any, right: Any) -> bool:
    """Whether LLaMA-Factory does the same with both: a list is its items with commas, "" is null."""
    texts = [",".join(map(str, value)) if isinstance(value, list) else value for value in (left, right)]
    if all(is_empty(value) or value == 0 for value in texts):
        return True
    same: bool = texts[0] == texts[1]
    return same
