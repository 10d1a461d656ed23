"""Prediction configs and scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.evaluate import Comparison, Scores, read_comparison, score_predictions, write_prediction_config
from prep.errors import ConfigError, InputError

TRAINING: dict[str, Any] = {
    "model_name_or_path": "models/m",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "use_unsloth": True,
    "dataset": "train",
    "dataset_dir": "data",
    "template": "qwen3",
    "enable_thinking": None,
    "cutoff_len": 2048,
    "learning_rate": 1e-4,
    "output_dir": "saves/m/lora/a",
    "seed": 7,
}


def predict(training: dict[str, Any], *, adapted: bool, **overrides: Any) -> dict[str, Any]:
    return write_prediction_config(
        training, adapted=adapted, eval_dataset="test", output_dir="out", overrides=overrides
    )


def test_base_and_adapter_differ_in_the_adapter_alone() -> None:
    base, adapted = predict(TRAINING, adapted=False), predict(TRAINING, adapted=True)
    assert adapted.pop("adapter_name_or_path") == "saves/m/lora/a"
    assert base == adapted


def test_a_prediction_keeps_what_makes_the_prompt_and_drops_what_trains() -> None:
    config = predict(TRAINING, adapted=True)
    assert {key: config[key] for key in ("template", "enable_thinking", "seed", "cutoff_len", "dataset_dir")} == {
        "template": "qwen3",
        "enable_thinking": None,
        "seed": 7,
        "cutoff_len": 2048,
        "dataset_dir": "data",
    }
    assert not {"do_train", "dataset", "learning_rate", "use_unsloth"} & set(config)
    assert (config["do_predict"], config["predict_with_generate"], config["eval_dataset"]) == (True, True, "test")


def test_a_full_fine_tune_is_loaded_as_a_model() -> None:
    config = predict({**TRAINING, "finetuning_type": "full"}, adapted=True)
    assert config["model_name_or_path"] == "saves/m/lora/a"
    assert "adapter_name_or_path" not in config


@pytest.mark.parametrize(
    ("thinking", "sampling"), [(True, (0.6, 0.95, 20)), (None, (0.6, 0.95, 20)), (False, (0.7, 0.8, 20))]
)
def test_each_mode_samples_as_qwen3_advises(thinking: bool | None, sampling: tuple[float, float, int]) -> None:
    config = predict({**TRAINING, "enable_thinking": thinking}, adapted=False)
    assert (config["temperature"], config["top_p"], config["top_k"]) == sampling


def test_overrides_win() -> None:
    assert predict(TRAINING, adapted=False, max_new_tokens=5)["max_new_tokens"] == 5


def test_a_config_without_output_has_nothing_to_evaluate() -> None:
    training = {key: value for key, value in TRAINING.items() if key != "output_dir"}
    with pytest.raises(ConfigError, match="no output_dir"):
        predict(training, adapted=True)


def write_predictions(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    folder.mkdir()
    results = {"predict_bleu-4": 10.0, "predict_rouge-1": 20.0, "predict_rouge-2": 5.0, "predict_rouge-l": 15.0}
    (folder / "predict_results.json").write_text(json.dumps(results), encoding="utf-8")
    lines = [json.dumps({"prompt": "p", "predict": predict, "label": label}) + "\n" for predict, label in pairs]
    (folder / "generated_predictions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_think_format_counts_outputs_formed_as_the_held_out_row(tmp_path: Path) -> None:
    thought, empty = "<think>\nT\n</think>\n\nA", "<think>\n\n</think>\n\nA"
    scores = score_predictions(
        write_predictions(
            tmp_path / "p",
            [
                (thought, thought),  # as it should be
                (empty, thought),  # a block, if an empty one
                ("A", "B"),  # none where none is
                (thought, "B"),  # a block where none is
                ("A", thought),  # none where one is
                ("<think>\nT", thought),  # cut off before it closed
                ("<think>\nT\n</think>\n\n", thought),  # no answer
                ("<think><think>x</think>A", thought),  # two openings
            ],
        )
    )
    assert scores == Scores(8, 10.0, 20.0, 5.0, 15.0, think_format=37.5, thinks=62.5)


def test_a_folder_without_predictions_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no whole prediction run"):
        score_predictions(tmp_path)


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    scores = Scores(8, 10.0, 20.0, 5.0, 15.0, 37.5, 62.5)
    comparison = Comparison(scores, scores, tmp_path)
    (tmp_path / "comparison.json").write_text(json.dumps(comparison.as_dict()), encoding="utf-8")
    assert read_comparison(tmp_path) == comparison
    assert ("bleu_4", 10.0, 10.0) in comparison.compare()
