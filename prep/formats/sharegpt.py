"""ShareGPT conversations: a list of {from, value} turns (mlabonne/FineTome-100k)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats.fields import read_optional_text, write_json_text
from prep.formats.turns import ASSISTANT, CALL, OBSERVATION, SYSTEM, USER, Turn, read_conversation
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("conversations",)
OPTIONAL = ("system", "tools")
ROLES = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "chatgpt": ASSISTANT,
    "system": SYSTEM,
    "function_call": CALL,
    "observation": OBSERVATION,
    "tool": OBSERVATION,
}


def read_exchanges(row: Mapping[str, Any], turns: str) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return one exchange for each answer that is trained.

    Raises: RecordError when the column holds no list of {from, value}, or they do not alternate.
    """
    conversations = row["conversations"]
    if not isinstance(conversations, list) or not conversations:
        raise RecordError("column 'conversations' holds no list of turns")
    read = [_read_turn(position, turn) for position, turn in enumerate(conversations, 1)]
    return read_conversation(read, read_optional_text(row, "system"), read_tools(row), turns)


def read_tools(row: Mapping[str, Any]) -> str:
    """Return the tools column as LLaMA-Factory wants it: a JSON array as a string, "" without one."""
    tools = row.get("tools")
    if not tools:
        return ""
    return tools if isinstance(tools, str) else write_json_text(tools, "tools")


def _read_turn(position: int, turn: object) -> Turn:
    role, value = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(value, str):
        raise RecordError(f"turn {position} has no 'from' and 'value' strings")
    if role not in ROLES:
        raise RecordError(f"turn {position} is of the unknown role '{role}'; known are {', '.join(ROLES)}")
    return Turn(ROLES[role], value)
