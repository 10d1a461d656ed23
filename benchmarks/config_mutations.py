"""Do `check` and LLaMA-Factory's own parser agree? Random mutations of valid configs, judged by both.

Run it in the environment that has LLaMA-Factory: `python benchmarks/config_mutations.py --count 1000`.

For each mutated config:
- refused by `get_train_args` (the parser): `check` must refuse it too, else it is MISSED.
- accepted by it, refused by `check`: the value is given to the same parser as a command-line argument, which is
  strict about types; when it is refused there, or the refusal comes from a rule with evidence of a later
  failure (named in the table), it is a LATE fault;
- else it is really trained for one step, on the tiny model given by `--run-on FOLDER`: when that fails, it is a
  LATE fault seen in a run; anything else is a FALSE ALARM.
"""

import argparse
import contextlib
import copy
import io
import json
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launch.configs.config import check_config, write_config
from launch.configs.presets import list_presets
from launch.configs.rules import read_machine
from launch.configs.schema import guess_kind, read_schema
from prep.quality.findings import Finding

# Rules that no parser shares: each names its own evidence of a later failure in launch/rules/.
LATE_RULES = {
    *("unsloth_does_not_pack", "unsloth_has_one_gpu", "unsloth_goes_without_oft", "datasets_are_readable"),
    *("thinking_follows_the_policy", "warmup_is_shorter_than_training"),
    *("model_folder_is_complete", "packages_are_installed", "export_has_what_it_needs"),
    *("numbers_are_in_range", "datasets_are_of_the_stage", "held_out_rows_leave_some", "tool_format_is_known"),
    *("resumed_checkpoint_is_there", "output_dir_can_be_written", "optimizer_is_installed"),
    *("optimizer_has_what_it_needs", "schedule_takes_its_arguments", "stopping_early_has_a_metric"),
    *("asft_has_a_reference", "reporters_exist", "layers_can_be_divided", "trained_modules_exist"),
}
ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        8,
        0.5,
        1.5,
        1e-4,
        -0.1,
        1e30,
        "",
        "no",
        "true",
        "abc",
        "1e-4",
        "8",
        "{",
        "{}",
    ),
    *([], ["a"], [1], {}, {"a": 1}, "steps", "epoch", "a,b", "none", "auto"),
]


def mutate(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Change a config in one to three places and say how."""
    values = copy.deepcopy(values)
    told = [rng.choice(MUTATIONS)(values, rng, properties) for _ in range(rng.choice((1, 1, 2, 3)))]
    return values, "; ".join(told)


def misspell_key(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    key = rng.choice(list(values))
    place = rng.randrange(len(key))
    wrong = key[:place] + rng.choice("_aexs") + key[place + rng.choice((0, 1)) :]
    values[wrong] = values.pop(key)
    return f"{key} → {wrong}"


def remove_key(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    key = rng.choice(list(values))
    del values[key]
    return f"-{key}"


def odd_value(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    key = rng.choice([*values, *rng.sample(sorted(properties), 8)])
    values[key] = rng.choice(ODD_VALUES)
    return f"{key}={values[key]!r}"


def flip_switch(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    switches = [key for key, item in properties.items() if item["default"] in (True, False)]
    key = rng.choice(sorted(switches))
    values[key] = not values.get(key, properties[key]["default"])
    return f"{key}={values[key]}"


def other_choice(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    choosing = {
        key: choices
        for key, item in properties.items()
        for part in item.get("anyOf", [item])
        if (choices := part.get("enum"))
    }
    key = rng.choice(sorted(choosing))
    values[key] = rng.choice(choosing[key])
    return f"{key}={values[key]}"


def likely_pair(values: dict[str, Any], rng: random.Random, properties: dict[str, Any]) -> str:
    changes = rng.choice(PAIRS)
    values.update(changes)
    return json.dumps(changes)


MUTATIONS: list[Callable[[dict[str, Any], random.Random, dict[str, Any]], str]] = [
    *(misspell_key, remove_key, odd_value, odd_value, flip_switch, flip_switch, other_choice, likely_pair)
]
PAIRS: list[dict[str, Any]] = [
    {"val_size": 0.1},
    {"val_size": 0.1, "eval_strategy": "steps", "eval_steps": 2.5},
    {"eval_dataset": "mini", "val_size": 0.1},
    {"eval_strategy": "steps"},
    {"do_predict": True},
    {"streaming": True},
    {"streaming": True, "max_steps": 5, "val_size": 0.1},
    {"mask_history": True, "train_on_prompt": True},
    {"stage": "dpo", "mask_history": True},
    {"finetuning_type": "full", "quantization_bit": 4},
    {"finetuning_type": "full", "use_dora": True},
    {"finetuning_type": "freeze", "adapter_name_or_path": "a"},
    {"use_galore": True},
    {"finetuning_type": "full", "use_galore": True, "use_badam": True},
    {"load_best_model_at_end": True},
    {"load_best_model_at_end": True, "val_size": 2, "eval_strategy": "steps", "eval_steps": 7, "save_steps": 20},
    {"stage": "ppo", "reward_model": "r"},
    {"stage": "ppo"},
    {"interleave_probs": "0.5,0.5"},
    {"interleave_probs": "0.5", "mix_strategy": "interleave_over"},
    {"interleave_probs": "a,b", "mix_strategy": "interleave_over"},
    {"fp16": True, "bf16": True},
    {"fsdp": "offload"},
    {"fsdp": "full_shard shard_grad_op"},
    {"deepspeed": "nowhere.json"},
    {"accelerator_config": {"nope": 1}},
    {"warmup_ratio": -0.5},
    {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 0},
    {"lr_scheduler_type": "reduce_lr_on_plateau"},
    {"quantization_bit": 4, "resize_vocab": True},
    {"quantization_bit": 4, "pissa_init": True},
    {"stage": "kto", "pissa_init": True},
    {"infer_backend": "vllm"},
    {"pref_loss": "hinge", "stage": "dpo", "dpo_label_smoothing": 0.1},
    {"report_to": ["trackio"], "project": ""},
    {"image_max_pixels": 1},
    {"export_quantization_bit": 4},
    {"predict_with_generate": True, "compute_accuracy": True, "val_size": 0.1},
    {"fp8": True, "quantization_bit": 8},
]


def find_bases(folder: Path) -> list[dict[str, Any]]:
    """Return valid configs: the presets as they run on this machine, on one small registered dataset."""
    bases = []
    for preset in list_presets():
        values = preset.values
        if guess_kind(values) != "train" or "deepspeed" in values:
            continue
        values.update(dataset_dir=str(folder / "data"), output_dir=str(folder / "out"), bf16=False)
        dataset = f"mini_{values['stage']}" if values.get("stage") in ("dpo", "kto", "rm", "pt") else "mini"
        values.update({key: dataset for key in ("dataset", "eval_dataset") if key in values})
        values.update({key: str(folder / "adapter") for key in ("adapter_name_or_path",) if key in values})
        values.update({key: False for key in ("use_unsloth",) if key in values})
        bases.append(values)
    return bases


def write_dataset(folder: Path) -> None:
    """Register forty small rows as `mini`, and for each stage that wants others as `mini_STAGE`."""
    from prep.registry.dataset_info import register_dataset

    folder.mkdir(parents=True)
    asked: dict[str, Any] = {"instruction": "q", "input": "", "system": "", "history": []}
    rows: dict[str, dict[str, Any]] = {
        "mini": {**asked, "output": "a"},
        "mini_dpo": {**asked, "chosen": "a", "rejected": "b"},
        "mini_rm": {**asked, "chosen": "a", "rejected": "b"},
        "mini_kto": {**asked, "output": "a", "kto_tag": True},
        "mini_pt": {"text": "a page"},
    }
    for name, row in rows.items():
        (folder / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 40, encoding="utf-8")
        register_dataset(folder / f"{name}.jsonl", name, folder)


def write_adapter(folder: Path) -> None:
    """Write what a training leaves: the adapter's config, and weights of no layer."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")


def judge_by_parser(path: Path) -> str:
    """Return the parser's complaint about a YAML file, "" when it accepts it."""
    from llamafactory.hparams import get_train_args
    from omegaconf import OmegaConf

    environment = dict(os.environ)
    try:
        with quiet():
            get_train_args(OmegaConf.to_container(OmegaConf.load(path)))
    except Exception as error:  # noqa: BLE001 - whatever it raises is its verdict
        return f"{type(error).__name__}: {error}".splitlines()[0][:150]
    finally:
        os.environ.clear()
        os.environ.update(environment)
        forget_deepspeed()
    return ""


def forget_deepspeed() -> None:
    """Undo what an earlier config left behind in transformers."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def is_refused_as_argument(key: str, value: Any) -> bool:
    """Whether the parser refuses the value on the command line, where it is strict about types."""
    from llamafactory.hparams.parser import _TRAIN_ARGS
    from transformers import HfArgumentParser

    group = next((kind for kind in _TRAIN_ARGS if key in kind.__dataclass_fields__), None)
    if group is None:
        return True
    words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        parser = HfArgumentParser(group)
        try:
            parser.parse_known_args([f"--{key}", *words])
        except (SystemExit, ValueError, TypeError):
            return True
    # None and {} have no spelling on the command line.
    return value is None or isinstance(value, dict)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the packages print."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def fails_in_a_run(values: dict[str, Any], model: Path) -> str:
    """Train for one step on a tiny model; return what it raises, "" when it ends well."""
    from llamafactory.train.tuner import run_exp

    values = {**values, "max_steps": 1, "overwrite_output_dir": True}
    if isinstance(values["model_name_or_path"], str):
        values["model_name_or_path"] = str(model)
    # On a CPU there is no 4-bit kernel for a tiny model, and the mutation is not about it.
    values.pop("quantization_bit", None)
    environment = dict(os.environ)
    try:
        with quiet():
            run_exp(values)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its verdict
        return f"{type(error).__name__}: {error}".splitlines()[0][:150]
    finally:
        os.environ.clear()
        os.environ.update(environment)
    return ""


def explain_alarm(faults: list[Finding], values: dict[str, Any], model: Path | None) -> str:
    """Return why a config that the parser took is refused: late (type, rule, run), or "" when false."""
    for fault in faults:
        if fault.rule in LATE_RULES:
            return f"late, rule {fault.rule}"
        if fault.rule == "schema" and fault.key in values and is_refused_as_argument(fault.key, values[fault.key]):
            return "late, type (refused by the same parser on the command line)"
    if model is not None and fails_in_a_run(values, model):
        return "late, failed in a one-step run"
    return ""


def compare(count: int, seed: int, model: Path | None) -> dict[str, Any]:
    """Judge `count` mutations by both and return the table."""
    rng = random.Random(seed)
    properties = read_schema("train")["properties"]
    counts: Counter[str] = Counter()
    missed, alarms = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data")
        write_adapter(folder / "adapter")
        bases = find_bases(folder)
        path = folder / "mutated.yaml"
        for base in bases:
            write_config(path, base, header="base")
            complaint, faults = judge_by_parser(path), fatal_faults(path)
            if complaint or faults:
                raise SystemExit(f"a base is not valid: {complaint} {faults}")
        for _ in range(count):
            values, told = mutate(rng.choice(bases), rng, properties)
            write_config(path, values, header=told.replace("\n", " "))
            complaint, faults = judge_by_parser(path), fatal_faults(path)
            if complaint and faults:
                counts["both refuse"] += 1
            elif complaint:
                counts["MISSED"] += 1
                missed.append({"mutation": told, "parser": complaint})
            elif not faults:
                counts["both accept"] += 1
            elif reason := explain_alarm(faults, values, model):
                counts[reason] += 1
            else:
                counts["FALSE ALARM"] += 1
                first = faults[0]
                alarms.append({"mutation": told, "check": f"{first.rule}: {first.key} {first.message}"})
    return {"count": count, "seed": seed, "counts": dict(counts), "missed": missed, "false_alarms": alarms}


def fatal_faults(path: Path) -> list[Finding]:
    return [fault for fault in check_config(path, read_machine(), "train").findings if fault.is_error]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run-on", type=Path, metavar="FOLDER", help="a tiny Qwen3 to settle disputes on")
    arguments = parser.parse_args()
    report = compare(arguments.count, arguments.seed, arguments.run_on)
    sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    sys.exit(bool(report["missed"]))
