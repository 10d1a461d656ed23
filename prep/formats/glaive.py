"""Calls of tools in raw text (glaiveai/glaive-function-calling-v2): tools in a system text, and a chat as text."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats import messages
from prep.formats.chats.listed import list_turns
from prep.formats.chats.tool_calls import read_calls
from prep.formats.fields import describe_type, parse_json, write_json_text
from prep.formats.reading import ASSISTANT, OBSERVATION, USER, Reading
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("system", "chat")
_MARK = re.compile(r"(?:\A|\n)\s{0,20}(USER|ASSISTANT|FUNCTION RESPONSE):[ \t]?")
_ROLES = {"USER": USER, "ASSISTANT": ASSISTANT, "FUNCTION RESPONSE": OBSERVATION}
_END, _CALL, _LABEL = "<|endoftext|>", "<functioncall>", "SYSTEM:"
_OBJECT = re.compile(r"\n\s{0,20}\{")


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return one exchange for each answer or call that is trained.

    Raises: RecordError when the chat has no turns, or a tool or a call is no JSON.
    """
    if not isinstance(row["chat"], str):
        return messages.read_turns({"chat": row["chat"], "system": row["system"]}, "chat", "message", reading)
    if not isinstance(row["system"], str):
        raise RecordError(f"column 'system' is {describe_type(row['system'])}, not a string")
    before, *pieces = _MARK.split(row["chat"])
    if before.strip() or not pieces:
        turns = list_turns(row["chat"], "chat", "message")
        return messages.read_exchanges({"messages": turns, "system": row["system"]}, reading)
    turns = [_read_turn(who, said) for who, said in zip(pieces[::2], pieces[1::2], strict=True)]
    system, tools = _read_system(row["system"])
    return messages.read_exchanges({"messages": turns, "system": system, "tools": tools}, reading)


def _read_turn(who: str, said: str) -> dict[str, Any]:
    text = said.strip().removesuffix(_END).strip()
    before, called, call = text.partition(_CALL)
    if who != "ASSISTANT" or not called:
        return {"role": _ROLES[who], "content": text}
    calls = read_calls(parse_json(_unquote_arguments(call), "a call"), "a call")
    return {"role": ASSISTANT, "content": before.strip(), "tool_calls": calls}


def _unquote_arguments(call: str) -> str:
    """Return a call as JSON: its arguments stand between single quotes, which is no JSON by itself."""
    head, _, rest = call.partition("'")
    inner, closing, tail = rest.rpartition("'")
    if not closing or tail.strip() != "}" or not head.rstrip().endswith(":"):
        return call
    return head + inner.replace("\\'", "'") + tail


def _read_system(text: str) -> tuple[str, str]:
    """Return the system prompt, and the tools that stand behind it one by one, as a JSON array."""
    text = text.strip().removeprefix(_LABEL).strip()
    first = _OBJECT.search(text)
    if first is None:
        return text, ""
    tools, place, decoder = [], first.start(), json.JSONDecoder()
    while (start := text.find("{", place)) >= 0:
        try:
            tool, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"a tool in its system text is not JSON: {str(error)[:200]}") from error
        tools.append(tool)
    return text[: first.start()].rstrip(" -\n"), write_json_text(tools, "tools")
