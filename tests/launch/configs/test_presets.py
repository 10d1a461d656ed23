"""The shipped presets."""

import json
import subprocess
from pathlib import Path

import pytest

from launch.configs.config import check_values
from launch.configs.presets import Preset, find_preset, list_presets
from launch.configs.rules import Machine, choose_machine
from launch.configs.schema import guess_kind
from prep.errors import ConfigError
from tests.support.rule_cases import GPU
from tests.support.warm_stack import stack_python

PRESETS = list_presets()
ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_no_preset_breaks_a_rule_on_its_machine(preset: Preset) -> None:
    kind = guess_kind(preset.values)
    several = Machine((GPU, GPU), env={})
    machine = several if preset.name.startswith("multi-gpu") else choose_machine("gpu")
    found = check_values(preset.values, kind, machine)
    assert [fault for fault in found if fault.is_error and fault.rule != "datasets_are_readable"] == []


def test_find_preset_with_a_typo_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        find_preset("medical-hybird")
    assert str(caught.value).startswith("no preset is called 'medical-hybird'; there are ")
    assert caught.value.hint == "medical-hybrid"


def test_changing_a_presets_values_leaves_the_preset_alone() -> None:
    preset = find_preset("cpu-smoke")
    preset.values["stage"] = "dpo"
    assert preset.values["stage"] == "sft"


PARSE = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
import transformers.training_args
from llamafactory.hparams import parser
from omegaconf import OmegaConf
# These presets are for a GPU with bf16: only that question is answered for them.
transformers.training_args.is_torch_bf16_gpu_available = lambda: True
verdicts = {}
for path in sys.argv[1:]:
    values = OmegaConf.to_container(OmegaConf.load(path))
    kinds = parser._TRAIN_ARGS if "output_dir" in values else parser._INFER_ARGS
    values.pop("deepspeed", None)
    try:
        parser.HfArgumentParser(kinds).parse_dict(values)
        verdicts[path] = ""
    except Exception as error:
        verdicts[path] = f"{type(error).__name__}: {error}"
json.dump(verdicts, answers); answers.close()
"""


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_every_preset_parses_in_the_real_parser() -> None:
    """DeepSpeed's own mapping is left out: its package is not part of the tested set."""
    paths = sorted(str(path) for path in (ROOT / "llamafactory_configs" / "presets").glob("*.yaml"))
    result = subprocess.run(
        [stack_python(), "-c", PARSE, *paths], capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(result.stdout) == dict.fromkeys(paths, "")
