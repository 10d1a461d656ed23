"""Prediction configs and scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.results.comparison import read_comparison
from launch.results.evaluate import (
    Entrant,
    list_trained,
    plan_entrants,
    read_predictions,
    score_entrants,
    write_prediction_config,
)
from launch.results.scores import Change
from prep.errors import ConfigError, InputError, RegistryError

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
        training,
        trained=training["output_dir"] if adapted else "",
        eval_dataset="test",
        output_dir="out",
        overrides=overrides,
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


def test_a_template_that_never_thinks_samples_as_qwen3_advises_without_thinking() -> None:
    assert predict({**TRAINING, "template": "qwen3_nothink"}, adapted=False)["temperature"] == 0.7


def test_overrides_win() -> None:
    assert predict(TRAINING, adapted=False, max_new_tokens=5)["max_new_tokens"] == 5


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """A dataset folder that knows the held-out rows `test`."""
    (tmp_path / "test.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text('{"test": {"file_name": "test.jsonl"}}', encoding="utf-8")
    return tmp_path


def test_a_config_without_output_has_nothing_to_evaluate() -> None:
    training = {key: value for key, value in TRAINING.items() if key != "output_dir"}
    with pytest.raises(ConfigError, match="config a has no output_dir: there is nothing to evaluate"):
        list_trained({"a": training})


def test_one_training_is_the_adapter_and_several_keep_their_names() -> None:
    other = {**TRAINING, "output_dir": "saves/m/lora/b"}
    assert list_trained({"a": TRAINING}) == {"adapter": "saves/m/lora/a"}
    assert list_trained({"a": TRAINING, "b": other}) == {"a": "saves/m/lora/a", "b": "saves/m/lora/b"}


def test_adapters_given_by_path_are_compared_instead(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}", encoding="utf-8")
    x, y = tmp_path / "x", tmp_path / "y"
    assert list_trained({"a": TRAINING}, [x, y]) == {"x": x.as_posix(), "y": y.as_posix()}
    with pytest.raises(ConfigError, match="two of the models compared would be called 'x'"):
        list_trained({"a": TRAINING}, [x, y, x])
    with pytest.raises(InputError, match=r"holds no adapter_config\.json"):
        list_trained({"a": TRAINING}, [tmp_path])


def test_the_base_is_planned_once_for_several_adapters(dataset_dir: Path) -> None:
    training = {**TRAINING, "dataset_dir": dataset_dir.as_posix()}
    configs = {"a": training, "b": {**training, "output_dir": "saves/m/lora/b", "seed": 8, "learning_rate": 1}}
    base, *others = plan_entrants(configs, list_trained(configs), "test", Path("runs/e"), {"do_sample": False})
    assert (base.name, base.source) == ("base", "")
    assert [(side.name, side.source) for side in others] == [("a", "saves/m/lora/a"), ("b", "saves/m/lora/b")]
    assert [side.config["output_dir"] for side in others] == ["runs/e/a/predictions", "runs/e/b/predictions"]
    for side in others:
        differs = {key for key in side.config if side.config[key] != base.config.get(key)}
        assert differs == {"adapter_name_or_path", "output_dir"}


def test_trainings_of_two_bases_are_refused_with_the_key_that_differs(dataset_dir: Path) -> None:
    training = {**TRAINING, "dataset_dir": dataset_dir.as_posix()}
    configs = {"a": training, "b": {**training, "cutoff_len": 512}}
    with pytest.raises(ConfigError) as caught:
        plan_entrants(configs, list_trained(configs), "test", Path("r"), {})
    assert str(caught.value) == "a and b do not share one base: `cutoff_len` is 2048 and 512"
    assert caught.value.hint == "evaluate them one by one, or set it for all: cutoff_len=VALUE"
    assert (
        plan_entrants(configs, {"adapter": "x"}, "test", Path("r"), {"cutoff_len": 512})[0].config["cutoff_len"]
        == 512
    )


def test_an_unknown_dataset_is_refused_before_anything_runs(dataset_dir: Path) -> None:
    training = {**TRAINING, "dataset_dir": dataset_dir.as_posix()}
    with pytest.raises(RegistryError, match="'nope'"):
        plan_entrants({"a": training}, {"adapter": "x"}, "nope", Path("r"), {})


def write_predictions(folder: Path, pairs: list[tuple[str, str]]) -> Entrant:
    predictions = folder / "predictions"
    predictions.mkdir(parents=True)
    (predictions / "predict_results.json").write_text("{}", encoding="utf-8")
    lines = [json.dumps({"prompt": "p", "predict": output, "label": label}) + "\n" for output, label in pairs]
    (predictions / "generated_predictions.jsonl").write_text("".join(lines), encoding="utf-8")
    config = {"output_dir": predictions.as_posix(), "eval_dataset": "test"}
    return Entrant(folder.name, "" if folder.name == "base" else "saves/a", config)


LABEL = "<think>\nT\n</think>\n\nthe answer is here"


def test_both_sides_are_scored_row_by_row_and_as_a_whole(tmp_path: Path) -> None:
    pytest.importorskip("rouge_chinese")
    base = write_predictions(tmp_path / "base", [("<think>\nT", LABEL)] * 12)
    adapter = write_predictions(
        tmp_path / "adapter", [("<think>\nother\n</think>\n\nthe answer is here", LABEL)] * 12
    )
    comparison = score_entrants([base, adapter], tmp_path)
    sides = {side.name: side for side in comparison.sides}
    assert (comparison.rows, comparison.eval_dataset) == (12, "test")
    assert (sides["base"].figures["rouge_l"], sides["base"].figures["cut_off"]) == (0, 100)
    assert sides["adapter"].figures["rouge_l"] == pytest.approx(100, abs=1e-3)
    assert sides["adapter"].changes["cut_off"] == Change(-100, -100, -100, 12)
    assert sides["base"].changes == {}
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12
    assert (rows[3]["row"], rows[3]["base"]["cut_off"], rows[3]["adapter"]["cut_off"]) == (4, 100, 0)
    assert (tmp_path / "changed_rows.md").is_file()
    assert read_comparison(tmp_path) == comparison


def test_sides_that_answered_other_rows_are_not_compared(tmp_path: Path) -> None:
    base = write_predictions(tmp_path / "base", [("a", "A"), ("b", "B")])
    adapter = write_predictions(tmp_path / "adapter", [("b", "B"), ("a", "A")])
    with pytest.raises(InputError, match="adapter answered other rows than base"):
        score_entrants([base, adapter], tmp_path)


def test_a_folder_without_predictions_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no whole prediction run"):
        read_predictions(tmp_path)


def test_a_folder_without_a_comparison_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no comparison"):
        read_comparison(tmp_path)
    (tmp_path / "comparison.json").write_text('{"rows": 1, "sides": [{}]}', encoding="utf-8")
    with pytest.raises(InputError, match="holds no comparison"):
        read_comparison(tmp_path)
