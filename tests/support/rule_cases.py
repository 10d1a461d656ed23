"""For each rule: a config that breaks it, and the fixed one. Shared by the tests and scripts/rule_runs.py."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from launch.configs.presets import find_preset
from launch.configs.rules import Machine
from launch.machine.gpus import Gpu
from prep.registry.dataset_info import register_dataset
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, write_manifest

GPU = Gpu("H200", 140 << 30, (9, 0))
OLD_GPU = Gpu("V100", 16 << 30, (7, 0))
ROWS = 40


@dataclass(frozen=True)
class Case:
    """`breaks` over the base config is refused by `rule`; `fixes` over that is accepted.

    `parser` says whether LLaMA-Factory's own parser refuses the broken one too; `runs` where the fixed one can
    be trained for a step: on a CPU, on a GPU, or nowhere without packages or cards that are not at hand.
    A value of `...` removes the key.
    """

    rule: str
    breaks: dict[str, Any]
    fixes: dict[str, Any]
    parser: bool = True
    runs: Literal["cpu", "gpu", "nowhere"] = "cpu"
    gpus: tuple[Gpu, ...] | None = ()
    env: dict[str, str] = field(default_factory=dict)
    fatal: bool = True


EVALUATES = {"val_size": 0.1, "eval_strategy": "steps", "eval_steps": 1}
EVALUATES_EACH = {
    **{"eval_dataset": "mini,other", "eval_on_each_dataset": True},
    **{"eval_strategy": "steps", "eval_steps": 1},
}
NO_KWARGS = {"lr_scheduler_kwargs": ...}
SUPERVISED = {"stage": "sft", "resume_from_checkpoint": ...}
STREAMS = {"streaming": True, "dataloader_num_workers": 1}
FULL = {"finetuning_type": "full", "lora_rank": ..., "lora_target": ...}
ZERO3 = {"deepspeed": {"zero_optimization": {"stage": 3}}}

NUMBERS: list[Case] = [
    Case("numbers_are_in_range", {key: wrong}, {key: right}, parser=False)
    for key, wrong, right in (
        ("max_samples", 0, ...),
        ("max_samples", -1, ...),
        ("preprocessing_num_workers", 0, 1),
        ("per_device_train_batch_size", 0, 2),
        ("per_device_train_batch_size", -1, 2),
        ("gradient_accumulation_steps", 0, 1),
        ("dataloader_num_workers", -1, 0),
        ("lora_rank", 0, 8),
        ("lora_dropout", 1.5, 0.1),
        ("learning_rate", -0.1, 0.1),
        ("neftune_noise_alpha", -5.0, 5.0),
        ("adam_beta1", 1.0, 0.9),
        ("adam_beta2", -0.1, 0.9),
        ("adam_epsilon", -1.0, 1e-8),
    )
]
NUMBERS += [
    Case("numbers_are_in_range", {**STREAMS, "buffer_size": 0}, {"buffer_size": 1}, parser=False),
    Case(
        "numbers_are_in_range",
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 0},
        {"dataloader_prefetch_factor": 2},
        parser=False,
    ),
]
NUMBERS += [
    Case("numbers_are_in_range", {**EVALUATES, key: 0}, {key: 1}, parser=False)
    for key in ("per_device_eval_batch_size", "eval_accumulation_steps")
]
# What LLaMA-Factory's parser takes, and a run does not: (rule, what breaks it, what makes it right).
LATE: list[Case] = [
    Case(rule, breaks, fixes, parser=False)
    for rule, breaks, fixes in (
        ("streaming_knows_its_length", {**STREAMS, "tokenized_path": "tokens"}, {"tokenized_path": ...}),
        ("datasets_are_of_the_stage", {"stage": "dpo"}, {"stage": "sft"}),
        ("datasets_are_of_the_stage", {"stage": "kto"}, {"stage": "sft"}),
        ("datasets_are_of_the_stage", {"dataset": "pairs"}, {"stage": "dpo"}),
        ("datasets_are_of_the_stage", {"dataset": "labels"}, {"stage": "kto"}),
        ("held_out_rows_leave_some", {"val_size": ROWS}, {"val_size": ROWS - 1}),
        ("held_out_rows_leave_some", {"val_size": 0.999}, {"val_size": 0.5}),
        ("held_out_rows_leave_some", {"val_size": 1.0}, {"val_size": 1}),
        ("held_out_rows_leave_some", {"max_samples": 10, "val_size": 10}, {"max_samples": 11}),
        ("tool_format_is_known", {"tool_format": "nosuch"}, {"tool_format": "default"}),
        ("resumed_checkpoint_is_there", {"resume_from_checkpoint": "nowhere"}, {"resume_from_checkpoint": ...}),
        ("resumed_checkpoint_is_there", {"resume_from_checkpoint": ""}, {"resume_from_checkpoint": ...}),
        ("resumed_checkpoint_is_there", {"resume_from_checkpoint": "half"}, {"resume_from_checkpoint": ...}),
        ("output_dir_can_be_written", {"output_dir": "half/config.json"}, {"output_dir": "new"}),
        ("output_dir_can_be_written", {"cache_dir": "half/config.json"}, {"cache_dir": "new"}),
        ("output_dir_can_be_written", {"tokenized_path": "half/config.json/x"}, {"tokenized_path": "new"}),
        ("optimizer_has_what_it_needs", {"optim": "galore_adamw"}, {"optim": "adamw_torch"}),
        ("optimizer_is_installed", {"optim": "schedule_free_adamw"}, {"optim": "adamw_torch"}),
        (
            "schedule_takes_its_arguments",
            {"lr_scheduler_type": "cosine_with_min_lr"},
            {"lr_scheduler_kwargs": {"min_lr": 1e-6}},
        ),
        (
            "schedule_takes_its_arguments",
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
            {"lr_scheduler_kwargs": {"num_cycles": 1.0}},
        ),
        (
            "stopping_early_has_a_metric",
            {**EVALUATES, "early_stopping_steps": 2},
            {"metric_for_best_model": "eval_loss"},
        ),
        (
            "stopping_early_has_a_metric",
            {"early_stopping_steps": 2, "metric_for_best_model": "eval_loss"},
            EVALUATES,
        ),
        (
            "stopping_early_has_a_metric",
            {**EVALUATES, "save_strategy": "best"},
            {"metric_for_best_model": "eval_loss"},
        ),
        ("asft_has_a_reference", {"use_asft_loss": True}, {"ref_model": "tiny-qwen3"}),
        ("reporters_exist", {"report_to": "tensorbord"}, {"report_to": "none"}),
        ("reporters_exist", {"report_to": ["none", "all"]}, {"report_to": ["none"]}),
        (
            "layers_can_be_divided",
            {"finetuning_type": "freeze", "use_llama_pro": True, "freeze_trainable_layers": 3},
            {"freeze_trainable_layers": 2},
        ),
        (
            "layers_can_be_divided",
            {"use_llama_pro": True, "freeze_trainable_layers": 0},
            {"freeze_trainable_layers": 1},
        ),
        ("trained_modules_exist", {"lora_target": "W_pack"}, {"lora_target": "q_proj,v_proj"}),
        ("trained_modules_exist", {"lora_target": "wq,proj"}, {"lora_target": "self_attn.q_proj"}),
        (
            "trained_modules_exist",
            {"finetuning_type": "freeze", "freeze_trainable_modules": "attention"},
            {"freeze_trainable_modules": "self_attn,mlp"},
        ),
        (
            "trained_modules_exist",
            {"finetuning_type": "freeze", "freeze_extra_modules": "wte"},
            {"freeze_extra_modules": "embed_tokens,norm"},
        ),
        ("datasets_are_of_the_stage", {"dataset": "texts"}, {"stage": "pt", "packing": False}),
        ("entries_can_be_loaded", {"dataset": "odd_formatting"}, {"dataset": "mini"}),
        ("entries_can_be_loaded", {"dataset": "odd_ending"}, {"dataset": "mini"}),
        ("entries_can_be_loaded", {"dataset": "no_file"}, {"dataset": "mini"}),
        ("entries_can_be_loaded", {"dataset": "no_files"}, {"dataset": "mini"}),
        ("entries_can_be_loaded", {"dataset": "two_types"}, {"dataset": "mini"}),
        ("rows_have_what_their_entry_says", {"dataset": "no_column"}, {"dataset": "late_column"}),
        ("rows_have_what_their_entry_says", {"dataset": "no_rows"}, {"dataset": "mini"}),
        ("rows_have_what_their_entry_says", {"dataset": "not_json"}, {"dataset": "mini"}),
        ("rows_have_what_their_entry_says", {"dataset": "no_answers"}, {"dataset": "mini"}),
        ("rows_have_what_their_entry_says", {"dataset": "table"}, {"dataset": "mini"}),
        ("texts_fill_a_block", {"stage": "pt", "dataset": "texts", "cutoff_len": 4_000}, {"cutoff_len": 16}),
        ("texts_fill_a_block", {"stage": "pt", "dataset": "texts", "cutoff_len": 4_000}, {"packing": False}),
        ("schedule_takes_its_arguments", {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": "none"}, NO_KWARGS),
        (
            "best_metric_is_measured",
            {**EVALUATES, "metric_for_best_model": "eval_bleu"},
            {"metric_for_best_model": "loss"},
        ),
        (
            "best_metric_is_measured",
            {**EVALUATES, "metric_for_best_model": "eval_accuracy"},
            {"compute_accuracy": True},
        ),
        (
            "best_metric_is_measured",
            {**EVALUATES_EACH, "metric_for_best_model": "eval_loss"},
            {"metric_for_best_model": "eval_mini_loss"},
        ),
        (
            "best_metric_is_measured",
            {**EVALUATES_EACH, "load_best_model_at_end": True, "save_steps": 1},
            {"eval_on_each_dataset": False},
        ),
        (
            "something_is_trained",
            {"finetuning_type": "freeze", "freeze_trainable_layers": 0},
            {"freeze_trainable_layers": 1},
        ),
        ("something_is_trained", {"finetuning_type": "oft", "oft_rank": 8}, {"oft_block_size": 0}),
        ("something_is_trained", {"finetuning_type": "oft", "oft_block_size": 0}, {"oft_rank": 8}),
        ("steps_are_countable", {"dataloader_persistent_workers": True}, {"dataloader_persistent_workers": False}),
        ("template_takes_its_keys", {"template": "glm4", "train_on_prompt": True}, {"train_on_prompt": False}),
        ("names_are_known", {"log_level_replica": "none"}, {"log_level_replica": "warning"}),
        ("attention_works_with_transformers", {"flash_attn": "fa3"}, {"flash_attn": "auto"}),
        ("adapters_are_there", {"adapter_name_or_path": ""}, {"adapter_name_or_path": ...}),
        ("adapters_are_there", {"adapter_name_or_path": "odd_kind"}, {"adapter_name_or_path": ...}),
        ("model_folder_is_complete", {"stage": "dpo", "ref_model": "half", "dataset": "pairs"}, {"ref_model": ...}),
        ("names_are_known", {"torch_compile_backend": ""}, {"torch_compile_backend": ...}),
        ("names_are_known", {"torch_compile_mode": "fast"}, {"torch_compile_mode": ...}),
        ("optimizer_arguments_are_pairs", {"optim_args": "fast"}, {"optim_args": "eps=1e-6"}),
        ("template_has_its_processor", {"template": "qwen3_vl"}, {"template": "qwen3"}),
        ("weights_are_of_the_config", {"model_name_or_path": "wider"}, {"model_name_or_path": "tiny-qwen3"}),
    )
]
LATE += [
    Case(rule, {"dataset": name}, {"dataset": "mini"}, parser=False)
    for rule, name in (
        ("rows_are_of_one_type", "late_number"),
        ("rows_are_of_one_type", "late_item"),
        ("turns_have_their_tags", "untagged"),
        ("tools_are_json", "odd_tools"),
        ("media_can_be_shown", "pictures"),
        ("entries_say_how_much_is_read", "other_split"),
        ("entries_say_how_much_is_read", "no_samples"),
        ("entries_say_how_much_is_read", "text_samples"),
    )
]
LATE += [
    Case(
        "schedule_takes_its_arguments",
        {"lr_scheduler_type": name, "lr_scheduler_kwargs": wrong, **more},
        {"lr_scheduler_kwargs": right},
        parser=False,
    )
    for name, wrong, right, more in (
        ("cosine", "", {}, {}),
        ("cosine", {"num_cycles": "two"}, {"num_cycles": 2}, {}),
        ("polynomial", {"lr_end": 1.0}, {"lr_end": 0.0}, {}),
        ("warmup_stable_decay", {}, {"num_decay_steps": 1}, {}),
        ("warmup_stable_decay", {"num_decay_steps": 1, "decay_type": "no"}, {"num_decay_steps": 1}, {}),
        ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": 0.1}, {"min_lr_rate": 0.1}, {}),
        ("reduce_lr_on_plateau", {"factor": 1.5}, {"factor": 0.5}, EVALUATES),
        ("reduce_lr_on_plateau", {"mode": "low"}, {"mode": "min"}, EVALUATES),
    )
]
LATE += [
    Case(
        "checkpointing_takes_its_arguments",
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": wrong},
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
        parser=False,
    )
    for wrong in ("abc", {"nope": 1})
]
LATE.append(Case("datasets_are_of_the_stage", {"stage": "pt"}, {"stage": "sft"}, parser=False, fatal=False))
# What cannot go with a model that is quantised already, and what can.
PACKED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (FULL, {"finetuning_type": "lora"}),
    ({"pissa_init": True}, {"pissa_init": False}),
    ({"use_dora": True}, {"use_dora": False}),
    ({"resize_vocab": True}, {"resize_vocab": False}),
    (ZERO3, {"deepspeed": ...}),
    ({"fsdp": "full_shard"}, {"fsdp": ...}),
    ({"adapter_name_or_path": "a,b"}, {"adapter_name_or_path": "a"}),
]
GALORE = {"use_galore": True, "galore_layerwise": True, "optim": "adamw_torch"}
# What no run on a CPU with this machine's packages can show.
ELSEWHERE = [
    Case(rule, breaks, fixes, parser=False, runs="nowhere")
    for rule, breaks, fixes in (
        ("optimizer_has_what_it_needs", {**FULL, "use_galore": True}, {"optim": "adamw_torch"}),
        (
            "optimizer_has_what_it_needs",
            {**FULL, "use_apollo": True, "optim": "adafactor"},
            {"optim": "adamw_torch"},
        ),
        (
            "optimizer_has_what_it_needs",
            {**FULL, **GALORE, "gradient_accumulation_steps": 2},
            {"gradient_accumulation_steps": 1},
        ),
    )
]
ELSEWHERE += [
    *(
        Case(
            "quantised_models_are_kept_as_they_are",
            {"model_name_or_path": "packed", **breaks},
            fixes,
            parser=False,
            runs="nowhere",
        )
        for breaks, fixes in PACKED
    ),
    Case(
        "several_adapters_can_be_merged",
        {"adapter_name_or_path": "a,b", "use_unsloth": True},
        {"use_unsloth": False},
        parser=False,
        runs="nowhere",
    ),
    Case(
        "several_adapters_can_be_merged",
        {"adapter_name_or_path": "a,b", **ZERO3},
        {"adapter_name_or_path": "a"},
        parser=False,
        runs="nowhere",
    ),
    Case(
        "unsloth_checkpoints_by_itself",
        {"use_unsloth": True, "disable_gradient_checkpointing": True},
        {"disable_gradient_checkpointing": False},
        parser=False,
        gpus=(GPU,),
        runs="gpu",
        fatal=False,
    ),
    Case(
        "interleaving_fits_the_datasets",
        {"dataset": "mini,other", "mix_strategy": "interleave_over", "interleave_probs": "0.7,0.7"},
        {"interleave_probs": "0.7,0.3"},
        parser=False,
    ),
    Case(
        "quantization_goes_with_adapters",
        {"quantization_bit": 4, "quantization_method": "eetq"},
        {"quantization_bit": 8},
        parser=False,
        runs="nowhere",
    ),
    Case(
        "quantization_goes_with_adapters",
        {"quantization_bit": 8, "fsdp": "full_shard"},
        {"quantization_bit": 4},
        parser=False,
        runs="nowhere",
    ),
    Case(
        "export_has_what_it_needs",
        {"export_quantization_bit": 5, "export_quantization_dataset": "d"},
        {"export_quantization_bit": 4},
        parser=False,
        runs="nowhere",
    ),
    *(
        Case(
            "template_keeps_the_thoughts", {"dataset": name, "template": wrong}, {"template": "qwen3"}, parser=False
        )
        for name in ("mini", "masked", "unmarked")
        for wrong in ("qwen", "gemma", "gpt_oss")
    ),
    *(
        Case(
            "a_model_that_always_thinks_has_thoughts",
            {"dataset": name, "model_name_or_path": "Qwen/Qwen3-4B-Thinking-2507"},
            {"dataset": "mini"},
            parser=False,
            runs="nowhere",
        )
        for name in ("stripped", "chats")
    ),
    Case(
        "resumed_checkpoint_is_there",
        {"resume_from_checkpoint": True},
        {"resume_from_checkpoint": False},
        parser=False,
        fatal=False,
    ),
]

CASES = [
    Case("dataset_is_named", {"dataset": ...}, {"dataset": "mini"}),
    Case("evaluation_has_data", {"eval_strategy": "steps", "eval_steps": 1}, {"val_size": 0.1}),
    Case("evaluation_has_data", {"do_eval": True}, {"eval_dataset": "mini"}),
    Case("evaluation_has_data", {"eval_on_start": True}, {"val_size": 0.1}, parser=False),
    *(
        Case(
            "resumed_checkpoint_is_of_this_training",
            {"resume_from_checkpoint": name},
            fixes,
            parser=False,
            runs="nowhere",
        )
        for name, fixes in (
            ("finished", {"resume_from_checkpoint": ...}),
            ("trained/checkpoint-1", {"lora_rank": 2}),
        )
    ),
    Case("validation_has_one_source", {"val_size": 0.1, "eval_dataset": "mini"}, {"val_size": ...}),
    Case("interleaving_fits_the_datasets", {"interleave_probs": "1.0"}, {"interleave_probs": ...}),
    Case(
        "interleaving_fits_the_datasets",
        {"mix_strategy": "interleave_over", "interleave_probs": "0.5,0.5"},
        {"dataset": "mini,other"},
    ),
    Case("streaming_knows_its_length", {**STREAMS, "max_steps": -1}, {"max_steps": 1}),
    Case("streaming_knows_its_length", {**STREAMS, "max_samples": 5}, {"max_samples": ...}),
    Case("streaming_knows_its_length", {"streaming": True}, {"dataloader_num_workers": 1}, parser=False),
    Case(
        "history_is_masked_or_trained", {"mask_history": True, "train_on_prompt": True}, {"train_on_prompt": False}
    ),
    Case("stage_allows_the_keys", {"stage": "pt", "mask_history": True, "cutoff_len": 16}, {"mask_history": False}),
    Case("datasets_are_readable", {"dataset": "nosuch"}, {"dataset": "mini"}, parser=False),
    Case("thinking_follows_the_policy", {"enable_thinking": False}, {"enable_thinking": True}, parser=False),
    Case("thinking_follows_the_policy", {"dataset": "masked"}, {"enable_thinking": None}, parser=False),
    Case("history_loses_its_thoughts", {"dataset": "turns"}, {"mask_history": True}, parser=False, fatal=False),
    *(
        Case(
            "template_is_the_models",
            {"template": wrong, "model_name_or_path": "Qwen/Qwen3-0.6B"},
            {"template": "qwen3"},
            parser=False,
            runs="nowhere",
            fatal=False,
        )
        for wrong in (..., "qwen3_nothink", "llama3")
    ),
    Case("rows_are_cut_by_cutoff_len", {"max_length": 64}, {"max_length": ...}, parser=False, fatal=False),
    Case(
        "adapters_are_there",
        {"adapter_name_or_path": "saves/nope/lora"},
        {"adapter_name_or_path": ...},
        parser=False,
        fatal=False,
    ),
    Case("max_samples_keeps_all_rows", {"max_samples": 5}, {"max_samples": ...}, parser=False, fatal=False),
    Case("prediction_generates", {"do_predict": True, "eval_dataset": "mini"}, {"do_predict": False}),
    Case(
        "prediction_generates",
        {"predict_with_generate": True, "compute_accuracy": True, "val_size": 2},
        {"compute_accuracy": False, "do_eval": False},
    ),
    Case(
        "prediction_generates",
        {"do_predict": True, "predict_with_generate": True, "prediction_loss_only": True, "eval_dataset": "mini"},
        {"prediction_loss_only": False, "do_predict": False},
        parser=False,
    ),
    Case(
        "unsloth_offloads_from_a_gpu",
        {"use_unsloth_gc": True, "disable_gradient_checkpointing": False},
        {"use_unsloth_gc": False},
        parser=False,
    ),
    Case("best_model_is_found_when_saved", {"load_best_model_at_end": True}, {"load_best_model_at_end": False}),
    Case(
        "best_model_is_found_when_saved",
        {**EVALUATES, "load_best_model_at_end": True, "save_steps": 3, "eval_steps": 2},
        {"save_steps": 2},
    ),
    Case("steps_are_countable", {"logging_steps": 0}, {"logging_steps": 1}),
    Case("steps_are_countable", {"save_steps": 10.5}, {"save_steps": 10}),
    Case("steps_are_countable", {"torch_empty_cache_steps": 0}, {"torch_empty_cache_steps": 1}),
    Case("steps_are_countable", {"dataloader_prefetch_factor": 2}, {"dataloader_prefetch_factor": ...}),
    Case("seed_is_in_range", {"seed": -1}, {"seed": 42}),
    Case("schedule_has_what_it_needs", {"warmup_steps": -1}, {"warmup_steps": 0}),
    Case(
        "schedule_has_what_it_needs", {"lr_scheduler_type": "reduce_lr_on_plateau"}, {"lr_scheduler_type": "cosine"}
    ),
    Case(
        "warmup_is_shorter_than_training", {"warmup_steps": 100}, {"warmup_steps": 0.1}, parser=False, fatal=False
    ),
    Case(
        "training_has_steps",
        {"max_steps": -1, "num_train_epochs": 1.0, "gradient_accumulation_steps": 20},
        {"gradient_accumulation_steps": 1},
        parser=False,
        fatal=False,
    ),
    Case("output_dir_is_free", {"output_dir": "finished"}, {"overwrite_output_dir": True}),
    Case("output_dir_is_free", {"output_dir": "halfway"}, {"output_dir": "new"}, parser=False, fatal=False),
    Case("adapter_goes_with_lora", {**FULL, "adapter_name_or_path": "a"}, {"adapter_name_or_path": ...}),
    Case("quantization_goes_with_adapters", {**FULL, "quantization_bit": 4}, {"quantization_bit": ...}),
    Case(
        "quantization_goes_with_adapters", {"quantization_bit": 4, "resize_vocab": True}, {"quantization_bit": ...}
    ),
    Case(
        "quantization_goes_with_adapters",
        {"quantization_bit": 5},
        {"quantization_bit": 4},
        parser=False,
        runs="gpu",
    ),
    Case(
        "trained_weights_stay_on_one_device",
        {"quantization_bit": 4, "quantization_device_map": "auto"},
        {"quantization_device_map": ...},
        runs="gpu",
    ),
    Case("lora_keys_go_with_lora", {**FULL, "use_dora": True}, {"use_dora": False}),
    Case("lora_keys_go_with_lora", {**FULL, "loraplus_lr_ratio": 16.0}, {"loraplus_lr_ratio": ...}),
    Case("lora_keys_go_with_lora", {"use_badam": True}, {"use_badam": False}),
    Case(
        "preference_keys_fit_the_stage", {"stage": "kto", "pissa_init": True}, {"stage": "sft", "pissa_init": False}
    ),
    Case(
        "preference_keys_fit_the_stage",
        {"stage": "dpo", "pref_loss": "ipo", "dpo_label_smoothing": 0.1},
        {"stage": "sft"},
    ),
    Case("preference_keys_fit_the_stage", {"ref_model_quantization_bit": 5}, {"ref_model_quantization_bit": 4}),
    Case("ppo_has_a_reward_model", {"stage": "ppo"}, {"stage": "sft"}),
    Case("ppo_trains", {"stage": "ppo", "reward_model": "r", "do_train": False}, {"stage": "sft"}),
    Case("adapters_are_there", {"stage": "ppo", "reward_model": "nowhere/r/x"}, {"stage": "sft"}, parser=False),
    Case(
        "reward_server_has_an_address",
        {"stage": "ppo", "reward_model": "r", "reward_model_type": "api"},
        {"stage": "sft"},
        parser=False,
    ),
    *(
        Case("ppo_trains", {"stage": "ppo", "reward_model": "r", **breaks}, SUPERVISED, parser=False)
        for breaks in ({"eval_dataset": "mini"}, {"val_size": 0.1}, {"resume_from_checkpoint": True})
    ),
    Case("precision_is_one", {"fp16": True, "bf16": True, "use_cpu": True}, {"fp16": False, "bf16": False}),
    Case("inference_engine_is_for_inference", {"infer_backend": "vllm"}, {"infer_backend": "huggingface"}),
    Case("image_sizes_are_ordered", {"image_max_pixels": 100}, {"image_max_pixels": 1024}),
    Case(
        "export_has_what_it_needs", {"export_quantization_bit": 4}, {"export_quantization_dataset": "data/c4.json"}
    ),
    Case(
        "unsloth_does_not_pack",
        {"use_unsloth": True, "packing": True},
        {"packing": False},
        parser=False,
        runs="gpu",
        gpus=(GPU,),
    ),
    Case("unsloth_has_one_gpu", {"use_unsloth": True}, {"use_unsloth": False}, parser=False),
    Case(
        "unsloth_has_one_gpu",
        {"use_unsloth": True},
        {"use_unsloth": False},
        parser=False,
        gpus=(GPU, GPU),
        env={"CUDA_VISIBLE_DEVICES": "0,1"},
        runs="nowhere",
    ),
    Case(
        "unsloth_goes_without_oft",
        {"use_unsloth": True, "finetuning_type": "oft"},
        {"use_unsloth": False},
        parser=False,
        gpus=(GPU,),
        runs="gpu",
    ),
    Case("bf16_is_supported", {"bf16": True}, {"bf16": False}),
    Case("bf16_is_supported", {"pure_bf16": True}, {"pure_bf16": False}),
    Case(
        "bf16_is_supported",
        {"bf16": True},
        {"bf16": False, "fp16": True},
        gpus=(OLD_GPU,),
        fatal=False,
        runs="nowhere",
    ),
    Case("tf32_is_supported", {"tf32": True}, {"tf32": ...}),
    Case(
        "ray_has_what_its_workers_ask_for",
        {"ray_init_kwargs": {"num_gpus": 2}},
        {"ray_init_kwargs": {"num_gpus": 2, "num_cpus": 20}},
        parser=False,
        runs="nowhere",
        gpus=(GPU, GPU),
        env={"USE_RAY": "1"},
    ),
    Case("deepspeed_is_started_by_torchrun", ZERO3, {"deepspeed": ...}),
    Case("deepspeed_config_is_readable", {"deepspeed": "nowhere.json"}, {"deepspeed": ...}),
    Case("zero3_goes_with_the_keys", {**ZERO3, "pure_bf16": True}, {"deepspeed": ..., "pure_bf16": False}),
    Case("memory_savers_go_alone", {**FULL, **ZERO3, "use_galore": True}, {"deepspeed": ..., "use_galore": False}),
    Case("fsdp_options_exist", {"fsdp": "full_shard nonsense"}, {"fsdp": ...}),
    Case("fsdp_options_exist", {"fsdp": "offload"}, {"fsdp": ...}),
    Case("debug_options_exist", {"debug": "everything"}, {"debug": ...}),
    Case("nested_configs_are_readable", {"lr_scheduler_kwargs": "{broken"}, {"lr_scheduler_kwargs": {}}),
    Case("nested_configs_are_readable", {"accelerator_config": "nowhere.json"}, {"accelerator_config": ...}),
    Case(
        "nested_configs_are_readable", {"new_special_tokens_config": "no.yaml"}, {"new_special_tokens_config": ...}
    ),
    Case(
        "nested_configs_are_readable",
        {"new_special_tokens_config": "list.yaml"},
        {"new_special_tokens_config": "tokens.yaml", "resize_vocab": True},
    ),
    Case(
        "accelerator_keys_exist",
        {"accelerator_config": {"nonsense": True}},
        {"accelerator_config": {"even_batches": True}},
    ),
    Case("names_are_known", {"ddp_backend": ""}, {"ddp_backend": ...}),
    *(Case("a_backend_has_processes", {"ddp_backend": name}, {"ddp_backend": ...}) for name in ("gloo", "nccl")),
    *(
        Case(
            "longer_models_can_be_loaded",
            {"rope_scaling": name, "cutoff_len": 129},
            {"cutoff_len": 128},
            parser=False,
        )
        for name in ("linear", "yarn")
    ),
    *(
        Case("swanlab_is_begun_by_its_own_switch", {"report_to": name}, {"report_to": "none"}, parser=False)
        for name in ("swanlab", "all")
    ),
    Case("trackio_has_a_project", {"report_to": "trackio", "project": ""}, {"report_to": "none"}),
    Case("packages_are_installed", {"use_adam_mini": True}, {"use_adam_mini": False}),
    Case("packages_are_installed", {"report_to": "neptune"}, {"report_to": "none"}, parser=False),
    Case(
        "model_folder_is_complete",
        {"model_name_or_path": "half"},
        {"model_name_or_path": "tiny-qwen3"},
        parser=False,
    ),
    *NUMBERS,
    *LATE,
    *ELSEWHERE,
    Case(
        "torchrun_paths_have_no_spaces",
        {},
        {},
        parser=False,
        gpus=(GPU, GPU),
        runs="nowhere",
    ),
]


def make_workplace(folder: Path) -> None:
    """Register the datasets that the cases name, and make the folders: run with `folder` as working folder."""
    for name, policy, counts in (
        ("mini", "tagged", {}),
        ("other", "tagged", {}),
        ("masked", "masked", {}),
        ("turns", "tagged", {"with_history": 3}),
        ("stripped", "strip", {}),
        ("chats", "masked", {"reasoning": 0}),
    ):
        path = folder / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        history = [["h", "b"]] if "with_history" in counts else []
        answer = "<think>\nt\n</think>\n\na"
        row = {"instruction": "q", "input": "", "output": answer, "system": "", "history": history}
        path.write_text((json.dumps(row) + "\n") * ROWS, encoding="utf-8")
        output = {"path": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
        write_manifest(
            path, Manifest("convert", {}, policy, [], {"records": ROWS, "reasoning": ROWS, **counts}, output)
        )
        register_dataset(path, name, folder / "data")
    (folder / "list.yaml").write_text("- <a>\n", encoding="utf-8")
    (folder / "tokens.yaml").write_text('"<a>": the first letter\n', encoding="utf-8")
    (folder / "finished").mkdir()
    (folder / "finished" / "adapter_model.safetensors").write_bytes(b"")
    (folder / "halfway" / "checkpoint-5").mkdir(parents=True)
    (folder / "trained" / "checkpoint-1").mkdir(parents=True)
    for name, content in (("adapter_config", {"peft_type": "LORA", "r": 2}), ("trainer_state", {})):
        (folder / "trained" / "checkpoint-1" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    write_preferences(folder / "data")
    write_odd_sets(folder / "data")
    config = {"model_type": "qwen3", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (folder / "packed").mkdir()
    (folder / "packed" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_weight_names(folder / "tiny-qwen3")
    write_weight_names(folder / "wider", hidden_size=2)
    (folder / "odd_kind").mkdir()
    (folder / "odd_kind" / "adapter_config.json").write_text('{"peft_type": "NOSUCH"}', encoding="utf-8")
    (folder / "odd_kind" / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "half").mkdir()
    (folder / "half" / "config.json").write_text("{}", encoding="utf-8")


def write_weight_names(folder: Path, hidden_size: int = 1) -> None:
    """Write what the rules read of the tiny model: its config and its weights' names, for tests without torch."""
    folder.mkdir()
    parts = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "input_layernorm")
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(2) for part in parts]
    names += ["model.embed_tokens.weight", "model.norm.weight"]
    header = {name: {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]} for name in names}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    config = {"model_type": "qwen3", "num_hidden_layers": 2, "vocab_size": 1, "hidden_size": hidden_size}
    config["max_position_embeddings"] = 128
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")


def write_preferences(folder: Path) -> None:
    """Write and register `pairs`, rows with a preferred and a rejected answer, and `labels`, rows with a label."""
    asked = {"instruction": "q", "input": ""}
    sets: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = {
        "pairs": ({**asked, "chosen": "a", "rejected": "b"}, {"ranking": True}, ("chosen", "rejected")),
        "labels": ({**asked, "output": "a", "label": True}, {}, ("response", "kto_tag")),
    }
    registry = folder / "dataset_info.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    for name, (row, told, roles) in sets.items():
        (folder / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * ROWS, encoding="utf-8")
        columns = {"prompt": "instruction", "query": "input", **dict(zip(roles, list(row)[2:], strict=True))}
        entries[name] = {"file_name": f"{name}.jsonl", "columns": columns, **told}
    registry.write_text(json.dumps(entries), encoding="utf-8")


def write_odd_sets(folder: Path) -> None:
    """Write and register sets that LLaMA-Factory cannot load, `texts`, and one with a column that comes late."""
    asked = {"instruction": "q", "input": ""}
    question = {"columns": {"prompt": "question", "response": "output"}}
    good, texts = {**asked, "output": "a"}, {"text": "a line"}
    chat = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    roles = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    # name → what its entry says besides, and the files with their rows; a text stands for itself.
    sets: dict[str, tuple[dict[str, Any], dict[str, list[dict[str, Any]] | str]]] = {
        "odd_formatting": ({"formatting": "messages"}, {"odd_formatting.jsonl": [good]}),
        "odd_ending": ({}, {"odd_ending.md": "text"}),
        "no_file": ({"file_name": ..., "formatting": "alpaca"}, {}),
        "no_files": ({"file_name": "no_files"}, {}),
        "two_types": ({"file_name": "two_types"}, {"two_types/a.jsonl": [good], "two_types/b.csv": "a,b"}),
        "no_column": (question, {"no_column.jsonl": [good] * ROWS}),
        "late_column": (question, {"late_column.jsonl": [good] * ROWS + [{**good, "question": "q"}]}),
        "no_rows": ({}, {"no_rows.jsonl": []}),
        "not_json": ({}, {"not_json.jsonl": "text"}),
        "no_answers": ({}, {"no_answers.jsonl": [{**asked, "output": None}] * ROWS}),
        "table": ({}, {"table.csv": "question,answer\nq,a\n"}),
        "unmarked": ({}, {"unmarked.jsonl": [{**asked, "output": "<think>\nt\n</think>\n\na"}] * ROWS}),
        "texts": ({"columns": {"prompt": "text"}}, {"texts.jsonl": [texts] * ROWS}),
        "late_number": ({}, {"late_number.jsonl": [good] * ROWS + [{**good, "output": 5}]}),
        "late_item": ({"formatting": "sharegpt"}, {"late_item.jsonl": [chat] * ROWS + [{"conversations": ["x"]}]}),
        "untagged": (
            {"formatting": "openai", "columns": {"messages": "turns"}},
            {"untagged.jsonl": [{"turns": roles}]},
        ),
        "odd_tools": (
            {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}},
            {"odd_tools.jsonl": [{**chat, "tools": "[{"}] * ROWS},
        ),
        "pictures": (
            {"columns": {"prompt": "instruction", "response": "output", "images": "images"}},
            {"pictures.jsonl": [{**good, "images": ["a.jpg"]}] * ROWS},
        ),
        "other_split": ({"split": "test"}, {"other_split.jsonl": [good] * ROWS}),
        "no_samples": ({"num_samples": 0}, {"no_samples.jsonl": [good] * ROWS}),
        "text_samples": ({"num_samples": "5"}, {"text_samples.jsonl": [good] * ROWS}),
    }
    registry = folder / "dataset_info.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    (folder / "no_files").mkdir()
    for name, (told, files) in sets.items():
        entry = {"file_name": next(iter(files), name), **told}
        entries[name] = {key: value for key, value in entry.items() if value is not ...}
        for file, rows in files.items():
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
    registry.write_text(json.dumps(entries), encoding="utf-8")


def base_values() -> dict[str, Any]:
    """The smoke preset on the small dataset: what every case starts from."""
    return {
        **find_preset("cpu-smoke").values,
        **{"model_name_or_path": "tiny-qwen3", "dataset": "mini", "output_dir": "out", "template": "qwen3"},
    }


def change(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the values with changes laid over them; `...` removes a key."""
    changed = {**values, **changes}
    return {key: value for key, value in changed.items() if value is not ...}


def case_machine(case: Case) -> Machine:
    """The machine that a case is judged for."""
    is_here = case.rule.startswith("resumed_checkpoint") or (
        case.rule == "output_dir_can_be_written" or (case.rule == "adapters_are_there" and case.fatal)
    )
    has_stack = case.rule in (
        *("packages_are_installed", "optimizer_is_installed"),
        *("longer_models_can_be_loaded", "swanlab_is_begun_by_its_own_switch"),
    )
    return Machine(case.gpus, has_stack=has_stack, env=case.env, cpus=16, is_here=is_here)


def case_name(case: Case) -> str:
    """A case's name: its rule and the keys that break it."""
    return f"{case.rule}-{'-'.join(case.breaks)}"


def plan_case(case: Case, number: int) -> dict[str, Any]:
    """Return a case's two configs as they are run: for one step, into a folder of their own."""
    broken = change(base_values(), case.breaks)
    plans = {"broken": broken, "fixed": change(broken, case.fixes)}
    for values in plans.values():
        if values["max_steps"] != -1:
            values["max_steps"] = 1
        if values["output_dir"] in ("out", "new"):
            values["output_dir"] = f"out-{number}"
        values["plot_loss"] = False
    return plans
