"""The texts that LLaMA-Factory's templates make of a conversation, turn by turn. Pure text, no tokenizer.

Source: LLaMA-Factory, data/template.py (_encode, encode_multiturn) and StringFormatter in data/formatter.py.
Tests hold every template equal to LLaMA-Factory's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from prep.choices import DEFAULT_TEMPLATE
from prep.errors import InputError, UserError
from prep.llamafactory import find_version_facts
from prep.rows.conversation import Conversation, Message
from prep.tokens.templates import Kind, Part, Slots, Special, Template, find_template
from prep.tokens.tool_formats import find_block, write_calls, write_tools

# Role and text.
Turn = tuple[str, str]
_EFFORTS = {
    "xhigh": "Reasoning effort is set to xhigh. Please think carefully through the task, validate key assumptions, "
    "consider plausible alternatives, and prioritize correctness, consistency, and clarity in the final answer.",
    "medium": "",
    "low": "Reasoning effort is set to low. Keep your thinking brief and focused, moving directly to the "
    "conclusion without unnecessary elaboration.",
}


@dataclass(frozen=True)
class TemplateOptions:
    """LLaMA-Factory's own keys that decide which tokens a row becomes; `version` is LLaMA-Factory's.

    `stage` is sft, or what trains on the last answer alone; a text for pre-training is known by itself.
    """

    template: str = DEFAULT_TEMPLATE
    enable_thinking: bool | None = True
    mask_history: bool = False
    preserve_thinking: bool | None = None
    reasoning_effort: str = "xhigh"
    version: str = ""
    stage: str = "sft"
    # In place of the template's own.
    default_system: str | None = None

    def __post_init__(self) -> None:
        find_template(self.template, self.version)
        if self.reasoning_effort not in _EFFORTS:
            raise UserError(f"reasoning_effort is {self.reasoning_effort}; allowed are {', '.join(_EFFORTS)}")

    @cached_property
    def rules(self) -> Template:
        """The template itself."""
        found = find_template(self.template, self.version)
        return found if self.default_system is None else replace(found, default_system=self.default_system)

    @property
    def has_one_answer(self) -> bool:
        """Whether all before the last answer is one prompt: LLaMA-Factory's encode_oneturn."""
        return self.stage != "sft"

    @property
    def keeps_thoughts(self) -> bool:
        """Whether the thoughts of earlier answers stay whatever is trained on."""
        return self.rules.preserve_thinking if self.preserve_thinking is None else self.preserve_thinking

    @property
    def discards_thoughts(self) -> bool:
        """Whether the thoughts of earlier answers go, as those answers are not trained on."""
        keeps = self.keeps_thoughts
        if self.has_one_answer:
            return self.rules.thinks and not keeps
        discards = find_version_facts(self.version).discards_thoughts
        return discards and self.rules.thinks and self.mask_history and not keeps


class PlannedTurn(NamedTuple):
    """One turn's parts before they are tokens: each is encoded by itself, as LLaMA-Factory does it."""

    source: Slots
    target: Slots
    source_ends_with_empty_thought: bool
    target_begins_with_empty_thought: bool
    is_call: bool = False


def plan_turns(conversation: Conversation, options: TemplateOptions) -> list[PlannedTurn]:
    """Return the texts that LLaMA-Factory's template makes of a conversation, turn by turn."""
    template = options.rules
    messages = list(conversation.messages)
    if len(messages) == 1:
        # A text for pre-training is trained as it stands, up to one token that ends it.
        return [PlannedTurn((), (messages[0][1], Special.EOS), False, False)]
    last = len(messages) - 1
    discards = options.discards_thoughts
    if template.thinks:
        for place in range(1, len(messages), 2):
            removes = options.enable_thinking is False and (place == last or not options.has_one_answer)
            if removes or (discards and place != last):
                role, content = messages[place]
                messages[place] = role, remove_thought(content, template)
    begin = _write_beginning(conversation, options)
    opening, closing = template.thought_marks
    turns = []
    for place in range(0, len(messages), 2):
        answer = messages[place + 1][1]
        thinks = opening in answer or closing in answer
        adds_to_all = not (discards or options.has_one_answer)
        adds = template.thinks and not thinks and (place + 1 == last or adds_to_all)
        turns.append(
            PlannedTurn(
                begin(messages[0]) if place == 0 else _write_message(messages[place], place // 2, template),
                _write_message(messages[place + 1], place // 2, template),
                adds and not options.enable_thinking,
                adds and bool(options.enable_thinking),
                messages[place + 1][0] == Message.FUNCTION,
            )
        )
    return [_join_turns(turns)] if options.has_one_answer else turns


def _join_turns(turns: list[PlannedTurn]) -> PlannedTurn:
    """Return turns as one, whose prompt is all before the last answer."""
    earlier = [part for turn in turns[:-1] for part in (*turn.source, *turn.target)]
    return turns[-1]._replace(source=(*earlier, *turns[-1].source))


def remove_thought(text: str, template: Template) -> str:
    """Return an answer without its thought, as LLaMA-Factory removes it."""
    kept, start = [], 0
    while (block := find_block(text, *template.thought_words, start)) is not None:
        kept.append(text[start : block.start])
        start = block.stop
    return "".join([*kept, text[start:]]).lstrip("\n")


def _write_beginning(conversation: Conversation, options: TemplateOptions) -> Callable[[Turn], Slots]:
    """Return what writes the first question, with all that stands before it."""
    template = options.rules
    system = _write_system(conversation, options)

    def write(message: Turn) -> Slots:
        role, content = message
        if template.kind is not Kind.LLAMA2:
            written = () if system is None else _fill(template.system, system)
            return (*template.prefix, *written, *_write_message(message, 0, template))
        # Where another turn than a question comes first, LLaMA-Factory leaves the system prompt out.
        if system is not None and role == Message.USER:
            message = role, _fill_first(template.system, system) + content
        return (*template.prefix, *_write_message(message, 0, template))

    return write


def _write_system(conversation: Conversation, options: TemplateOptions) -> str | None:
    """Return what the system slot holds, None where LLaMA-Factory writes no system turn."""
    template = options.rules
    system = conversation.system or template.default_system
    tools = ""
    if conversation.tools:
        tools = write_tools(conversation.tools, template, find_version_facts(options.version).tool_prompts)
    if template.kind is Kind.QWEN38:
        effort = "" if options.enable_thinking is False else _EFFORTS[options.reasoning_effort]
        told = [effort] if effort else []
        told += [tools.lstrip("\n")] if conversation.tools else []
        told += [system.strip()] if system.strip() else []
        return "\n\n".join(told) if told else None
    if not system and not conversation.tools:
        return None
    return system + (tools.lstrip("\n") if template.strips_lone_tools and not system else tools)


def _write_message(message: Turn, turn: int, template: Template) -> Slots:
    role, content = message
    if role == Message.USER:
        filled = _fill(template.user, content)
        if template.kind is Kind.LLAMA2:
            return filled
        # LLaMA-Factory fills the slot {{idx}} after the content, and so once in the content too.
        return tuple(part.replace("{{idx}}", str(turn), 1) if isinstance(part, str) else part for part in filled)
    if role == Message.OBSERVATION:
        if not template.takes_tools:
            raise InputError(f"an observation has no place in template '{template.name}'")
        return _fill(template.observation, content)
    if role == Message.FUNCTION:
        return _fill(template.function, write_calls(content, template))
    return _fill(template.assistant, content)


def _fill(slots: Slots, content: str) -> Slots:
    return tuple(part.replace("{{content}}", content, 1) if isinstance(part, str) else part for part in slots)


def _fill_first(slots: Slots, content: str) -> str:
    first: Part = _fill(slots, content)[0]
    return first if isinstance(first, str) else ""
