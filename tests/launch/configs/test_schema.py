"""The shipped schema is LLaMA-Factory's own, and our checker says what jsonschema says."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.configs.schema import (
    accepts,
    build_schema,
    describe_allowed,
    find_schema_faults,
    install_schemas,
    introspect_stack,
    read_key_names,
    read_schema,
    read_schema_text,
    schema_name,
    write_schemas,
)
from prep.errors import StackError
from tests.support.warm_stack import stack_python

TRAIN = read_schema("train")
PROPERTIES = TRAIN["properties"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["no", "cosine", "x", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=3,
)


def fault_of(**values: Any) -> tuple[str, str]:
    (fault,) = find_schema_faults({"model_name_or_path": "m", **values}, TRAIN)
    return fault.message, fault.fix


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(PROPERTIES)), VALUES)
def test_our_checker_agrees_with_jsonschema(key: str, value: Any) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, instance: isinstance(instance, int) and not isinstance(instance, bool)
    )
    validator = extend(Draft202012Validator, type_checker=checker)(PROPERTIES[key])  # type: ignore[no-untyped-call]
    assert accepts(value, PROPERTIES[key]) is validator.is_valid(value)


def test_the_shipped_schemas_are_valid_schemas() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(TRAIN)
    Draft202012Validator.check_schema(read_schema("infer"))


def test_an_inference_schema_has_no_training_argument() -> None:
    infer = read_schema("infer")["properties"]
    assert "output_dir" not in infer
    assert {"export_dir", "adapter_name_or_path", "temperature", "template"} <= set(infer)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"lora_rnk": 8}, ("is no key of LLaMA-Factory", "did you mean `lora_rank`?")),
        ({"lora_rank": "8"}, ("is '8', allowed is a whole number", "lora_rank: 8 without quotes")),
        ({"max_steps": 10.0}, ("is 10.0, allowed is a whole number", "max_steps: 10")),
        ({"bf16": "false"}, ("is 'false', allowed is true or false", "bf16: false without quotes")),
        (
            {"eval_strategy": False},
            (
                "is false, allowed is epoch, 'no' or steps",
                'eval_strategy: "no" in quotes: YAML reads a bare no as false',
            ),
        ),
        ({"stage": "stf"}, ("is stf, allowed is dpo, kto, ppo, pt, rm or sft", "stage: sft")),
        ({"template": "qwen_3"}, ("is qwen_3, allowed is one of 121 names", "template: qwen3")),
        ({"seed": None}, ("is null, allowed is a whole number", "seed: 42, the default")),
        ({"run_name": 7}, ("is 7, allowed is null or a string", "run_name: '7'")),
    ],
)
def test_a_fault_says_what_was_seen_what_is_allowed_and_the_fix(
    values: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert fault_of(**values) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"dataset": ["a", "b"]},
        {"dataset": "a,b"},
        {"lora_target": ["q_proj"]},
        {"learning_rate": 1},
        {"enable_thinking": None},
        {"fsdp": True},
        {"deepspeed": {"zero_optimization": {"stage": 2}}},
        {"include_num_input_tokens_seen": "all"},
        {"ray_num_workers": 2},
    ],
)
def test_what_the_parser_takes_is_taken(values: dict[str, Any]) -> None:
    assert list(find_schema_faults({"model_name_or_path": "m", **values}, TRAIN)) == []


def test_a_missing_model_is_a_fault() -> None:
    assert [(fault.key, fault.message) for fault in find_schema_faults({}, TRAIN)] == [
        ("model_name_or_path", "is missing")
    ]


def test_allowed_is_said_in_words() -> None:
    assert describe_allowed(PROPERTIES["quantization_bit"]) == "a whole number or null"
    assert describe_allowed(PROPERTIES["lora_target"]) == "a list of strings or a string"


def test_introspection_without_llamafactory_is_a_stack_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="could not be asked"):
        introspect_stack(tmp_path / "python")


def test_a_described_stack_becomes_two_schemas(tmp_path: Path) -> None:
    field = {
        "group": "model",
        "infer": True,
        "types": ["null", "string"],
        "choices": [],
        "default": None,
        "help": "h",
    }
    described = {
        "versions": {"llamafactory": "9.9", "transformers": "1"},
        "templates": ["t"],
        "fields": [
            {**field, "name": "model_name_or_path"},
            {**field, "name": "template"},
            {**field, "name": "steps", "group": "training", "infer": False, "types": ["integer"], "default": 1},
        ],
    }
    assert [path.name for path in write_schemas(described, tmp_path)] == [
        "llamafactory-9.9-train.schema.json",
        "llamafactory-9.9-infer.schema.json",
    ]
    assert list(build_schema(described, "infer")["properties"]) == ["model_name_or_path", "template"]
    assert build_schema(described, "train")["properties"]["steps"] == {
        "description": "h",
        "default": 1,
        "x-group": "training",
        "type": "integer",
    }


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_the_shipped_schemas_match_the_installed_llamafactory(tmp_path: Path) -> None:
    for path in write_schemas(introspect_stack(Path(stack_python())), tmp_path):
        kind = "train" if "-train." in path.name else "infer"
        assert path.read_text(encoding="utf-8") == read_schema_text(kind)


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("batch_size", "did you mean `per_device_train_batch_size`?"),
        ("epochs", "did you mean `num_train_epochs`?"),
        ("lr", "did you mean `learning_rate`?"),
        ("LR", "did you mean `learning_rate`?"),
        ("lora_r", "did you mean `lora_rank`?"),
        ("grad_accum", "did you mean `gradient_accumulation_steps`?"),
        ("max_seq_length", "did you mean `cutoff_len`?"),
        ("model_max_length", "did you mean `cutoff_len`?"),
        ("max_tokens", "did you mean `max_new_tokens`?"),
        ("eval_batch_size", "did you mean `per_device_eval_batch_size`?"),
        ("evaluation_strategy", "did you mean `eval_strategy`?"),
        ("load_in_4bit", "did you mean `quantization_bit`?"),
        ("accumulation_steps", "did you mean `gradient_accumulation_steps`?"),
        ("bsz", "did you mean `per_device_train_batch_size`?"),
        ("dataset_num_proc", "did you mean `preprocessing_num_workers`?"),
        ("early_stopping_patience", "did you mean `early_stopping_steps`?"),
        ("sample_packing", "did you mean `packing`?"),
        ("num_nodes", "remove the line, and set the environment variable NNODES"),
        ("torch_dtype", "remove the line; `lfc launch config schema` lists all"),
        ("system_prompt", "did you mean `default_system`?"),
        ("wandb_project", "remove the line, and set the environment variable WANDB_PROJECT"),
        ("wandb_run_name", "did you mean `run_name`?"),
        ("gpus", "remove the line, and set the environment variable CUDA_VISIBLE_DEVICES"),
        ("templat", "did you mean `template`?"),
        ("tempalte", "did you mean `template`?"),
        ("Learning-Rate", "did you mean `learning_rate`?"),
        ("lora_droput", "did you mean `lora_dropout`?"),
        ("train_size", "remove the line; `lfc launch config schema` lists all"),
        ("min_length", "remove the line; `lfc launch config schema` lists all"),
        ("beam", "remove the line; `lfc launch config schema` lists all"),
        ("x" * 10_000, "remove the line; `lfc launch config schema` lists all"),
    ],
)
def test_the_key_that_is_meant_is_named_and_no_other(key: str, fix: str) -> None:
    faults = find_schema_faults({"model_name_or_path": "m", key: 1}, read_schema("train"))
    assert [fault.fix for fault in faults] == [fix]


def test_what_other_programs_call_a_key_leads_to_a_key_that_there_is() -> None:
    known = read_schema("train")["properties"]
    for name, meant in read_key_names().items():
        assert name not in known, name
        assert meant.startswith("$") or meant in known, name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", float("nan"), "is .nan, and must be a finite number"),
        ("val_size", float("inf"), "is .inf, and must be a finite number"),
        ("max_grad_norm", float("-inf"), "is -.inf, and must be a finite number"),
        ("max_grad_norm", float("inf"), ""),
        ("max_steps", 1 << 63, "is 9223372036854775808, more than 64 bits hold"),
        ("max_steps", -(10**30), "is -1000000000000000000000000000000, more than 64 bits hold"),
        ("max_steps", (1 << 63) - 1, ""),
        ("fsdp_config", {"a": [1.0, float("nan")]}, "is .nan, and must be a finite number"),
        ("learning_rate", True, "is true, allowed is a number"),
    ],
)
def test_a_number_that_no_training_takes_is_a_fault(key: str, value: Any, message: str) -> None:
    faults = list(find_schema_faults({"model_name_or_path": "m", key: value}, read_schema("train")))
    assert [fault.message for fault in faults] == ([message] if message else [])


def test_every_shipped_schema_is_valid_and_is_installed_for_editors(tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    folder = files("llamafactory_configs") / "schemas"
    # Of LLaMA-Factory's releases, the one that is found here.
    shipped = sorted(path.name for path in folder.iterdir() if not path.name.startswith("llamafactory-"))
    shipped = sorted([*shipped, schema_name("train"), schema_name("infer")])
    installed = install_schemas(tmp_path / "schemas")
    assert sorted(path.name for path in installed) == shipped
    for path in installed:
        Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))
