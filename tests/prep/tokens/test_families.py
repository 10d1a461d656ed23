"""Ids and labels of every family's template are those of LLaMA-Factory's own processor, with its tokenizer."""

import functools
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prep.errors import InputError
from prep.rows.conversation import Conversation
from prep.tokens.cutoff import truncate_turns
from prep.tokens.encoder import RowEncoder, TurnLengths
from prep.tokens.templates import find_template
from prep.tokens.turns import TemplateOptions
from tests.prep.tokens.test_encoder import load_transformers_tokenizer
from tests.prep.tokens.test_templates import make_case
from tests.support.family_tokenizers import build_family_tokenizer

QWEN = ("qwen", "qwen3", "qwen3_nothink", "qwen3_5", "qwen3_6")
OTHERS = ("llama3", "deepseek3", "deepseekr1", "glm4", "gemma", "gemma3", "mistral", "gpt_oss")
CUTOFFS = (31, 200, 100_000)


@functools.cache
def find_folder(name: str, root: Path, qwen3_folder: Path) -> Path:
    if name in QWEN:
        return qwen3_folder
    return build_family_tokenizer(root / name, find_template(name, "0.9.5"))


def encode_with_llamafactory(folder: Path, case: dict[str, Any], options: TemplateOptions, cutoff_len: int) -> Any:
    """Return the ids and labels of LLaMA-Factory's processor, or the name of what it raises."""
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.processor import SupervisedDatasetProcessor
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
    processor = SupervisedDatasetProcessor(template, tokenizer, None, rule)
    messages = case["messages"]
    try:
        return processor._encode_data_example(
            messages[:-1], messages[-1:], case["system"], case["tools"], [], [], []
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the user would see
        return type(error).__name__


@pytest.mark.stack
@pytest.mark.parametrize("name", [*QWEN, *OTHERS])
def test_ids_and_labels_of_random_conversations_equal_llamafactorys_processor(
    name: str, qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory, full: bool
) -> None:
    folder = find_folder(name, tmp_path_factory.getbasetemp() / "families", qwen3_folder)
    rng = random.Random(name)
    compared = 0
    for number in range(500 if full else 25):
        case = make_case(rng, find_template(name, "0.9.5"))
        options = TemplateOptions(name, case["enable_thinking"], case["discards"], version="0.9.5")
        encoder = RowEncoder(folder, options)
        cutoff_len = CUTOFFS[number % len(CUTOFFS)]
        theirs = encode_with_llamafactory(folder, case, options, cutoff_len)
        messages = [(message["role"], message["content"]) for message in case["messages"]]
        row = Conversation(case["system"], messages, case["tools"])
        try:
            turns = encoder.encode_turns(row)
        except InputError:
            assert isinstance(theirs, str), case
            continue
        ours = truncate_turns(turns, cutoff_len, mask_history=options.mask_history, end_of_row=encoder.end_of_row)
        assert ours == theirs, case
        lengths: list[TurnLengths] = next(encoder.measure_rows([row]))
        assert [(turn.source, turn.target) for turn in lengths] == [(len(one), len(two)) for one, two in turns]
        compared += 1
    assert compared > (250 if full else 10)
