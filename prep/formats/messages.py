"""Conversations under any of their names: a list of turns with a role and a text, thoughts and tool calls.

OpenAI's {role, content} and ShareGPT's {from, value} are two spellings of the same, and read alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.choices import Turns
from prep.errors import RecordError
from prep.formats.chats.listed import list_turns
from prep.formats.chats.tool_calls import TOOL_COLUMNS, read_tools
from prep.formats.chats.turn_fields import read_turn
from prep.formats.chats.turns import Turn, read_conversation
from prep.formats.chats.written_calls import TOOLS_FROM_SYSTEM, take_written_calls
from prep.formats.fields import read_optional_text, read_thought
from prep.formats.reading import ASSISTANT, CALL, Reading
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS

REQUIRED = ("messages",)
OPTIONAL = ("system", "tools", "answer", "think")
PLAIN = {"messages": "turns", "system": "system", "tools": "nothing", "answer": "nothing", "think": "nothing"}
SYNONYMS = {
    "messages": ("message", "chat", "chat_history", "plain_text", "消息", "消息列表"),
    "tools": TOOL_COLUMNS[1:],
    "system": ("system_prompt", "meta_instruction", "prefix", "系统提示"),
    "answer": ("response", "completion", "output"),
    "think": THOUGHT_FIELDS[1:],
}
# Such a word says whether there is a thought, or how long it is.
_SWITCHES = {*["on", "off", "yes", "no", "true", "false", "none", "auto", "low", "medium", "high", "0", "1"]}
_OTHER, _LEAVE_OUT = "would be lost: the last turn has another", "--drop that column leaves it out"
QUESTION_WAS_CHAT = "questions_that_were_chats"


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
    turns = _complete(turns, read_optional_text(row, "answer"), read_thought(row, "think"))
    system, tools = read_optional_text(row, "system"), read_tools(row)
    taken = None if tools else take_written_calls(turns, system)
    if taken is None:
        return read_conversation(turns, system, tools, reading)
    exchanges = read_conversation(*taken, reading)
    return [exchanges[0]._replace(notes=(*exchanges[0].notes, TOOLS_FROM_SYSTEM)), *exchanges[1:]]


def _complete(turns: list[Turn], answer: str, thought: str) -> list[Turn]:
    """Return turns with the answer and the thought that stand in columns of their own.

    Raises: RecordError when the turns end in another answer, or nothing answers.
    """
    if not answer.strip() and not thought.strip():
        return turns
    if thought.strip().casefold() in _SWITCHES:
        raise RecordError(f"column 'think' says '{thought}', which is no thought", hint=_LEAVE_OUT)
    if turns[-1].role not in (ASSISTANT, CALL):
        return [*turns, Turn(ASSISTANT, answer, thought)]
    if answer.strip() not in turns[-1].text:
        raise RecordError(
            "column 'answer' would be lost: the turns end in another answer",
            hint="--drop that column leaves it out",
        )
    said = turns[-1].thought.strip()
    if said and thought.strip() and said != thought.strip():
        raise RecordError(
            "column 'think' would be lost: the last turn has another thought",
            hint="--drop that column leaves it out",
        )
    return [*turns[:-1], turns[-1]._replace(thought=thought if thought.strip() else turns[-1].thought)]


def answer_chat(
    asked: list[dict[str, str]], answer: str, thought: str, row: Mapping[str, Any], reading: Reading
) -> Sequence[Exchange | ToolExchange]:
    """Return the exchange of a question that was a whole chat, of which the answer alone is trained.

    Raises: RecordError as read_exchanges does.
    """
    turns = [*asked, {"role": ASSISTANT, "content": answer, "think": thought}]
    named = {"messages": turns, "system": row.get("system"), "tools": row.get("tools")}
    reading = reading.of_turns(Turns.LAST if reading.turns == Turns.LAST else Turns.ALL)
    exchanges = read_exchanges(named, reading)
    return [exchange._replace(notes=(*exchange.notes, QUESTION_WAS_CHAT)) for exchange in exchanges]
