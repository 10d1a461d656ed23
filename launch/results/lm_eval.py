"""Multiple-choice tasks through lm-evaluation-harness: what it is told, and what it found. It does the scoring."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from launch.configs.config import RunConfig, format_config
from launch.configs.model_keys import chain_adapters, is_whole_model, set_trained
from launch.machine.command import Command, build_harness_command
from launch.machine.gpu_use import HARNESS
from launch.results.evaluate import BASE, Entrant
from launch.runs.claims import find_command_gpus, list_claims, refuse_shared_gpus, starting
from launch.runs.folder import RunFolder
from launch.runs.process import Poll
from launch.runs.run import create_run_folder, prepare_run, refuse_taken_run, run_to_end
from prep.errors import ConfigError, InputError
from prep.storage.bounded import read_bounded
from prep.storage.paths import require_writable

# What a training config says of the model, by the name that the harness's `hf` model has for it.
_MODEL_KEYS = {
    "model_name_or_path": "pretrained",
    "adapter_name_or_path": "peft",
    "model_revision": "revision",
    "cache_dir": "cache_dir",
    "trust_remote_code": "trust_remote_code",
    "enable_thinking": "enable_thinking",
}


class TaskScore(NamedTuple):
    """One metric of one task, as the harness writes it; `error` is its standard error, None when it has none."""

    task: str
    metric: str
    value: float
    error: float | None


def write_harness_config(
    training: Mapping[str, Any],
    *,
    trained: str,
    tasks: Sequence[str],
    output_dir: str,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the YAML that `lm_eval run --config` takes for a model; `trained` is "" for the base."""
    adapters = [] if is_whole_model(training) else chain_adapters(training, trained)
    if trained and len(adapters) > 1:
        raise ConfigError(
            f"{trained} stands on {adapters[0]}, and lm-evaluation-harness loads one adapter",
            hint="merge the first with lfc launch export, or evaluate on rows with --eval-dataset",
        )
    model = set_trained(dict(training), training, trained)
    arguments = {theirs: model[ours] for ours, theirs in _MODEL_KEYS.items() if model.get(ours) is not None}
    if not trained:
        arguments.pop("peft", None)
    dtypes = [name for key, name in (("bf16", "bfloat16"), ("fp16", "float16")) if training.get(key)]
    return {
        "model": "hf",
        "model_args": {**arguments, "dtype": dtypes[0] if dtypes else "auto"},
        "tasks": list(tasks),
        "batch_size": 8,
        "output_path": output_dir,
        **overrides,
    }


def plan_task_runs(
    training: Mapping[str, Any],
    trained: Mapping[str, str],
    tasks: Sequence[str],
    folder: Path,
    overrides: Mapping[str, Any],
) -> list[Entrant]:
    """Return the base and each trained model with its harness config; `trained` comes from `list_trained`."""
    return [
        Entrant(
            name,
            source,
            write_harness_config(
                training,
                trained=source,
                tasks=tasks,
                output_dir=(folder / name / "results").as_posix(),
                overrides=overrides,
            ),
        )
        for name, source in {BASE: "", **trained}.items()
    ]


def run_tasks(
    lm_eval: Path,
    entrants: Sequence[Entrant],
    folder: Path,
    on_side: Callable[[str, Path], AbstractContextManager[Poll]],
    env: Mapping[str, str],
) -> dict[str, list[TaskScore]]:
    """Let the harness ask each entrant, one after the other, and return what it found by side.

    `env` adds variables to each run's.
    Raises: OutputError when `folder` holds runs already or a GPU is taken, ChildFailedError, InputError.
    """
    scores = {}
    for entrant in entrants:
        place = folder / entrant.name
        text = format_config(entrant.config, header=f"lm-evaluation-harness on {entrant.name}")
        with on_side(entrant.name, RunFolder(place).log) as on_poll:
            with starting():
                command = check_task_run(lm_eval, entrant, place, env)
                run = create_run_folder(place)
                prepare_run(run, HARNESS, command, RunConfig(entrant.config, text))
            run_to_end(run, on_poll)
        scores[entrant.name] = read_task_scores(Path(str(entrant.config["output_path"])))
    return scores


def check_task_run(lm_eval: Path, entrant: Entrant, place: Path, env: Mapping[str, str]) -> Command:
    """Return the command that asks an entrant in a run folder that is still to be made; writes nothing.

    Raises: OutputError when a live run or batch has the GPU that it will work on.
    """
    require_writable(place)
    refuse_taken_run(place)
    command = build_harness_command(lm_eval, RunFolder(place).config, os.environ).with_env(env)
    refuse_shared_gpus(find_command_gpus(HARNESS, entrant.config, command), list_claims(), env)
    return command


def read_task_scores(folder: Path) -> list[TaskScore]:
    """Return every metric in the newest results file of a harness output folder.

    Raises: InputError when there is none, or it is not one.
    """
    found = sorted(folder.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"{folder} holds no results of lm-evaluation-harness")
    try:
        results = json.loads(read_bounded(found[-1]))["results"]
        return [score for task, figures in results.items() for score in _read_metrics(task, figures)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{found[-1]} holds no results of lm-evaluation-harness: {error}") from error


def _read_metrics(task: str, figures: Mapping[str, Any]) -> list[TaskScore]:
    """Return a task's metrics: their keys are `metric,filter`, and `metric_stderr,filter` for the error."""
    scores = []
    for key, value in figures.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = figures.get(f"{metric}_stderr,{filter_name}")
        name = metric if filter_name == "none" else f"{metric} ({filter_name})"
        scores.append(TaskScore(task, name, float(value), error if isinstance(error, int | float) else None))
    return scores
