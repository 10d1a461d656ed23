"""OpenAI's messages: a list of {role, content}, with reasoning_content and tool_calls when there."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats.fields import parse_json, read_optional_text, write_json_text
from prep.formats.sharegpt import read_tools
from prep.formats.turns import ASSISTANT, CALL, OBSERVATION, SYSTEM, USER, Turn, read_conversation
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("messages",)
OPTIONAL = ("system", "tools")
_ROLES = {
    "user": USER,
    "assistant": ASSISTANT,
    "system": SYSTEM,
    "developer": SYSTEM,
    "tool": OBSERVATION,
    "function": OBSERVATION,
}
# How Qwen's template, and so LLaMA-Factory, joins the answers of tools that were called together.
_NEXT_OBSERVATION = "\n</tool_response>\n<tool_response>\n"


def read_exchanges(row: Mapping[str, Any], turns: str) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return one exchange for each answer that is trained.

    Raises: RecordError when the column holds no list of {role, content}, or they do not alternate.
    """
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise RecordError("column 'messages' holds no list of messages")
    read: list[Turn] = []
    for position, message in enumerate(messages, 1):
        turn = _read_message(position, message)
        if turn.role == OBSERVATION and read and read[-1].role == OBSERVATION:
            read[-1] = Turn(OBSERVATION, read[-1].text + _NEXT_OBSERVATION + turn.text)
        else:
            read.append(turn)
    return read_conversation(read, read_optional_text(row, "system"), read_tools(row), turns)


def _read_message(position: int, message: object) -> Turn:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise RecordError(f"message {position} has no 'role' string")
    role = _ROLES.get(message["role"])
    if role is None:
        raise RecordError(
            f"message {position} is of the unknown role '{message['role']}'; known are {', '.join(_ROLES)}"
        )
    thought = message.get("reasoning_content") or ""
    if not isinstance(thought, str):
        raise RecordError(f"message {position}: 'reasoning_content' is not a string")
    text = _read_content(position, message.get("content"))
    calls = message.get("tool_calls") or message.get("function_call")
    if not calls:
        return Turn(role, text, thought)
    if text.strip():
        raise RecordError(f"message {position} holds text beside a tool call, which no template keeps")
    return Turn(CALL, _write_calls(position, calls), thought)


def _read_content(position: int, content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text") for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise RecordError(f"message {position}: 'content' is not text")


def _write_calls(position: int, calls: object) -> str:
    """Return the calls as LLaMA-Factory's function_call turn: a JSON array of {name, arguments}."""
    written = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RecordError(f"message {position}: a tool call has no name")
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            arguments = parse_json(arguments, f"message {position}: a tool call's arguments")
        written.append({"name": function["name"], "arguments": arguments})
    return write_json_text(written, f"message {position}: a tool call")
