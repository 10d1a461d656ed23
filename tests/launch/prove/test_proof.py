"""A difference between what is trained and what is served is found, and no other is told."""

import random
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.prove import proof
from launch.prove.cases import Case, make_cases
from launch.prove.chat_template import ChatTemplate
from launch.prove.proof import find_difference, prove
from prep.rows.conversation import Conversation, Message
from prep.tokens.tokenizer import load_tokenizer
from prep.tokens.turns import TemplateOptions
from tests.support.chat_templates import DROPS_THOUGHTS, KEEPS_THOUGHTS, PLAIN, PUBLISHED, read_published
from tests.support.qwen3 import read_chat_template

EOS = {"eos_token": "<|im_end|>"}


def find_differing(text: str, options: TemplateOptions, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what would make each differing case equal, by its name."""
    cases = [case for case in make_cases(options.rules) if not set(without) & set(case.name.split(", "))]
    verdicts = prove(ChatTemplate({"default": text}, EOS), options, cases).cases
    return {verdict.case.name: verdict.settings for verdict in verdicts if verdict.difference}


TOOL_WORDS = ("tools", "tool call", "two tool calls")


def test_equal_templates_differ_in_no_case() -> None:
    options = TemplateOptions("qwen3_nothink", version="0.9.5")
    assert find_differing(PLAIN, options, without=TOOL_WORDS) == {}
    assert find_differing(DROPS_THOUGHTS, TemplateOptions("qwen3", mask_history=True), without=TOOL_WORDS) == {}


def test_thoughts_in_the_history_differ_until_mask_history_is_set() -> None:
    told = find_differing(DROPS_THOUGHTS, TemplateOptions("qwen3"), without=TOOL_WORDS)
    assert told == {
        name: {"mask_history": True}
        for name in ("history", "history, think", "system, history", "system, history, think")
    }


def test_thoughts_that_a_model_keeps_are_found_where_they_are_dropped() -> None:
    told = find_differing(KEEPS_THOUGHTS, TemplateOptions("qwen3", mask_history=True), without=TOOL_WORDS)
    names = ("history", "history, think", "system, history", "system, history, think")
    assert told == {name: {"mask_history": False} for name in names}


def test_a_template_of_another_kind_of_model_is_named() -> None:
    told = find_differing(PLAIN, TemplateOptions("qwen3"), without=(*TOOL_WORDS, "think"))
    names = ("question and answer", "history", "system", "system, history")
    assert told == {name: {"template": "qwen3_nothink"} for name in names}


def test_qwen3s_known_differences_are_found_and_nothing_else() -> None:
    text = read_chat_template()
    told = find_differing(text, TemplateOptions("qwen3", mask_history=True, version="0.9.5"))
    lone = {name for name in told if "system" not in name}
    # Without a system prompt 0.9.5 leaves two line ends before the tools, and 0.9.6 does not.
    assert lone and all(
        "tool" in name and (told[name] is None or told[name]["llamafactory_version"] == "0.9.6") for name in lone
    )
    # Qwen3 keeps the thought beside a call until the next question; mask_history takes it away.
    assert {name: settings for name, settings in told.items() if name not in lone} == {
        **{f"system, think, {use}": {"mask_history": False} for use in TOOL_WORDS[1:]},
        **{f"system, history, think, {use}": None for use in TOOL_WORDS[1:]},
    }


@pytest.mark.skipif(not PUBLISHED, reason="LFC_TEST_CHAT_TEMPLATES names no folder")
@pytest.mark.parametrize(
    ("template", "name", "version", "differing"),
    [
        ("qwen3_nothink", "qwen3_instruct_2507", "0.9.6", set()),
        ("qwen", "qwen2_5", "0.9.5", set()),
        ("qwen3_8", "qwen3_8", "0.9.6", set()),
        ("qwen3_5", "qwen3_5_think", "0.9.6", set(TOOL_WORDS)),
        ("qwen3_6", "qwen3_6", "0.9.6", set(TOOL_WORDS)),
    ],
)
def test_published_templates_differ_in_tool_rows_alone(
    template: str, name: str, version: str, differing: set[str]
) -> None:
    options = TemplateOptions(template, mask_history=template != "qwen3_8", version=version)
    told = find_differing(read_published(name), options)
    assert {word for case in told for word in case.split(", ")} & set(TOOL_WORDS) <= differing
    assert all(set(case.split(", ")) & differing for case in told)


def test_each_one_byte_change_of_what_a_template_writes_is_found(
    monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    text, options = read_chat_template(), TemplateOptions("qwen3", mask_history=True, version="0.9.6")
    # What else would make a case equal is no matter here, and takes most of the time.
    monkeypatch.setattr(proof, "_try_settings", lambda options: iter(()))
    monkeypatch.setattr(proof, "_try_templates", lambda options: iter(()))
    cases = make_cases(options.rules)
    before = prove(ChatTemplate({"default": text}, EOS), options, cases)
    rng = random.Random(5)
    # The texts that are written: `{{- '…'`, and what follows a `+`.
    spans = [match.span(1) for match in re.finditer(r"(?:\{\{-? ?|\+ ?)[\"']((?:[^'\"\\]|\\.)+)[\"']", text)]
    places = [place for start, end in spans for place in range(start, end) if text[place].isalpha()]
    places = [place for place in places if text[place - 1] != "\\"]
    missed = []
    for place in rng.sample(places, 50 if full else 15):
        changed = text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]
        if prove(ChatTemplate({"default": changed}, EOS), options, cases) == before:
            missed.append(text[place - 40 : place + 20])
    assert missed == []


def test_equal_texts_with_other_tokens_are_told(qwen3_folder: Path) -> None:
    tokenizer = load_tokenizer(qwen3_folder)

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    rows = [
        Case(answer, Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, answer)]))
        for answer in ("plain", "\n\nbegins with line ends")
    ]
    told = prove(
        ChatTemplate({"default": PLAIN}, EOS), TemplateOptions("qwen3_nothink"), [], rows, encode
    ).differing_rows
    assert [(each.case.name, each.difference and each.difference.tokens_only) for each in told] == [
        ("\n\nbegins with line ends", True)
    ]


def test_a_refusal_of_either_side_is_a_difference_with_its_reason() -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" + PLAIN
    options = TemplateOptions("qwen3_nothink")
    cases = [case for case in make_cases(options.rules) if case.name == "system"]
    verdict = prove(ChatTemplate({"default": refuses}, EOS), options, cases).cases[0]
    assert verdict.difference and verdict.difference.error == "the chat template refuses it: TemplateError: none"
    broken = Case("row", replace(cases[0].conversation, tools="["))
    told = prove(ChatTemplate({"default": PLAIN}, EOS), options, [broken]).cases[0].difference
    assert told and "its tools text is not JSON" in told.error


def test_a_call_is_given_as_text_to_a_template_that_takes_no_mapping() -> None:
    text = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}"
        '<tool_call>\n{{ \'{"name": "\' + c.function.name + \'", "arguments": \' + c.function.arguments + "}" }}'
        "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    )
    calls = '{"name": "f", "arguments": {"a": "é"}}'
    messages = [(Message.USER, "hi"), (Message.FUNCTION, calls)]
    verdict = prove(
        ChatTemplate({"default": text}, EOS),
        TemplateOptions("qwen3_nothink"),
        [Case("call", Conversation("", messages))],
    ).cases[0]
    # As it is no prompt template, the prompt alone differs by nothing: it is the beginning of the text.
    assert verdict.difference is None


@pytest.mark.parametrize(
    ("trained", "served", "offset"), [("abc", "abd", 2), ("é1", "é2", 2), ("ab", "abc", 2), ("", "x", 0)]
)
def test_a_difference_is_told_by_its_first_byte(trained: str, served: str, offset: int) -> None:
    assert find_difference(trained, served).offset == offset
