"""Base and adapters on the same held-out rows, generated alike and scored alike.

`llamafactory-cli eval` raises NotImplementedError in 0.9.5, so each side is a `train` run with `do_predict`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.configs.config import RunConfig, check_values, format_config
from launch.configs.document import show_value
from launch.configs.model_keys import FREE_KEYS, carry_model_keys, set_trained
from launch.configs.rules import Machine
from launch.evaluation.answer_cache import find_answers
from launch.evaluation.endpoints import Endpoint, find_model
from launch.evaluation.held_out_rows import locate_rows
from launch.evaluation.row_losses import average_losses, rank_rows, read_row_losses, write_ranked_rows
from launch.machine.command import ANSWERS_VARIABLE
from launch.results.changed_rows import write_changed_rows
from launch.results.comparison import COMPARISON_FILE, Comparison, Side, is_finished
from launch.results.endpoint_sides import DEFAULT_ASKING, Asking, ask_side, write_endpoint_config
from launch.results.held_out import check_held_out
from launch.results.scores import (
    Prediction,
    RowScores,
    average_scores,
    compare_scores,
    load_similarity,
    score_row,
)
from launch.results.taken_up import identify, note_side, take_up
from launch.runs.figures import fingerprint_weights
from launch.runs.process import Poll
from launch.runs.run import run_llamafactory
from prep.errors import ConfigError, InputError
from prep.quality.findings import Finding, at_key
from prep.storage.atomic import write_json, write_text
from prep.tokens.templates import look_up_template

# No answer is longer: LLaMA-Factory's own limit of new tokens is far below.
_MAX_LINE_BYTES = 16 << 20
SCORES_FILE = "scores.jsonl"
BASE = "base"
# Qwen3's own advice for each mode.
_THINKING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
_NOT_THINKING = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}


@dataclass(frozen=True)
class Entrant:
    """One model that is going to answer: its name, what was trained ("" for the base), its prediction config.

    A server's `source` is its URL.
    """

    name: str
    source: str
    config: dict[str, Any]
    endpoint: Endpoint | None = None


def write_prediction_config(
    training: Mapping[str, Any], *, trained: str, eval_dataset: str, output_dir: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config that lets a model answer the held-out rows, whatever stage it was trained in.

    `trained` is what the training made: an adapter's folder, the model's after a full fine-tune, "" for the base.
    Every key that makes the model or its prompts is carried (`launch.configs.model_keys`); answers are generated in
    stage sft, the one stage of LLaMA-Factory that generates.
    """
    config = set_trained(carry_model_keys(training), training, trained)
    method = training.get("finetuning_type", "lora")
    config |= {
        "stage": "sft",
        # An OFT adapter says itself what it is; only under this name does LLaMA-Factory load any adapter.
        "finetuning_type": "lora" if method == "oft" else method,
        "do_predict": True,
        "predict_with_generate": True,
        "eval_dataset": eval_dataset,
        "output_dir": output_dir,
        "max_new_tokens": 2048,
        **(_THINKING if _thinks(training) else _NOT_THINKING),
    }
    return {**config, **overrides}


def _thinks(training: Mapping[str, Any]) -> bool:
    """Tell whether a model is asked to think: a template such as qwen3_nothink or llama3 never does."""
    template = look_up_template(training.get("template"))
    return training.get("enable_thinking") is not False and (template is None or template.thinks)


def list_trained(configs: Mapping[str, Mapping[str, Any]], adapters: Sequence[Path] = ()) -> dict[str, str]:
    """Return what is compared with the base, by name: the adapters given, else what each config's training made.

    A single one is called `adapter`, several by their config's or folder's name.
    Raises: ConfigError when a config names no output or a name comes twice, InputError for a missing adapter.
    """
    named = [(path.name, path.as_posix()) for path in adapters]
    for path in adapters:
        if not (path / "adapter_config.json").is_file():
            raise InputError(
                f"{path} holds no adapter_config.json", hint="--adapter FOLDER, the output_dir of a training run"
            )
    if not adapters:
        for name, training in configs.items():
            if not training.get("output_dir"):
                raise ConfigError(f"config {name} has no output_dir: there is nothing to evaluate")
            named.append((name, str(training["output_dir"])))
    if len(named) == 1:
        return {"adapter": named[0][1]}
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1 or name == BASE:
            raise ConfigError(f"two of the models compared would be called '{name}'", hint="rename one of them")
    return dict(named)


def plan_entrants(
    configs: Mapping[str, Mapping[str, Any]],
    trained: Mapping[str, str],
    eval_dataset: str,
    folder: Path,
    overrides: Mapping[str, Any],
) -> list[Entrant]:
    """Return the base and each trained model with its prediction config.

    Shape: `configs` are training configs by name; `trained` comes from `list_trained`.
    Raises: ConfigError when the configs do not share one base, RegistryError when the dataset is unknown.
    """

    first = next(iter(configs.values()))
    check_shared_base(configs, overrides)
    check_held_out(configs, eval_dataset)

    def plan(name: str, source: str) -> Entrant:
        # Each model is made by its own training's keys; an adapter given by its path, by the first one's.
        makers = (training for training in configs.values() if source and training.get("output_dir") == source)
        maker = {key: value for key, value in next(makers, first).items() if key not in FREE_KEYS}
        config = write_prediction_config(
            {**maker, **{key: value for key, value in first.items() if key in FREE_KEYS}},
            trained=source,
            eval_dataset=eval_dataset,
            output_dir=(folder / name / "predictions").as_posix(),
            overrides=overrides,
        )
        return Entrant(name, source, config)

    base = plan(BASE, "")
    return [base, *(plan(name, source) for name, source in trained.items())]


def plan_endpoints(
    endpoints: Sequence[Endpoint], settings: Mapping[str, Any], folder: Path, think: bool | None
) -> list[Entrant]:
    """Return each server as a side; `settings` are eval_dataset, dataset_dir and what a request takes.

    Raises: ConfigError or InputError when a server does not say which model it serves.
    """
    sampling = {**(_NOT_THINKING if think is False else _THINKING), **settings}
    entrants = []
    for endpoint in map(find_model, endpoints):
        rows = {key: settings[key] for key in ("eval_dataset", "dataset_dir", "max_samples") if key in settings}
        rows["output_dir"] = (folder / endpoint.name / "predictions").as_posix()
        config = write_endpoint_config(endpoint, rows, sampling, think)
        entrants.append(Entrant(endpoint.name, endpoint.url, config, endpoint))
    return entrants


def set_mode(configs: Mapping[str, Mapping[str, Any]], *, think: bool) -> dict[str, dict[str, Any]]:
    """Return training configs that ask for a thought, or for none; raises ConfigError where a template cannot."""
    for name, training in configs.items():
        template = look_up_template(training.get("template"))
        if template is not None and not template.thinks:
            raise ConfigError(
                f"config {name} has the template {training['template']}, which never asks for thoughts",
                hint="leave --modes out",
            )
    return {name: {**training, "enable_thinking": think} for name, training in configs.items()}


def find_entrant_faults(entrants: Sequence[Entrant], machine: Machine) -> dict[str, list[Finding]]:
    """Return what is wrong with each side's prediction, by the side's name, before a row is asked of any."""
    return {
        entrant.name: _find_missing(entrant) or check_values(entrant.config, "train", machine)
        for entrant in entrants
        if entrant.endpoint is None
    }


def _find_missing(entrant: Entrant) -> list[Finding]:
    """Return what is missing of what a training made: an adapter, or the whole model of a full fine-tune."""
    is_model = entrant.config.get("model_name_or_path") == entrant.source
    told_by = Path(entrant.source, "config.json" if is_model else "adapter_config.json")
    if not entrant.source or told_by.is_file():
        return []
    message = f"{entrant.source} holds no {told_by.name}: nothing was trained there"
    return [at_key("output_dir", message, "lfc launch train CONFIG", rule="eval")]


def evaluate(
    cli: Path,
    entrants: Sequence[Entrant],
    folder: Path,
    on_side: Callable[[str, Path], AbstractContextManager[Poll]],
    on_note: Callable[[str], None] = lambda note: None,
    asking: Asking = DEFAULT_ASKING,
) -> Comparison:
    """Let each entrant answer the held-out rows, one after the other, and score all alike.

    What an evaluation that broke off has answered already, by the same model from the same rows under the same
    config, is taken; `on_note` hears that, and why something is answered again.
    `on_side` is entered with the side's name and its log for the time of its run, and gives the poll; `env` adds
    variables to each run's.
    Raises: StackError, OutputError when `folder` holds another evaluation, ChildFailedError.
    """
    load_similarity()  # Missing packages are to be known before the hours of generation.
    local = [entrant for entrant in entrants if entrant.endpoint is None]
    answered = take_up(local, folder, on_note, is_finished=is_finished(folder))
    for entrant in local:
        if entrant.name in answered:
            continue
        run = folder / entrant.name
        text = format_config(
            entrant.config, header=f"Prediction of {entrant.name} on {entrant.config['eval_dataset']}"
        )
        note_side(folder, entrant.name, entrant.config)
        config = RunConfig(entrant.config, text)
        with on_side(entrant.name, run / "log.txt") as on_poll:
            run_llamafactory(cli, "train", config, run, on_poll, keep_answers(entrant, asking))
    for entrant in entrants:
        if entrant.endpoint:
            base = read_predictions(Path(local[0].config["output_dir"])) if local else None
            with on_side(entrant.name, folder / entrant.name / "log.txt") as on_poll:
                ask_side(entrant.endpoint, entrant.config, base, asking, on_poll)
    return score_entrants(entrants, folder, asks_to_think=asking.for_thoughts)


def keep_answers(entrant: Entrant, asking: Asking) -> dict[str, str]:
    """Return a side's variables: one lets its answers be kept by row, unless LLaMA-Factory is to ask alone."""
    if asking.root is None or entrant.config.get("deepspeed") or entrant.config.get("fsdp"):
        return dict(asking.env)
    return {
        **asking.env,
        ANSWERS_VARIABLE: find_answers(asking.root, identify(entrant.config)).absolute().as_posix(),
    }


def score_entrants(entrants: Sequence[Entrant], folder: Path, *, asks_to_think: bool = False) -> Comparison:
    """Score finished predictions: `comparison.json`, `scores.jsonl`, rows that changed most, rows by their loss.

    Raises: InputError when a side's predictions are missing or are of other rows than the base's.
    """
    predictions = {entrant.name: read_predictions(Path(entrant.config["output_dir"])) for entrant in entrants}
    first = entrants[0].name
    _check_same_rows(predictions, first)
    measure = load_similarity()
    scores = {
        entrant.name: [score_row(row, measure, asks_to_think=asks_to_think) for row in predictions[entrant.name]]
        for entrant in entrants
    }
    sides = tuple(
        Side(
            entrant.name,
            entrant.source,
            average_scores(scores[entrant.name]),
            compare_scores(scores[first], scores[entrant.name]) if entrant.name != first else {},
            fingerprint_weights(Path(entrant.source)) if entrant.source and not entrant.endpoint else "",
        )
        for entrant in entrants
    )
    losses = _keep_losses(entrants, len(scores[first]), folder)
    comparison = Comparison(str(entrants[0].config["eval_dataset"]), len(scores[first]), sides, folder, losses)
    write_text(folder / SCORES_FILE, _format_rows(scores))
    write_changed_rows(folder, first, predictions, scores)
    write_json(folder / COMPARISON_FILE, comparison.as_dict())
    return comparison


def _keep_losses(entrants: Sequence[Entrant], count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Write the rows ranked by loss, and return each dataset's mean losses; {} when no side has any."""
    found = {entrant.name: read_row_losses(Path(entrant.config["output_dir"]), count) for entrant in entrants}
    losses = {name: values for name, values in found.items() if values is not None}
    if not losses:
        return {}
    rows = locate_rows(entrants[0].config, count)
    write_ranked_rows(folder, rank_rows(losses, rows))
    return average_losses(losses, rows, str(entrants[0].config["eval_dataset"]))


def read_predictions(folder: Path) -> list[Prediction]:
    """Return what a finished prediction run wrote; raises InputError when that is not whole."""
    try:
        (folder / "predict_results.json").stat()  # Written before the predictions, when all are there.
        return list(_iter_predictions(folder / "generated_predictions.jsonl"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} holds no whole prediction run: {error}") from error


def _iter_predictions(path: Path) -> Iterator[Prediction]:
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES):
            number += 1
            if len(line) == _MAX_LINE_BYTES:
                raise ValueError(f"line {number} of {path.name} is longer than {_MAX_LINE_BYTES >> 20} MiB")
            row = json.loads(line)
            parts = (row["prompt"], row["predict"], row["label"])
            if not all(isinstance(part, str) for part in parts):
                raise ValueError(f"line {number} of {path.name} holds something that is no text")
            yield Prediction(*parts)


def check_shared_base(configs: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any]) -> None:
    """Raise ConfigError when training configs do not put the same prompts to the same base model.

    Shape: `configs` are training configs by name; a key set for all by `overrides` may differ.
    """
    first_name, first = next(iter(configs.items()))
    shared = carry_model_keys(first)
    for name, other in configs.items():
        others = carry_model_keys(other)
        for key in [*shared, *(key for key in others if key not in shared)]:
            if key in FREE_KEYS or key in overrides or shared.get(key) == others.get(key):
                continue
            raise ConfigError(
                f"{first_name} and {name} do not share one base: "
                f"`{key}` is {show_value(shared.get(key))} and {show_value(others.get(key))}",
                hint=f"evaluate them one by one, or set it for all: {key}=VALUE",
            )


def _check_same_rows(predictions: Mapping[str, Sequence[Prediction]], first: str) -> None:
    asked = {name: [(row.prompt, row.label) for row in rows] for name, rows in predictions.items()}
    for name, rows in asked.items():
        if rows != asked[first]:
            raise InputError(f"{name} answered other rows than {first}: they cannot be compared row by row")


def _format_rows(scores: Mapping[str, Sequence[RowScores]]) -> str:
    lines = [
        json.dumps({"row": number, **dict(zip(scores, row, strict=True))})
        for number, row in enumerate(zip(*scores.values(), strict=True), 1)
    ]
    return "".join(f"{line}\n" for line in lines)
