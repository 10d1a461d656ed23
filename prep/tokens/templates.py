"""The one table of LLaMA-Factory's templates: what each writes around a turn, and whether it thinks.

The table is LLaMA-Factory's own, as data (prep/llamafactory.py); what is written here is how its classes read it.
Whatever wants to know something about a template asks this module.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any

from prep.choices import DEFAULT_TEMPLATE
from prep.errors import UserError
from prep.llamafactory import find_version_facts

_MARK = re.compile(r"<[|｜][^<>|｜]+[|｜]>|<(?:start|end)_of_turn>")
_CONTENT = "{{content}}"
# LLaMA-Factory's defaults; releases before them have no such key.
_WORDS = {"thought_words": ("<think>\n", "\n</think>\n\n"), "tool_call_words": ("<tool_call>", "</tool_call>")}


class Kind(StrEnum):
    """LLaMA-Factory's classes of templates that are known here."""

    PLAIN = "Template"
    # The system prompt stands inside the first question.
    LLAMA2 = "Llama2Template"
    REASONING = "ReasoningTemplate"
    # An empty thought is its closing word alone.
    GLM47 = "Glm47ReasoningTemplate"
    # The system prompt begins with how hard to think, and the tools stand before what the row says.
    QWEN38 = "Qwen38ReasoningTemplate"
    MOSS = "MossVLTemplate"
    # Neither tools nor observations.
    DEEPSEEK4 = "DeepseekV4ChatTemplate"


class Special(Enum):
    """A token that stands in a slot and whose text is the tokenizer's matter."""

    BOS = "bos_token"
    EOS = "eos_token"


@dataclass(frozen=True)
class Token:
    """A token that stands in a slot by its text."""

    text: str


Part = str | Special | Token
Slots = tuple[Part, ...]


@dataclass(frozen=True)
class Template:
    """How LLaMA-Factory writes a conversation: `{{content}}` in a slot is where a turn's text stands.

    Source: LLaMA-Factory, data/template.py, register_template.
    """

    name: str
    kind: Kind
    system: Slots
    user: Slots
    observation: Slots
    assistant: Slots
    function: Slots
    prefix: Slots = ()
    default_system: str = ""
    stop_words: tuple[str, ...] = ()
    thought_words: tuple[str, str] = ("<think>\n", "\n</think>\n\n")
    tool_call_words: tuple[str, str] = ("<tool_call>", "</tool_call>")
    tool_format: str = ""
    call_format: str = ""
    efficient_eos: bool = False
    replace_eos: bool = False
    preserve_thinking: bool = False
    multimodal: bool = False
    # What stands for an image of one patch, "" where that is not known.
    image: str = ""
    strips_lone_tools: bool = False
    version: str = ""

    @property
    def thinks(self) -> bool:
        """Whether it adds and removes thoughts: what LLaMA-Factory calls a reasoning template."""
        return self.kind in (Kind.REASONING, Kind.GLM47, Kind.QWEN38)

    @property
    def writes_the_day(self) -> bool:
        """Whether a row with tools holds the day on which it is written: LLaMA-Factory, data/tool_utils.py."""
        return self.tool_format == "llama3"

    @property
    def text_end(self) -> str:
        """What ends a text for pre-training, "" for the tokenizer's own eos_token; processor/pretrain.py."""
        if self.name == "llama3":
            return "<|end_of_text|>"
        return self.stop_words[0] if self.replace_eos else ""

    @property
    def empty_thought(self) -> str:
        """What it writes for no thought."""
        opening, closing = self.thought_words
        return closing if self.kind is Kind.GLM47 else opening + closing

    @property
    def thought_marks(self) -> tuple[str, str]:
        """The words by which an answer is known to have a thought."""
        opening, closing = self.thought_words
        return opening.strip(), closing.strip()

    @property
    def takes_tools(self) -> bool:
        """Whether rows with tools have a place in it."""
        return self.kind is not Kind.DEEPSEEK4

    @property
    def finds_call_words(self) -> bool:
        """Whether a call's turn may hold a thought, or its JSON between words, beside the JSON alone."""
        return self.kind is not Kind.LLAMA2

    @property
    def row_tokens(self) -> int:
        """How many tokens a row gets after its last turn, whatever the cutoff: the end-of-text token or none."""
        return int(self.efficient_eos)

    @property
    def marks(self) -> list[str]:
        """The control tokens that its tokenizer must have."""
        slots = (*self.prefix, *self.system, *self.user, *self.observation, *self.assistant, *self.function)
        texts = [part.text if isinstance(part, Token) else part for part in slots if not isinstance(part, Special)]
        found = [mark for text in texts for mark in _MARK.findall(text)]
        return list(dict.fromkeys([*found, *self.stop_words]))

    def tail(self, *, is_call: bool) -> Slots:
        """Return what stands after an answer's text."""
        slots = self.function if is_call else self.assistant
        for index, part in enumerate(slots):
            if isinstance(part, str) and _CONTENT in part:
                after = part.partition(_CONTENT)[2]
                return (*((after,) if after else ()), *slots[index + 1 :])
        return ()


def list_templates(version: str = "") -> list[str]:
    """Return the names of a version's templates whose tokens are known here."""
    known = set(Kind)
    return [name for name, told in find_version_facts(version).templates.items() if told["kind"] in known]


def find_template(name: str, version: str = "") -> Template:
    """Return a template by its name; raises UserError that names the nearest."""
    template = look_up_template(name, version)
    if template is None:
        from difflib import get_close_matches

        near = get_close_matches(name, list_templates(version), 1)
        facts = find_version_facts(version)
        raise UserError(
            f"the tokens of template '{name}' are not known here; LLaMA-Factory {facts.version} has "
            f"{len(facts.templates)} templates",
            hint=f"--template {near[0] if near else DEFAULT_TEMPLATE}",
        )
    return template


def look_up_template(name: object, version: str = "") -> Template | None:
    """Return a template by its name, None where there is none of it."""
    return _build(name, find_version_facts(version).version) if isinstance(name, str) else None


@cache
def _build(name: str, version: str) -> Template | None:
    facts = find_version_facts(version)
    told = facts.templates.get(name)
    if told is None or told["kind"] not in set(Kind):
        return None
    kind = Kind(told["kind"])
    parts = ("prefix", "system", "user", "observation", "assistant", "function")
    slots = {part: _read_slots(told.get(part, ())) for part in parts}
    return Template(
        name,
        kind,
        **slots,
        default_system=told.get("default_system", ""),
        stop_words=tuple(told.get("stop_words", ())),
        thought_words=_read_pair(told, "thought_words"),
        tool_call_words=_read_pair(told, "tool_call_words"),
        tool_format=told.get("tool_format") or "",
        call_format=told.get("call_format") or "",
        efficient_eos=told.get("efficient_eos", False),
        replace_eos=told.get("replace_eos", False),
        preserve_thinking=told.get("preserve_thinking", False),
        multimodal=told.get("multimodal", False),
        image=told.get("image", ""),
        strips_lone_tools=facts.strips_lone_tools and kind is not Kind.LLAMA2,
        version=version,
    )


def _read_pair(told: Mapping[str, Any], key: str) -> tuple[str, str]:
    opening, closing = told.get(key, _WORDS[key])
    return opening, closing


def _read_slots(slots: Any) -> Slots:
    parts: list[Part] = []
    for slot in slots:
        if isinstance(slot, str):
            parts.append(slot)
        elif "token" in slot:
            parts.append(Token(slot["token"]))
        elif slot["special"] in {special.value for special in Special}:
            # LLaMA-Factory writes nothing for another set.
            parts.append(Special(slot["special"]))
    return tuple(parts)
