"""Single questions with the calls that answer them (Salesforce/xlam-function-calling-60k)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats.chats.tool_calls import read_calls, read_tools, write_calls
from prep.formats.chats.turns import Turn, read_conversation
from prep.formats.fields import parse_json, read_optional_text, read_text
from prep.formats.reading import CALL, USER, Reading
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("query", "answers", "tools")
OPTIONAL = ("system",)


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return the row's one exchange, whose answer is its calls; raises RecordError when they are no JSON."""
    answers = row["answers"]
    calls = parse_json(answers, "answers") if isinstance(answers, str) else answers
    turns = [Turn(USER, read_text(row, "query")), Turn(CALL, write_calls("", read_calls(calls, "an answer")))]
    return read_conversation(turns, read_optional_text(row, "system"), read_tools(row), reading)
