"""Conversations under any of their names: a list of turns with a role and a text, thoughts and tool calls.

OpenAI's {role, content} and ShareGPT's {from, value} are two spellings of the same, and read alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats.fields import describe_type, parse_json, read_optional_text
from prep.formats.reading import ASSISTANT, CALL, ROLE_FIELDS, ROLES, TEXT_FIELDS, Reading
from prep.formats.tool_calls import TOOL_COLUMNS, read_calls, read_tools, write_calls
from prep.formats.turns import Turn, read_conversation
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS

REQUIRED = ("messages",)
OPTIONAL = ("system", "tools")
PLAIN = {"messages": "turns", "system": "system", "tools": "nothing"}
SYNONYMS = {
    "messages": ("message", "chat", "chat_history", "消息", "消息列表"),
    "tools": TOOL_COLUMNS[1:],
    "system": ("system_prompt", "系统提示"),
}
_CALL_FIELDS = ("tool_calls", "function_call", "tool_call", "function_calls")
_WEIGHTS = ("weight", "loss", "train", "trainable")


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return one exchange for each answer that is trained.

    Raises: RecordError when the column holds no list of {role, content}, or they do not alternate.
    """
    return read_turns(row, "messages", "message", reading)


def read_turns(
    row: Mapping[str, Any], column: str, what: str, reading: Reading
) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return the exchanges of a column of turns, which an error calls `what`; JSON text is decoded first.

    Raises: RecordError as read_exchanges does.
    """
    listed = row[column]
    if isinstance(listed, str) and listed.lstrip()[:1] == "[":
        listed = parse_json(listed, f"column '{column}'")
    if not isinstance(listed, list) or not listed:
        raise RecordError(f"column '{column}' holds no list of {what}s")
    turns = [_read_turn(f"{what} {position}", turn, reading) for position, turn in enumerate(listed, 1)]
    return read_conversation(turns, read_optional_text(row, "system"), read_tools(row), reading)


def _read_turn(where: str, turn: object, reading: Reading) -> Turn:
    if not isinstance(turn, dict):
        raise RecordError(f"{where} is {describe_type(turn)}, and has no role and text")
    name = _find_field(turn, ROLE_FIELDS)
    if not isinstance(name, str):
        raise RecordError(f"{where} has no 'role' or 'from' string")
    role = reading.find_role(name)
    if role is None:
        raise RecordError(
            f"{where} is of the unknown role '{name[:80]}'; known are {', '.join(list(ROLES)[:8])} and others: "
            f"--role {name[:80]}=user or assistant"
        )
    thought = _read_thought(where, turn) if role in (ASSISTANT, CALL) else ""
    calls = next((turn[field] for field in _CALL_FIELDS if turn.get(field)), None)
    if isinstance(calls, str):
        calls = parse_json(calls, f"{where}: its tool calls")
    content = _find_field(turn, TEXT_FIELDS)
    text = "" if content is None and (calls or thought) else _read_content(where, content)
    if calls:
        parts = reading.split(text, thought)
        text = write_calls(parts.answer.strip(), read_calls(calls, f"{where}: a tool call"))
        return Turn(CALL, text, parts.thought, is_trained=_is_trained(where, turn))
    return Turn(role, text, thought, is_trained=_is_trained(where, turn))


def _find_field(turn: Mapping[str, Any], names: Sequence[str]) -> object:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


def _read_thought(where: str, turn: Mapping[str, Any]) -> str:
    thought = ""
    for field, value in turn.items():
        if value and field.strip().casefold().replace(" ", "_") in THOUGHT_FIELDS:
            if not isinstance(value, str):
                raise RecordError(f"{where}: '{field}' is not a string")
            if thought and thought.strip() != value.strip():
                raise RecordError(f"{where}: two different thoughts, the second in '{field}'")
            thought = value
    return thought


def _is_trained(where: str, turn: Mapping[str, Any]) -> bool:
    for field in _WEIGHTS:
        weight = turn.get(field)
        if weight is None:
            continue
        if not isinstance(weight, int | float) or weight not in (0, 1):
            raise RecordError(f"{where}: '{field}' is neither 0 nor 1: LLaMA-Factory has no weights between")
        return bool(weight)
    return True


def _read_content(where: str, content: object) -> str:
    if content is None:
        raise RecordError(f"{where} has no text in 'content' or 'value'")
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text") for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise RecordError(f"{where}: 'content' is not text")
