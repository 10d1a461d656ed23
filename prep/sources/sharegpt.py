"""ShareGPT conversations: a list of {from, value} turns (mlabonne/FineTome-100k)."""

from collections.abc import Iterator
from typing import Any

from prep.errors import RecordError
from prep.records import Exchange
from prep.thinking import split_thought

COLUMNS = ("conversations",)
_USER, _ASSISTANT, _SYSTEM = "human", "gpt", "system"


def read_exchanges(row: dict[str, Any]) -> Iterator[Exchange]:
    """Yield one exchange for each answer, with the turns before it as history.

    Under `mask_history: true` every answer is then trained once, in the context it has at inference.
    Raises: RecordError when the turns are not system?, (human, gpt)+.
    """
    turns = _check_turns(row["conversations"])
    system = ""
    if turns[0][0] == _SYSTEM:
        system = turns.pop(0)[1]
    roles = [role for role, _ in turns]
    if not roles or roles != [_USER, _ASSISTANT] * (len(roles) // 2):
        raise RecordError(f"turns are {' '.join(roles) or 'none'}; they must alternate {_USER} {_ASSISTANT}")
    history: list[tuple[str, str]] = []
    for (_, question), (_, value) in zip(turns[::2], turns[1::2], strict=True):
        thought, answer = split_thought(value)
        yield Exchange(question, thought, answer, system, tuple(history))
        history.append((question, answer))


def _check_turns(conversations: object) -> list[tuple[str, str]]:
    if not isinstance(conversations, list) or not conversations:
        raise RecordError("column 'conversations' holds no list of turns")
    turns = []
    for position, turn in enumerate(conversations, 1):
        role, value = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(value, str):
            raise RecordError(f"turn {position} has no 'from' and 'value' strings")
        turns.append((role, value))
    return turns
