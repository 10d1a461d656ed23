"""The shipped presets and the table of templates."""

import pytest

from launch.presets import Preset, find_preset, find_template, list_presets
from prep.errors import ConfigError

PRESETS = list_presets()


def test_the_quickstart_presets_are_shipped() -> None:
    assert {"cpu-smoke", "medical-hybrid"} <= {preset.name for preset in PRESETS}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_opens_with_schema_title_needs_and_run_line(preset: Preset) -> None:
    lines = preset.text.splitlines()
    assert lines[0].startswith("# yaml-language-server: $schema=../schemas/llamafactory-0.9.5-")
    assert preset.title.endswith(".")
    assert preset.needs
    run = next(line for line in preset.opening if line.startswith("Run:"))
    assert f"configs/{preset.name}.yaml" in run


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_no_preset_gives_a_key_twice(preset: Preset) -> None:
    assert preset.document.faults == []


def test_find_preset_with_a_typo_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        find_preset("medical-hybird")
    assert str(caught.value).startswith("no preset is called 'medical-hybird'; there are ")
    assert caught.value.hint == "medical-hybrid"


def test_changing_a_presets_values_leaves_the_preset_alone() -> None:
    preset = find_preset("cpu-smoke")
    preset.values["stage"] = "dpo"
    assert preset.values["stage"] == "sft"


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen3-4B", "qwen3"),
        ("Qwen/Qwen3-0.6B-Base", "qwen3"),
        ("Qwen/Qwen3-0.6B", "qwen3"),
        ("Qwen/Qwen3-4B-Thinking-2507", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3_nothink"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "qwen3_nothink"),
        ("Qwen/Qwen3.5-9B", "qwen3_5"),
        ("Qwen/Qwen3.6-27B", "qwen3_6"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl_nothink"),
        ("Qwen/Qwen3-VL-8B-Thinking", "qwen3_vl"),
        ("models/tiny-qwen3/", "qwen3"),
        (r"D:\models\Qwen3-8B", "qwen3"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
    ],
)
def test_a_models_name_gives_its_template(model: str, template: str | None) -> None:
    assert find_template(model) == template
