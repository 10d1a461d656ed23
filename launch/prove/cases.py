"""The conversations that are compared: every mix of what a row may hold, and the user's own rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

from launch.prove.chat_template import ChatTemplate
from prep.errors import InputError
from prep.registry.dataset import Dataset, align_row, read_dataset_rows
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import Template
from prep.tokens.tool_formats import read_calls

# What models' chat templates call a thought beside the answer, as chat servers take it; else it stands in the text.
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
# What stands for an image in a row.
_IMAGE = "<image>"
_TAGS = ("<think>", "</think>")
# Letters outside ASCII, and what HTML escapes: a template's tojson must leave both as they are.
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "查 <drug> & 'dose'",
            "parameters": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "a name", "enum": ["阿司匹林", "other"]},
                    "count": {"type": "integer"},
                },
                "required": ["name"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
    },
]
_CALL = {"name": "look_up", "arguments": {"name": "阿司匹林 <A>", "count": 2}}
_TWO_CALLS = [_CALL, {"name": "now", "arguments": {}}]
# None: no tools at all; then tools that are not used, one call with its answer, two calls at once.
_TOOL_USES = ("", "tools", "tool call", "two tool calls")


@dataclass(frozen=True)
class Case:
    """One conversation to be compared, as LLaMA-Factory aligns it; `thinks`: its last answer holds a thought."""

    name: str
    conversation: Conversation
    thinks: bool = False


def make_cases(template: Template) -> list[Case]:
    """Return every mix of system prompt, history, thought and tools that a template has a place for."""
    cases = []
    uses = _TOOL_USES if template.takes_tools else ("",)
    either = (False, True)
    for use, has_system, has_history, thinks in product(uses, either, either, either):
        if thinks and not template.thinks:
            continue
        words = ("system" if has_system else "", "history" if has_history else "", "think" if thinks else "", use)
        name = ", ".join(filter(None, words)) or "question and answer"
        messages = list(_write_messages(template, use, has_history=has_history, thinks=thinks))
        tools = json.dumps(_TOOLS, ensure_ascii=False) if use else ""
        cases.append(Case(name, Conversation("请简短 & <plain>." if has_system else "", messages, tools), thinks))
    return cases


def make_image_cases(template: Template) -> list[Case]:
    """Return questions with images, of a template of which it is known what stands for one."""
    asked = {"image": f"{_IMAGE}What is this?", "image after text": f"这是 {_IMAGE}{_IMAGE} 什么?"}
    if not template.image:
        return []
    answers = [(Message.ASSISTANT, "A cat.")]
    return [Case(name, Conversation("", [(Message.USER, text), *answers])) for name, text in asked.items()]


def fill_images(conversation: Conversation, template: Template) -> Conversation:
    """Return a conversation with what LLaMA-Factory writes for images of one patch in the place of `<image>`."""
    if not template.image:
        return conversation
    messages = [(role, content.replace(_IMAGE, template.image)) for role, content in conversation.messages]
    return replace(conversation, messages=messages)


def read_cases(dataset: Dataset, template: Template, most: int) -> Iterator[Case]:
    """Yield a dataset's first rows as cases; a row that cannot be aligned is left to lint."""
    for path, number, row in islice(read_dataset_rows(dataset), most):
        try:
            conversation = align_row(row, dataset)
        except InputError:
            continue
        answer = conversation.messages[-1][1] if conversation.messages else ""
        thinks = any(closing in answer for closing in (_TAGS[1], template.thought_marks[1]))
        yield Case(f"{path.name} line {number}", conversation, thinks)


def write_chat(
    case: Case, template: Template, chat: ChatTemplate, *, arguments_as_text: bool = False
) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return a case as the messages and tools that a chat server is given; a call's arguments as text on demand.

    Raises: InputError when a call or its tools are no JSON.
    """
    field = next(filter(chat.mentions, _THOUGHT_FIELDS), "")
    return write_messages(case, template, field, arguments_as_text=arguments_as_text)


def write_messages(
    case: Case, template: Template, thought_field: str, *, arguments_as_text: bool = False
) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return a case as messages and tools, a thought in a field of its own; "" leaves it in the text.

    Raises: InputError when a call or its tools are no JSON.
    """
    writer = _ChatWriter(template, thought_field, arguments_as_text)
    conversation = case.conversation
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    messages += [writer.write(role, content) for role, content in conversation.messages]
    return messages, _read_tools(conversation.tools)


class _ChatWriter:
    """Writes turns as a chat server's messages; an observation is the answer to the call before it."""

    def __init__(self, template: Template, thought_field: str, arguments_as_text: bool) -> None:
        self._template = template
        self._field = thought_field
        self._arguments_as_text = arguments_as_text
        self._calls = 0
        self._called = ""

    def write(self, role: str, content: str) -> dict[str, Any]:
        if role == Message.OBSERVATION:
            return {"role": "tool", "content": content, "name": self._called, "tool_call_id": self._name_call()}
        if role == Message.FUNCTION:
            before, calls = read_calls(content, self._template)
            message = self._part(before)
            message["tool_calls"] = [self._write_call(name, arguments) for name, arguments in calls]
            return message
        if role == Message.ASSISTANT:
            return self._part(content)
        has_images = self._template.image and _IMAGE in content
        return {"role": "user", "content": _split_images(content) if has_images else content}

    def _write_call(self, name: Any, arguments: Any) -> dict[str, Any]:
        self._calls += 1
        self._called = str(name)
        if self._arguments_as_text:
            arguments = json.dumps(arguments, ensure_ascii=False)
        return {
            "type": "function",
            "id": self._name_call(),
            "function": {"name": name, "arguments": arguments},
        }

    def _name_call(self) -> str:
        # Mistral's templates take nine letters or digits.
        return f"call{self._calls:05d}"

    def _part(self, answer: str) -> dict[str, Any]:
        """Return an answer as a message, its thought in the field that the template reads, where it reads one."""
        if self._field and self._template.thinks:
            for opening, closing in (self._template.thought_words, _TAGS):
                if answer.lstrip().startswith(opening.strip()) and closing.strip() in answer:
                    thought, _, text = answer.lstrip().removeprefix(opening.strip()).partition(closing.strip())
                    return {"role": "assistant", "content": text.lstrip("\n"), self._field: thought.strip("\n")}
        return {"role": "assistant", "content": answer}


def _split_images(content: str) -> list[dict[str, str]]:
    """Return a question's texts and images as the parts that a chat server takes."""
    texts = content.split(_IMAGE)
    parts: list[dict[str, str]] = [{"type": "text", "text": texts[0]}]
    for text in texts[1:]:
        parts += [{"type": "image"}, {"type": "text", "text": text}]
    return [part for part in parts if part.get("text") != ""]


def _write_messages(template: Template, use: str, *, has_history: bool, thinks: bool) -> Iterator[tuple[str, str]]:
    def answer(text: str, thought: str) -> str:
        return thought.join(template.thought_words) + text if thinks else text

    if has_history:
        yield Message.USER, "你好!"
        yield Message.ASSISTANT, answer("Hello.", "A greeting.\n\nAnswer it.")
    yield Message.USER, "What about 'aspirin' & <ASA>?"
    if use.endswith(("call", "calls")):
        calls: Mapping[str, Any] | Sequence[Any] = _CALL if use == "tool call" else _TWO_CALLS
        yield Message.FUNCTION, answer(json.dumps(calls, ensure_ascii=False), "Look it up.")
        yield Message.OBSERVATION, '{"dose": "100 毫克"}'
    yield Message.ASSISTANT, answer("100 mg.\n\n1. 一天一次", "They ask for a dose.")


def _read_tools(text: str) -> list[Any] | None:
    if not text:
        return None
    try:
        tools = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"its tools text is not JSON: {error}") from error
    if not isinstance(tools, list):
        raise InputError("its tools text is not a JSON list of objects")
    # A chat server knows tools in their envelope alone; LLaMA-Factory adds it too.
    wrapped = [
        tool
        if isinstance(tool, dict) and tool.get("type") == "function"
        else {"type": "function", "function": tool}
        for tool in tools
    ]
    return wrapped or None
