"""Calls as a program would write them, `[add(a=1, b="x")]`, and tools as JSON inside the system text (ToolACE)."""

import ast
import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats.chats.tool_calls import write_calls
from prep.formats.chats.turns import Turn
from prep.formats.fields import write_json_text
from prep.formats.reading import ASSISTANT, CALL, OBSERVATION, SYSTEM

TOOLS_FROM_SYSTEM = "tools_taken_from_the_system_prompt"
_LIST_OF_TOOLS = re.compile(r"\[\s{0,20}\{\s{0,20}\"(?:name|type)\"")
# What tells a model to write calls in this way, which its template tells it otherwise.
_ABOUT_FORMAT = re.compile(r"\[\w+\(|format", re.IGNORECASE)
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_MOST_CHARACTERS = 200_000


def take_written_calls(turns: list[Turn], system: str) -> tuple[list[Turn], str, str] | None:
    """Return turns whose calls are calls, the system prompt without the tools, and the tools as a JSON array.

    None for a conversation whose system prompt holds no tools, or in which nobody calls one of them.
    Raises: RecordError when a tool answers and the answer before it is no call.
    """
    place = 0 if turns and turns[0].role == SYSTEM else None
    prompt = system if place is None else turns[place].text
    found = _find_tools(prompt)
    if found is None:
        return None
    rest, tools = found
    names = [str(tool["name"]) for tool in map(_get_function, tools)]
    taken = [_take_call(turn, names) for turn in turns]
    if all(turn.role not in (CALL, OBSERVATION) for turn in taken):
        return None
    if place is None:
        return taken, rest, write_json_text(tools, "tools")
    return [taken[0]._replace(text=rest), *taken[1:]], system, write_json_text(tools, "tools")


def _find_tools(prompt: str) -> tuple[str, list[Any]] | None:
    start = _LIST_OF_TOOLS.search(prompt)
    if start is None:
        return None
    try:
        tools, end = json.JSONDecoder().raw_decode(prompt, start.start())
    except (ValueError, RecursionError):
        return None
    if not tools or not all(
        isinstance(tool, dict) and isinstance(_get_function(tool).get("name"), str) for tool in tools
    ):
        return None
    before, after = prompt[: start.start()].rstrip(), prompt[end:].strip(" .\n")
    if before.endswith(":"):
        before = before.rpartition("\n")[0].rstrip()
    parts = [before, "" if _ABOUT_FORMAT.search(after) else after]
    return "\n\n".join(filter(None, parts)), tools


def _get_function(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function", tool)
    return function if isinstance(function, dict) else {}


def _take_call(turn: Turn, names: Collection[str]) -> Turn:
    if turn.role != ASSISTANT:
        return turn
    calls = parse_written_calls(turn.text, names)
    return turn if calls is None else turn._replace(role=CALL, text=write_calls("", calls))


def parse_written_calls(text: str, names: Collection[str]) -> list[dict[str, Any]] | None:
    """Return the calls of a text that is nothing but `[name(key=value, …), …]` of these names, else None."""
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")) or len(body) > _MOST_CHARACTERS:
        return None
    try:
        calls = list(_read_calls(body[1:-1], sorted(names, key=len, reverse=True)))
    except (RecordError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return calls or None


def _read_calls(text: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    place = 0
    while place < len(text):
        if text[place] in " ,\n\t":
            place += 1
            continue
        name = next((name for name in names if text.startswith(f"{name}(", place)), None)
        if name is None:
            raise RecordError("it is no call of a tool")
        opening = place + len(name)
        place = _find_end(text, opening) + 1
        call = ast.parse(f"f{text[opening:place]}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise RecordError("its arguments have no names")
        yield {"name": name, "arguments": {str(one.arg): _read_value(one.value) for one in call.keywords}}


def _find_end(text: str, opening: int) -> int:
    """Return where the bracket that opens there closes; raises RecordError when it does not."""
    depth, quote, place = 0, "", opening
    while place < len(text):
        letter = text[place]
        if quote:
            if letter == "\\":
                place += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if not depth:
                return place
        place += 1
    raise RecordError("a call is not closed")


def _read_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id.casefold() in _CONSTANTS:
        return _CONSTANTS[node.id.casefold()]
    if isinstance(node, ast.List):
        return [_read_value(part) for part in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _read_value(part)
            for key, part in zip(node.keys, node.values, strict=True)
            if key
        }
    return ast.literal_eval(node)
