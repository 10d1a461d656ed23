"""Rules of the optimizer: its packages, and what each one needs or does not take."""

from collections.abc import Iterator

from launch.configs.document import show_value
from launch.configs.rules.base import Setting, off, train_rule
from launch.configs.rules.machine import is_installed
from prep.quality.findings import Finding, at_key

# Source: transformers 5.6, trainer_optimizer.py; the first that an `optim` begins with counts.
_PACKAGES = (
    ("galore_", "galore-torch"),
    ("apollo_", "apollo-torch"),
    ("adamw_torch_4bit", "torchao"),
    ("adamw_torch_8bit", "torchao"),
    ("adamw_apex_fused", "apex"),
    ("adamw_anyprecision", "torchdistx"),
    ("adamw_torch_xla", "torch-xla"),
    ("adamw_torch_npu_fused", "torch-npu"),
    *(
        (name, "bitsandbytes")
        for name in ("adamw_8bit", "adamw_bnb_8bit", "paged_", "lion_", "ademamix", "rmsprop_bnb")
    ),
    ("lomo", "lomo-optim"),
    ("adalomo", "lomo-optim"),
    ("grokadamw", "grokadamw"),
    ("schedule_free_", "schedulefree"),
    ("stable_adamw", "torch-optimi"),
)
# Source: LLaMA-Factory 0.9.5, train/trainer_utils.py, _create_galore_optimizer and _create_apollo_optimizer.
_BASES = {
    "use_galore": ("adamw_torch", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adafactor"),
    "use_apollo": ("adamw_torch",),
}


@train_rule
def optimizer_is_installed(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, trainer_optimizer.py: an ImportError when the trainer makes its optimizer."""
    optim = str(setting["optim"])
    if not setting.machine.has_stack or not setting["do_train"]:
        return
    package = next((package for start, package in _PACKAGES if optim.startswith(start)), "")
    if package and not is_installed(package):
        yield at_key(
            "optim", f"{optim} needs {package}, not installed here", f"optim: adamw_torch, or pip install {package}"
        )


@train_rule
def optimizer_has_what_it_needs(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6 (`You need to define optim_target_modules`), and LLaMA-Factory's `Unknown optim`."""
    optim = str(setting["optim"])
    if not setting["do_train"]:
        return
    if optim.startswith(("galore_", "apollo_")) and not setting["optim_target_modules"]:
        key = "use_galore" if optim.startswith("galore_") else "use_apollo"
        yield at_key("optim", f"{optim} needs optim_target_modules", f"optim: adamw_torch and {key}: true")
    if optim.endswith("_layerwise") and setting["gradient_accumulation_steps"] != 1:
        yield at_key("gradient_accumulation_steps", f"must be 1 with {optim}", "gradient_accumulation_steps: 1")
    for key, bases in _BASES.items():
        if not setting[key]:
            continue
        if optim not in bases:
            yield at_key("optim", f"is {optim}, and {key} takes {', '.join(bases)}", f"optim: {bases[0]}")
        layerwise = f"{key.removeprefix('use_')}_layerwise"
        if setting[layerwise] and setting["gradient_accumulation_steps"] != 1:
            yield at_key(layerwise, "needs gradient_accumulation_steps 1", "gradient_accumulation_steps: 1")


@train_rule
def optimizer_arguments_are_pairs(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, _parse_optim_args: `not enough values to unpack (expected 2, got 1)`."""
    told = setting["optim_args"]
    if not told or not isinstance(told, str) or not setting["do_train"]:
        return
    odd = [part for part in told.replace(" ", "").split(",") if part.count("=") != 1]
    if odd:
        message = f"{show_value(odd[0])} is not name=value" if odd[0] else "has a comma too many"
        yield at_key("optim_args", message, "optim_args: name=value,name=value")


@train_rule
def stopping_early_has_a_metric(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, EarlyStoppingCallback's assertions, and trainer.py for save_strategy best."""
    # TrainingArguments takes the loss where something else of it needs a metric.
    has_metric = (
        setting["metric_for_best_model"] is not None
        or setting["load_best_model_at_end"]
        or setting["lr_scheduler_type"] in ("reduce_lr_on_plateau", "greedy")
    )
    stops = setting["early_stopping_steps"] is not None and setting["do_train"]
    key = "early_stopping_steps" if stops else "save_strategy" if setting["save_strategy"] == "best" else ""
    if key and not has_metric:
        what = "is set" if stops else "is best"
        yield at_key(key, f"{what}, and no metric says what is better", "metric_for_best_model: eval_loss")
    if stops and setting["eval_strategy"] == "no":
        yield at_key("early_stopping_steps", "is set, and eval_strategy is no", "eval_strategy: steps")


@train_rule
def asft_has_a_reference(setting: Setting) -> Iterator[Finding]:
    """Source: train/trainer_utils.py, create_ref_model: with LoRA there is none, and the loss calls it."""
    is_asked = setting["use_asft_loss"] and setting["stage"] == "sft" and setting["do_train"]
    if is_asked and setting["finetuning_type"] == "lora" and setting["ref_model"] is None:
        message = "compares with a reference model, which LoRA has none of"
        yield at_key("use_asft_loss", message, off("use_asft_loss"))
