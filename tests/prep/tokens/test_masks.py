"""Which tokens are trained on, in every stage, is what LLaMA-Factory's own processors say."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prep.registry.dataset import Dataset, align_row
from prep.rows.conversation import Conversation, Message
from prep.rows.kinds import Kind, get_form
from prep.tokens.encoder import RowEncoder, TurnLengths
from prep.tokens.masks import NO_CUTOFF, MaskedRow, mask_row, spell_tokens
from prep.tokens.tokenizer import load_tokenizer
from prep.tokens.turns import TemplateOptions
from tests.prep.tokens.test_encoder import load_transformers_tokenizer, make_alpaca_rows

CUTOFFS = (9, 61, 128, 100_000)


def describe(kind: Kind) -> Dataset:
    form = get_form(kind, "alpaca")
    return Dataset((), columns=form.all_columns, kind=kind)


def make_rows(kind: Kind, count: int) -> list[dict[str, Any]]:
    rng = random.Random(11)
    rows = list(make_alpaca_rows(count * 2))
    if kind is Kind.TEXT:
        return [{"text": row["output"]} for row in rows[:count]]
    if kind is Kind.KTO:
        return [{**row, "kto_tag": rng.random() < 0.5} for row in rows[:count]]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [{**one, "chosen": one.pop("output"), "rejected": other["output"]} for one, other in pairs]


def build_processor(folder: Path, kind: Kind, options: TemplateOptions, cutoff_len: int) -> Any:
    """Return a function from rows to what LLaMA-Factory's processor of a stage makes of them."""
    from llamafactory.data.converter import AlpacaDatasetConverter
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.data.processor import (
        FeedbackDatasetProcessor,
        PairwiseDatasetProcessor,
        PretrainDatasetProcessor,
    )
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    classes = {
        Kind.PREFERENCE: PairwiseDatasetProcessor,
        Kind.KTO: FeedbackDatasetProcessor,
        Kind.TEXT: PretrainDatasetProcessor,
    }
    tokenizer = load_transformers_tokenizer(folder)
    arguments = DataArguments(template=options.template, enable_thinking=options.enable_thinking)
    template = get_template_and_fix_tokenizer(tokenizer, arguments)
    template.mm_plugin = get_mm_plugin("base")
    rule = SimpleNamespace(cutoff_len=cutoff_len, packing=False, template=options.template)
    entry = describe(kind).columns
    columns = {ours: entry.get(ours) for ours in ("prompt", "query", "response", "system", "history", "kto_tag")}
    attributes = DatasetAttr("file", dataset_name="x", ranking=kind is Kind.PREFERENCE, **columns)
    attributes.chosen, attributes.rejected = "chosen", "rejected"
    convert = AlpacaDatasetConverter(attributes, arguments)
    processor = classes[kind](template, tokenizer, None, rule)

    def process(rows: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
        examples = [convert(row) for row in rows]
        made = processor.preprocess_dataset({key: [example[key] for example in examples] for key in examples[0]})
        return dict(made)

    return process


@pytest.mark.stack
@pytest.mark.parametrize("template", ["qwen3", "qwen3_nothink", "fewshot"])
@pytest.mark.parametrize("enable_thinking", [True, None, False])
@pytest.mark.parametrize("kind", [Kind.PREFERENCE, Kind.KTO, Kind.TEXT])
def test_ids_and_labels_of_each_stage_equal_llamafactorys_processor(
    qwen3_folder: Path, kind: Kind, enable_thinking: bool | None, template: str
) -> None:
    options = TemplateOptions(template, enable_thinking, stage=kind.stages[0])
    encoder, dataset, rows = RowEncoder(qwen3_folder, options), describe(kind), make_rows(kind, 30)
    for cutoff_len in CUTOFFS:
        made = build_processor(qwen3_folder, kind, options, cutoff_len)(rows)
        names = {"chosen": "chosen_", "rejected": "rejected_"} if kind is Kind.PREFERENCE else {"": ""}
        for place, row in enumerate(rows):
            conversation = align_row(row, dataset)
            masked = mask_row(encoder, conversation, cutoff_len)
            assert [one.answer for one in masked] == list(names)
            for one in masked:
                name = names[one.answer]
                assert one.ids == made[f"{name}input_ids"][place]
                if kind is not Kind.TEXT:
                    assert one.labels == made[f"{name}labels"][place]
            whole = mask_row(encoder, conversation)
            assert [len(one.ids) for one in whole] == [len(one.ids) + one.cut for one in masked]
            measured = sum(turn.source + turn.target for turn in next(encoder.measure_rows([conversation])))
            assert measured + options.rules.row_tokens * (kind is not Kind.TEXT) == max(map(len, made_ids(whole)))


def made_ids(rows: list[MaskedRow]) -> list[list[int]]:
    return [row.ids for row in rows]


def test_of_two_answers_the_longer_one_is_measured(qwen3_folder: Path) -> None:
    messages = [(Message.USER, "hi"), (Message.ASSISTANT, "<think>\nT\n</think>\n\na")]
    pair = Conversation("", messages, rejected="<think>\nT\n</think>\n\n" + "b " * 30)
    encoder = RowEncoder(qwen3_folder, TemplateOptions(stage="dpo"))
    chosen, rejected = mask_row(encoder, pair)
    (turn,) = next(encoder.measure_rows([pair]))
    assert (turn.source + turn.target, type(turn)) == (len(rejected.ids), TurnLengths)
    assert len(rejected.ids) > len(chosen.ids) > 0


def test_a_letter_of_several_tokens_is_spelled_once(qwen3_folder: Path) -> None:
    tokenizer = load_tokenizer(qwen3_folder)
    text = "é🙂𠮷龘 ok"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    spelled = spell_tokens(tokenizer, MaskedRow("", ids, ids, 0))
    assert "".join(token.text for token in spelled) == text
    assert [token for one in spelled for token in one.ids] == ids
    assert len(spelled) < len(ids)
    assert all(token.is_trained for token in spelled)
    # Where the mask changes inside a letter, each half stands by itself.
    halves = spell_tokens(tokenizer, MaskedRow("", ids, [-100, *ids[1:]], 0))
    assert [one.is_trained for one in halves][:2] == [False, True]


def test_without_a_cutoff_nothing_is_cut(qwen3_folder: Path) -> None:
    row = Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, "ok " * 5000)])
    (masked,) = mask_row(RowEncoder(qwen3_folder), row, NO_CUTOFF)
    assert masked.cut == 0
    assert len(masked.ids) > 5000
