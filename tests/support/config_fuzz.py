"""Configs that nobody would write on purpose: valid ones, mutated by a seeded hand. Shared by tests and hunts."""

import random
from collections.abc import Iterator

BASE = """\
model_name_or_path: models/tiny-qwen3
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: all
dataset: train
dataset_dir: data
template: qwen3
cutoff_len: 128
per_device_train_batch_size: 4
learning_rate: 1.0e-3
max_steps: 2
val_size: 0.1
bf16: false
output_dir: saves/case
logging_steps: 1
save_steps: 1000
report_to: none
"""
KEYS = [
    "adapter_name_or_path",
    "adapter_folder",
    "deepspeed",
    "fsdp",
    "fsdp_config",
    "accelerator_config",
    "ray_init_kwargs",
    "debug",
    "optim",
    "eval_dataset",
    "eval_strategy",
    "eval_steps",
    "interleave_probs",
    "mix_strategy",
    "streaming",
    "max_samples",
    "packing",
    "warmup_ratio",
    "warmup_steps",
    "num_train_epochs",
    "gradient_accumulation_steps",
    "save_strategy",
    "load_best_model_at_end",
    "quantization_bit",
    "quantization_method",
    "new_special_tokens_config",
    "resume_from_checkpoint",
    "export_dir",
    "image_max_pixels",
    "image_min_pixels",
    "seed",
    "tf32",
    "project",
    "media_dir",
    "tokenized_path",
    "create_new_adapter",
    "use_unsloth",
    "vllm_config",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "max_length",
    "neat_packing",
    "mask_history",
    "train_on_prompt",
    "compute_accuracy",
    "predict_with_generate",
    "do_predict",
    "do_eval",
    "per_device_eval_batch_size",
    "overwrite_output_dir",
    "torch_empty_cache_steps",
    "dataloader_num_workers",
    "stage",
    "ref_model",
    "export_quantization_bit",
    "export_quantization_dataset",
    "cache_dir",
    "hf_hub_token",
    "run_name",
    "early_stopping_steps",
]
VALUES = [
    *("null", "true", "false", "0", "-1", "1", "0.5", "-0.0", ".nan", ".inf", "-.inf", "1e999", "99999999999999999999"),
    *("9" * 50, "''", '"\\e[31m"', '"a\\nb"', "[]", "{}", "[null]", "[[[]]]", "{a: {b: [1, {c: .nan}]}}", "no", "~"),
    *("'{'", "'{}'", "'{\"zero_optimization\": 3}'", "{zero_optimization: {stage: 3}}", "{zero_optimization: [3]}"),
    *("/proc/self/mem", "/dev/zero", "/dev/stdin", "/nowhere/secret", "~nobody-here/x", "~", "..", "/", ".", "''"),
    *("'" + "x" * 5000 + "'", "'" + "../" * 900 + "'", "fifo", "loop", "models/tiny-qwen3", "data", "train,train"),
    *("',,,'", "' '", "[1, a, null, {x: y}]", "{1: 2}", "{true: 3}", "2026-01-01", "0x1F", "0o17", "1:30", "1_000"),
    *("!!str 5", "!!int x", "&a [*a]", "*unknown", "|\n  block\n  text", ">-\n  folded", "qwen3", "lora", "steps"),
    *("\u202eabc", "中文", "😀", "'%s%n'", "'${oc.env:HOME}'", "'${'", "'[bold]x[/bold]'"),
]  # fmt: skip


def mutate(chooser: random.Random) -> str:
    """Return the base config with one to six lines changed, added, doubled, cut or spoiled."""
    lines = BASE.splitlines()
    for _ in range(chooser.randint(1, 6)):
        place = chooser.randrange(len(lines))
        key = lines[place].partition(":")[0]
        how = chooser.randrange(8)
        if how <= 2:
            lines[place] = f"{key}: {chooser.choice(VALUES)}"
        elif how <= 5:
            lines.insert(place, f"{chooser.choice(KEYS)}: {chooser.choice(VALUES)}")
        elif how == 6:
            lines[place] = spoil(lines[place], chooser)
        elif len(lines) > 2:
            del lines[place]
    return "\n".join(lines) + "\n"


def spoil(line: str, chooser: random.Random) -> str:
    """Return a line with one character taken out, doubled or replaced."""
    place = chooser.randrange(max(len(line), 1))
    return (
        line[:place]
        + chooser.choice(["", ":", "\t", "{", "}", "[", "'", '"', "#", "&", "*", "!", "%", "\x00", "\ud7ff", "x"])
        + line[place + chooser.randint(0, 1) :]
    )


def list_mutations(count: int, seed: int) -> Iterator[str]:
    """Yield `count` mutated configs, the same for the same seed."""
    chooser = random.Random(seed)
    for _ in range(count):
        yield mutate(chooser)
