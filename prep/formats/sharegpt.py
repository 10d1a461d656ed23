"""ShareGPT conversations: a list of {from, value} turns (mlabonne/FineTome-100k)."""

from collections.abc import Mapping, Sequence
from typing import Any

from prep.formats import messages
from prep.formats.reading import Reading
from prep.rows.records import Exchange, ToolExchange

REQUIRED = ("conversations",)
OPTIONAL = messages.OPTIONAL
PLAIN = {"conversations": "turns"} | {name: word for name, word in messages.PLAIN.items() if name != "messages"}
SYNONYMS = {
    **messages.SYNONYMS,
    "conversations": (
        "conversation",
        "dialog",
        "dialogs",
        "dialogue",
        "dialogues",
        "turns",
        "data",
        "对话",
        "会话",
    ),
}

# Of OpenHermes: how its rows were made; of WildChat: how many turns there are.
METADATA = (
    ("skip_prompt_formatting",),
    ("skip_prompt_formatting", "custom_instruction"),
    ("conversation_hash", "turn"),
)


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return one exchange for each answer that is trained.

    Raises: RecordError when the column holds no list of {from, value}, or they do not alternate.
    """
    return messages.read_turns(row, "conversations", "turn", reading)
