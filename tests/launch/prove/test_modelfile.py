"""Ollama is told to ask as the model was trained: with tools, with the switch for thinking, in every template."""

from dataclasses import replace

import pytest

from launch.prove.cases import Case, make_cases
from launch.prove.go_template import fill_go_template
from launch.prove.modelfile import (
    check_template,
    list_stops,
    read_request,
    write_modelfile,
    write_ollama_template,
)
from prep.llamafactory import list_versions
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import list_templates
from prep.tokens.turns import TemplateOptions

TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
# Written of more than slots: LLaMA-Factory's Modelfile stays.
UNWRITTEN = {"qwen3_8", "deepseek4_nothink", "moss_vl"}
QWEN3 = TemplateOptions("qwen3", None, mask_history=True)
QUESTION = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
EMPTY = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("version", list_versions())
@pytest.mark.parametrize("mask_history", [True, False])
@pytest.mark.parametrize("enable_thinking", [True, None, False])
def test_every_templates_prompt_is_that_of_its_training(
    version: str, mask_history: bool, enable_thinking: bool | None
) -> None:
    unwritten = set()
    for name in list_templates(version):
        options = TemplateOptions(name, enable_thinking, mask_history, version=version)
        try:
            template = write_ollama_template(options, TOKENS, begins=True)
        except ValueError:
            unwritten.add(name)
            continue
        checked = check_template(template, options, TOKENS)
        assert not checked.different, (name, checked)
        assert checked.equal >= 2, name
    assert unwritten == UNWRITTEN & set(list_templates(version))


@pytest.mark.parametrize(
    ("enable_thinking", "think", "end"),
    [
        (None, True, ""),
        (None, None, ""),
        (None, False, EMPTY),
        (True, False, EMPTY),
        # Thoughts were taken out of the rows: no prompt asks for one.
        (False, True, EMPTY),
        (False, None, EMPTY),
    ],
)
def test_the_switch_writes_the_empty_thought(enable_thinking: bool | None, think: bool | None, end: str) -> None:
    options = TemplateOptions("qwen3", enable_thinking, mask_history=True)
    case = Case("", Conversation("", [(Message.USER, "2+2?"), (Message.ASSISTANT, "Four.")]))
    template = write_ollama_template(options, TOKENS)
    assert fill_go_template(template, read_request(case, options, think=think)) == QUESTION + end


def test_answers_of_tools_that_were_called_together_are_one_turn() -> None:
    request = read_request(make_cases(QWEN3.rules)[-1], QWEN3, think=True)
    result = next(message for message in request["Messages"] if message["Role"] == "tool")
    request["Messages"].append({**result, "Content": "12:30"})
    written = fill_go_template(write_ollama_template(QWEN3, TOKENS), request)
    joined = f"<tool_response>\n{result['Content']}\n</tool_response>\n<tool_response>\n12:30\n</tool_response>"
    assert written.endswith(f"{joined}<|im_end|>\n<|im_start|>assistant\n")
    assert written.count("<|im_start|>assistant\n") == written.count("<|im_start|>user\n")


def test_a_wrong_prompt_is_named() -> None:
    template = write_ollama_template(QWEN3, TOKENS).replace("<|im_start|>user", "<|im_start|>human")
    checked = check_template(template, QWEN3, TOKENS)
    assert (checked.equal, checked.alike) == (0, 0)
    assert "question and answer" in checked.different
    assert checked.describe().startswith(
        "Its prompts are those of training in 0 of 32 kinds of conversation; not for"
    )


def test_a_modelfile_holds_all_that_ollama_needs() -> None:
    template = write_ollama_template(QWEN3, TOKENS)
    text = write_modelfile(template, QWEN3, list_stops(QWEN3, TOKENS), 8192)
    assert text.splitlines()[1] == "FROM ."
    assert f'TEMPLATE """{template}"""\n' in text
    assert text.endswith('PARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 8192\n')
    assert "SYSTEM" not in text
    qwen = TemplateOptions("qwen")
    assert 'SYSTEM """You are Qwen' in write_modelfile("", qwen, [], 1)
    with pytest.raises(ValueError, match="three quotes"):
        write_modelfile("", replace(qwen, default_system='say """'), [], 1)


def test_blanks_of_json_are_told_apart_from_other_differences() -> None:
    checked = check_template(write_ollama_template(QWEN3, TOKENS), QWEN3, TOKENS)
    assert (checked.cases, checked.equal, checked.alike) == (32, 8, 24)
    assert checked.describe() == (
        "Its prompts are those of training in 8 of 32 kinds of conversation, "
        "and but for blanks inside the JSON of tools in 24 more."
    )
