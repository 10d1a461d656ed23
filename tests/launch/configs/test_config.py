"""Writing a config from a preset, a dataset and overrides."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import new_config, parse_overrides, read_config, write_config
from launch.configs.presets import find_preset
from prep.errors import ConfigError, OutputError, RegistryError
from prep.registry.dataset_info import register_dataset
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, write_manifest


def make_dataset(folder: Path, name: str, *, policy: str | None = "tagged", with_history: int = 0) -> Path:
    row = {"instruction": "q", "input": "", "output": "<think>\nt\n</think>\n\na", "system": "", "history": []}
    path = folder / f"{name}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    if policy:
        counts = {"records": 1, "with_history": with_history}
        write_manifest(
            path,
            Manifest("convert", {}, policy, [], counts, {"bytes": path.stat().st_size, "sha256": hash_file(path)}),
        )
    register_dataset(path, name, folder)
    return path


def write_new(folder: Path, *pairs: str, preset: str = "cpu-smoke") -> dict[str, Any]:
    overrides = parse_overrides(pairs)
    return new_config(find_preset(preset), folder / "run.yaml", overrides, dataset_dir=folder / "data").values


@pytest.mark.parametrize(("policy", "enable_thinking"), [("tagged", True), ("masked", None), ("strip", False)])
def test_enable_thinking_follows_the_datasets_think_policy(
    tmp_path: Path, policy: str, enable_thinking: bool | None
) -> None:
    make_dataset(tmp_path / "data", "mine", policy=policy)
    write_new(tmp_path, "dataset=mine")
    assert read_config(tmp_path / "run.yaml")["enable_thinking"] is enable_thinking


@pytest.mark.parametrize(("with_history", "expected"), [(0, None), (3, True)])
def test_mask_history_is_set_when_rows_have_a_history(
    tmp_path: Path, with_history: int, expected: bool | None
) -> None:
    make_dataset(tmp_path / "data", "mine", with_history=with_history)
    assert write_new(tmp_path, "dataset=mine").get("mask_history") is expected


def test_an_override_wins_over_what_the_dataset_and_the_model_say(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine", policy="masked", with_history=1)
    values = write_new(tmp_path, "dataset=mine", "enable_thinking=true", "mask_history=false", "template=qwen")
    assert (values["enable_thinking"], values["mask_history"], values["template"]) == (True, False, "qwen")


def test_template_and_output_dir_follow_the_model(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    values = write_new(tmp_path, "dataset=mine", "model_name_or_path=Qwen/Qwen3-4B-Instruct-2507")
    assert values["template"] == "qwen3_nothink"
    assert values["output_dir"] == "saves/Qwen3-4B-Instruct-2507/lora/run"


def test_a_dataset_without_manifest_is_named_in_a_note(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine", policy=None)
    written = new_config(
        find_preset("cpu-smoke"), tmp_path / "run.yaml", {"dataset": "mine"}, dataset_dir=tmp_path / "data"
    )
    assert written.notes == ["dataset 'mine' has no manifest: `enable_thinking` is left as it is"]
    assert written.values["enable_thinking"] is True


def test_datasets_of_different_policies_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "one", policy="tagged")
    make_dataset(tmp_path / "data", "two", policy="masked")
    with pytest.raises(ConfigError) as caught:
        write_new(tmp_path, "dataset=one,two")
    assert str(caught.value) == (
        "the datasets were written under different think policies: one is tagged, two is masked"
    )
    assert not (tmp_path / "run.yaml").exists()


def test_an_unregistered_dataset_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    with pytest.raises(RegistryError, match="dataset 'other' is not in"):
        write_new(tmp_path, "dataset=other")


def test_a_config_that_stands_is_kept_without_force(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    (tmp_path / "run.yaml").write_text("stage: sft\n", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        write_new(tmp_path, "dataset=mine")
    assert (tmp_path / "run.yaml").read_text(encoding="utf-8") == "stage: sft\n"


def test_the_written_yaml_reads_back_and_opens_with_schema_and_launch_line(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    values = write_new(tmp_path, "dataset=mine", "learning_rate=2e-5", "save_total_limit=null")
    path = tmp_path / "run.yaml"
    assert read_config(path) == values
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[:4] == [
        "# yaml-language-server: $schema=llamafactory-0.9.5-train.schema.json",
        "# CPU smoke run: LoRA on a tiny model for a few steps, to see the whole way work without a GPU."
        " (preset cpu-smoke)",
        "# Needs: no GPU, 4 GB of memory; llamafactory",
        f"# Run:   lfc launch train {path.as_posix()}",
    ]
    assert "\n# data\ndataset: mine\n" in text
    assert "learning_rate: 2.0e-05\n" in text
    assert "save_total_limit: null\n" in text


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    write_new(tmp_path, "dataset=mine")
    first = (tmp_path / "run.yaml").read_bytes()
    (tmp_path / "run.yaml").unlink()
    write_new(tmp_path, "dataset=mine")
    assert (tmp_path / "run.yaml").read_bytes() == first


def test_overrides_are_typed_as_in_yaml() -> None:
    assert parse_overrides(["a=1e-4", "b=null", "c=false", "d=x=y", "e=", "f='1'"]) == {
        "a": 1e-4,
        "b": None,
        "c": False,
        "d": "x=y",
        "e": None,
        "f": "1",
    }


@pytest.mark.parametrize("pair", ["bf16", "=1"])
def test_an_override_without_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match="is not key=value"):
        parse_overrides([pair])


def test_read_config_refuses_a_key_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: 2\na: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path} line 3: `a` is given twice, first on line 1"


def test_write_config_without_a_preset_writes_header_and_keys(tmp_path: Path) -> None:
    write_config(tmp_path / "a.yaml", {"stage": "sft", "n": "1e-4"}, header="one\ntwo")
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == "# one\n# two\nstage: sft\nn: '1e-4'\n"


def test_the_cutoff_follows_the_rows_of_a_local_model(tmp_path: Path, qwen3_folder: Path) -> None:
    row = {"instruction": "q" * 3, "input": "", "output": "word " * 700, "system": "", "history": []}
    make_dataset(tmp_path / "data", "mine")
    (tmp_path / "data" / "mine.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    model = f"model_name_or_path={qwen3_folder.as_posix()}"
    values = write_new(tmp_path, "dataset=mine", "template=qwen3", model)
    assert values["cutoff_len"] > 700
    assert values["cutoff_len"] % 64 == 0


def test_an_own_cutoff_stays_and_what_it_cuts_is_said(tmp_path: Path, qwen3_folder: Path) -> None:
    row = {"instruction": "q", "input": "", "output": "word " * 700, "system": "", "history": []}
    make_dataset(tmp_path / "data", "mine")
    (tmp_path / "data" / "mine.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    overrides = {"dataset": "mine", "cutoff_len": 128, "template": "qwen3", "model_name_or_path": str(qwen3_folder)}
    written = new_config(find_preset("cpu-smoke"), tmp_path / "run.yaml", overrides, dataset_dir=tmp_path / "data")
    assert written.values["cutoff_len"] == 128
    assert "cutoff_keeps_the_answers" in [fault.rule for fault in written.findings]


def test_a_mapping_is_written_as_a_block_and_reads_back(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "mine")
    values = write_new(tmp_path, "dataset=mine", preset="multi-gpu-zero2")
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert "\n  zero_optimization:\n    stage: 2\n" in text
    assert read_config(tmp_path / "run.yaml") == values


def test_an_inference_preset_gets_no_dataset_and_no_output_dir(tmp_path: Path) -> None:
    values = write_new(tmp_path, "model_name_or_path=Qwen/Qwen3-8B", preset="infer-nothink")
    assert set(values) & {"dataset", "output_dir", "cutoff_len"} == set()


@pytest.mark.parametrize("stage", ["pt", "dpo", "kto", "rm"])
def test_what_only_sft_takes_is_turned_off_in_another_stage(tmp_path: Path, stage: str) -> None:
    make_dataset(tmp_path / "data", "mine", with_history=3)
    overrides = {"dataset": "mine", "stage": stage, "model_name_or_path": "Qwen/Qwen3-8B"}
    written = new_config(find_preset("cpu-smoke"), tmp_path / "run.yaml", overrides, dataset_dir=tmp_path / "data")
    assert written.values["mask_history"] is False
    assert "stage_allows_the_keys" not in [fault.rule for fault in written.findings]


def test_texts_without_an_answer_are_not_measured_as_turns(tmp_path: Path, qwen3_folder: Path) -> None:
    make_dataset(tmp_path / "data", "mine", policy=None)
    (tmp_path / "data" / "mine.jsonl").write_text('{"text": "a text"}\n', encoding="utf-8")
    registry = {"mine": {"file_name": "mine.jsonl", "columns": {"prompt": "text"}}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    model = f"model_name_or_path={qwen3_folder.as_posix()}"
    values = write_new(tmp_path, "dataset=mine", "stage=pt", "template=qwen3", model)
    assert values["cutoff_len"] == find_preset("cpu-smoke").values["cutoff_len"]
