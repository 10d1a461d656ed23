"""Rules of the method: adapters, quantisation, preference stages, precision."""

from collections.abc import Iterator

from launch.configs.rules.base import SMALLEST_SHARE, Setting, any_rule, drop, list_reporters, off, train_rule
from launch.configs.rules.machine import find_version
from prep.quality.findings import Finding, at_key

# Source: LLaMA-Factory 0.9.5, model/model_utils/quantization.py.
_BITS: dict[str, tuple[str, tuple[int, ...]]] = {
    "bnb": ("bitsandbytes", (4, 8)),
    "hqq": ("HQQ", (4, 8, 6, 5, 3, 2, 1)),
    "eetq": ("EETQ", (8,)),
}
# Source: LLaMA-Factory 0.9.5, train/ppo/trainer.py.
_PPO_TRL = ((0, 8, 6), (0, 9, 6))


@any_rule
def adapter_goes_with_lora(setting: Setting) -> Iterator[Finding]:
    """Parser: `Adapter is only valid for the LoRA method`."""
    if setting["adapter_name_or_path"] is not None and setting["finetuning_type"] != "lora":
        yield at_key(
            "adapter_name_or_path",
            f"needs finetuning_type lora, not {setting['finetuning_type']}",
            "finetuning_type: lora",
        )


@any_rule
def quantization_goes_with_adapters(setting: Setting) -> Iterator[Finding]:
    """Parser (`_verify_model_args`), and model_utils/quantization.py for the number of bits."""
    bits = setting["quantization_bit"]
    if bits is None:
        return
    if setting["finetuning_type"] not in ("lora", "oft"):
        yield at_key(
            "quantization_bit",
            f"cannot go with finetuning_type {setting['finetuning_type']}",
            "finetuning_type: lora",
        )
    for key in ("pissa_init", "resize_vocab"):
        if setting[key]:
            yield at_key(key, "cannot go with a quantised model", f"{key}: false, or remove quantization_bit")
    adapters = setting.names("adapter_name_or_path")
    if adapters and setting["create_new_adapter"]:
        yield at_key("create_new_adapter", "cannot go upon a quantised model", off("create_new_adapter"))
    if len(adapters) > 1:
        yield at_key("adapter_name_or_path", "names several adapters for a quantised model", "merge them first")
    method = setting["quantization_method"]
    name, known = _BITS.get(method, ("", ()))
    if known and bits not in known:
        numbers = ", ".join(map(str, known))
        yield at_key("quantization_bit", f"is {bits}, and {name} has {numbers}", f"quantization_bit: {known[0]}")
    if method == "bnb" and bits == 4 and setting["double_quantization"] is None:
        yield at_key(
            "double_quantization", "is null, which bitsandbytes does not take", "double_quantization: true"
        )
    if setting.trains and (setting.zero_stage == 3 or setting["fsdp"]) and (method != "bnb" or bits != 4):
        yield at_key(
            "quantization_bit",
            "must be 4, of bitsandbytes, with ZeRO-3 or FSDP",
            "quantization_bit: 4 and quantization_method: bnb",
        )
    if setting.trains and setting["fp8"]:
        yield at_key("fp8", "cannot go with quantization_bit", "fp8: false")


@train_rule
def trained_weights_stay_on_one_device(setting: Setting) -> Iterator[Finding]:
    """Parser: `Cannot use device map for quantized models in training`."""
    if setting["do_train"] and setting["quantization_device_map"] == "auto":
        yield at_key("quantization_device_map", "auto is for inference", drop("quantization_device_map"))


@any_rule
def lora_keys_go_with_lora(setting: Setting) -> Iterator[Finding]:
    """Parser (FinetuningArguments): keys of one method are refused with another."""
    method = setting["finetuning_type"]
    if method != "lora":
        if setting["loraplus_lr_ratio"] is not None:
            yield at_key(
                "loraplus_lr_ratio", f"is for LoRA, and finetuning_type is {method}", drop("loraplus_lr_ratio")
            )
        for key in ("use_rslora", "use_dora", "pissa_init"):
            if setting[key]:
                yield at_key(key, f"is for LoRA, and finetuning_type is {method}", off(key))
    if setting["use_llama_pro"] and method == "full":
        yield at_key("use_llama_pro", "is for freeze and LoRA, not full", off("use_llama_pro"))
    optimizers = [key for key in ("use_galore", "use_apollo", "use_badam") if setting[key]]
    if optimizers and method == "lora":
        yield at_key(optimizers[0], "cannot go with LoRA", "finetuning_type: full")
    if len(optimizers) > 1:
        yield at_key(optimizers[1], f"cannot stand beside {optimizers[0]}", off(optimizers[1]))


@train_rule
def something_is_trained(setting: Setting) -> Iterator[Finding]:
    """Run: freeze without a layer or module ends in torch's `element 0 of tensors does not require grad`.

    Source: peft, OFTConfig: `You can only specify either r or oft_block_size`.
    """
    if not setting["do_train"]:
        return
    method = setting["finetuning_type"]
    if method == "freeze" and setting["freeze_trainable_layers"] == 0 and not setting["freeze_extra_modules"]:
        yield at_key("freeze_trainable_layers", "is 0, which trains nothing", "freeze_trainable_layers: 2")
    is_new = setting["adapter_name_or_path"] is None or setting["create_new_adapter"]
    if method == "oft" and is_new and bool(setting["oft_rank"]) == bool(setting["oft_block_size"]):
        rank, size = setting["oft_rank"], setting["oft_block_size"]
        fix = "oft_block_size: 0" if setting["oft_rank"] else "oft_block_size: 32"
        yield at_key("oft_rank", f"is {rank}, and oft_block_size {size}: one of them, and only one, is 0", fix)


@any_rule
def preference_keys_fit_the_stage(setting: Setting) -> Iterator[Finding]:
    """Parser (FinetuningArguments): what the dpo, kto and ppo stages take."""
    stage, loss = setting["stage"], setting["pref_loss"]
    if stage == "dpo" and loss != "sigmoid" and setting["dpo_label_smoothing"] > SMALLEST_SHARE:
        yield at_key("dpo_label_smoothing", f"is for pref_loss sigmoid, not {loss}", "dpo_label_smoothing: 0.0")
    has_reference = stage == "dpo" and loss not in ("orpo", "simpo")
    if setting["pissa_init"] and (stage in ("ppo", "kto") or has_reference):
        yield at_key("pissa_init", f"cannot go with stage {stage}", off("pissa_init"))
    for key in ("ref_model_quantization_bit", "reward_model_quantization_bit"):
        if setting[key] not in (None, 4, 8):
            yield at_key(key, f"is {setting[key]}, allowed are 4 and 8", f"{key}: 4")


@any_rule
def ppo_has_a_reward_model(setting: Setting) -> Iterator[Finding]:
    """Parser (FinetuningArguments): `reward_model` is necessary for PPO training."""
    if setting["stage"] != "ppo":
        return
    if setting["reward_model"] is None:
        yield at_key("reward_model", "is missing, and stage ppo needs it", "reward_model: PATH")
    kind = setting["reward_model_type"]
    if kind in ("lora", "oft") and setting["finetuning_type"] != kind:
        yield at_key("reward_model_type", f"{kind} needs finetuning_type {kind}", "reward_model_type: full")


@train_rule
def ppo_trains(setting: Setting) -> Iterator[Finding]:
    """Parser (get_train_args), and train/ppo/trainer.py: what the ppo stage cannot do, and the trl it asks for."""
    if setting["stage"] != "ppo":
        return
    for key in ("eval_dataset", "resume_from_checkpoint"):
        if setting[key] not in (None, False):
            yield at_key(key, "cannot go with stage ppo", drop(key))
    if setting["val_size"] > SMALLEST_SHARE:
        yield at_key("val_size", "cannot go with stage ppo, which does not evaluate", drop("val_size"))
    trl = find_version("trl") if setting.machine.has_stack else ""
    if trl and not _PPO_TRL[0] <= _read_release(trl) <= _PPO_TRL[1]:
        yield at_key("stage", f"ppo asks for a trl from 0.8.6 to 0.9.6, and trl {trl} is installed", "stage: dpo")
    if not setting["do_train"]:
        yield at_key("do_train", "is false, and stage ppo cannot evaluate", "stage: sft, to evaluate")
    if setting["shift_attn"]:
        yield at_key("shift_attn", "cannot go with stage ppo", off("shift_attn"))
    for key in ("use_kt", "use_unsloth"):
        if setting[key] and setting["reward_model_type"] == "lora":
            yield at_key(key, "cannot go with a LoRA reward model", off(key))
    others = set(list_reporters(setting)) - {"wandb", "tensorboard", "trackio"}
    if others:
        yield at_key("report_to", f"{', '.join(sorted(others))} cannot go with stage ppo", "report_to: none")


@train_rule
def precision_is_one(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6: at most one of fp16 and bf16."""
    if setting["fp16"] and setting["bf16"]:
        yield at_key("fp16", "and bf16 are both true", "fp16: false")
    if setting["fp16_full_eval"] and setting["bf16_full_eval"]:
        yield at_key("fp16_full_eval", "and bf16_full_eval are both true", "fp16_full_eval: false")


@train_rule
def inference_engine_is_for_inference(setting: Setting) -> Iterator[Finding]:
    """Parser: `vLLM/SGLang backend is only available for API, CLI and Web`."""
    if setting["infer_backend"] != "huggingface":
        yield at_key("infer_backend", "is for chat and API, not for train", "infer_backend: huggingface")


@any_rule
def image_sizes_are_ordered(setting: Setting) -> Iterator[Finding]:
    """Parser (ProcessorArguments)."""
    for what in ("image", "video"):
        low, high = setting[f"{what}_min_pixels"], setting[f"{what}_max_pixels"]
        if high < low:
            yield at_key(
                f"{what}_max_pixels", f"is {high}, below {what}_min_pixels {low}", f"{what}_max_pixels: {low}"
            )


def _read_release(version: str) -> tuple[int, ...]:
    """Return a version's numbers, as far as they are numbers."""
    parts = version.split(".")[:3]
    return tuple(int(part) if part.isdecimal() and len(part) < 10 else 0 for part in parts)
