"""The proof for the other kinds: preference, KTO, text and pictures, through LLaMA-Factory's loader and processors.

Ids and loss masks are those of Qwen3's own template for the same conversation, under every think policy.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG
from tests.prep.test_proof import ANSWER_START, POLICIES, render_with_qwen3, write_model_config
from tests.support.qwen2_vl import build_vision_folder, write_picture
from tests.support.shapes import PARABOLA, TOOLS, write_jsonl
from tests.support.warm_stack import stack_python

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli")]

CALL = json.dumps([{"name": "get_time", "arguments": {"place": "北京"}}], ensure_ascii=False)
TURNS = [
    {"from": "human", "value": "What time is it?"},
    {"from": "function_call", "value": CALL},
    {"from": "observation", "value": '{"time": 9}'},
]
THOUGHT = "<think>\nAFP, then age.\n</think>\n\nSee a doctor."
PAIRS: list[dict[str, Any]] = [
    {"prompt": "AFP 400？", "chosen": THOUGHT, "rejected": "<think>\nNone.\n</think>\n\nNothing."},
    {"prompt": PARABOLA, "chosen": "x = ±2", "rejected": "x = 2"},
    {"prompt": "Mixed", "chosen": THOUGHT, "rejected": "Plain."},
    {"prompt": "Mixed the other way", "chosen": "Plain.", "rejected": THOUGHT},
    {
        "prompt": "And now?",
        "system": "Be brief.",
        "history": [["Then?", "Warm."], ["Sure?", "Yes."]],
        "chosen": "Cold.",
        "rejected": THOUGHT,
    },
]
TOOL_PAIRS = [
    {
        "conversations": TURNS,
        "tools": TOOLS,
        "system": "Use tools.",
        "chosen": {"from": "gpt", "value": "<think>\n9\n</think>\n\nNine."},
        "rejected": {"from": "gpt", "value": "No idea."},
    },
    {
        "conversations": TURNS[:1],
        "tools": TOOLS,
        "chosen": {"from": "function_call", "value": CALL},
        "rejected": {"from": "function_call", "value": CALL.replace("北京", "Oslo")},
    },
]
LABELS = [
    {key: row[key] for key in ("prompt", "system", "history") if key in row}
    | {"completion": row[side], "label": side == "chosen"}
    for row in PAIRS
    for side in ("chosen", "rejected")
]
TOOL_LABELS = [
    {**row, "conversations": [*row["conversations"], row[side]], "label": side == "chosen"}
    | {"chosen": None, "rejected": None}
    for row in TOOL_PAIRS
    for side in ("chosen", "rejected")
]
TEXTS = [{"text": "  One page.\n\nIts end.\n"}, {"text": PARABOLA}, {"text": "好" * 50}]
# {a dataset's name: (its stage, its rows, what `_tools` adds to the file's name)}
DATASETS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "pairs": ("dpo", PAIRS, ""),
    "tool_pairs": ("dpo", TOOL_PAIRS, "_tools"),
    "labels": ("kto", LABELS, ""),
    "tool_labels": ("kto", [{k: v for k, v in row.items() if v is not None} for row in TOOL_LABELS], "_tools"),
    "texts": ("pt", TEXTS, ""),
}
PICTURES: list[dict[str, Any]] = [
    {
        "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "Red."}],
        "images": ["a.png"],
    },
    {
        "messages": [
            {"role": "user", "content": "Which two?<image><image>"},
            {"role": "assistant", "content": "Both."},
        ],
        "images": ["a.png", "b.png"],
    },
    {"messages": [{"role": "user", "content": "None?"}, {"role": "assistant", "content": "None."}], "images": []},
]
LOAD = """
import json, sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

configs, out = json.loads(sys.argv[1]), sys.argv[2]
loaded, modules = {}, {}
for name, config in configs.items():
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(config)
    folder = config["model_name_or_path"]
    module = modules[folder] = modules.get(folder) or load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    stage = "rm" if finetuning_args.stage == "dpo" else finetuning_args.stage
    rows = get_dataset(template, model_args, data_args, training_args, stage=stage, **module)["train_dataset"]
    loaded[name] = [dict(row) for row in rows]
json.dump(loaded, open(out, "w"))
"""


def run_lfc(*argv: str | Path) -> None:
    result = CliRunner().invoke(lfc, [str(word) for word in argv], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Loaded:
    """What was written and what LLaMA-Factory made of it: {policy/dataset: rows}."""

    def __init__(self, folder: Path, tokenizer_folder: Path) -> None:
        from transformers import AutoTokenizer

        model = write_model_config(folder / "model", tokenizer_folder)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.written: dict[str, list[dict[str, Any]]] = {}
        configs = {}
        for policy in POLICIES:
            for name, (stage, rows, suffix) in DATASETS.items():
                key = f"{policy}/{name}"
                self.written[key] = self._make(folder / policy, name, rows, suffix, policy)
                thinking = {"tagged": True, "masked": None, "strip": False}[policy]
                configs[key] = describe_config(folder / policy, model, name, stage, "qwen3") | {
                    "enable_thinking": thinking
                }
        vision = folder / "vision"
        vision.mkdir()
        for name in ("a.png", "b.png"):
            write_picture(vision / name)
        self.written["pictures"] = self._make(vision, "pictures", PICTURES, "", "strip")
        vision_model = build_vision_folder(folder / "vision_model")
        configs["pictures"] = describe_config(vision, vision_model, "pictures", "sft", "qwen2_vl")
        out = folder / "loaded.json"
        command = [stack_python(), "-c", LOAD, json.dumps(configs), str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        self.rows: dict[str, list[dict[str, Any]]] = json.loads(out.read_text(encoding="utf-8"))

    def _make(
        self, folder: Path, name: str, rows: list[dict[str, Any]], suffix: str, policy: str
    ) -> list[dict[str, Any]]:
        folder.mkdir(exist_ok=True)
        source = write_jsonl(folder / f"{name}_raw.jsonl", rows)
        run_lfc("prep", "convert", source, "-o", folder / f"{name}.jsonl", "--think-policy", policy)
        made = folder / f"{name}{suffix}.jsonl"
        run_lfc("prep", "register", made, "--name", name, "--dataset-dir", folder)
        return read_rows(made)


def describe_config(folder: Path, model: Path, dataset: str, stage: str, template: str) -> dict[str, Any]:
    return {
        "model_name_or_path": str(model),
        "stage": stage,
        "do_train": True,
        "finetuning_type": "lora",
        "dataset": dataset,
        "dataset_dir": str(folder),
        "template": template,
        "cutoff_len": 4096,
        "packing": False,
        "output_dir": str(folder / "out"),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "overwrite_cache": True,
    }


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, qwen3_folder: Path) -> Loaded:
    return Loaded(tmp_path_factory.mktemp("kinds"), qwen3_folder)


def answer_with(record: dict[str, Any], side: str) -> dict[str, Any]:
    """Return a preference record as the SFT record of one of its answers."""
    if "conversations" in record:
        return {**record, "conversations": [*record["conversations"], record[side]]}
    return {**record, "output": record[side]}


def find_faults(
    tokenizer: Any, record: dict[str, Any], policy: str, ids: list[int], labels: list[int]
) -> list[str]:
    """Return what is not as Qwen3's template and the policy say of an SFT record's ids and labels."""
    rendered = render_with_qwen3(tokenizer, record, policy)
    answer = rendered.rpartition(ANSWER_START)[2]
    output = record["conversations"][-1]["value"] if "conversations" in record else record["output"]
    trained = answer if output.startswith(OPEN_TAG) else answer.removeprefix(EMPTY_THOUGHT)
    # LLaMA-Factory ends a pairwise answer with the end of the turn; Qwen3's template writes a line end behind it.
    faults = []
    if tokenizer.decode(ids).removesuffix("\n") != rendered.removesuffix("\n"):
        faults.append(f"{tokenizer.decode(ids)!r} is not {rendered!r}")
    seen = tokenizer.decode([label for label in labels if label != -100])
    if seen.removesuffix("\n") != trained.removesuffix("\n"):
        faults.append(f"trained on {seen!r}, not on {trained!r}")
    masked = labels.count(-100)
    if labels != [-100] * masked + ids[masked:]:
        faults.append("the trained tokens are not the end of the row")
    return faults


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dataset", ["pairs", "tool_pairs"])
def test_both_answers_of_a_pair_are_those_of_qwen3s_template(dataset: str, policy: str, loaded: Loaded) -> None:
    key = f"{policy}/{dataset}"
    assert len(loaded.rows[key]) == len(loaded.written[key]) == len(DATASETS[dataset][1])
    for record, row in zip(loaded.written[key], loaded.rows[key], strict=True):
        for side in ("chosen", "rejected"):
            answered = answer_with(record, side)
            ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
            assert find_faults(loaded.tokenizer, answered, policy, ids, labels) == []


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dataset", ["labels", "tool_labels"])
def test_each_labelled_answer_is_that_of_qwen3s_template(dataset: str, policy: str, loaded: Loaded) -> None:
    key = f"{policy}/{dataset}"
    assert len(loaded.rows[key]) == len(loaded.written[key]) == len(DATASETS[dataset][1])
    assert [row["kto_tags"] for row in loaded.rows[key]] == [record["kto_tag"] for record in loaded.written[key]]
    assert {row["kto_tags"] for row in loaded.rows[key]} == {True, False}
    for record, row in zip(loaded.written[key], loaded.rows[key], strict=True):
        assert find_faults(loaded.tokenizer, record, policy, row["input_ids"], row["labels"]) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_a_text_is_trained_whole_and_as_it_stands(policy: str, loaded: Loaded) -> None:
    end = loaded.tokenizer.eos_token
    rows = loaded.rows[f"{policy}/texts"]
    assert [loaded.tokenizer.decode(row["input_ids"]) for row in rows] == [text["text"] + end for text in TEXTS]


def test_each_picture_stands_where_its_placeholder_stood(loaded: Loaded) -> None:
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    for record, row in zip(loaded.written["pictures"], loaded.rows["pictures"], strict=True):
        text = re.sub(r"(<\|image_pad\|>)+", r"\1", loaded.tokenizer.decode(row["input_ids"]))
        asked = record["instruction"].replace("<image>", picture)
        assert text.endswith(f"user\n{asked}<|im_end|>\n<|im_start|>assistant\n{record['output']}<|im_end|>\n")
        trained = loaded.tokenizer.decode([label for label in row["labels"] if label != -100])
        assert trained == f"{record['output']}<|im_end|>\n"
        assert len(row["images"] or []) == len(record["images"])


def test_the_proof_fails_when_an_answer_or_a_mask_is_another(loaded: Loaded) -> None:
    record, row = loaded.written["tagged/labels"][0], loaded.rows["tagged/labels"][0]
    ids, labels = row["input_ids"], row["labels"]
    assert find_faults(loaded.tokenizer, record, "tagged", ids, labels) == []
    assert find_faults(loaded.tokenizer, {**record, "output": record["output"] + "!"}, "tagged", ids, labels)
    assert find_faults(loaded.tokenizer, record, "tagged", ids, [-100, *labels[1:-1], -100])
