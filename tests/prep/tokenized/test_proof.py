"""What is written is, column by column and row by row, what LLaMA-Factory's own loader makes of the same config."""

import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from prep.tokenized.make import make_tokens
from prep.tokenized.settings import read_settings
from prep.tokens.templates import find_template
from tests.support.family_tokenizers import build_family_tokenizer
from tests.support.token_rows import register_kind

pytestmark = pytest.mark.stack

ROWS = {"short": 31, "chat": 47, "tools": 23, "array": 12, "texts": 40}
KINDS = {"short": "alpaca", "chat": "alpaca", "tools": "sharegpt", "array": "alpaca", "texts": "text"}
# What differs from a plain training on `chat`.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"cutoff_len": 60},
    "cut to the bone": {"cutoff_len": 7},
    "thoughts masked": {"enable_thinking": None},
    "thoughts removed": {"enable_thinking": False},
    "last answer alone": {"mask_history": True, "cutoff_len": 90},
    "last answer alone, masked": {"mask_history": True, "enable_thinking": None},
    "history with thoughts": {"mask_history": True, "preserve_thinking": True},
    "prompts too": {"train_on_prompt": True, "cutoff_len": 90},
    "own system prompt": {"default_system": "你是医生。"},
    "several datasets": {"dataset": "chat, tools,array"},
    "first rows of each": {"dataset": "chat,short", "max_samples": 9},
    "share held out": {"val_size": 0.21},
    "rows held out": {"val_size": 5, "seed": 7},
    "evaluation": {"eval_dataset": "short"},
    "evaluations": {"eval_dataset": "short,tools"},
    "each evaluation": {"eval_dataset": "short,tools", "eval_on_each_dataset": True},
    "packed": {"packing": True, "cutoff_len": 400},
    "packed, short": {"packing": True, "cutoff_len": 70},
    "packed in batches": {"packing": True, "cutoff_len": 300, "preprocessing_batch_size": 6},
    "packed by two": {"packing": True, "cutoff_len": 300, "preprocessing_num_workers": 2},
    "packed, last answer alone": {"packing": True, "cutoff_len": 300, "mask_history": True},
    "neatly packed": {"neat_packing": True, "cutoff_len": 400},
    "neatly packed, held out": {"neat_packing": True, "cutoff_len": 300, "val_size": 0.3},
    "texts": {"stage": "pt", "dataset": "texts", "packing": False, "cutoff_len": 100},
    "texts joined": {"stage": "pt", "dataset": "texts", "cutoff_len": 50},
    "texts joined on purpose": {"stage": "pt", "dataset": "texts", "packing": True, "cutoff_len": 50},
    "texts joined in batches": {"stage": "pt", "dataset": "texts", "cutoff_len": 20, "preprocessing_batch_size": 7},
    "texts without template": {"stage": "pt", "dataset": "texts", "template": None, "cutoff_len": 64},
}
FAMILIES = ("llama3", "deepseek3", "deepseekr1", "glm4", "gemma", "mistral", "gpt_oss")


@pytest.fixture(scope="module")
def folder(qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without weights, which holds the datasets too."""
    folder = tmp_path_factory.mktemp("tokens")
    shutil.copytree(qwen3_folder, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    for name, count in ROWS.items():
        register_kind(folder, name, KINDS[name], count, as_array=name == "array")
    return folder


@cache
def load_tokenizer(folder: str) -> dict[str, Any]:
    from llamafactory.hparams import ModelArguments
    from llamafactory.model import load_tokenizer

    module: dict[str, Any] = load_tokenizer(ModelArguments(model_name_or_path=folder))
    return module


def load_theirs(values: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Return the splits that LLaMA-Factory's own loader makes, by name."""
    from datasets.arrow_writer import OptimizedTypedSequence
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.data.template import TEMPLATES
    from llamafactory.hparams import get_train_args

    values = {**values, "output_dir": str(cache / "out"), "report_to": "none", "cache_dir": str(cache)}
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(values)
    module = load_tokenizer(values["model_name_or_path"])
    with pytest.MonkeyPatch.context() as patched:
        # The name of a cache file: `datasets` takes most of a test to make it of the tokenizer.
        for name in ("fingerprint", "arrow_dataset"):
            patched.setattr(f"datasets.{name}.update_fingerprint", lambda *_: token_hex(8))
        # neat_packing changes it for as long as the process lives.
        patched.setattr(OptimizedTypedSequence, "__init__", OptimizedTypedSequence.__init__)
        if data_args.template is not None:
            # LLaMA-Factory changes its own table by some keys.
            patched.setitem(TEMPLATES, data_args.template, deepcopy(TEMPLATES[data_args.template]))
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        made = get_dataset(template, model_args, data_args, training_args, finetuning_args.stage, **module)
    held_out = made.get("eval_dataset")
    named = {f"validation_{name}": rows for name, rows in held_out.items()} if isinstance(held_out, dict) else {}
    plain = {"validation": held_out} if held_out is not None and not named else {}
    return {"train": made["train_dataset"], **plain, **named}


def check_equal(values: dict[str, Any], tmp_path: Path) -> None:
    from datasets import load_from_disk

    made = make_tokens(read_settings(values), tmp_path / "made")
    ours = load_from_disk(str(made.path))
    theirs = load_theirs(values, tmp_path)
    assert list(ours) == list(theirs)
    for name, rows in theirs.items():
        assert ours[name].features == rows.features
        assert len(ours[name]) == len(rows) > 0
        for place, row in enumerate(rows):
            assert ours[name][place] == row, f"row {place} of {name}"
    assert made.note.splits["train"]["rows"] == len(theirs["train"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_those_of_llamafactorys_loader(variant: str, folder: Path, tmp_path: Path) -> None:
    values = {
        **{"stage": "sft", "do_train": True, "dataset": "chat", "dataset_dir": str(folder), "template": "qwen3"},
        "model_name_or_path": str(folder),
        **VARIANTS[variant],
    }
    check_equal(values, tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
def test_tokens_of_other_families_are_too(name: str, masked: bool, folder: Path, tmp_path: Path) -> None:
    model = build_family_tokenizer(tmp_path / "model", find_template(name, "0.9.5"))
    (model / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    values = {
        **{"stage": "sft", "do_train": True, "dataset": "chat", "dataset_dir": str(folder), "template": name},
        **{"model_name_or_path": str(model), "cutoff_len": 150, "mask_history": masked},
        "packing": masked,
    }
    check_equal(values, tmp_path)
