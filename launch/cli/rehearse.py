"""What `--rehearse` does before a training starts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.cli.tune import refuse_untunable, show_trial
from prep.cli.output import echo

# What decides how much memory a training takes; runs that agree in them are rehearsed once.
_TELLING = (
    *(
        "model_name_or_path",
        "adapter_name_or_path",
        "stage",
        "finetuning_type",
        "lora_rank",
        "lora_target",
        "dataset",
    ),
    *(
        "dataset_dir",
        "template",
        "enable_thinking",
        "mask_history",
        "cutoff_len",
        "packing",
        "neat_packing",
        "seed",
    ),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "quantization_bit", "quantization_method"),
    *(
        "optim",
        "disable_gradient_checkpointing",
        "use_unsloth",
        "use_unsloth_gc",
        "enable_liger_kernel",
        "max_steps",
    ),
    *("flash_attn", "bf16", "fp16", "pure_bf16", "max_samples", "num_train_epochs", "additional_target"),
)
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def rehearse_values(values: dict[str, Any], cli: Path, *, is_boosted: bool) -> dict[str, Any]:
    """Return a config with the largest batch that fits at its own global batch, and say what that takes.

    Raises: ConfigError when nothing fits, or the training does not work.
    """
    from launch.machine.gpus import read_gpus
    from launch.runs.folder import RUNS
    from launch.tune.rehearsal import rehearse

    refuse_untunable(values)
    gpus = read_gpus().gpus or ()
    budget = min((each.memory_bytes for each in gpus), default=read_memory_bytes())
    found = rehearse(values, cli, RUNS, budget, show_trial, is_boosted=is_boosted)
    echo(f"Note: rehearsed: {found.describe()}", err=True)
    return {**values, **found.changes}


def rehearse_all(
    configs: Mapping[str, dict[str, Any]], cli: Path, *, is_boosted: bool
) -> dict[str, dict[str, Any]]:
    """Return the configs of a batch, each with the largest batch that fits; like ones are rehearsed once."""
    known: dict[str, dict[str, Any]] = {}
    changed = {}
    for name, values in configs.items():
        telling = repr([values.get(key) for key in _TELLING])
        if telling not in known:
            known[telling] = rehearse_values(values, cli, is_boosted=is_boosted)
        changed[name] = {**values, **{key: known[telling][key] for key in _BATCH if key in known[telling]}}
    return changed


def read_memory_bytes() -> int:
    """Return how much memory this machine has, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
