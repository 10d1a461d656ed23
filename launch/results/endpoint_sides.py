"""Servers as sides of a comparison: the same rows, asked by OpenAI's protocol, written down as predictions are."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.evaluation.answer_cache import AnswerFile, find_answers
from launch.evaluation.endpoints import AT_ONCE, Endpoint, ask_endpoint, write_sampling
from launch.evaluation.held_out_rows import read_held_out_rows
from launch.results.scores import Prediction
from prep.errors import InputError
from prep.storage.atomic import write_json, write_text


@dataclass(frozen=True)
class Asking:
    """How rows are asked: `root` keeps answers by row, None asks as LLaMA-Factory alone would.

    `at_once` is how many requests an endpoint gets at a time; `for_thoughts` says that every row asks for one;
    `env` are variables of every side's LLaMA-Factory.
    """

    root: Path | None = None
    at_once: int = AT_ONCE
    for_thoughts: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


DEFAULT_ASKING = Asking()


def write_endpoint_config(
    endpoint: Endpoint, settings: Mapping[str, Any], sampling: Mapping[str, Any], think: bool | None
) -> dict[str, Any]:
    """Return what decides a server's answers, and where they go.

    Shape: `settings` has eval_dataset, dataset_dir, output_dir and maybe max_samples.
    """
    return {
        "endpoint": endpoint.url,
        "model": endpoint.model,
        "enable_thinking": think,
        **settings,
        "request": write_sampling({}, sampling, think),
    }


def ask_side(
    endpoint: Endpoint,
    config: Mapping[str, Any],
    base: Sequence[Prediction] | None,
    asking: "Asking",
    on_poll: Callable[[], None],
) -> None:
    """Let a server answer the held-out rows, and write them where a prediction of LLaMA-Factory would.

    `base` are the predictions that stand beside it, whose prompts and wanted answers are taken; without any the
    question and the row's answer are. The log is read as a progress bar is.
    Raises: InputError when the rows are others, or the server does not answer.
    """
    folder = Path(str(config["output_dir"]))
    most = config.get("max_samples")
    rows = read_held_out_rows(config["eval_dataset"], Path(str(config["dataset_dir"])), most)
    asked = [row.write_request(with_thought=config["enable_thinking"] is not False) for row in rows]
    if base is not None and len(base) != len(rows):
        raise InputError(
            f"LLaMA-Factory asked {len(base)} rows, and endpoint {endpoint.name} would be asked {len(rows)}",
            hint="lfc prep lint FILE tells which rows LLaMA-Factory leaves out",
        )
    requests = [{**request, **config["request"]} for request, _ in asked]
    log = folder.parent / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)

    def note(done: int, total: int) -> None:
        log.write_text(f"{100 * done // max(total, 1):3d}%|  | {done}/{total} [rows answered]\n", encoding="utf-8")
        on_poll()

    identity = {"config": {"endpoint": endpoint.url, "model": endpoint.model}, "models": {}}
    kept = AnswerFile(find_answers(asking.root or folder.parent, identity))
    answers = ask_endpoint(endpoint, requests, kept, note, at_once=asking.at_once)
    lines = []
    for number, (request, wanted) in enumerate(asked):
        prompt = base[number].prompt if base else str(request["messages"][-1]["content"])
        label = base[number].label if base else wanted
        lines.append(json.dumps({"prompt": prompt, "predict": answers[number], "label": label}, ensure_ascii=False))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "generated_predictions.jsonl", "".join(f"{line}\n" for line in lines))
    write_json(folder / "predict_results.json", {"predict_rows": len(rows)})
