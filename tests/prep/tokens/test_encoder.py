"""Token lengths are LLaMA-Factory's own."""

import functools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prep.errors import InputError, UserError
from prep.registry.dataset import Dataset, align_row
from prep.rows.conversation import Conversation, Message
from prep.rows.thinking import EMPTY_THOUGHT, join_thought
from prep.tokens.cutoff import IGNORE_INDEX, replay_row, truncate_turns
from prep.tokens.encoder import LengthTable, RowEncoder, TurnLengths, count_tokens
from prep.tokens.tokenizer import load_tokenizer
from prep.tokens.turns import TemplateOptions, plan_turns

THOUGHTS = ("", "Add them.", "先看症状\n\n再看检查。", "x </ think> y")
ANSWERS = ("Four.", "  four\n\n", "是的，建议复查。\n- a\n- b", "é ́ <tool_call> 🙂")
QUESTIONS = ("2+2?", "甲胎蛋白 AFP 升高？", "line\nline {{idx}} {{content}} {{idx}}", "  spaces  ")


def make_alpaca_rows(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(7)

    def write_answer() -> str:
        thought, answer = rng.choice(THOUGHTS), rng.choice(ANSWERS) * rng.randint(1, 20)
        shape = rng.randint(0, 5)
        if shape == 0:
            return answer
        if shape == 1:
            return EMPTY_THOUGHT + answer
        if shape == 2:
            return f"<think>{thought}</think>{answer}"
        if shape == 3:
            return f"\n<think>\n{thought} never closed {answer}"
        return join_thought(thought * rng.randint(1, 20), answer)

    for _ in range(count):
        yield {
            "instruction": rng.choice(QUESTIONS) * rng.randint(1, 20),
            "input": rng.choice(("", "", "more")),
            "output": write_answer(),
            "system": rng.choice(("", "Be brief. {{content}}")),
            "history": [[rng.choice(QUESTIONS), write_answer()] for _ in range(rng.choice((0, 0, 1, 3)))],
        }


TOOLS = json.dumps([{"name": "add", "parameters": {"a": "整数"}}, {"type": "function", "function": {"name": "x"}}])
TOOL_ROWS = [
    {
        "conversations": [
            {"from": "system", "value": "Use tools."},
            {"from": "human", "value": "2+2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": "二", "b": 2}}'},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "<think>\nIt said 4.\n</think>\n\nFour."},
        ],
        "tools": TOOLS,
    },
    {
        "conversations": [
            {"from": "human", "value": "two calls"},
            {
                "from": "function_call",
                "value": '<think>\nB\n</think>\n\n[{"name": "a", "arguments": {}}, {"name": "b", "arguments": 1}]',
            },
            {"from": "observation", "value": "[1, 2]"},
            {"from": "function_call", "value": 'So <tool_call>{"name": "c", "arguments": {}}</tool_call>'},
        ],
        "tools": "[]",
    },
]


def test_a_chat_row_gets_an_empty_thought_that_is_trained_on_when_thinking_is_enabled() -> None:
    row = Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, "ans")])
    turn = plan_turns(row, TemplateOptions(enable_thinking=True))[0]
    assert turn[:2] == (("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",), ("ans<|im_end|>\n",))
    assert turn[2:4] == (False, True)
    assert plan_turns(row, TemplateOptions(enable_thinking=None))[0][2:4] == (True, False)
    assert plan_turns(row, TemplateOptions(template="qwen3_nothink"))[0][2:4] == (False, False)


def test_enable_thinking_false_removes_a_thought_and_null_keeps_it() -> None:
    row = Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, join_thought("T", "ans"))])
    assert plan_turns(row, TemplateOptions(enable_thinking=False))[0].target == ("ans<|im_end|>\n",)
    assert (
        plan_turns(row, TemplateOptions(enable_thinking=None))[0]
        .target[0]
        .startswith(  # type: ignore[union-attr]
            "<think>\nT\n</think>"
        )
    )


def test_an_unknown_template_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="the tokens of template 'qwen_3' are not known here; ") as caught:
        TemplateOptions(template="qwen_3", version="0.9.5")
    assert caught.value.hint == "--template qwen3"


def test_lengths_are_those_of_the_encoded_ids(qwen3_folder: Path) -> None:
    for options in (TemplateOptions(), TemplateOptions(enable_thinking=None, mask_history=True)):
        encoder = RowEncoder(qwen3_folder, options)
        rows = [align_row(row, Dataset(())) for row in make_alpaca_rows(600)]
        table = LengthTable()
        for row, lengths in zip(rows, encoder.measure_rows(rows), strict=True):
            encoded = encoder.encode_turns(row)
            closes = [turn.target.index(151668) if 151668 in turn.target else -1 for turn in encoded]
            sizes = [(len(turn.source), len(turn.target)) for turn in encoded]
            assert lengths == [TurnLengths(*size, close) for size, close in zip(sizes, closes, strict=True)]
            table.append(lengths)
        assert len(table) == 600
        assert table.total_lengths() == [sum(turn.source + turn.target for turn in turns) for turns in table]


def test_the_replay_says_lost_exactly_when_the_truncated_ids_lack_it(qwen3_folder: Path) -> None:
    encoder = RowEncoder(qwen3_folder, TemplateOptions(mask_history=True))
    rows = [align_row(row, Dataset(())) for row in make_alpaca_rows(60)]
    for turns, lengths in zip(map(encoder.encode_turns, rows), encoder.measure_rows(rows), strict=True):
        whole, _ = truncate_turns(turns, 10**6, mask_history=True)
        for cutoff in range(1, len(whole) + 2, 7):
            ids, labels = truncate_turns(turns, cutoff, mask_history=True)
            loss = replay_row(lengths, cutoff, mask_history=True)
            trained = [label for label in labels if label != IGNORE_INDEX]
            target = turns[-1].target
            assert len(ids) <= cutoff
            assert any(loss) == (trained != target or len(ids) < len(whole)) or len(trained) == len(target) - 1
            assert loss.end_of_turn == (len(trained) < len(target) - 1)
            assert loss.close == (151668 in target and 151668 not in trained)


def test_count_tokens_counts_each_text_alone(qwen3_folder: Path) -> None:
    tokenizer_file = qwen3_folder / "tokenizer.json"
    assert list(count_tokens(["Hello world", "", "<think>\n"], tokenizer_file)) == [2, 0, 2]


def test_a_folder_without_a_tokenizer_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer.json does not exist") as error:
        RowEncoder(tmp_path)
    assert error.value.hint == "--model takes a model's folder, or its tokenizer.json"


def test_a_broken_tokenizer_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer.json is not a tokenizer: "):
        RowEncoder(tmp_path)


def test_a_tokenizer_is_parsed_once_until_its_file_is_another(tmp_path: Path, qwen3_folder: Path) -> None:
    text = (qwen3_folder / "tokenizer.json").read_text(encoding="utf-8")
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    first = load_tokenizer(path)
    assert load_tokenizer(tmp_path) is first
    path.write_text(text.replace('"<|im_start|>"', '"<|im_begin|>"'), encoding="utf-8")
    assert load_tokenizer(path).token_to_id("<|im_begin|>") == 151644


def test_tools_that_are_no_json_are_an_error_not_a_traceback() -> None:
    row = Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, "ans")], tools="[")
    with pytest.raises(InputError, match="its tools text is not JSON"):
        plan_turns(row, TemplateOptions())


@pytest.mark.stack
@pytest.mark.parametrize("template", ["qwen3", "qwen3_nothink"])
@pytest.mark.parametrize("enable_thinking", [True, None, False])
@pytest.mark.parametrize("mask_history", [True, False])
def test_ids_and_labels_equal_llamafactorys_processor(
    qwen3_folder: Path, template: str, enable_thinking: bool | None, mask_history: bool
) -> None:
    options = TemplateOptions(template, enable_thinking, mask_history)
    encoder = RowEncoder(qwen3_folder, options)
    alpaca = Dataset(())
    sharegpt = Dataset((), formatting="sharegpt")
    pairs = [(alpaca, row) for row in make_alpaca_rows(60)] + [(sharegpt, row) for row in TOOL_ROWS]
    for cutoff_len in (16, 61, 128, 401, 100_000):
        encode = build_llamafactory_encoder(qwen3_folder, options, cutoff_len)
        for dataset, row in pairs:
            turns = encoder.encode_turns(align_row(row, dataset))
            ours = truncate_turns(turns, cutoff_len, mask_history=mask_history)
            assert ours == encode(row, dataset.formatting)


@pytest.mark.stack
@pytest.mark.parametrize("template", ["qwen", "qwen3_5", "qwen3_6", "chatml", "default", "empty", "fewshot"])
@pytest.mark.parametrize("mask_history", [True, False])
def test_ids_and_labels_of_other_templates_equal_llamafactorys_processor(
    qwen3_folder: Path, template: str, mask_history: bool
) -> None:
    options = TemplateOptions(template, enable_thinking=True, mask_history=mask_history)
    encoder = RowEncoder(qwen3_folder, options)
    for cutoff_len in (61, 401, 100_000):
        encode = build_llamafactory_encoder(qwen3_folder, options, cutoff_len)
        for row in make_alpaca_rows(40):
            turns = encoder.encode_turns(align_row(row, Dataset(())))
            end = encoder.end_of_row
            ours = truncate_turns(turns, cutoff_len, mask_history=mask_history, end_of_row=end)
            assert ours == encode(row, "alpaca")
            lengths = next(encoder.measure_rows([align_row(row, Dataset(()))]))
            assert [(turn.source, turn.target) for turn in lengths] == [(len(one), len(two)) for one, two in turns]


@pytest.mark.stack
def test_packing_takes_one_token_from_the_cutoff_and_drops_no_row(qwen3_folder: Path) -> None:
    from llamafactory.hparams import DataArguments

    arguments = DataArguments(template="qwen3", packing=True, cutoff_len=61)
    assert arguments.cutoff_len == 60
    rows = list(make_alpaca_rows(30))
    encode = build_llamafactory_encoder(qwen3_folder, TemplateOptions(), arguments.cutoff_len, packing=True)
    packed_ids, _ = encode(rows, "alpaca")
    encoder = RowEncoder(qwen3_folder)
    ours = [
        truncate_turns(encoder.encode_turns(align_row(row, Dataset(()))), 60, mask_history=False)[0] for row in rows
    ]
    assert max(map(len, ours)) == 60
    assert sorted(token for ids in packed_ids for token in ids if token != 151643) == sorted(
        token for ids in ours for token in ids
    )


@functools.cache
def load_transformers_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def build_llamafactory_encoder(
    folder: Path, options: TemplateOptions, cutoff_len: int, packing: bool = False
) -> Any:
    """Return a function from a row to the (input_ids, labels) of LLaMA-Factory's own processor."""
    from llamafactory.data.converter import AlpacaDatasetConverter, SharegptDatasetConverter
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.data.processor import PackedSupervisedDatasetProcessor, SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = load_transformers_tokenizer(folder)
    arguments = DataArguments(
        template=options.template, enable_thinking=options.enable_thinking, mask_history=options.mask_history
    )
    template = get_template_and_fix_tokenizer(tokenizer, arguments)
    # Text alone needs no image processor, which a template of a vision model asks for.
    template.mm_plugin = get_mm_plugin("base")
    rule = SimpleNamespace(
        cutoff_len=cutoff_len, mask_history=options.mask_history, train_on_prompt=False, neat_packing=False
    )
    alpaca = DatasetAttr("file", dataset_name="x", system="system", history="history")
    sharegpt = DatasetAttr("file", dataset_name="x", formatting="sharegpt", tools="tools")
    processor_class = PackedSupervisedDatasetProcessor if packing else SupervisedDatasetProcessor
    processor = processor_class(template, tokenizer, None, rule)

    def encode(rows: Any, formatting: str) -> tuple[Any, Any]:
        convert = (
            AlpacaDatasetConverter(alpaca, arguments)
            if formatting == "alpaca"
            else SharegptDatasetConverter(sharegpt, arguments)
        )
        examples = [convert(row) for row in (rows if isinstance(rows, list) else [rows])]
        made = processor.preprocess_dataset({key: [example[key] for example in examples] for key in examples[0]})
        if isinstance(rows, list):
            return made["input_ids"], made["labels"]
        return made["input_ids"][0], made["labels"][0]

    return encode
