"""Plain text for pre-training: one column; a chat that stands in it as ChatML is taken apart again."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats import messages
from prep.formats.fields import read_optional_text, read_text
from prep.formats.reading import Reading
from prep.rows.records import Exchange, TextPiece, ToolExchange
from prep.rows.thinking import unwrap_chat_markup

REQUIRED = ("text",)
OPTIONAL = ("origin",)
SYNONYMS = {"text": ("content", "raw_content", "正文", "文本", "内容")}
_TURN_START = "<|im_start|>"


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange | ToolExchange | TextPiece]:
    """Return the row's one text, or the exchanges of the chat that it holds.

    Raises: RecordError when the column is no string, or the chat cannot be read.
    """
    text = read_text(row, "text")
    if _TURN_START not in text:
        return (TextPiece(text, read_optional_text(row, "origin")),)
    chat = unwrap_chat_markup(text)
    if not all(role for role, _ in chat):
        raise RecordError("text stands beside its ChatML turns")
    return messages.read_exchanges({"messages": [{"role": role, "content": said} for role, said in chat]}, reading)
