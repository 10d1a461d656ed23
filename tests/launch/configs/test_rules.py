"""Each rule refuses a config that breaks it and takes the fixed one; LLaMA-Factory itself says the same."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import check_values
from launch.configs.rules import RULES, Machine, choose_machine
from launch.machine.gpus import Gpu
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.quality.findings import Finding
from prep.tokens.cutoff import CutoffAdvice
from tests.support.rule_cases import (
    CASES,
    GPU,
    Case,
    base_values,
    case_machine,
    case_name,
    change,
    make_workplace,
    plan_case,
)
from tests.support.warm_stack import stack_python


@pytest.fixture(scope="module")
def shared_workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    make_workplace(folder)
    return folder


@pytest.fixture
def workplace(shared_workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Read only, except by the training at the end."""
    monkeypatch.chdir(shared_workplace)
    return shared_workplace


def judge(values: dict[str, Any], case: Case) -> list[Finding]:
    path = Path("a b.yaml") if case.rule == "torchrun_paths_have_no_spaces" and values.get("mark") is None else None
    return check_values(
        {key: value for key, value in values.items() if key != "mark"}, "train", case_machine(case), path
    )


def test_every_training_rule_has_a_case() -> None:
    assert {rule.__name__ for rule in RULES} - {case.rule for case in CASES} == {
        "vllm_takes_plain_models",
        "cutoff_keeps_the_answers",
        # With folders of their own: tests/launch/test_adapters.py, test_actions.py and test_served.py beside it.
        "adapters_fit_the_model",
        "export_dir_is_free",
        "rows_are_served_as_they_are_trained",
        # tests/launch/configs/test_tokens.py
        "tokens_fit_the_config",
        # Below.
        "datasets_are_of_their_inputs",
        # In test_tokens.py beside it.
        "uploads_have_a_token",
        "trainer_reads_these_keys",
        "model_type_is_known",
        "results_have_room",
        "architecture_can_be_loaded",
        "packing_goes_with_the_attention",
        "verbosity_is_a_level",
    }


def test_every_rule_says_what_it_rests_on() -> None:
    without = [rule.__name__ for rule in RULES if not (rule.__doc__ or "").startswith(("Parser", "Run", "Source"))]
    assert without == []


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_broken_config_is_refused_with_a_fix_and_the_fixed_one_is_taken(case: Case, workplace: Path) -> None:
    broken = change(base_values(), case.breaks)
    found = [fault for fault in judge(broken, case) if fault.rule == case.rule]
    assert found
    assert found[0].is_error is case.fatal
    assert found[0].fix
    fixed = {**change(broken, case.fixes), "mark": True}
    assert [fault for fault in judge(fixed, case) if fault.rule == case.rule] == []


@pytest.mark.parametrize(
    ("gpus", "options", "env", "said"),
    [
        ((), None, {}, "there is no GPU"),
        ((GPU, GPU), None, {}, "asked for 20 CPU cores, and has 16"),
        ((GPU,), '{"num_cpus": 4}', {}, "asked for 10 CPU cores, and has 4"),
        ((GPU,), None, {}, ""),
        ((GPU, GPU), None, {"RAY_ADDRESS": "10.0.0.1:6379"}, ""),
        ((GPU, GPU), {"address": "auto"}, {}, ""),
        ((GPU, GPU), None, {"USE_RAY": "0"}, ""),
        (None, None, {}, ""),
    ],
)
def test_ray_is_refused_where_it_would_wait_for_ever(
    gpus: tuple[Gpu, ...] | None, options: object, env: dict[str, str], said: str
) -> None:
    values = {**base_values(), **({"ray_init_kwargs": options} if options else {})}
    machine = Machine(gpus, env={"USE_RAY": "1", **env}, cpus=16)
    found = [fault for fault in check_values(values, "train", machine) if "ray" in fault.rule]
    assert [said in fault.message for fault in found] == ([True] if said else [])


def test_the_base_config_has_no_fault(workplace: Path) -> None:
    assert [fault for fault in check_values(base_values(), "train", Machine(())) if fault.rule != "packages"] == []


def test_two_gpus_only_warn_when_lfc_may_choose_one(workplace: Path) -> None:
    values = {**base_values(), "use_unsloth": True, "disable_gradient_checkpointing": False}
    found = check_values(values, "train", Machine((GPU, GPU), env={}))
    assert [(fault.rule, fault.is_error) for fault in found] == [("unsloth_has_one_gpu", False)]


def test_a_rule_waits_until_the_type_of_its_key_is_fixed(workplace: Path) -> None:
    found = check_values({**base_values(), "val_size": "a lot", "eval_strategy": "steps"}, "train", Machine(()))
    assert [fault.key for fault in found] == ["val_size"]


def test_a_cutoff_below_the_longest_row_is_a_warning_with_the_advice(workplace: Path) -> None:
    cutoffs = {"mini": CutoffAdvice(rows=40, lossless=900, one_percent=700)}
    found = check_values(base_values(), "train", Machine(()), cutoffs=cutoffs)
    assert [(fault.message, fault.fix, fault.is_error) for fault in found] == [
        (
            "is 512, and the longest row of 'mini' has 900 tokens",
            "cutoff_len: 900 cuts no row, 700 at most one in a hundred",
            False,
        )
    ]
    assert check_values({**base_values(), "cutoff_len": 900}, "train", Machine(()), cutoffs=cutoffs) == []


def test_inference_with_vllm_refuses_what_vllm_cannot() -> None:
    values = {
        "model_name_or_path": "Qwen/Qwen3-4B",
        "template": "qwen3",
        "infer_backend": "vllm",
        "quantization_bit": 4,
        "rope_scaling": "yarn",
        "adapter_name_or_path": "a,b",
    }
    found = [
        fault.key for fault in check_values(values, "infer", Machine()) if fault.rule == "vllm_takes_plain_models"
    ]
    assert found == ["quantization_bit", "rope_scaling", "adapter_name_or_path"]


def test_export_of_an_adapter_into_a_quantised_model_is_refused() -> None:
    values = {"model_name_or_path": "m/n", "adapter_name_or_path": "a", "export_dir": "e", "quantization_bit": 4}
    found = [
        fault for fault in check_values(values, "infer", Machine()) if fault.rule == "export_has_what_it_needs"
    ]
    assert [fault.message for fault in found] == ["cannot merge an adapter into a quantised model"]


def test_a_half_downloaded_model_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    found = check_values({**base_values(), "model_name_or_path": str(tmp_path)}, "train", Machine(()))
    assert [fault.message for fault in found if fault.rule == "model_folder_is_complete"] == [
        f"{tmp_path} is not complete: 1 of 2 weight files are missing, model-2.safetensors first"
    ]


def test_the_machines_to_judge_for() -> None:
    assert choose_machine("cpu").gpus == ()
    assert choose_machine("any").gpus is None
    assert [gpu.has_bf16 for gpu in choose_machine("gpu").gpus or ()] == [True]


@pytest.mark.parametrize(
    ("env", "key", "refused"),
    [
        ({}, {}, True),
        ({"HF_TOKEN": "t"}, {}, False),
        ({"HUGGING_FACE_HUB_TOKEN": "t"}, {}, False),
        ({}, {"hf_hub_token": "t"}, False),
        ({}, {"export_hub_model_id": None}, False),
    ],
)
def test_an_upload_without_a_token_is_refused(
    env: dict[str, str], key: dict[str, Any], refused: bool, tmp_path: Path
) -> None:
    values = {"model_name_or_path": "m/n", "export_dir": str(tmp_path / "e"), "export_hub_model_id": "o/n", **key}
    machine = Machine((), env={"HF_HOME": str(tmp_path), **env}, is_here=True)
    found = [fault for fault in check_values(values, "infer", machine) if fault.rule == "uploads_have_a_token"]
    assert bool(found) is refused
    (tmp_path / "token").write_text("t", encoding="utf-8")
    assert "uploads_have_a_token" not in [fault.rule for fault in check_values(values, "infer", machine)]


@pytest.mark.parametrize(("transformers", "refused"), [("5.6.0", True), ("5.5.4", False), ("", False)])
def test_fa2_is_refused_with_the_transformers_in_which_it_fails(
    transformers: str, refused: bool, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    versions = {"transformers": transformers, "flash_attn": "2.8"}
    monkeypatch.setattr("launch.configs.rules.environment.find_version", versions.get)
    found = check_values({**base_values(), "flash_attn": "fa2"}, "train", Machine((), has_stack=True))
    rule = "attention_works_with_transformers"
    assert [fault.fix for fault in found if fault.rule == rule] == (
        ["flash_attn: sdpa, or another transformers"] if refused else []
    )


@pytest.mark.parametrize("variable", ["USE_V1", "USE_MCA"])
def test_another_trainer_than_the_one_that_is_checked_for_is_refused(variable: str, workplace: Path) -> None:
    for word, refused in (("1", True), ("0", False)):
        found = check_values(base_values(), "train", Machine((), env={variable: word}))
        assert [fault.fix for fault in found] == ([f"unset {variable}"] if refused else [])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP"}, "a config of accelerate"),
        ({"zero_optimization": {"stage": 3}}, "a config of DeepSpeed"),
        ({"model": "m", "train_dataset": "d.yaml"}, "new trainer"),
        ({"base_model": "m", "datasets": []}, "a config of axolotl"),
    ],
)
def test_a_yaml_of_another_program_is_one_finding_that_names_it(values: dict[str, Any], said: str) -> None:
    (found,) = check_values(values, "train", Machine(()))
    assert said in found.message
    assert found.fix


@pytest.mark.parametrize(
    ("level", "message"),
    [("", ""), ("info", ""), ("LOUD", "LLAMAFACTORY_VERBOSITY is LOUD, which is no level")],
)
def test_a_verbosity_that_stops_the_import_is_refused(level: str, message: str, workplace: Path) -> None:
    found = check_values(base_values(), "train", Machine((), env={"LLAMAFACTORY_VERBOSITY": level}))
    assert [fault.message for fault in found if fault.is_error] == ([message] if message else [])


def test_a_machine_can_be_judged_with_other_numbers_of_gpus(workplace: Path) -> None:
    assert len(choose_machine("gpu", 8).gpus or ()) == 8
    assert choose_machine("cpu", 0).gpus == ()
    assert choose_machine("here", 2).starts_torchrun
    zero3 = {**base_values(), "deepspeed": {"zero_optimization": {"stage": 3}}}
    rules = [
        {fault.rule for fault in check_values(zero3, "train", choose_machine("gpu", count))} for count in (1, 2)
    ]
    assert ["deepspeed_is_started_by_torchrun" in found for found in rules] == [True, False]


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_llamafactory_refuses_the_broken_and_takes_the_fixed(workplace: Path) -> None:
    """All go through its parser; every tenth is really trained, all of them in scripts/rule_runs.py."""
    cases = [case for case in CASES if case.runs == "cpu" and case.gpus == ()]
    lines = [json.dumps({**plan_case(case, number), "run": number % 10 == 0}) for number, case in enumerate(cases)]
    result = subprocess.run(
        [stack_python(), str(Path(__file__).parents[2] / "support" / "rule_judge.py")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=500,
        check=False,
        cwd=workplace,
    )
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(verdicts) == len(cases), result.stderr[-2000:]
    wrong = [
        (case_name(case), broken, fixed)
        for case, (broken, fixed) in zip(cases, verdicts, strict=True)
        if bool(broken) is not case.parser or fixed
    ]
    assert wrong == []


def test_data_whose_input_has_changed_is_told_of(workplace: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"question": "a", "answer": "b"}\n', encoding="utf-8")
    convert_files([source], tmp_path / "made.jsonl", ConvertOptions())
    entry = {"made": {"file_name": "made.jsonl", "columns": {"prompt": "instruction", "response": "output"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(entry), encoding="utf-8")
    values = {**base_values(), "dataset": "made", "dataset_dir": str(tmp_path)}

    def find() -> list[Finding]:
        found = check_values(values, "train", choose_machine("cpu"), None)
        return [finding for finding in found if finding.rule == "datasets_are_of_their_inputs"]

    assert find() == []
    source.write_text('{"question": "a", "answer": "other"}\n', encoding="utf-8")
    (finding,) = find()
    assert not finding.is_error
    assert finding.fix.startswith(f"lfc prep convert {source} -o {tmp_path / 'made.jsonl'} ")
