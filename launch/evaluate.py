"""Base and adapter on the same held-out rows, generated alike and scored alike.

`llamafactory-cli eval` raises NotImplementedError in 0.9.5, so each side is a `train` run with `do_predict`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.config import RunConfig, format_config
from launch.process import Poll
from launch.run import run_llamafactory
from prep.errors import ConfigError, InputError, RecordError
from prep.files import write_json
from prep.registry import find_dataset_file
from prep.thinking import CLOSE_TAG, OPEN_TAG, split_thought

COMPARISON_FILE = "comparison.json"
# What a prediction must share with the training run for the prompts to be the same tokens.
_SHARED_KEYS = (
    "model_name_or_path", "trust_remote_code", "use_fast_tokenizer", "resize_vocab", "rope_scaling", "flash_attn",
    "quantization_bit", "quantization_method", "double_quantization", "cache_dir", "model_revision", "stage",
    "finetuning_type", "template", "tool_format", "default_system", "enable_thinking", "preserve_thinking",
    "dataset_dir", "media_dir", "cutoff_len", "seed", "bf16", "fp16", "pure_bf16", "infer_dtype", "use_cpu",
    "preprocessing_num_workers", "dataloader_num_workers", "overwrite_cache", "report_to",
)  # fmt: skip
# Qwen3's own advice for each mode.
_THINKING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}
_NOT_THINKING = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}


@dataclass(frozen=True)
class Scores:
    """How one side did; shares and metrics run from 0 to 100.

    `bleu_4` and `rouge_*` are LLaMA-Factory's own, over whole outputs. `think_format` is the share of outputs
    that begin with one whole think block where the held-out row does, and carry no tag where it does not;
    `thinks` is the share with a thought in the block.
    """

    rows: int
    bleu_4: float
    rouge_1: float
    rouge_2: float
    rouge_l: float
    think_format: float
    thinks: float


def write_prediction_config(
    training: Mapping[str, Any], *, adapted: bool, eval_dataset: str, output_dir: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config that lets the base, or the base with its adapter, answer the held-out rows.

    Raises: ConfigError when the training config names no output to load.
    """
    config = {key: training[key] for key in _SHARED_KEYS if key in training}
    if adapted:
        trained = training.get("output_dir")
        if not trained:
            raise ConfigError("the training config has no output_dir: there is nothing to evaluate")
        key = "model_name_or_path" if training.get("finetuning_type") == "full" else "adapter_name_or_path"
        config[key] = trained
    config |= {
        "do_predict": True,
        "predict_with_generate": True,
        "eval_dataset": eval_dataset,
        "output_dir": output_dir,
        "per_device_eval_batch_size": 8,
        "max_new_tokens": 2048,
        **(_NOT_THINKING if training.get("enable_thinking") is False else _THINKING),
    }
    return {**config, **overrides}


@dataclass(frozen=True)
class Comparison:
    """Base and adapter side by side, and the folder that holds both runs."""

    base: Scores
    adapted: Scores
    folder: Path

    def compare(self) -> list[tuple[str, float, float]]:
        """Return (figure, base, adapted) for every figure but the number of rows."""
        pairs = zip(asdict(self.base).items(), asdict(self.adapted).values(), strict=True)
        return [(name, before, after) for (name, before), after in pairs if name != "rows"]

    def as_dict(self) -> dict[str, Any]:
        """Return both sides' figures, as `comparison.json` holds them."""
        return {"base": asdict(self.base), "adapter": asdict(self.adapted)}


def evaluate_adapter(
    cli: Path,
    training: Mapping[str, Any],
    eval_dataset: str,
    folder: Path,
    overrides: Mapping[str, Any],
    on_side: Callable[[str, Path], AbstractContextManager[Poll]],
) -> Comparison:
    """Let base and adapter answer the rows of a registered dataset, one after the other, and score both.

    `on_side` is entered with the side's name and its log for the time of its run, and gives the poll.
    Raises: ConfigError, RegistryError, OutputError when `folder` holds runs already, ChildFailedError.
    """
    find_dataset_file(eval_dataset, Path(str(training.get("dataset_dir", "data"))))
    scores = {}
    for side in ("base", "adapter"):
        run = folder / side
        config = write_prediction_config(
            training,
            adapted=side == "adapter",
            eval_dataset=eval_dataset,
            output_dir=(run / "predictions").as_posix(),
            overrides=overrides,
        )
        text = format_config(config, header=f"Prediction of the {side} on {eval_dataset}")
        with on_side(side, run / "log.txt") as on_poll:
            run_llamafactory(cli, "train", RunConfig(config, text), run, on_poll)
        scores[side] = score_predictions(run / "predictions")
    comparison = Comparison(scores["base"], scores["adapter"], folder)
    write_json(folder / COMPARISON_FILE, comparison.as_dict())
    return comparison


def read_comparison(folder: Path) -> Comparison:
    """Return what an earlier `evaluate_adapter` wrote; raises InputError when it is not whole."""
    path = folder / COMPARISON_FILE
    try:
        sides = json.loads(path.read_text(encoding="utf-8"))
        return Comparison(Scores(**sides["base"]), Scores(**sides["adapter"]), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no comparison: {error}") from error


def score_predictions(folder: Path) -> Scores:
    """Return the scores of a finished prediction run's output folder; raises InputError when it has none."""
    try:
        results = json.loads((folder / "predict_results.json").read_text(encoding="utf-8"))
        outputs = list(_read_outputs(folder / "generated_predictions.jsonl"))
        metrics = {
            name: results[f"predict_{key}"]
            for name, key in (
                ("bleu_4", "bleu-4"),
                ("rouge_1", "rouge-1"),
                ("rouge_2", "rouge-2"),
                ("rouge_l", "rouge-l"),
            )
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} holds no whole prediction run: {error}") from error
    return Scores(
        rows=len(outputs),
        **metrics,
        think_format=_percent(sum(_is_formed_alike(*pair) for pair in outputs), len(outputs)),
        thinks=_percent(sum(_has_thought(output) for output, _ in outputs), len(outputs)),
    )


def _read_outputs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (what the model wrote, what the held-out row holds)."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield row["predict"], row["label"]


def _is_formed_alike(output: str, label: str) -> bool:
    try:
        _, answer = split_thought(output)
    except RecordError:
        return False
    return bool(answer.strip()) and output.startswith(OPEN_TAG) == label.startswith(OPEN_TAG)


def _has_thought(output: str) -> bool:
    between = output.partition(OPEN_TAG)[2].partition(CLOSE_TAG)[0]
    return bool(between.strip())


def _percent(count: int, total: int) -> float:
    return round(100 * count / total, 2) if total else 0.0
