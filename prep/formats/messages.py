"""Conversations under any of their names: a list of turns with a role and a text, thoughts and tool calls.

OpenAI's {role, content} and ShareGPT's {from, value} are two spellings of the same, and read alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.chats.listed import list_turns
from prep.formats.chats.tool_calls import TOOL_COLUMNS, read_tools
from prep.formats.chats.turn_fields import read_turn
from prep.formats.chats.turns import read_conversation
from prep.formats.chats.written_calls import TOOLS_FROM_SYSTEM, take_written_calls
from prep.formats.fields import read_optional_text
from prep.formats.reading import Reading
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("messages",)
OPTIONAL = ("system", "tools")
PLAIN = {"messages": "turns", "system": "system", "tools": "nothing"}
SYNONYMS = {
    "messages": ("message", "chat", "chat_history", "plain_text", "消息", "消息列表"),
    "tools": TOOL_COLUMNS[1:],
    "system": ("system_prompt", "meta_instruction", "prefix", "系统提示"),
}


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
    listed = list_turns(row[column], column, what)
    turns = [read_turn(f"{what} {position}", turn, reading) for position, turn in enumerate(listed, 1)]
    system, tools = read_optional_text(row, "system"), read_tools(row)
    taken = None if tools else take_written_calls(turns, system)
    if taken is None:
        return read_conversation(turns, system, tools, reading)
    exchanges = read_conversation(*taken, reading)
    return [exchanges[0]._replace(notes=(*exchanges[0].notes, TOOLS_FROM_SYSTEM)), *exchanges[1:]]
