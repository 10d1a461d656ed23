"""The row types that convert writes, and the one reader that judges a row that stands in a file."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from prep.errors import RecordError
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG, ThinkPolicy, refuse_chat_markup, split_thought, write_output


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


KINDS = ("reasoning", "chat", "with_system", "with_history")
MEDIA = ("images", "videos", "audios")
_ANSWER_ROLES = ("gpt", "function_call")
_CONVERT = "lfc prep convert FILE -o NEW"
_LINT = "lfc prep lint FILE tells all"
_REPAIR = "lfc prep lint --fix FILE -o NEW"


class TrainingRow(NamedTuple):
    """A converted row whose types were checked, and what the commands ask of it.

    Shape: `values` is the row as it stands; `formatting` is LLaMA-Factory's; `context` is what makes the same
    question another one: system prompt, tools, earlier turns, images, as JSON, "" when there is none;
    `texts` are all texts that are trained on or read, in order.
    """

    values: dict[str, Any]
    formatting: str
    question: str
    answer: str
    context: str
    texts: tuple[str, ...]
    has_history: bool

    @property
    def origin(self) -> str:
        """Where the row came from, "" when it does not say."""
        return str(self.values.get("origin", ""))

    @property
    def kinds(self) -> Counter[str]:
        """Which of KINDS the row is."""
        kind = "reasoning" if has_thought(self.answer) else "chat"
        return Counter({kind: 1, "with_system": bool(self.values["system"]), "with_history": self.has_history})


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


def guess_formatting(row: Mapping[str, Any]) -> str:
    """Return the `formatting` of a row that no manifest and no registry tells of."""
    return "sharegpt" if "conversations" in row and "instruction" not in row else "alpaca"


def read_record(value: object) -> TrainingRow:
    """Return a row as `lfc prep convert` writes it, every field of the right type.

    Raises: RecordError that says what the row has wrong, such as `has a 'system' that is null`; its hint names
    the file as FILE.
    """
    if not isinstance(value, dict):
        raise RecordError(f"is a JSON {type(value).__name__}, not an object", hint=_LINT)
    if not isinstance(value.get("origin", ""), str):
        raise _wrong_type("origin", value["origin"], "a string")
    return _read_sharegpt(value) if guess_formatting(value) == "sharegpt" else _read_alpaca(value)


def _read_alpaca(values: dict[str, Any]) -> TrainingRow:
    _require(values, AlpacaRecord._fields[:-1])
    for name in ("instruction", "input", "output", "system"):
        if type(values[name]) is not str:
            raise _wrong_type(name, values[name], "a string")
    history = values["history"]
    if type(history) is not list or not all(map(is_text_pair, history)):
        raise _wrong_type("history", history, "a list of [question, answer] pairs of strings")
    earlier = [text for pair in history for text in pair]
    system, instruction, more, output = (values[name] for name in ("system", "instruction", "input", "output"))
    return TrainingRow(
        values,
        "alpaca",
        f"{instruction}\n{more}",
        output,
        _write_context(values, system, history),
        (system, *earlier, instruction, more, output),
        bool(history),
    )


def _read_sharegpt(values: dict[str, Any]) -> TrainingRow:
    _require(values, ToolRecord._fields[:-1])
    for name in ("system", "tools"):
        if type(values[name]) is not str:
            raise _wrong_type(name, values[name], "a string")
    turns = values["conversations"]
    if type(turns) is not list or not turns or not all(map(_is_turn, turns)):
        raise _wrong_type("conversations", turns, "a list of {from, value} turns of strings")
    if turns[-1]["from"] not in _ANSWER_ROLES:
        raise RecordError(f"ends with a turn from {turns[-1]['from']!r}, not with an answer", hint=_LINT)
    contents = [turn["value"] for turn in turns]
    return TrainingRow(
        values,
        "sharegpt",
        "\n".join(contents[:-1]),
        contents[-1],
        _write_context(values, values["system"], [values["tools"]] if values["tools"] else []),
        (values["system"], values["tools"], *contents),
        len(turns) > 2,
    )


def is_text_pair(pair: object) -> bool:
    """Whether a value is a list of two strings, as each pair of a history is."""
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is str


def _is_turn(turn: object) -> bool:
    return type(turn) is dict and type(turn.get("from")) is str and type(turn.get("value")) is str


def _require(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in values:
            raise RecordError(f"has no '{name}': it is no converted row", hint=_CONVERT)


def _wrong_type(name: str, value: object, wanted: str) -> RecordError:
    # What repair understands: an unused column that was written as null.
    if value is None and name in ("input", "system", "history"):
        return RecordError(f"has a '{name}' that is null, not {wanted}", hint=_REPAIR)
    seen = "null" if value is None else f"{type(value).__name__}, not {wanted}"
    if isinstance(value, list):
        seen = f"not {wanted}"
    return RecordError(f"has a '{name}' that is {seen}", hint=_LINT)


def _write_context(values: Mapping[str, Any], system: str, earlier: list[Any]) -> str:
    media = [[name, values[name]] for name in MEDIA if values.get(name)]
    return json.dumps([system, earlier, media]) if system or earlier or media else ""


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
