"""Every template writes what LLaMA-Factory's own writes, part by part."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prep.errors import InputError, UserError
from prep.llamafactory import find_version_facts, list_versions
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import Special, Template, Token, find_template, list_templates, look_up_template
from prep.tokens.turns import TemplateOptions, plan_turns
from tests.support.warm_stack import stack_python

PROGRAM = Path(__file__).parents[2] / "support" / "llamafactory_texts.py"
# Where a LLaMA-Factory that is not installed is unpacked: the same proof for its version.
UNPACKED = os.environ.get("LFC_TEST_UNPACKED_LLAMAFACTORY", "")
EACH = int(os.environ.get("LFC_TEST_CONVERSATIONS", "60"))
WITHOUT_TOOLS = {"gemma4", "minicpm5", ""}

TEXTS = (
    "2+2?",
    "甲胎蛋白 AFP 升高？",
    "{{content}} {{idx}} {{idx}}",
    "  spaces \n",
    "\n\n# Tools",
    "[INST] é ́ 🙂",
    "x",
)
TOOLS = (
    {
        "name": "add",
        "description": "加",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {
                "properties": {
                    "q": {"type": "string", "description": "what", "enum": ["a", "b"]},
                    "n": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["q"],
            },
        },
    },
    {"name": "bare", "parameters": {"properties": {}}},
    {"name": "broken"},
)
ARGUMENTS: tuple[Any, ...] = (
    *({}, {"a": 1}, {"q": "二", "n": [1, 2.5, None]}, {"deep": {"x": True}, "text": "line\nline"}),
    *("no object", 7),
)


def write_answer(rng: random.Random, template: Template) -> str:
    opening, closing = template.thought_words
    answer = rng.choice(TEXTS) * rng.randint(1, 3)
    return rng.choice(
        (
            answer,
            f"{opening}{rng.choice(TEXTS)}{closing}{answer}",
            f"{opening}{closing}{answer}",
            f"<think>\n{answer}\n</think>\n\n\n{answer}",
            f"{answer}{closing.strip()}",
            f"{opening}a{closing}\n{opening}b{closing}c",
        )
    )


def write_call(rng: random.Random, template: Template) -> str:
    calls = [{"name": "f", "arguments": rng.choice(ARGUMENTS)} for _ in range(rng.choice((1, 1, 2)))]
    text = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=rng.random() < 0.5)
    opening, closing = template.thought_words
    first, last = template.tool_call_words
    return rng.choice(
        (text, text, f"{opening}T{closing}{text}", f"so {first}{text}{last}", f"{first}{text}", "no JSON")
    )


def make_case(rng: random.Random, template: Template) -> dict[str, Any]:
    messages = []
    calls = rng.random() < 0.4
    for turn in range(rng.choice((1, 1, 2, 3))):
        asks = Message.OBSERVATION if calls and turn and rng.random() < 0.7 else Message.USER
        messages.append({"role": str(asks), "content": rng.choice(TEXTS)})
        answers = Message.FUNCTION if calls and rng.random() < 0.5 else Message.ASSISTANT
        write = write_call if answers == Message.FUNCTION else write_answer
        messages.append({"role": str(answers), "content": write(rng, template)})
    chosen = rng.sample(TOOLS[:3], rng.randint(0, 3)) + ([TOOLS[3]] if rng.random() < 0.05 else [])
    return {
        "template": template.name,
        "enable_thinking": rng.choice((True, None, False)),
        "discards": rng.random() < 0.5,
        "messages": messages,
        "system": rng.choice(("", "", "Be brief. {{content}}", " 系统 \n")),
        "tools": json.dumps(chosen, ensure_ascii=False) if calls or rng.random() < 0.1 else "",
    }


def spell(parts: Any) -> list[str]:
    names = {Special.BOS: "<bos>", Special.EOS: "<eos>"}
    texts = [part.text if isinstance(part, Token) else names.get(part, part) for part in parts]
    return [text for text in texts if text]


def write_ours(case: dict[str, Any], template: Template) -> Any:
    options = TemplateOptions(
        template.name, case["enable_thinking"], case["discards"], preserve_thinking=False, version=template.version
    )
    messages: list[tuple[str, str]] = [(message["role"], message["content"]) for message in case["messages"]]
    try:
        planned = plan_turns(Conversation(case["system"], messages, case["tools"]), options)
    except InputError as error:
        return str(error)
    empty = [template.empty_thought]
    return [
        [
            spell(plan.source) + (empty if plan.source_ends_with_empty_thought else []),
            (empty if plan.target_begins_with_empty_thought else []) + spell(plan.target),
        ]
        for plan in planned
    ]


def find_differences(version: str, unpacked: str) -> Iterator[str]:
    templates = [find_template(name, version) for name in list_templates(version)]
    cases = []
    for template in templates:
        rng = random.Random(template.name)
        cases += [(template, make_case(rng, template)) for _ in range(EACH)]
    result = subprocess.run(
        [sys.executable if unpacked else stack_python(), str(PROGRAM), *([unpacked] if unpacked else [])],
        input=json.dumps([case for _, case in cases]),
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    for (template, case), theirs in zip(cases, json.loads(result.stdout), strict=True):
        ours = write_ours(case, template)
        if isinstance(ours, str):
            unproved = {template.tool_format, template.call_format} & WITHOUT_TOOLS
            if not isinstance(theirs, str) and not (unproved and "no known place" in ours):
                yield f"{template.name}: we refuse with {ours}: {case}"
        elif isinstance(theirs, str):
            yield f"{template.name}: LLaMA-Factory raises {theirs}: {case}"
        elif ours != [[[text for text in part if text] for part in turn] for turn in theirs]:
            yield f"{template.name}: {ours} is not {theirs}"


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_every_template_writes_what_the_installed_llamafactory_writes() -> None:
    assert list(find_differences("", "")) == []


@pytest.mark.stack
@pytest.mark.skipif(not UNPACKED, reason="LFC_TEST_UNPACKED_LLAMAFACTORY names no folder")
def test_every_template_writes_what_an_unpacked_llamafactory_writes() -> None:
    assert list(find_differences(list_versions()[-1], UNPACKED)) == []


@pytest.mark.parametrize("version", list_versions())
def test_the_table_holds_every_template_of_a_version(version: str) -> None:
    assert list_templates(version) == list(find_version_facts(version).templates)
    assert {"qwen3", "qwen3_nothink", "qwen3_5", "qwen3_6", "qwen", "llama3", "gpt_oss"} <= set(
        list_templates(version)
    )


def test_whether_a_template_thinks_is_told_by_its_class_and_not_by_its_name() -> None:
    assert find_template("qwen3").thinks and find_template("glm4_7").thinks and find_template("deepseekr1").thinks
    assert not find_template("qwen3_nothink").thinks and not find_template("llama3").thinks
    assert look_up_template("no such") is None and look_up_template(None) is None


def test_qwen3_8_is_known_from_0_9_6_on_and_keeps_thoughts() -> None:
    assert look_up_template("qwen3_8", "0.9.5") is None
    assert find_template("qwen3_8", "0.9.6.dev0").preserve_thinking
    assert not TemplateOptions("qwen3_8", mask_history=True, version="0.9.6").discards_thoughts


def test_tools_in_a_format_that_is_not_proved_are_an_error_that_says_so() -> None:
    row = Conversation("", [(Message.USER, "hi"), (Message.ASSISTANT, "ans")], tools='[{"name": "f"}]')
    with pytest.raises(InputError, match="its tools have no known place in template 'gemma4'"):
        plan_turns(row, TemplateOptions("gemma4"))


def test_a_version_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"LLaMA-Factory 0.8.1 is not known here; known are 0.9.5, 0.9.6") as caught:
        find_version_facts("0.8.1")
    assert caught.value.hint == "set LFC_LLAMAFACTORY_VERSION=0.9.6, or unset it"
