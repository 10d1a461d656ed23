"""Rules of the run: prediction, evaluation, steps, schedule and the output folder."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, drop, local_path, off, train_rule
from launch.configs.rules.data.rows import count_batch, count_steps
from launch.configs.weights import WEIGHT_FILES, holds_weights
from prep.quality.findings import Finding, Severity, at_key
from prep.storage.os_errors import describe_os_error
from prep.wording import count_of

_FEWEST_STEPS = 10
# What a checkpoint holds that can be resumed: transformers 5.6, trainer.py, _load_from_checkpoint.
_RESUMABLE = (*WEIGHT_FILES, "trainer_state.json", "pytorch_model_fsdp_0", "latest")


@train_rule
def prediction_generates(setting: Setting) -> Iterator[Finding]:
    """Parser: `Please enable predict_with_generate to save model predictions`.

    Run: with prediction_loss_only there are none, and train/sft/trainer.py, save_predictions, ends in a TypeError.
    """
    if setting["stage"] == "sft" and setting["do_predict"] and not setting["predict_with_generate"]:
        yield at_key("do_predict", "writes nothing without predict_with_generate", "predict_with_generate: true")
    if setting["do_predict"] and setting["predict_with_generate"] and setting["prediction_loss_only"]:
        yield at_key("prediction_loss_only", "leaves no predictions to write", "prediction_loss_only: false")
    if setting["predict_with_generate"] and setting["compute_accuracy"]:
        yield at_key("compute_accuracy", "cannot stand beside predict_with_generate", "compute_accuracy: false")


@train_rule
def best_model_is_found_when_saved(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6 training_args.py: the best model needs an evaluation at each save."""
    if not setting["load_best_model_at_end"]:
        return
    if setting["stage"] in ("rm", "ppo"):
        yield at_key(
            "load_best_model_at_end", f"does not work in stage {setting['stage']}", off("load_best_model_at_end")
        )
    evaluates, saves = setting["eval_strategy"], setting["save_strategy"]
    if saves == "best":
        return
    if evaluates != saves:
        yield at_key(
            "load_best_model_at_end",
            f"needs one strategy, and eval_strategy is {evaluates}, save_strategy {saves}",
            f"eval_strategy: {saves}",
        )
    elif evaluates == "steps":
        yield from _compare_steps(setting)


def _compare_steps(setting: Setting) -> Iterator[Finding]:
    save, evaluate = setting["save_steps"], setting["eval_steps"] or setting["logging_steps"]
    shares = (save < 1) + (evaluate < 1)
    scale = 1_000_000 if shares else 1
    if shares == 1 or (evaluate and (save * scale) % (evaluate * scale) != 0):
        yield at_key(
            "save_steps",
            f"is {save}, no multiple of eval_steps {evaluate}, as load_best_model_at_end needs",
            f"save_steps: {evaluate}",
        )


@train_rule
def steps_are_countable(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6 training_args.py: intervals are whole numbers, or shares below 1, and not 0.

    Run: torch's DataLoader: `persistent_workers option needs num_workers > 0`.
    """
    if setting["logging_strategy"] == "steps" and setting["logging_steps"] == 0:
        yield at_key("logging_steps", "is 0, and logging_strategy is steps", "logging_steps: 10")
    if setting["eval_strategy"] == "steps" and not setting["eval_steps"] and setting["logging_steps"] <= 0:
        yield at_key("eval_steps", "is not set, and logging_steps cannot stand in", "eval_steps: 100")
    for what in ("logging", "eval", "save"):
        steps = setting[f"{what}_steps"]
        if setting[f"{what}_strategy"] == "steps" and steps and steps > 1 and steps != int(steps):
            yield at_key(f"{what}_steps", f"is {steps}: above 1 it must be whole", f"{what}_steps: {int(steps)}")
    emptied = setting["torch_empty_cache_steps"]
    if emptied is not None and emptied <= 0:
        yield at_key(
            "torch_empty_cache_steps", f"is {emptied}, and must be above 0", drop("torch_empty_cache_steps")
        )
    if setting["dataloader_num_workers"] == 0 and setting["dataloader_prefetch_factor"] is not None:
        yield at_key(
            "dataloader_prefetch_factor",
            "needs dataloader_num_workers above 0",
            drop("dataloader_prefetch_factor"),
        )
    if setting["dataloader_num_workers"] == 0 and setting["dataloader_persistent_workers"]:
        key = "dataloader_persistent_workers"
        yield at_key(key, "needs dataloader_num_workers above 0", off(key))


@train_rule
def seed_is_in_range(setting: Setting) -> Iterator[Finding]:
    """Parser: transformers.set_seed, and numpy behind it: `Seed must be between 0 and 2**32 - 1`."""
    if not 0 <= setting["seed"] < 1 << 32:
        yield at_key("seed", f"is {setting['seed']}, allowed is 0 to {(1 << 32) - 1}", "seed: 42")


@train_rule
def schedule_has_what_it_needs(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6 training_args.py: warm-up is not below 0, plateaus need an evaluation."""
    for key in ("warmup_ratio", "warmup_steps"):
        if (setting[key] or 0) < 0:
            yield at_key(key, f"is {setting[key]}, below 0", f"{key}: 0")
            break
    if setting["lr_scheduler_type"] in ("reduce_lr_on_plateau", "greedy") and setting["eval_strategy"] == "no":
        yield at_key(
            "lr_scheduler_type",
            f"{setting['lr_scheduler_type']} needs evaluations, and eval_strategy is no",
            "lr_scheduler_type: cosine",
        )


@train_rule
def warmup_is_shorter_than_training(setting: Setting) -> Iterator[Finding]:
    """Source: get_scheduler of transformers 5.6: the learning rate would never reach its peak."""
    steps = count_steps(setting)
    warmup = setting["warmup_steps"] if setting["warmup_ratio"] is None else setting["warmup_ratio"]
    if steps is not None and setting["do_train"] and warmup >= 1 and warmup >= steps:
        key = "warmup_steps" if setting["warmup_ratio"] is None else "warmup_ratio"
        message = f"is {warmup:g}, and the whole training has {count_of(steps, 'step')}"
        yield at_key(key, message, f"{key}: 0.1", severity=Severity.WARNING)


@train_rule
def training_has_steps(setting: Setting) -> Iterator[Finding]:
    """Run: a run of one or two steps ends well and has learned nothing."""
    steps = count_steps(setting)
    if steps is not None and setting["do_train"] and setting["max_steps"] <= 0 and steps < _FEWEST_STEPS:
        yield at_key(
            "num_train_epochs",
            f"makes {count_of(steps, 'step')} of batch size {count_batch(setting)}: nearly nothing is learned",
            "a smaller gradient_accumulation_steps, or more rows or epochs",
            severity=Severity.WARNING,
        )


@train_rule
def resumed_checkpoint_is_there(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, trainer.py: `Can't find a valid checkpoint at …`, after the model was loaded."""
    given = setting["resume_from_checkpoint"]
    if given is None or given is False or not setting["do_train"] or not setting.machine.is_here:
        return
    if given is True:
        folder = local_path(setting["output_dir"] or "trainer_output")
        if not any(folder.glob("checkpoint-*")):
            yield at_key(
                "resume_from_checkpoint",
                f"is true, and {folder} holds no checkpoint yet: only a run that made one can be resumed",
                drop("resume_from_checkpoint"),
                severity=Severity.WARNING,
            )
        return
    folder = local_path(given)
    if not given or (
        not any((folder / name).exists() for name in _RESUMABLE) and not any(folder.glob("*/adapter_model.*"))
    ):
        what = "holds no checkpoint" if folder.is_dir() else "does not exist"
        yield at_key(
            "resume_from_checkpoint", f"{given or 'an empty path'} {what}", "the path of a checkpoint-… folder"
        )


@train_rule
def output_dir_can_be_written(setting: Setting) -> Iterator[Finding]:
    """Run: os.makedirs ends in an OSError, after the model was loaded; so does what `datasets` caches."""
    if not setting.machine.is_here:
        return
    for key in ("output_dir", "cache_dir", "tokenized_path"):
        if not setting[key]:
            continue
        folder = local_path(setting[key])
        existing = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), Path())
        if key == "tokenized_path" and existing == folder and folder.is_dir():
            # It is only read.
            continue
        try:
            # It has no name: nothing is left, and nobody sees it.
            with tempfile.TemporaryFile(dir=existing):
                continue
        except OSError as error:
            reason = "it is a file" if existing.is_file() else describe_os_error(error)
            fix = "output_dir: saves/NAME" if key == "output_dir" else drop(key)
            yield at_key(key, f"{folder} cannot be written: {reason}", fix)


@train_rule
def output_dir_is_free(setting: Setting) -> Iterator[Finding]:
    """Parser: `Output directory already exists and is not empty`; with checkpoints in it, it resumes unasked."""
    folder = local_path(setting["output_dir"] or "trainer_output")
    resumable = not (setting["stage"] in ("rm", "ppo") and setting["finetuning_type"] in ("full", "freeze"))
    if (
        setting["resume_from_checkpoint"] is not None
        or not (setting["do_train"] and resumable and folder.is_dir())
        or setting["overwrite_output_dir"]
    ):
        return
    checkpoints = sorted(
        path.name for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()
    )
    if checkpoints:
        yield at_key(
            "output_dir",
            f"{folder} holds {checkpoints[-1]} of another run, which would be resumed",
            "another output_dir, or resume_from_checkpoint to say that it is meant",
            severity=Severity.WARNING,
        )
    elif holds_weights(folder):
        yield at_key(
            "output_dir", f"{folder} holds a finished run", "another output_dir, or overwrite_output_dir: true"
        )
