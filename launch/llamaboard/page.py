"""LlamaBoard's page as data: its 87 saved fields, and the way from a training YAML to them and back.

The page does not run its fields as they stand: it builds LLaMA-Factory's arguments from them, lets `extra_args` win
over the first part, and then sets the method's own arguments. `read_page` does the same, so that what a page would
run can be compared with what a YAML runs, and whatever differs can be put into `extra_args`.
Source: LLaMA-Factory 0.9.5, webui/runner.py and webui/components/; a test compares both on real pages.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from launch.configs.document import format_value
from prep.errors import ConfigError
from prep.quality.findings import Finding, at_key
from prep.secrets import mask_text, mask_values

CONFIG_DIR = Path("llamaboard_config")
CACHE_DIR = Path("llamaboard_cache")
SAVES = Path("saves")
RUN_SETTINGS = "llamaboard_config.yaml"
# The entry of LlamaBoard's list whose path the user gives.
PLAIN_MODEL = "Custom"
MODEL_NAME, MODEL_PATH, TEMPLATE = "top.model_name", "top.model_path", "top.template"
LANGUAGE, OUTPUT_DIR, EXTRA_ARGS = "top.lang", "train.output_dir", "train.extra_args"
METHOD, BOOSTER, CHECKPOINTS = "top.finetuning_type", "top.booster", "top.checkpoint_path"
BITS, QUANTIZER = "top.quantization_bit", "top.quantization_method"
STAGE, PRECISION, VAL_SIZE = "train.training_stage", "train.compute_type", "train.val_size"
# A saved file may hold these too: the page takes them, but never writes them itself.
BY_HAND = (LANGUAGE, MODEL_PATH, OUTPUT_DIR)

Form = Literal[
    "slider", "slider_or_null", "decimal", "integer", "flag", "choice", "choice_or_null", "text", "names", "pixels"
]

_STAGES = {
    "Supervised Fine-Tuning": "sft",
    "Reward Modeling": "rm",
    "PPO": "ppo",
    "DPO": "dpo",
    "KTO": "kto",
    "Pre-Training": "pt",
}
_BOOSTERS: dict[str, dict[str, Any]] = {
    "auto": {"flash_attn": "auto", "use_unsloth": False, "enable_liger_kernel": False},
    "flashattn2": {"flash_attn": "fa2", "use_unsloth": False, "enable_liger_kernel": False},
    "unsloth": {"flash_attn": "auto", "use_unsloth": True, "enable_liger_kernel": False},
    "liger_kernel": {"flash_attn": "auto", "use_unsloth": False, "enable_liger_kernel": True},
}
_PRECISIONS = ("bf16", "fp16", "fp32", "pure_bf16")
_PEFT = ("lora", "oft")
_QUANTIZERS = ("bnb", "hqq", "eetq")
_PAGE_BITS = ("none", "8", "6", "5", "4", "3", "2", "1")
_SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr"),
    *("warmup_stable_decay", "greedy"),
)
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
_HARMLESS = ("plot_loss", "ddp_timeout", "include_num_input_tokens_seen")
# The page needs a number of rows, and has no word for all of them.
_ALL_ROWS = 1_000_000_000
# The page drops null, false and "" on the way to the trainer, but not of these.
_KEPT_WHEN_EMPTY = (
    *("packing", "enable_thinking", "use_reentrant_gc", "double_quantization"),
    *("freeze_vision_tower", "freeze_multi_modal_projector"),
)


@dataclass(frozen=True)
class Field:
    """One input of the page: its id, the LLaMA-Factory key that it sets, what it shows at first, its form.

    Shape: a slider takes `low` to `high` with `digits` decimals; gradio rounds what has more.
    """

    id: str
    key: str
    default: Any
    form: Form
    low: float = 0
    high: float = 0
    digits: int = 0
    choices: tuple[str, ...] = ()


def _slider(name: str, default: float, low: float, high: float, *, digits: int = 0, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, "slider", low, high, digits)


def _slider_or_null(name: str, high: float, digits: int, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, 0, "slider_or_null", 0, high, digits)


def _flag(name: str, *, default: bool = False, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, "flag")


def _text(name: str, default: str = "", form: Form = "text", key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, form)


def _choice(name: str, choices: tuple[str, ...], default: str) -> Field:
    return Field(f"train.{name}", name, default, "choice", choices=choices)


def _optimizer(name: str, scale: float) -> tuple[Field, ...]:
    return (
        _slider(f"{name}_rank", 16, 1, 1024),
        _slider(f"{name}_update_interval", 200, 1, 2048),
        _slider(f"{name}_scale", scale, 0, 100, digits=1),
        _text(f"{name}_target", "all"),
    )


# Set before `extra_args`, which therefore wins over them.
_FIRST = (
    Field(METHOD, "finetuning_type", "lora", "choice", choices=("full", "freeze", "lora", "oft")),
    Field(TEMPLATE, "template", "default", "text"),
    Field(
        "top.rope_scaling",
        "rope_scaling",
        "none",
        "choice_or_null",
        choices=("none", "linear", "dynamic", "yarn", "llama3"),
    ),
    _text("dataset_dir", "data"),
    Field("train.dataset", "dataset", [], "names"),
    _text("learning_rate", "5e-5", "decimal"),
    _text("num_train_epochs", "3.0", "decimal"),
    _text("max_grad_norm", "1.0", "decimal"),
    _text("max_samples", "100000", "integer"),
    _slider("cutoff_len", 2048, 4, 131_072),
    _slider("batch_size", 2, 1, 1024, key="per_device_train_batch_size"),
    _slider("gradient_accumulation_steps", 8, 1, 1024),
    _choice("lr_scheduler_type", _SCHEDULERS, "cosine"),
    _slider("logging_steps", 5, 1, 1000),
    _slider("save_steps", 100, 10, 5000),
    _slider("warmup_steps", 0, 0, 5000),
    _slider_or_null("neftune_alpha", 10, 1, "neftune_noise_alpha"),
    _flag("packing"),
    _flag("neat_packing"),
    _flag("train_on_prompt"),
    _flag("mask_history"),
    _flag("resize_vocab"),
    _flag("use_llama_pro"),
    _flag("enable_thinking", default=True),
    _text("report_to", "none"),
    _flag("use_galore"),
    _flag("use_apollo"),
    _flag("use_badam"),
    _flag("use_swanlab"),
)
_FREEZE = (
    _slider("freeze_trainable_layers", 2, -128, 128),
    _text("freeze_trainable_modules", "all"),
    _text("freeze_extra_modules"),
)
_LORA = (
    _slider("lora_rank", 8, 1, 1024),
    _slider("lora_alpha", 16, 1, 2048),
    _slider("lora_dropout", 0, 0, 1, digits=2),
    _slider_or_null("loraplus_lr_ratio", 64, 2),
    _flag("create_new_adapter"),
    _flag("use_rslora"),
    _flag("use_dora"),
    _flag("use_pissa", key="pissa_init"),
    _text("lora_target"),
    _text("additional_target"),
)
_PREFERENCE = (
    _slider("pref_beta", 0.1, 0, 1, digits=2),
    _slider("pref_ftx", 0, 0, 10, digits=2),
    _choice("pref_loss", ("sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"), "sigmoid"),
)
_PPO = (_flag("ppo_score_norm"), _flag("ppo_whiten_rewards"))
_GALORE, _APOLLO = _optimizer("galore", 2.0), _optimizer("apollo", 32.0)
_BADAM = (
    _choice("badam_mode", ("layer", "ratio"), "layer"),
    _choice("badam_switch_mode", ("ascending", "descending", "random", "fixed"), "ascending"),
    _slider("badam_switch_interval", 50, 1, 1024),
    _slider("badam_update_ratio", 0.05, 0, 1, digits=2),
)
_SWANLAB = (
    _text("swanlab_project", "llamafactory"),
    _text("swanlab_run_name"),
    _text("swanlab_workspace"),
    _text("swanlab_api_key"),
    _choice("swanlab_mode", ("cloud", "local"), "cloud"),
)
# Used for the multimodal models of LlamaBoard's own list alone; what the page shows is LLaMA-Factory's default.
_MULTIMODAL = (
    _flag("freeze_vision_tower", default=True),
    _flag("freeze_multi_modal_projector", default=True),
    _flag("freeze_language_model"),
    _text("image_max_pixels", "768*768", "pixels"),
    _text("image_min_pixels", "32*32", "pixels"),
    _text("video_max_pixels", "256*256", "pixels"),
    _text("video_min_pixels", "16*16", "pixels"),
)
# On the page, and passed on to nothing.
_UNUSED = (_text("project", "huggingface"), _text("trackio_space_id", "trackio"), _flag("hub_private_repo"))
_PLAIN = (
    *_FIRST,
    *_FREEZE,
    *_LORA,
    *_PREFERENCE,
    *_PPO,
    *_GALORE,
    *_APOLLO,
    *_BADAM,
    *_SWANLAB,
    *_MULTIMODAL,
    *_UNUSED,
)
# Fields whose arguments are not one key and one value: `read_page` and `fill_page` know them by name.
_SPECIAL = (
    Field(MODEL_NAME, "", "", "text"),
    Field(CHECKPOINTS, "", [], "names"),
    Field(BITS, "", "none", "choice", choices=_PAGE_BITS),
    Field(QUANTIZER, "", "bnb", "choice", choices=_QUANTIZERS),
    Field(BOOSTER, "", "auto", "choice", choices=tuple(_BOOSTERS)),
    Field(STAGE, "", "Supervised Fine-Tuning", "choice", choices=tuple(_STAGES)),
    Field(PRECISION, "", "bf16", "choice", choices=_PRECISIONS),
    Field(VAL_SIZE, "", 0, "slider", 0, 1, 3),
    Field(EXTRA_ARGS, "", '{"optim": "adamw_torch"}', "text"),
    Field("train.reward_model", "", [], "names"),
    Field("train.swanlab_link", "", None, "text"),
    Field("train.ds_stage", "", "none", "choice", choices=("none", "2", "3")),
    Field("train.ds_offload", "", False, "flag"),
)
FIELDS = {field.id: field for field in (*_SPECIAL, *_PLAIN)}


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
        own = {field.key for field in _FIRST}
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
    for field in _PLAIN:
        if field.key in values or field in _FIRST or field in _LORA:
            page[field.id] = _show(field, wanted.get(field.key))
    page |= _fill_special(wanted, page)
    extra = {}
    for key, value, _ in _compare(page, wanted, values):
        # The trainer gets 0 where the page would drop a false.
        is_dropped = value is False and key not in _KEPT_WHEN_EMPTY and key in values
        extra[key] = 0 if is_dropped and read_defaults().get(key) else value
    page[EXTRA_ARGS] = json.dumps(extra, ensure_ascii=False)
    return Filled(page, [Loss(*difference) for difference in _compare(page, wanted, values)])


def read_page(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that LlamaBoard would train with, in its order; absent fields are as at first.

    Raises: ConfigError when `extra_args` is not a JSON object.
    """
    page = {**{field.id: field.default for field in FIELDS.values()}, **page}
    args: dict[str, Any] = {
        "stage": _STAGES[page[STAGE]],
        **_FIXED,
        "model_name_or_path": page.get(MODEL_PATH),
        **_BOOSTERS[page[BOOSTER]],
        **_read_fields(_FIRST, page),
        "output_dir": locate_save(page, page.get(OUTPUT_DIR) or "train"),
        **{name: page[PRECISION] == name for name in ("fp16", "bf16", "pure_bf16")},
    }
    args["packing"] = bool(page["train.packing"] or page["train.neat_packing"])
    args |= read_extra_args(page)
    if page[CHECKPOINTS]:
        names = [page[CHECKPOINTS]] if isinstance(page[CHECKPOINTS], str) else page[CHECKPOINTS]
        key = "adapter_name_or_path" if page[METHOD] in _PEFT else "model_name_or_path"
        args[key] = ",".join(locate_save(page, name) for name in names)
    if page[BITS] != "none":
        bits = int(page[BITS])
        args |= {"quantization_bit": bits, "quantization_method": page[QUANTIZER], "double_quantization": True}
    for is_on, fields in _list_groups(args, page):
        if is_on:
            args |= _read_fields(fields, page)
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
        (args["finetuning_type"] == "freeze", _FREEZE),
        (args["finetuning_type"] == "lora", _LORA),
        (args["stage"] == "ppo", _PPO),
        (args["stage"] in ("dpo", "kto"), _PREFERENCE),
        (bool(args["use_galore"]), _GALORE),
        (bool(args["use_apollo"]), _APOLLO),
        (bool(args["use_badam"]), _BADAM),
        (bool(page["train.use_swanlab"]), _SWANLAB),
    )


def import_page(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training YAML's values that run what a saved page runs.

    Fields that this page does not use, and that say something else than at first, are kept as keys: LLaMA-Factory
    reads over them, and the way back finds them again.
    """
    args = read_page(page)
    values = {key: value for key, value in args.items() if key in _KEPT_WHEN_EMPTY or not _is_empty(value)}
    if values.get("max_samples") == _ALL_ROWS:
        del values["max_samples"]
    for field in _PLAIN:
        shown = page.get(field.id, field.default)
        if field.key not in args and shown != field.default:
            values[field.key] = _take(field, shown)
    if page.get(BITS, "none") == "none" and page.get(QUANTIZER, "bnb") != "bnb":
        values.setdefault("quantization_method", page[QUANTIZER])
    return values


def find_unused(page: Mapping[str, Any]) -> list[str]:
    """Return the fields that this page does not use and that no key of a YAML could keep."""
    unused = []
    if page.get("train.ds_offload") and page.get("train.ds_stage", "none") == "none":
        unused.append("train.ds_offload")
    if page.get("train.reward_model") and _STAGES[page.get(STAGE, "Supervised Fine-Tuning")] != "ppo":
        unused.append("train.reward_model")
    return unused


def complete_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with LLaMA-Factory's defaults behind them, and what it derives when a run starts."""
    complete = {**read_defaults(), **values}
    if complete.get("lora_alpha") is None and isinstance(complete.get("lora_rank"), int):
        complete["lora_alpha"] = complete["lora_rank"] * 2
    if complete.get("packing") is None or complete.get("neat_packing"):
        complete["packing"] = complete["stage"] == "pt" or bool(complete.get("neat_packing"))
    if complete.get("max_samples") == _ALL_ROWS and not complete.get("streaming"):
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


def find_page_faults(page: Mapping[str, Any]) -> list[Finding]:
    """Return what would keep LlamaBoard from loading saved settings, or make it load something else."""
    faults = []
    for key, value in page.items():
        if key in BY_HAND:
            if not isinstance(value, str):
                faults.append(at_key(key, f"is {format_value(value)}, allowed is text", f"{key}: '…'"))
        elif key not in FIELDS:
            faults.append(at_key(key, "the page has no such field: nothing of the file loads", "remove the line"))
        else:
            allowed = _describe_misfit(FIELDS[key], value)
            if allowed:
                fix = f"{key}: {format_value(FIELDS[key].default)}, as on a fresh page, or what you meant"
                faults.append(at_key(key, f"is {format_value(mask_values(value, key))}, allowed is {allowed}", fix))
    return faults


def read_extra_args(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `train.extra_args` says; raises ConfigError when it is not a JSON object in a string."""
    text = page.get(EXTRA_ARGS) or "{}"
    try:
        extra = json.loads(text)
    except (TypeError, ValueError):
        extra = None
    if not isinstance(extra, dict):
        raise ConfigError(
            f"{EXTRA_ARGS} is not a JSON object in a string: {mask_text(str(text))}",
            hint=f"{EXTRA_ARGS}: '{{\"key\": 1}}'",
        )
    return extra


def locate_save(page: Mapping[str, Any], name: str) -> str:
    """Return the folder that the page means by a run's name: under saves/, or a path when there is a / in it."""
    if "/" in name or "\\" in name:
        return PurePosixPath(name.replace("\\", "/")).as_posix()
    model, method = page.get(MODEL_NAME) or "", page.get(METHOD) or "lora"
    return SAVES.joinpath(*(part.replace(" ", "").strip() for part in (model, method, name))).as_posix()


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
    filled[STAGE] = next((name for name, stage in _STAGES.items() if stage == wanted["stage"]), page[STAGE])
    filled[BOOSTER] = next(
        (
            name
            for name, keys in reversed(_BOOSTERS.items())
            if all(wanted[key] == value for key, value in keys.items() if value)
        ),
        "auto",
    )
    filled[PRECISION] = next((name for name in ("pure_bf16", "bf16", "fp16") if wanted[name]), "fp32")
    if wanted["max_samples"] is None and not wanted["streaming"]:
        filled["train.max_samples"] = str(_ALL_ROWS)
    if wanted["enable_thinking"] is None:
        filled["train.enable_thinking"] = True
    if wanted.get("adapter_name_or_path") and wanted["finetuning_type"] in _PEFT:
        filled[CHECKPOINTS] = _name_saves(wanted["adapter_name_or_path"], page)
    if wanted.get("reward_model") and wanted["stage"] == "ppo":
        filled["train.reward_model"] = _name_saves(wanted["reward_model"], page)
    bits = str(wanted["quantization_bit"])
    if wanted["quantization_method"] in _QUANTIZERS:
        filled[QUANTIZER] = wanted["quantization_method"]
        if bits in _PAGE_BITS and wanted["double_quantization"]:
            filled[BITS] = bits
    if _validates_as_the_page_does(wanted):
        filled[VAL_SIZE] = _show(FIELDS[VAL_SIZE], wanted["val_size"])
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


def _name_saves(paths: Any, page: Mapping[str, Any]) -> list[str]:
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
    sent = {key: value for key, value in read_page(page).items() if key in _KEPT_WHEN_EMPTY or not _is_empty(value)}
    got = complete_values(sent)
    for key in [*values, *(key for key in got if key not in values)]:
        if key in _HARMLESS and key not in values:
            continue
        if not _is_same(wanted.get(key), got.get(key)):
            yield key, wanted.get(key), got.get(key)


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value == ""


def _is_same(left: Any, right: Any) -> bool:
    """Whether LLaMA-Factory does the same with both: a list is its items with commas, "" is null."""
    texts = [",".join(map(str, value)) if isinstance(value, list) else value for value in (left, right)]
    if all(_is_empty(value) or value == 0 for value in texts):
        return True
    same: bool = texts[0] == texts[1]
    return same


def _read_fields(fields: tuple[Field, ...], page: Mapping[str, Any]) -> dict[str, Any]:
    return {field.key: _take(field, page[field.id]) for field in fields}


def _take(field: Field, shown: Any) -> Any:
    """Return the value that the page makes of what a field shows."""
    if field.form == "decimal":
        return float(shown)
    if field.form == "integer":
        return int(shown)
    if field.form == "slider_or_null":
        return shown or None
    if field.form == "choice_or_null":
        return None if shown == "none" else shown
    if field.form == "names":
        return ",".join(shown)
    if field.form == "pixels":
        first, _, second = shown.partition("*")
        return int(first) * int(second or 1)
    return shown if shown != "" else None


def _show(field: Field, value: Any) -> Any:
    """Return what a field shows of a value; what it cannot show leaves it as at first, for `extra_args` to say."""
    shown = value
    if field.form == "names":
        shown = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    elif field.form in ("decimal", "integer", "pixels") and isinstance(value, int | float):
        shown = str(value)
    elif field.form in ("slider_or_null", "choice_or_null") and value is None:
        shown = field.default
    elif field.form == "text":
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        if shown is None:
            shown = field.default if field.default in ("all", "default") else ""
    return field.default if _describe_misfit(field, shown) else shown


def _describe_misfit(field: Field, shown: Any) -> str:
    """Return what a field allows when it does not allow `shown`, else nothing."""
    is_number = isinstance(shown, int | float) and not isinstance(shown, bool)
    if field.form in ("slider", "slider_or_null"):
        kind = "a whole number" if not field.digits else f"a number with {field.digits} decimals at most"
        fits = is_number and field.low <= shown <= field.high and round(shown, field.digits) == shown
        return "" if fits else f"{kind} from {field.low:g} to {field.high:g}"
    if field.form == "flag":
        return "" if isinstance(shown, bool) else "true or false, without quotes"
    if field.form == "names":
        fits = isinstance(shown, list | str) and all(isinstance(name, str) for name in shown)
        return "" if fits or (shown is None and field.id != "train.dataset") else "a list of names"
    if field.form in ("decimal", "integer", "pixels"):
        return "" if _is_number_text(field, shown) else "a number in quotes"
    if field.form in ("choice", "choice_or_null"):
        return "" if shown in field.choices and isinstance(shown, str) else f"one of {', '.join(field.choices)}"
    if field.id == EXTRA_ARGS:
        try:
            read_extra_args({EXTRA_ARGS: shown})
        except ConfigError:
            return "a JSON object in a string"
        return "" if isinstance(shown, str) else "a JSON object in a string"
    return "" if isinstance(shown, str) or shown is None else "text in quotes"


def _is_number_text(field: Field, shown: Any) -> bool:
    if not isinstance(shown, str):
        return False
    try:
        _take(field, shown)
    except ValueError:
        return False
    return True
