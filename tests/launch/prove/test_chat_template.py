"""A model's chat template is rendered as transformers does it, and cannot harm who renders it."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.prove import chat_template
from launch.prove.chat_template import ChatTemplate, Request, read_chat_template, render_chats
from prep.errors import InputError
from tests.support.qwen3 import read_chat_template as read_qwen3

HI = [{"role": "user", "content": "hi"}]


def render(text: str, request: Request | None = None, **tokens: str) -> chat_template.Rendered:
    return render_chats(ChatTemplate({"default": text}, tokens), [request or Request(HI)])[0]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("{{ bos_token }}{{ messages[0].content }}", "<s>hi"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{{ {'é<&': 'x'} | tojson }}", '{"é<&": "x"}'),
        ("{{ {'b': 1, 'a': [1]} | tojson(indent=1, sort_keys=true) }}", '{\n "a": [\n  1\n ],\n "b": 1\n}'),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "hi!"),
        ("{{ add_generation_prompt }} {{ tools }} {{ enable_thinking is defined }}", "False None False"),
    ],
)
def test_a_template_writes_what_transformers_makes_of_it(text: str, written: str) -> None:
    answer = render(text, bos_token="<s>")
    assert (answer.text, answer.error) == (written, "")


@pytest.mark.stack
@pytest.mark.parametrize("thinking", [True, False, None])
def test_qwen3s_own_template_is_rendered_byte_by_byte_as_transformers_does(
    qwen3_folder: Path, thinking: bool | None
) -> None:
    from transformers import AutoTokenizer

    tools = [{"type": "function", "function": {"name": "f", "description": "é & <b>", "parameters": {}}}]
    messages: list[dict[str, Any]] = [*HI, {"role": "assistant", "content": "yes", "reasoning_content": "why"}, *HI]
    options = {} if thinking is None else {"enable_thinking": thinking}
    theirs = AutoTokenizer.from_pretrained(str(qwen3_folder), local_files_only=True).apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=True, **options
    )
    chat = read_chat_template(qwen3_folder)
    assert render_chats(chat, [Request(messages, tools, prompts=True, options=options)])[0].text == theirs


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ raise_exception('no system role') }}", "TemplateError: no system role"),
        ("{% if %}", "TemplateSyntaxError: "),
        ("{{ messages.__class__.__mro__ }}", "SecurityError: "),
        ("{{ messages.append(1) }}", "SecurityError: "),
        ("{{ nothing.there }}", "UndefinedError: "),
        ("{% for x in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "it writes more than 4194304 bytes"),
    ],
)
def test_what_a_template_raises_is_told(text: str, error: str) -> None:
    assert render(text).error.startswith(error)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set s = namespace(t='aaaaaaaaaa') %}{% for i in range(99) %}{% set s.t = s.t ~ s.t %}{% endfor %}",
    ],
)
def test_a_template_that_never_ends_or_eats_the_memory_is_ended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_TIMEOUT_S", 1)
    try:
        answer = render(text)
    except InputError as error:
        assert str(error).startswith("the model's chat template ")
    else:
        assert answer.error.startswith(("MemoryError", "it writes more"))


def test_where_a_folder_keeps_its_template(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None}
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(InputError, match="has no chat template"):
        read_chat_template(tmp_path)
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}, {"name": 3}]
    path.write_text(json.dumps({**settings, "chat_template": named}), encoding="utf-8")
    chat = read_chat_template(tmp_path)
    assert chat == ChatTemplate({"default": "d", "tool_use": "t"}, {"bos_token": "<s>", "eos_token": "</s>"})
    asked = [Request(HI), Request(HI, [{"type": "function"}])]
    assert [answer.text for answer in render_chats(chat, asked)] == ["d", "t"]
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert read_chat_template(tmp_path).templates == {"default": "file"}


@pytest.mark.parametrize("content", ["{", "[" * 100_000, b"\xff"])
def test_broken_settings_are_one_clear_error(tmp_path: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(InputError, match=r"tokenizer_config.json cannot be read"):
        read_chat_template(tmp_path)


def test_the_tests_template_of_qwen3_mentions_its_switch() -> None:
    assert ChatTemplate({"default": read_qwen3()}).mentions("enable_thinking")
