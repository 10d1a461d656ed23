"""LlamaBoard's page as data: what it would run, and that no key is lost on the way there and back."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.configs.presets import list_presets
from launch.configs.schema import read_schema
from launch.llamaboard.fields import (
    BOOSTER,
    CHECKPOINTS,
    EXTRA_ARGS,
    FIELDS,
    METHOD,
    MODEL_NAME,
    MODEL_PATH,
    OUTPUT_DIR,
    STAGE,
)
from launch.llamaboard.filling import fill_page
from launch.llamaboard.forms import find_page_faults
from launch.llamaboard.page import complete_values, find_unused, import_page, read_defaults, read_page
from prep.errors import ConfigError
from tests.support.warm_stack import stack_python

BASE = {
    "model_name_or_path": "models/tiny-qwen3",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "template": "qwen3",
    "dataset": "medical",
    "output_dir": "saves/tiny-qwen3/lora/run",
}
# What the page sets on its own, and what changes no training.
FREE = {"plot_loss", "ddp_timeout", "include_num_input_tokens_seen"}
PROPERTIES = read_schema("train")["properties"]
TRAINING_PRESETS = [preset for preset in list_presets() if preset.values.get("do_train")]


def is_same(left: Any, right: Any) -> bool:
    """Whether LLaMA-Factory does the same with both."""
    left, right = (",".join(map(str, value)) if isinstance(value, list) else value for value in (left, right))
    return left == right or all(value in (None, False, "", 0) for value in (left, right))


def differ(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    left, right = complete_values(first), complete_values(second)
    keys = {*left, *right} - FREE
    return {key: (left.get(key), right.get(key)) for key in keys if not is_same(left.get(key), right.get(key))}


def test_the_page_has_the_87_fields_that_llamaboard_saves() -> None:
    assert len(FIELDS) == 87


@pytest.mark.parametrize("preset", TRAINING_PRESETS, ids=lambda preset: preset.name)
def test_every_training_preset_reaches_the_page_and_comes_back_whole(preset: Any) -> None:
    filled = fill_page(preset.values)
    assert filled.lost == []
    assert find_page_faults(filled.page) == []
    assert differ(preset.values, import_page(filled.page)) == {}


def list_other_values(key: str) -> list[Any]:
    """Values of a key that are not its default, as its schema allows."""
    item = PROPERTIES[key]
    others: dict[str, list[Any]] = {
        "boolean": [True, False], "integer": [3, 7], "number": [0.25, 3], "string": ["some-text"]
    }  # fmt: skip
    values: list[Any] = []
    for part in item.get("anyOf", [item]):
        values += part.get("enum", []) + others.get(part.get("type", ""), [])
    return [value for value in values if value != item["default"]][:3]


# What decides how the page is read is tried in tests of its own; api keys never reach the page.
_DECIDING = {"stage", "finetuning_type", "model_name_or_path", "dataset", "output_dir", "template", "do_train"}


@pytest.mark.parametrize("key", sorted(set(read_defaults()) - _DECIDING))
def test_every_training_key_survives_the_page_or_is_named(key: str) -> None:
    for value in list_other_values(key):
        values = {**BASE, key: value}
        filled = fill_page(values)
        assert find_page_faults(filled.page) == []
        lost = {loss.key for loss in filled.lost}
        changed = set(differ(values, import_page(filled.page)))
        assert changed <= lost, f"{key}: {value!r}"


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ({"lora_rank": 2048, "lora_alpha": 8}, {"lora_rank"}),
        ({"pissa_init": True, "pissa_convert": False}, {"pissa_convert"}),
        ({"stage": "ppo", "reward_model": "saves/tiny-qwen3/lora/judge", "top_p": 0.5}, {"top_k", "top_p"}),
    ],
)
def test_what_the_page_overwrites_is_named(values: dict[str, Any], lost: set[str]) -> None:
    assert {loss.key for loss in fill_page({**BASE, **values}).lost} == lost


def test_a_loss_says_what_is_wanted_and_what_runs() -> None:
    (loss,) = fill_page({**BASE, "lora_rank": 2048, "lora_alpha": 8}).lost
    assert loss.describe() == "`lora_rank: 2048` cannot be set there: it runs 8"


def test_null_thinking_goes_into_extra_args() -> None:
    page = fill_page({**BASE, "enable_thinking": None}).page
    assert json.loads(page[EXTRA_ARGS])["enable_thinking"] is None
    assert read_page(page)["enable_thinking"] is None


def test_keys_that_extra_args_says_in_spite_of_their_field_are_named() -> None:
    assert fill_page({**BASE, "enable_thinking": None, "warmup_steps": 0.1}).shadowed == [
        "enable_thinking",
        "warmup_steps",
    ]
    assert fill_page(BASE).shadowed == []


def test_all_rows_are_a_number_on_the_page_and_null_in_the_yaml() -> None:
    page = fill_page(BASE).page
    assert (page["train.max_samples"], "max_samples" in json.loads(page[EXTRA_ARGS])) == ("1000000000", False)
    assert "max_samples" not in import_page(page)
    streamed = fill_page({**BASE, "streaming": True, "max_steps": 5})
    assert json.loads(streamed.page[EXTRA_ARGS])["max_samples"] is None
    assert streamed.lost == []


def test_a_false_that_the_page_would_drop_becomes_a_zero() -> None:
    filled = fill_page({**BASE, "dataloader_pin_memory": False})
    assert json.loads(filled.page[EXTRA_ARGS])["dataloader_pin_memory"] == 0
    assert filled.lost == []


@pytest.mark.parametrize(
    ("output_dir", "name", "run"),
    [
        ("saves/Qwen3-4B/lora/one", "Qwen3-4B", "one"),
        ("elsewhere/one", "tiny-qwen3", "elsewhere/one"),
        ("one", "tiny-qwen3", "./one"),
        ("saves/Qwen3-4B/full/one", "tiny-qwen3", "saves/Qwen3-4B/full/one"),
    ],
)
def test_an_output_folder_is_a_run_of_its_model_or_a_path(output_dir: str, name: str, run: str) -> None:
    page = fill_page({**BASE, "output_dir": output_dir}).page
    assert (page[MODEL_NAME], page[OUTPUT_DIR]) == (name, run)
    assert read_page(page)["output_dir"] == output_dir


def test_an_adapter_under_saves_is_a_checkpoint_by_its_name() -> None:
    values = {**BASE, "adapter_name_or_path": "saves/tiny-qwen3/lora/first,other/second"}
    page = fill_page(values).page
    assert page[CHECKPOINTS] == ["first", "other/second"]
    assert read_page(page)["adapter_name_or_path"] == values["adapter_name_or_path"]


@pytest.mark.parametrize("missing", ["model_name_or_path", "dataset", "output_dir"])
def test_a_config_without_what_the_page_needs_is_refused(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"`{missing}` is missing"):
        fill_page({key: value for key, value in BASE.items() if key != missing})


def give_other(field_id: str) -> Any:
    """A value that a field allows and does not have at first."""
    field = FIELDS[field_id]
    if field.form in ("slider", "slider_or_null"):
        return field.high if field.digits else int(field.high) - 1
    if field.form == "flag":
        return not field.default
    if field.form in ("choice", "choice_or_null"):
        return next(choice for choice in field.choices if choice != field.default)
    return {"decimal": "0.125", "integer": "77", "pixels": "32768", "names": ["some"]}.get(field.form, "other")


@pytest.mark.parametrize("field_id", sorted(FIELDS))
def test_every_field_of_a_saved_page_survives_the_yaml_or_is_named(field_id: str) -> None:
    page = {**fill_page(BASE).page, field_id: give_other(field_id)}
    if field_id == EXTRA_ARGS:
        page[field_id] = '{"seed": 7}'
    if field_id == "train.swanlab_link":
        page[field_id] = None  # the page shows a link there, and always saves null
    values = import_page(page)
    back = fill_page(values).page
    # The arguments that the page runs are the same; extra_args may say them in other words.
    assert differ(values, import_page(back)) == {}
    kept = {key for key in page if key in back and back[key] == page[key]}
    assert field_id in {*kept, *find_unused(page), EXTRA_ARGS}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pages_filled_at_random_come_back_as_the_same_training(data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=12))
    page = {**fill_page(BASE).page, **{field_id: give_other(field_id) for field_id in chosen - {EXTRA_ARGS}}}
    assert find_page_faults(page) == []
    values = import_page(page)
    again = fill_page(values)
    lost = {loss.key for loss in again.lost}
    assert set(differ(values, import_page(again.page))) <= lost


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("top.hub_name", "huggingface", "the page has no such field: nothing of the file loads"),
        ("train.learning_rate", 2e-4, "is 0.0002, allowed is a number in quotes"),
        ("top.quantization_bit", 4, "is 4, allowed is one of none, 8, 6, 5, 4, 3, 2, 1"),
        ("train.packing", "false", "is 'false', allowed is true or false, without quotes"),
        ("train.lora_rank", None, "is null, allowed is a whole number from 1 to 1024"),
        ("train.save_steps", 5, "is 5, allowed is a whole number from 10 to 5000"),
        (
            "train.extra_args",
            {"optim": "adamw_torch"},
            "is {optim: adamw_torch}, allowed is a JSON object in a string",
        ),
        ("train.extra_args", "{optim}", "is '{optim}', allowed is a JSON object in a string"),
        ("train.dataset", None, "is null, allowed is a list of names"),
        ("train.warmup_steps", 0.5, "is 0.5, allowed is a whole number from 0 to 5000"),
    ],
)
def test_what_llamaboard_would_load_wrongly_is_a_fault(key: str, value: Any, allowed: str) -> None:
    (fault,) = find_page_faults({key: value})
    assert (fault.key, fault.message) == (key, allowed)


PAGES: list[dict[str, Any]] = [
    {},
    {STAGE: "DPO", "train.pref_beta": 0.2, "train.pref_ftx": 0.5},
    {STAGE: "PPO", "train.reward_model": ["judge"], "train.ppo_score_norm": True},
    {STAGE: "Pre-Training", "train.packing": True},
    {METHOD: "freeze", "train.freeze_trainable_layers": 4, "train.freeze_extra_modules": "norm"},
    {METHOD: "full", CHECKPOINTS: [], BOOSTER: "unsloth", "train.ds_stage": "3", "train.ds_offload": True},
    {"top.quantization_bit": "4", CHECKPOINTS: ["first", "second"], "train.use_pissa": True},
    {"train.use_galore": True, "train.galore_rank": 8, "train.val_size": 0.1, "train.save_steps": 50},
    {"train.use_apollo": True, "train.use_badam": True, "train.badam_mode": "ratio", "train.use_swanlab": True},
    {"train.neat_packing": True, "train.neftune_alpha": 5, "top.rope_scaling": "yarn", BOOSTER: "flashattn2"},
    {EXTRA_ARGS: '{"enable_thinking": null, "max_steps": 5, "save_steps": 77}', "train.val_size": 0.2},
    {EXTRA_ARGS: '{"finetuning_type": "freeze"}', "train.compute_type": "fp16"},
    {"train.use_llama_pro": True, "train.loraplus_lr_ratio": 16, "train.additional_target": "embed_tokens"},
]


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_read_page_says_what_llamaboard_itself_would_run(tmp_path: Path) -> None:
    fresh = {
        **{field.id: field.default for field in FIELDS.values()},
        MODEL_NAME: "Custom",
        MODEL_PATH: "models/tiny",
    }
    pages = [{**fresh, "train.dataset": ["medical"], OUTPUT_DIR: "run", **page} for page in PAGES]
    (tmp_path / "pages.json").write_text(json.dumps(pages), encoding="utf-8")
    script = Path(__file__).parents[2] / "support" / "llamaboard_arguments.py"
    command = [stack_python(), "-I", str(script), str(tmp_path / "pages.json"), str(tmp_path / "told.json")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert sorted(told["fields"]) == sorted(
        [*FIELDS, "top.lang", "top.model_path", "train.output_dir", "train.config_path"]
    )
    assert told["defaults"] == {key: fresh[key] for key in told["defaults"]}
    for page, args in zip(pages, told["arguments"], strict=True):
        # An empty box is "" there and null here: LlamaBoard drops both on the way to the trainer.
        theirs = {key: None if value == "" else value for key, value in args.items() if key != "cache_dir"}
        assert read_page(page) == theirs
