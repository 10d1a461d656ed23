"""Which keys of a training config make the model and its prompts, and so belong into every prediction of it.

The keys and their groups come from LLaMA-Factory's own schema: of the model, finetuning and data groups all are
carried but those named here, of the training and generating groups none but those named here. A test holds that
each key of the schema is in one class.
Source: LLaMA-Factory 0.9.5, model/loader.py, patcher.py and adapter.py: what is read when `is_trainable` is false.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.configs.rules.base import read_json_value, split_names
from launch.configs.schema import read_schema

CARRIED_GROUPS = ("model", "finetuning", "data")
# Set anew for each prediction.
OWN_KEYS = frozenset(
    {"stage", "finetuning_type", "adapter_name_or_path", "eval_dataset", "output_dir", "do_predict"}
    | {"predict_with_generate", "per_device_eval_batch_size", "do_sample", "temperature", "top_p", "top_k"}
    | {"max_new_tokens"}
)
# Of the carried groups, what acts on training alone, or on another engine than the one that predicts.
TRAINING_ONLY = frozenset(
    # How the model is trained: memory, speed, and the kernels of a trainable model.
    {"use_unsloth", "use_unsloth_gc", "enable_liger_kernel", "shift_attn", "moe_aux_loss_coef", "use_v1_kernels"}
    | {"disable_gradient_checkpointing", "use_reentrant_gc", "upcast_layernorm", "upcast_lmhead_output"}
    | {"print_param_status"}
    # Where adapters lie is written into their paths.
    | {"adapter_folder"}
    # What a trained adapter says itself, in its adapter_config.json.
    | {"lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "use_dora", "pissa_init"}
    | {"pissa_iter", "pissa_convert", "additional_target", "create_new_adapter", "loraplus_lr_ratio"}
    | {"loraplus_lr_embedding", "oft_rank", "oft_block_size", "oft_target", "module_dropout"}
    # Which weights are trained.
    | {"freeze_trainable_layers", "freeze_trainable_modules", "freeze_extra_modules", "freeze_vision_tower"}
    | {"freeze_multi_modal_projector", "freeze_language_model", "use_llama_pro"}
    # The losses, and what belongs to their stages.
    | {"pref_beta", "pref_ftx", "pref_bco_weight", "pref_loss", "dpo_label_smoothing", "kto_chosen_weight"}
    | {"kto_rejected_weight", "simpo_gamma", "ld_alpha", "use_dft_loss", "use_asft_loss", "asft_alpha"}
    | {"use_eaft_loss", "eaft_alpha", "ppo_buffer_size", "ppo_epochs", "ppo_score_norm", "ppo_target"}
    | {"ppo_whiten_rewards", "ref_model", "ref_model_adapters", "ref_model_quantization_bit", "reward_model"}
    | {"reward_model_adapters", "reward_model_quantization_bit", "reward_model_type"}
    # The optimizers and engines.
    | {"use_galore", "galore_target", "galore_rank", "galore_update_interval", "galore_scale", "galore_proj_type"}
    | {"galore_layerwise", "use_apollo", "apollo_target", "apollo_rank", "apollo_update_interval", "apollo_scale"}
    | {"apollo_proj", "apollo_proj_type", "apollo_scale_type", "apollo_layerwise", "apollo_scale_front"}
    | {"use_badam", "badam_mode", "badam_start_block", "badam_switch_mode", "badam_switch_interval"}
    | {"badam_update_ratio", "badam_mask_mode", "badam_verbose", "use_adam_mini", "use_muon", "use_mca"}
    | {"use_hyper_parallel", "hyper_parallel_args"}
    # What is watched, stopped and drawn.
    | {"use_swanlab", "swanlab_project", "swanlab_workspace", "swanlab_run_name", "swanlab_mode"}
    | {"swanlab_api_key", "swanlab_logdir", "swanlab_lark_webhook_url", "swanlab_lark_secret"}
    | {"compute_accuracy", "disable_shuffling", "early_stopping_steps", "plot_loss"}
    | {"include_effective_tokens_per_second"}
    # Which rows are trained, and how they are laid out: a prediction has rows of its own.
    | {"dataset", "train_on_prompt", "mask_history", "streaming", "buffer_size", "mix_strategy"}
    | {"interleave_probs", "max_samples", "eval_num_beams", "val_size", "eval_on_each_dataset", "packing"}
    | {"neat_packing", "tokenized_path"}
    # Other engines, and exports.
    | {"infer_backend", "vllm_maxlen", "vllm_gpu_util", "vllm_enforce_eager", "vllm_max_lora_rank"}
    | {"vllm_config", "sglang_maxlen", "sglang_mem_fraction", "sglang_tp_size", "sglang_config"}
    | {"sglang_lora_backend", "export_dir", "export_size", "export_device", "export_quantization_bit"}
    | {"export_quantization_dataset", "export_quantization_nsamples", "export_quantization_maxlen"}
    | {"export_legacy_format", "export_hub_model_id"}
)
# Of the other groups, what a prediction shares with the training: number formats, seeds, devices and readers.
ALSO_CARRIED = frozenset(
    {"bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "use_cpu", "seed", "full_determinism"}
    | {"dataloader_num_workers", "report_to", "skip_special_tokens"}
)
# What may differ between the trainings of one base: the first one's is taken for all.
FREE_KEYS = frozenset(
    {"seed", "preprocessing_num_workers", "preprocessing_batch_size", "dataloader_num_workers", "overwrite_cache"}
    | {"report_to", "full_determinism", "data_shared_file_system"}
)
# What only matters until the weights are those that were trained.
_OF_THE_BASE_ALONE = ("train_from_scratch", "model_revision")


def carry_model_keys(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a training config makes its model and its prompts, without what was trained."""
    properties = read_schema("train")["properties"]
    return {key: value for key, value in training.items() if key in properties and is_carried(key, properties[key])}


def is_carried(key: str, schema: Mapping[str, Any]) -> bool:
    """Tell whether a key of a training config belongs into a prediction with what it trained."""
    if key in OWN_KEYS or key in TRAINING_ONLY:
        return False
    return schema["x-group"] in CARRIED_GROUPS or key in ALSO_CARRIED


def is_whole_model(training: Mapping[str, Any]) -> bool:
    """Tell whether a training writes a whole model, and not an adapter."""
    return training.get("finetuning_type") in ("full", "freeze")


def list_adapters(training: Mapping[str, Any]) -> list[str]:
    """Return the adapters that a training begins with, each by the folder that holds its weights."""
    folder = training.get("adapter_folder")
    adapters = [name for name in split_names(training.get("adapter_name_or_path")) if name]
    return [(Path(name) / str(folder)).as_posix() if folder else name for name in adapters]


def chain_adapters(training: Mapping[str, Any], trained: str) -> list[str]:
    """Return all adapters of the model that a training made, in the order in which they are merged.

    Shape: `trained` is the adapter that it wrote, "" for none.
    Source: model/adapter.py, _setup_lora_tuning: without `create_new_adapter`, or where nothing can be merged, the
    last adapter is trained on, and what is written stands in its place; else all are merged below the new one.
    """
    adapters = list_adapters(training)
    if not trained:
        return adapters
    if adapters and Path(trained).absolute() in [Path(adapter).absolute() for adapter in adapters]:
        places = [Path(adapter).absolute() for adapter in adapters]
        return adapters[: places.index(Path(trained).absolute()) + 1]
    below = adapters if training.get("create_new_adapter") and _can_merge(training) else adapters[:-1]
    return [*below, trained]


def set_trained(config: dict[str, Any], training: Mapping[str, Any], trained: str) -> dict[str, Any]:
    """Return a config that loads what a training made: as the model after full fine-tuning, else as adapters.

    Shape: `trained` is "" for the base, which gets no adapter at all.
    """
    kept = {key: value for key, value in config.items() if key != "adapter_name_or_path"}
    if not trained:
        return kept
    if not is_whole_model(training):
        return {**kept, "adapter_name_or_path": ",".join(chain_adapters(training, trained))}
    kept = {key: value for key, value in kept.items() if key not in _OF_THE_BASE_ALONE}
    if kept.get("mixture_of_depths") == "convert":
        kept["mixture_of_depths"] = "load"
    return {**kept, "model_name_or_path": trained}


def _can_merge(training: Mapping[str, Any]) -> bool:
    if training.get("quantization_bit") or training.get("use_kt") or training.get("use_unsloth"):
        return False
    deepspeed = read_json_value(training.get("deepspeed"))
    if isinstance(deepspeed, dict):
        zero = deepspeed.get("zero_optimization")
        if isinstance(zero, dict) and zero.get("stage") == 3:
            return False
    model = read_json_value(str(Path(str(training.get("model_name_or_path"))) / "config.json"))
    return not (isinstance(model, dict) and model.get("quantization_config"))
