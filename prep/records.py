"""The one row type: an Alpaca record as LLaMA-Factory's loader wants it, and its JSON Schema."""

from typing import Any, NamedTuple

from prep.errors import RecordError
from prep.thinking import EMPTY_THOUGHT, OPEN_TAG, ThinkPolicy, refuse_chat_markup, split_thought, write_output


class AlpacaRecord(NamedTuple):
    """One training row.

    Shape: `history` is a list of [user, assistant] pairs before `instruction`, without thoughts;
    `origin` is `<source>/<file>:<row>` with rows counted from 1, and `#<answer>` when one conversation
    became several rows. Every field stands in every row: LLaMA-Factory's JSON loader fails on a column
    that is null or missing first and filled later.
    """

    instruction: str
    input: str
    output: str
    system: str
    history: list[list[str]]
    origin: str

    @property
    def source(self) -> str:
        """The dataset that the row came from: the first part of `origin`."""
        return self.origin.partition("/")[0]


class ToolRecord(NamedTuple):
    """One training row with tool calls, in LLaMA-Factory's ShareGPT form; Alpaca has no place for them.

    Shape: `conversations` are {from, value} with human or observation and gpt or function_call in turn,
    the last one trained; `tools` is a JSON array as a string.
    """

    conversations: list[dict[str, str]]
    system: str
    tools: str
    origin: str


class Exchange(NamedTuple):
    """One question with its thought and answer, before a policy has decided how to write it.

    `origin` is the row's own, when it was converted before.
    """

    question: str
    thought: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    input: str = ""
    origin: str = ""


class ToolExchange(NamedTuple):
    """A conversation with tools up to one answer or call: `turns` are (role, text) before it."""

    turns: tuple[tuple[str, str], ...]
    role: str
    thought: str
    answer: str
    system: str
    tools: str


RECORD_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "AlpacaRecord",
    "type": "object",
    "required": ["instruction", "input", "output", "system", "history"],
    "properties": {
        "instruction": {"type": "string", "minLength": 1},
        "input": {"type": "string"},
        "output": {"type": "string", "minLength": 1},
        "system": {"type": "string"},
        "history": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
        },
        "origin": {"type": "string"},
    },
}


def write_record(exchange: Exchange, policy: ThinkPolicy, origin: str) -> AlpacaRecord:
    """Write an exchange as a training row under a think policy.

    Raises: RecordError with the reason when the row cannot be trained on as it stands.
    """
    question = _clean_text(exchange.question, "question")
    if not question:
        raise RecordError("the question is empty")
    return AlpacaRecord(
        instruction=question,
        input=_clean_text(exchange.input, "input") if exchange.input else "",
        output=write_output(exchange.thought, exchange.answer, policy),
        system=_clean_text(exchange.system, "system prompt") if exchange.system else "",
        history=[_write_earlier_turn(*pair) for pair in exchange.history],
        origin=exchange.origin or origin,
    )


def write_tool_record(exchange: ToolExchange, policy: ThinkPolicy, origin: str) -> ToolRecord:
    """Write a conversation with tools as a ShareGPT training row under a think policy.

    Raises: RecordError with the reason when the row cannot be trained on as it stands.
    """
    turns = []
    for role, text in exchange.turns:
        plain = _clean_text(split_thought(text)[1] if role in ("gpt", "function_call") else text, "history")
        if not plain and role != "observation":
            raise RecordError("an earlier turn is empty")
        turns.append({"from": role, "value": plain})
    turns.append({"from": exchange.role, "value": write_output(exchange.thought, exchange.answer, policy)})
    return ToolRecord(turns, _clean_text(exchange.system, "system prompt"), exchange.tools, origin)


def has_thought(output: str) -> bool:
    """Whether a written output carries a thought that is not empty."""
    return output.startswith(OPEN_TAG) and not output.startswith(EMPTY_THOUGHT)


def _clean_text(text: str, where: str) -> str:
    text = text.strip()
    refuse_chat_markup(text, where)
    return text


def _write_earlier_turn(question: str, answer: str) -> list[str]:
    question, plain_answer = _clean_text(question, "history"), _clean_text(split_thought(answer)[1], "history")
    if not question or not plain_answer:
        raise RecordError("an earlier turn is empty")
    return [question, plain_answer]
