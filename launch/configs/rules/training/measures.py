"""Rules of what an evaluation measures, and of what a resumed checkpoint must hold."""

from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, local_path, train_rule
from launch.configs.rules.data.rows import count_steps
from launch.configs.weights import read_json_file
from prep.quality.findings import Finding, at_key

_ALWAYS = ("loss", "runtime", "samples_per_second", "steps_per_second")
_GENERATED = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
# Source: LLaMA-Factory 0.9.5, train/dpo/trainer.py, log: what it adds to the measures; kto's are only logged.
_PREFERENCES = ("rewards/", "logps/", "logits/", "sft_loss", "odds_ratio_loss")
_PLATEAUS = ("reduce_lr_on_plateau", "greedy")


@train_rule
def best_metric_is_measured(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, trainer.py, _determine_best_metric: a KeyError after the first evaluation."""
    metric = setting["metric_for_best_model"]
    if metric is None and (setting["load_best_model_at_end"] or setting["lr_scheduler_type"] in _PLATEAUS):
        metric = "loss"
    if metric is None or not _evaluates(setting):
        return
    name = str(metric).removeprefix("eval_")
    measured = list_measures(setting)
    if name in measured or (setting["stage"] == "dpo" and any(part in name for part in _PREFERENCES)):
        return
    key = "metric_for_best_model" if setting["metric_for_best_model"] is not None else "eval_on_each_dataset"
    shown = ", ".join(f"eval_{measure}" for measure in measured if measure.rpartition("_")[2] not in _COSTS)
    message = f"asks for eval_{name}, and an evaluation of this config measures {shown}"
    yield at_key(key, message, f"metric_for_best_model: eval_{measured[0]}")


# What ends the names of measures that say how fast an evaluation was.
_COSTS = ("runtime", "second")


def list_measures(setting: Setting) -> list[str]:
    """Return the names, without `eval_`, of what an evaluation measures; dpo has more.

    Source: train/sft/trainer.py, prediction_step: what generates its answers has no labels, and so no loss.
    """
    names = list(_ALWAYS)
    if not setting["prediction_loss_only"]:
        if setting["stage"] == "sft" and setting["predict_with_generate"]:
            names = [*_GENERATED, *_ALWAYS[1:]]
        elif setting["stage"] == "rm" or (setting["stage"] == "sft" and setting["compute_accuracy"]):
            names.append("accuracy")
    if setting["eval_on_each_dataset"] and setting["eval_dataset"] is not None:
        return [f"{dataset}_{name}" for dataset in setting.names("eval_dataset") for name in names]
    return names


def _evaluates(setting: Setting) -> bool:
    """Whether a training comes to an evaluation."""
    if not setting["do_train"] or setting["stage"] == "ppo" or setting["eval_strategy"] == "no":
        return False
    every, steps = setting["eval_steps"] or setting["logging_steps"], count_steps(setting)
    # Below 1 it is a share of the steps.
    return not (setting["eval_strategy"] == "steps" and steps is not None and every > max(steps, 1))


@train_rule
def resumed_checkpoint_is_of_this_training(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, trainer.py: trainer_state.json is opened; torch: `size mismatch for …lora_A`."""
    given = setting["resume_from_checkpoint"]
    if not isinstance(given, str) or not given or not setting["do_train"] or not setting.machine.is_here:
        return
    folder = local_path(given)
    if not (folder / "trainer_state.json").is_file():
        # Without weights the rule above has spoken.
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            return
        is_model = (folder / "config.json").is_file()
        what, key = ("a whole model", "model_name_or_path") if is_model else ("an adapter", "adapter_name_or_path")
        yield at_key(
            "resume_from_checkpoint",
            f"{given} holds no trainer_state.json: it is {what}, and no checkpoint that a training wrote",
            f"{key}: {given}, to train it further",
        )
        return
    rank = _read_rank(folder)
    is_new = setting["adapter_name_or_path"] is None or setting["create_new_adapter"]
    if setting["finetuning_type"] == "lora" and is_new and rank not in (None, setting["lora_rank"]):
        yield at_key(
            "lora_rank",
            f"is {setting['lora_rank']}, and {given} was trained with {rank}",
            f"lora_rank: {rank}",
        )


def _read_rank(folder: Path) -> int | None:
    """Return the rank of a LoRA checkpoint, None of any other."""
    config = read_json_file(folder / "adapter_config.json")
    rank = config.get("r") if isinstance(config, dict) and config.get("peft_type") == "LORA" else None
    return rank if isinstance(rank, int) else None
