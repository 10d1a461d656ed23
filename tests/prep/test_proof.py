"""The proof: the tokens that LLaMA-Factory trains on are the ones that Qwen3's own template gives.

Every shape of source is converted by the command under every think policy and registered; LLaMA-Factory's own
loader reads it back. Each row's ids are compared with `apply_chat_template` of the same conversation, and what is
trained on with what the think policy promises.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG, THOUGHT_END, join_thought, split_thought
from tests.support.shapes import SHAPES, messages_tool_rows
from tests.support.warm_stack import stack_python

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("warm_cli")]

POLICIES = ("tagged", "masked", "strip")
BROKEN = "broken"
ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}
ANSWER_START = "<|im_start|>assistant\n"

# One process for all configs: LLaMA-Factory takes ten seconds to import. It sets enable_thinking on its template
# anew for each config, and nothing else of ours.
LOAD = """
import json, sys
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

configs, out = json.loads(sys.argv[1]), sys.argv[2]
loaded = {}
for name, config in configs.items():
    model_args, data_args, training_args, _, _ = get_train_args(config)
    tokenizer_module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
    dataset = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer_module)
    loaded[name] = [{"ids": row["input_ids"], "labels": row["labels"]} for row in dataset["train_dataset"]]
json.dump(loaded, open(out, "w"))
"""


@dataclass(frozen=True)
class Row:
    """One written record, and what LLaMA-Factory made of it."""

    place: str
    record: dict[str, Any]
    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Proof:
    """{a policy, or BROKEN: {a dataset's name: its rows}}, and the tokenizer."""

    rows: dict[str, dict[str, list[Row]]]
    tokenizer: Any

    def find_faults(self, config: str, dataset: str) -> list[str]:
        """Return a line for each row whose ids or loss mask are not what Qwen3 and the policy say."""
        policy = "tagged" if config == BROKEN else config
        return [fault for row in self.rows[config][dataset] for fault in find_faults(row, policy, self.tokenizer)]


def run_lfc(*argv: str | Path) -> None:
    result = CliRunner().invoke(lfc, [str(word) for word in argv], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory, qwen3_folder: Path) -> Proof:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("proof")
    model = write_model_config(folder / "model", qwen3_folder)
    made = {policy: convert_all(folder / policy, policy) for policy in POLICIES}
    configs = {name: write_config(folder / name, list(made[name]), model) for name in made}
    made[BROKEN] = {"mixed": break_think_blocks(made["tagged"]["mixed"], folder / BROKEN)}
    configs[BROKEN] = {**configs["tagged"], "dataset": "mixed", "dataset_dir": str(folder / BROKEN)}
    loaded = load_with_llamafactory(configs, folder / "loaded.json")
    rows = {name: dict(share_rows(made[name], loaded[name])) for name in made}
    return Proof(rows, AutoTokenizer.from_pretrained(model))


def convert_all(folder: Path, policy: str) -> dict[str, Path]:
    """Convert and register the mixed sample and every shape; returns {its registered name: its JSONL}."""
    (folder / "raw").mkdir(parents=True)
    registered = {"mixed": convert_samples(folder, policy)}
    for name, make_shape in SHAPES.items():
        source = folder / "raw" / name
        source.mkdir()
        shape = make_shape(source)
        output = folder / f"{name}.jsonl"
        run_lfc("prep", "convert", shape.path, *shape.arguments, "-o", output, "--think-policy", policy)
        made = {name: output, f"{name}-tools": folder / f"{name}_tools.jsonl"}
        assert made[f"{name}-tools"].exists() == shape.tools
        registered |= {key: path for key, path in made.items() if path.exists()}
    for key, path in registered.items():
        run_lfc("prep", "register", path, "--name", key, "--dataset-dir", folder)
    return registered


def convert_samples(folder: Path, policy: str) -> Path:
    """Convert and mix the sample; returns the mixed JSONL."""
    run_lfc("prep", "sample", "--to", folder / "raw")
    for name, raw in (("medical", "r1_data_example.jsonl"), ("chat", "finetome_example.parquet")):
        run_lfc("prep", "convert", folder / "raw" / raw, "-o", folder / f"{name}.jsonl", "--think-policy", policy)
    mixed = folder / "mixed.jsonl"
    run_lfc("prep", "mix", f"medical={folder / 'medical.jsonl'}", f"chat={folder / 'chat.jsonl'}", "-o", mixed)
    return mixed


def break_think_blocks(mixed: Path, folder: Path) -> Path:
    """Register a copy in which every second row lacks one line end behind its thought."""
    rows = read_records(mixed)
    for row in rows[::2]:
        row["output"] = row["output"].replace(THOUGHT_END, "\n</think>\n", 1)
    folder.mkdir()
    broken = folder / "mixed.jsonl"
    broken.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    registry = {"mixed": json.loads((mixed.parent / "dataset_info.json").read_text(encoding="utf-8"))["mixed"]}
    (folder / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    return broken


def write_config(folder: Path, datasets: list[str], model: Path) -> dict[str, Any]:
    """Write the YAML of all datasets with `lfc launch config new`, and return its values."""
    import yaml

    config = folder / "config.yaml"
    pairs = (f"model_name_or_path={model}", f"output_dir={folder / 'out'}", "cutoff_len=4096", "template=qwen3")
    named = f"dataset={','.join(datasets)}"
    run_lfc("launch", "config", "new", "cpu-smoke", *pairs, named, "--dataset-dir", folder, "-o", config)
    values: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["learning_rate"] = float(values["learning_rate"])
    return values


def load_with_llamafactory(configs: dict[str, dict[str, Any]], out: Path) -> dict[str, list[dict[str, Any]]]:
    command = [stack_python(), "-c", LOAD, json.dumps(configs), str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    loaded: dict[str, list[dict[str, Any]]] = json.loads(out.read_text(encoding="utf-8"))
    return loaded


def share_rows(made: dict[str, Path], loaded: list[dict[str, Any]]) -> Iterator[tuple[str, list[Row]]]:
    """Yield each dataset's rows: LLaMA-Factory loads datasets one after the other, in the order of the YAML."""
    records = {name: read_records(path) for name, path in made.items()}
    assert sum(map(len, records.values())) == len(loaded)
    rest = iter(loaded)
    for name, own in records.items():
        yield name, [Row(f"{name}:{number}", record, **next(rest)) for number, record in enumerate(own, 1)]


def find_faults(row: Row, policy: str, tokenizer: Any) -> Iterator[str]:
    expected = render_with_qwen3(tokenizer, row.record, policy)
    if row.ids != tokenizer.encode(expected, add_special_tokens=False):
        yield f"{row.place}: ids of {tokenizer.decode(row.ids)!r}, not of {expected!r}"
    trained = tokenizer.decode([label for label in row.labels if label != -100])
    if trained != expected_training_text(expected, policy):
        yield f"{row.place}: trained on {trained!r}"
    masked = row.labels.count(-100)
    if row.labels != [-100] * masked + row.ids[masked:]:
        yield f"{row.place}: the trained tokens are not the end of the row"


def render_with_qwen3(tokenizer: Any, record: dict[str, Any], policy: str) -> str:
    """Return the conversation as Qwen3's own template writes it.

    Under strip it is the prompt that `enable_thinking=False` gives, and the answer that a model adds to it.
    """
    messages, tools = read_messages(record)
    if policy != "strip":
        return str(tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tools=tools, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    whole = str(tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
    return str(prompt) + whole.rpartition(ANSWER_START)[2].removeprefix(EMPTY_THOUGHT)


def read_messages(record: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return a record's conversation and tools as Qwen3's template takes them."""
    if "conversations" in record:
        return read_tool_messages(record)
    messages = [{"role": "system", "content": record["system"]}] if record["system"] else []
    for question, answer in record["history"]:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    question = "\n".join(text for text in (record["instruction"], record["input"]) if text)
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": record["output"]}]
    return messages, None


def read_tool_messages(record: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a conversation with tools as Qwen3's template takes it.

    LLaMA-Factory announces tools behind a system prompt, be it empty: without one it writes two line ends that
    Qwen3's template writes for an empty system message, and leaves out where there is no system message at all.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": record["system"]}]
    for turn in record["conversations"]:
        message: dict[str, Any] = {"role": ROLES[turn["from"]], "content": turn["value"]}
        if turn["from"] == "function_call":
            thought, said = split_thought(turn["value"])
            beside, tag, calls_json = said.rpartition("\n<tool_call>")
            calls = json.loads(calls_json.removesuffix("</tool_call>") if tag else said)
            calls = calls if isinstance(calls, list) else [calls]
            message["content"] = beside
            message["reasoning_content"] = thought
            message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
        messages.append(message)
    return messages, [{"type": "function", "function": tool} for tool in json.loads(record["tools"])]


def expected_training_text(rendered: str, policy: str) -> str:
    """Return what a policy promises to train on: the whole answer, or what stands behind a masked empty thought."""
    answer = rendered.rpartition(ANSWER_START)[2]
    assert answer.startswith(OPEN_TAG) or policy == "strip"
    return answer if policy == "tagged" else answer.removeprefix(EMPTY_THOUGHT)


def name_datasets() -> list[str]:
    # The rows of messages-tools and messages-beside all call tools.
    plain = [name for name in SHAPES if name not in ("messages-tools", "messages-beside")]
    return [*plain, "sharegpt-tools-tools", "messages-tools-tools", "messages-beside-tools"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dataset", name_datasets())
def test_every_shape_trains_on_the_tokens_of_qwen3s_own_template(dataset: str, policy: str, proof: Proof) -> None:
    assert proof.rows[policy][dataset]
    assert proof.find_faults(policy, dataset) == []


def test_every_dataset_that_was_made_is_compared(proof: Proof) -> None:
    for policy in POLICIES:
        assert sorted(proof.rows[policy]) == sorted(["mixed", *name_datasets()])
    seen = [row.record for rows in proof.rows["tagged"].values() for row in rows]
    outputs = [row["conversations"][-1]["value"] if "conversations" in row else row["output"] for row in seen]
    assert all(output.startswith(OPEN_TAG) for output in outputs)
    calls = [row for row in seen if "conversations" in row and row["conversations"][-1]["from"] == "function_call"]
    assert [bool(row["system"]) for row in calls] == [False, True, False, False]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_row_of_the_mixed_sample_does_too(policy: str, proof: Proof) -> None:
    records = [row.record for row in proof.rows[policy]["mixed"]]
    assert sum(bool(record["system"]) for record in records) > 10
    assert sum(bool(record["history"]) for record in records) > 10
    empty_blocks = sum(record["output"].startswith(EMPTY_THOUGHT) for record in records)
    assert empty_blocks == (360 if policy == "tagged" else 0)
    assert any(OPEN_TAG in record["output"] for record in records) == (policy != "strip")
    assert proof.find_faults(policy, "mixed") == []


def test_the_proof_fails_when_a_newline_of_the_think_block_is_broken(proof: Proof) -> None:
    rows = proof.rows[BROKEN]["mixed"]
    broken = {fault.partition(": ")[0] for fault in proof.find_faults(BROKEN, "mixed")}
    assert broken == {row.place for row in rows[::2]}


def test_the_proof_fails_when_one_id_or_one_label_is_another(proof: Proof) -> None:
    row = proof.rows["tagged"]["messages-tools-tools"][0]
    assert list(find_faults(row, "tagged", proof.tokenizer)) == []
    for place in (0, len(row.ids) // 2, len(row.ids) - 1):
        ids = [*row.ids[:place], row.ids[place] + 1, *row.ids[place + 1 :]]
        labels = [*row.labels[:place], 5 if row.labels[place] == -100 else -100, *row.labels[place + 1 :]]
        assert list(find_faults(Row(row.place, row.record, ids, row.labels), "tagged", proof.tokenizer))
        assert list(find_faults(Row(row.place, row.record, row.ids, labels), "tagged", proof.tokenizer))


def test_the_thought_before_a_call_is_what_llamafactory_leaves_out_of_the_next_answers_context(
    proof: Proof,
) -> None:
    """Qwen3's template keeps a call's thought until the next question; `mask_history` removes all but the last."""
    row = proof.rows["tagged"]["messages-tools-tools"][1]
    messages, tools = read_tool_messages(row.record)
    whole = messages_tool_rows()[0]["messages"]
    messages[2]["reasoning_content"] = whole[2]["reasoning_content"]
    kept = str(proof.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
    assert kept.count(join_thought("Two places.", "")) == 1
    assert proof.tokenizer.decode(row.ids) == kept.replace(join_thought("Two places.", ""), "")


def write_model_config(folder: Path, tokenizer_folder: Path) -> Path:
    """Return a folder with Qwen3's tokenizer and a config.json: the loader reads no weights."""
    import shutil

    shutil.copytree(tokenizer_folder, folder)
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
