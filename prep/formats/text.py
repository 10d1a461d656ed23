"""Plain text for pre-training: one column; a chat that stands in it with marks is taken apart again."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats import messages
from prep.formats.chats.transcripts import read_transcript
from prep.formats.fields import read_optional_text, read_text
from prep.formats.reading import Reading
from prep.rows.records import Exchange, TextPiece, ToolExchange

REQUIRED = ("text",)
OPTIONAL = ("origin",)
SYNONYMS = {"text": ("content", "raw_content", "正文", "文本", "内容")}
TAKEN_APART = "chats_taken_apart"
_TURN_START = "<|im_start|>"


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange | ToolExchange | TextPiece]:
    """Return the row's one text, or the exchanges of the chat that it holds.

    Raises: RecordError when the column is no string, or the chat cannot be read.
    """
    text = read_text(row, "text")
    turns = read_transcript(text)
    if turns is None:
        if _TURN_START in text:
            raise RecordError("text stands beside its ChatML turns")
        return (TextPiece(text, read_optional_text(row, "origin")),)
    exchanges = messages.read_exchanges({"messages": turns}, reading)
    # Counted, as the text could have been trained on as it stands.
    first = exchanges[0]
    return (first._replace(notes=(*first.notes, TAKEN_APART)), *exchanges[1:])
