"""The one row type: an Alpaca record as LLaMA-Factory's loader wants it, and its JSON Schema."""

from typing import Any, NamedTuple

from prep.errors import RecordError
from prep.thinking import ThinkPolicy, refuse_chat_markup, split_thought, write_output


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


class Exchange(NamedTuple):
    """One question with its thought and answer, before a policy has decided how to write it."""

    question: str
    thought: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()


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
    question, system = exchange.question.strip(), exchange.system.strip()
    if not question:
        raise RecordError("the question is empty")
    refuse_chat_markup(question, "question")
    refuse_chat_markup(system, "system prompt")
    return AlpacaRecord(
        instruction=question,
        input="",
        output=write_output(exchange.thought, exchange.answer, policy),
        system=system,
        history=[_write_earlier_turn(*pair) for pair in exchange.history],
        origin=origin,
    )


def _write_earlier_turn(question: str, answer: str) -> list[str]:
    refuse_chat_markup(question, "history")
    refuse_chat_markup(answer, "history")
    _, plain_answer = split_thought(answer)
    if not question.strip() or not plain_answer.strip():
        raise RecordError("an earlier turn is empty")
    return [question.strip(), plain_answer.strip()]
