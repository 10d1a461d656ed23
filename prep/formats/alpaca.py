"""Alpaca itself: instruction, input, output, and system and history when there; registered sets too."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prep.errors import RecordError
from prep.formats import messages
from prep.formats.chats.listed import list_turns
from prep.formats.chats.transcripts import read_open_chat
from prep.formats.fields import parse_json, read_optional_text, read_text, read_thought
from prep.formats.reading import ASSISTANT, ROLE_FIELDS, ROLES, TEXT_FIELDS, USER, Reading, note_markup
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS, refuse_chat_markup

REQUIRED = ("instruction", "output")
OPTIONAL = ("input", "system", "history", "origin", "think")
# See medical_cot.
PLAIN = {
    "instruction": "question",
    "input": "input",
    "think": "thought",
    "output": "answer",
    "system": "system",
    "history": "nothing",
    "origin": "no text",
}
SYNONYMS = {"think": THOUGHT_FIELDS[1:]}
_NO_HISTORY = "column 'history' is not a list of [question, answer] pairs, nor of turns that make such pairs"
REPAIR = "repair the file first with lfc prep repair"
_ORIGIN = re.compile(r"[^/]+/.+:\d+(#\d+)?")


def read_exchanges(row: Mapping[str, Any], reading: Reading) -> Sequence[Exchange | ToolExchange]:
    """Return the row's one exchange, with the origin that an earlier conversion gave it.

    An instruction may be a whole chat up to the mark of who is to answer (BELLE's conversations).
    Raises: RecordError when a column has another type, or a tutorial's script spoiled the row: chat
    markup or broken think tags inside the fields.
    """
    instruction, output = read_text(row, "instruction"), read_text(row, "output")
    if not row.get("history") and not row.get("input") and (chat := read_open_chat(instruction)) is not None:
        return messages.answer_chat(chat, output, read_thought(row, "think"), row, reading)
    try:
        parts = reading.split(output, read_thought(row, "think"))
        for name, text in (("instruction", instruction), ("output", parts.thought), ("output", parts.answer)):
            refuse_chat_markup(text, name)
    except RecordError as error:
        raise RecordError(f"{error}; {REPAIR}") from error
    origin, more = read_optional_text(row, "origin"), read_optional_text(row, "input")
    if not instruction.strip():
        # LLaMA-Factory takes either as the question, and joins what is there.
        instruction, more = more, ""
    return (
        Exchange(
            question=instruction,
            thought=parts.thought,
            answer=parts.answer,
            system=read_optional_text(row, "system"),
            history=read_history(row.get("history")),
            input=more,
            origin=origin if _ORIGIN.fullmatch(origin) else "",
            notes=note_markup(parts),
        ),
    )


def read_history(history: object) -> tuple[tuple[str, str], ...]:
    """Return the [question, answer] pairs of a history, which may be JSON text, turns, or texts in turn.

    Raises: RecordError when it is something else.
    """
    if isinstance(history, str) and history.strip():
        history = parse_json(history, "column 'history'")
    if not history:
        return ()
    if not isinstance(history, list):
        raise RecordError(_NO_HISTORY)
    if not any(isinstance(pair, list) for pair in history):
        history = _pair_turns(history)
    pairs = []
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RecordError(_NO_HISTORY)
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _pair_turns(history: list[Any]) -> list[list[Any]]:
    """Return turns of a role and a text, or texts in turn, as pairs."""
    turns = [
        (_find(turn, ROLE_FIELDS), _find(turn, TEXT_FIELDS)) for turn in list_turns(history, "history", "turn")
    ]
    roles = [ROLES.get(role.strip().casefold()) if isinstance(role, str) else None for role, _ in turns]
    if len(turns) % 2 or roles != [USER, ASSISTANT] * (len(turns) // 2):
        raise RecordError(_NO_HISTORY)
    return [[asked[1], answered[1]] for asked, answered in zip(turns[::2], turns[1::2], strict=True)]


def _find(turn: object, names: Sequence[str]) -> object:
    return next((turn[name] for name in names if name in turn), None) if isinstance(turn, dict) else None
