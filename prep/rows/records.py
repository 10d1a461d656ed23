"""The row types that convert writes, and the one reader that judges a row that stands in a file."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from prep.choices import ThinkPolicy
from prep.errors import RecordError
from prep.rows.kinds import MEDIA, Form, Kind, find_form
from prep.rows.thinking import EMPTY_THOUGHT, OPEN_TAG, refuse_chat_markup, split_thought, write_output

MediaFiles = tuple[tuple[str, tuple[str, ...]], ...]


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

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it is written."""
        return self._asdict()


class ToolRecord(NamedTuple):
    """One training row with tool calls, in LLaMA-Factory's ShareGPT form; Alpaca has no place for them.

    Shape: `conversations` are {from, value} with human or observation and gpt or function_call in turn,
    the last one trained; `tools` is a JSON array as a string.
    """

    conversations: list[dict[str, str]]
    system: str
    tools: str
    origin: str

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it is written."""
        return self._asdict()


class Exchange(NamedTuple):
    """One question with its thought and answer, before a policy has decided how to write it.

    Shape: `origin` is the row's own, when it was converted before. `rejected` is the (thought, answer) that a
    preference row puts second, `label` what a KTO row says of the answer, `media` the (column, paths) of what
    the placeholders in the texts stand for. `notes` name what was read otherwise than it stood, to be counted.
    """

    question: str
    thought: str
    answer: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    input: str = ""
    origin: str = ""
    rejected: tuple[str, str] | None = None
    label: bool | None = None
    media: MediaFiles = ()
    notes: tuple[str, ...] = ()


class ToolExchange(NamedTuple):
    """A conversation with tools up to one answer or call: `turns` are (role, text) before it.

    `rejected`, `label`, `media` and `notes` are an Exchange's.
    """

    turns: tuple[tuple[str, str], ...]
    role: str
    thought: str
    answer: str
    system: str
    tools: str
    rejected: tuple[str, str] | None = None
    label: bool | None = None
    media: MediaFiles = ()
    notes: tuple[str, ...] = ()


class TextPiece(NamedTuple):
    """A text for pre-training: nobody asks and nobody answers."""

    text: str
    origin: str = ""


class FormRecord(NamedTuple):
    """One training row of another form than plain SFT: a preference, a labelled answer, a text, a row with media.

    Shape: `values` are the columns of `form`, those of its media, and `origin`, in the order to write them.
    """

    form: Form
    values: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where the row came from."""
        return str(self.values["origin"])

    def as_dict(self) -> dict[str, Any]:
        """Return the row as it is written."""
        return self.values


Record = AlpacaRecord | ToolRecord | FormRecord
KINDS = ("reasoning", "chat", "with_system", "with_history")
_ANSWER_ROLES = ("gpt", "function_call")
_CONVERT = "lfc prep convert FILE -o NEW"
_LINT = "lfc prep lint FILE tells all"
_REPAIR = "lfc prep repair FILE -o NEW"


class TrainingRow(NamedTuple):
    """A converted row whose types were checked, and what the commands ask of it.

    Shape: `values` is the row as it stands, `form` how it is laid out; `context` is what makes the same
    question another one: system prompt, tools, earlier turns, images, as JSON, "" when there is none;
    `answer` is the one that is trained, or preferred, "" for a text; `texts` are all texts that are trained on
    or read, in order.
    """

    values: dict[str, Any]
    form: Form
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
    def kind(self) -> Kind:
        """What the row is for."""
        return self.form.kind

    @property
    def formatting(self) -> str:
        """LLaMA-Factory's formatting."""
        return self.form.formatting

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer to the question: two of a preference row, the preferred one first; none of a text."""
        if self.kind is Kind.TEXT:
            return ()
        return (self.answer, self.texts[-1]) if self.kind is Kind.PREFERENCE else (self.answer,)

    @property
    def media(self) -> dict[str, list[str]]:
        """The files of each media column, of those that are not empty."""
        return {name: self.values[name] for name in MEDIA if self.values.get(name)}

    @property
    def kinds(self) -> Counter[str]:
        """Which of KINDS the row is; a text is none of them."""
        if self.kind is Kind.TEXT:
            return Counter()
        kind = "reasoning" if has_thought(self.answer) else "chat"
        return Counter({kind: 1, "with_system": bool(self.values.get("system")), "with_history": self.has_history})


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


def read_record(value: object) -> TrainingRow:
    """Return a row as `lfc prep convert` writes it, every field of the right type.

    Raises: RecordError that says what the row has wrong, such as `has a 'system' that is null`; its hint names
    the file as FILE.
    """
    if not isinstance(value, dict):
        raise RecordError(f"is a JSON {type(value).__name__}, not an object", hint=_LINT)
    if not isinstance(value.get("origin", ""), str):
        raise _wrong_type("origin", value["origin"], "a string")
    form = find_form(value)
    _require(value, form.columns.values())
    _check_types(value, form)
    if form.kind is Kind.TEXT:
        text = value["text"]
        return TrainingRow(value, form, text, "", "", (text,), has_history=False)
    return _read_sharegpt(value, form) if form.formatting == "sharegpt" else _read_alpaca(value, form)


def _check_types(values: Mapping[str, Any], form: Form) -> None:
    """Check what stands in the columns of every form alike; turns are their reader's."""
    for column in form.columns.values():
        if column == "kto_tag":
            if type(values[column]) is not bool:
                raise _wrong_type(column, values[column], "true or false")
        elif column in ("chosen", "rejected") and form.formatting == "sharegpt":
            if not _is_turn(values[column]) or values[column]["from"] not in _ANSWER_ROLES:
                raise _wrong_type(column, values[column], "a {from, value} turn that answers")
        elif column not in ("history", "conversations") and type(values[column]) is not str:
            raise _wrong_type(column, values[column], "a string")
    for name in MEDIA:
        files = values.get(name, [])
        if type(files) is not list or not all(type(file) is str for file in files):
            raise _wrong_type(name, files, "a list of paths")


def _read_alpaca(values: dict[str, Any], form: Form) -> TrainingRow:
    history = values["history"]
    if type(history) is not list or not all(map(is_text_pair, history)):
        raise _wrong_type("history", history, "a list of [question, answer] pairs of strings")
    earlier = [text for pair in history for text in pair]
    system, instruction, more = (values[name] for name in ("system", "instruction", "input"))
    names = ("chosen", "rejected") if form.kind is Kind.PREFERENCE else ("output",)
    answers = [values[name] for name in names]
    return TrainingRow(
        values,
        form,
        f"{instruction}\n{more}",
        answers[0],
        _write_context(values, system, history),
        (system, *earlier, instruction, more, *answers),
        bool(history),
    )


def _read_sharegpt(values: dict[str, Any], form: Form) -> TrainingRow:
    turns = values["conversations"]
    if type(turns) is not list or not turns or not all(map(_is_turn, turns)):
        raise _wrong_type("conversations", turns, "a list of {from, value} turns of strings")
    if form.kind is Kind.PREFERENCE:
        asked, answers = turns, [values["chosen"]["value"], values["rejected"]["value"]]
        if turns[-1]["from"] in _ANSWER_ROLES:
            raise RecordError(f"ends with a turn from {turns[-1]['from']!r} before its two answers", hint=_LINT)
    else:
        asked, answers = turns[:-1], [turns[-1]["value"]]
        if turns[-1]["from"] not in _ANSWER_ROLES:
            raise RecordError(f"ends with a turn from {turns[-1]['from']!r}, not with an answer", hint=_LINT)
    contents = [turn["value"] for turn in asked]
    return TrainingRow(
        values,
        form,
        "\n".join(contents),
        answers[0],
        _write_context(values, values["system"], [values["tools"]] if values["tools"] else []),
        (values["system"], values["tools"], *contents, *answers),
        len(asked) > 1,
    )


def is_text_pair(pair: object) -> bool:
    """Whether a value is a list of two strings, as each pair of a history is."""
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is str


def _is_turn(turn: object) -> bool:
    return type(turn) is dict and type(turn.get("from")) is str and type(turn.get("value")) is str


def _require(values: Mapping[str, Any], names: Iterable[str]) -> None:
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
