"""What a column of turns holds → a list: JSON text, a chat as text, pairs, texts in turn, numbered turns."""

import re
from collections.abc import Mapping
from typing import Any

from prep.errors import RecordError
from prep.formats.chats.transcripts import read_transcript
from prep.formats.fields import parse_json
from prep.formats.reading import ASSISTANT, ROLE_FIELDS, TEXT_FIELDS, USER
from prep.patterns import LazyPattern

# What a question and its answer are called where both stand in one object.
_ASKED = (
    *("human", "user", "question", "input", "prompt", "instruction", "query", "request"),
    *("问", "问题", "提问", "用户"),
)
_ANSWERED = (
    *("assistant", "gpt", "answer", "output", "response", "bot", "moss", "model", "reply", "completion"),
    *("答", "回答", "答案", "回复", "助手"),
)
# MOSS writes who speaks around each field of a turn once more, and None where there is nothing.
_WRAPPED = LazyPattern(r"\s*<\|[^|<>]{1,40}\|>:(.*)<eo[a-z]>\s*", re.DOTALL)
_NUMBERED = LazyPattern(r"\D{0,20}\d+")
# Beside a question and its answer in one text each: 问：… and 答：…
_SPOKEN = (LazyPattern(r"(?:问|用户|Human|User|Q)\s?[:：]\s*"), LazyPattern(r"(?:答|助手|Assistant|A)\s?[:：]\s*"))


def list_turns(value: object, column: str, what: str) -> list[Any]:
    """Return the turns that a column holds, in order; each may still be anything.

    Raises: RecordError when it holds nothing that could be turns.
    """
    if isinstance(value, str):
        chat = read_transcript(value)
        is_json = chat is None and value.lstrip()[:1] in ("[", "{")
        value = parse_json(value, f"column '{column}'") if is_json else chat
    if isinstance(value, dict) and value and all(map(_NUMBERED.fullmatch, map(str, value))):
        value = list(value.values())
    if not isinstance(value, list) or not value:
        raise RecordError(f"column '{column}' holds no list of {what}s")
    if all(isinstance(turn, str) for turn in value):
        return _pair_texts(value)
    return [turn for item in value for turn in _part_pair(item)]


def as_turns(value: object, role: str) -> list[Any] | None:
    """Return a question or an answer that is turns as a list of them; None for a text, which is none.

    A single turn is one of `role` where it does not say.
    """
    if isinstance(value, dict) and (key := next((name for name in TEXT_FIELDS if name in value), None)):
        says = any(name in value for name in ROLE_FIELDS)
        return [value if says else {"role": role, **value, key: value[key]}]
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        return value
    return None


def ask_once(question: str, answered: list[Any]) -> list[Any]:
    """Return the turns of a question before turns that answer it: none where those hold it themselves.

    Raises: RecordError when they begin with another question.
    """
    first = answered[0] if answered and isinstance(answered[0], dict) else {}
    if first.get("role", ASSISTANT) in ("assistant", ASSISTANT) or first.get("from") == ASSISTANT:
        return [{"role": USER, "content": question}]
    said = [turn[name] for turn in answered if isinstance(turn, dict) for name in TEXT_FIELDS if name in turn]
    if question not in said:
        raise RecordError("the question column is none of the questions that the turns of the answer hold")
    return []


def _pair_texts(texts: list[str]) -> list[Any]:
    """Return texts that are said in turn, the user first; what says so in front of each goes."""
    sides = [texts[0::2], texts[1::2]]
    spoken = [[mark.match(text) for text in side] for mark, side in zip(_SPOKEN, sides, strict=True)]
    if all(match is not None for side in spoken for match in side):
        texts = [_SPOKEN[place % 2].sub("", text, count=1) for place, text in enumerate(texts)]
    return [{"role": (USER, ASSISTANT)[place % 2], "content": text} for place, text in enumerate(texts)]


def _part_pair(turn: Any) -> list[Any]:
    """Return an object that holds a question and its answer as two turns; any other as it is."""
    if not isinstance(turn, dict):
        return [turn]
    plain = {name.strip().casefold(): name for name in turn if isinstance(name, str)}
    if any(name in plain for name in ROLE_FIELDS):
        return [turn]
    asked = [plain[name] for name in _ASKED if name in plain]
    answered = [plain[name] for name in _ANSWERED if name in plain]
    if len(asked) != 1 or len(answered) != 1:
        return [turn]
    rest = {name: _unwrap(value) for name, value in turn.items() if name not in (asked[0], answered[0])}
    question, answer = _unwrap(turn[asked[0]]), _unwrap(turn[answered[0]])
    return [{"role": USER, "content": question}, {**_name_thought(rest), "role": ASSISTANT, "content": answer}]


def _name_thought(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"thought" if name.casefold() == "inner thoughts" else name: value for name, value in fields.items()}


def _unwrap(value: Any) -> Any:
    found = _WRAPPED.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    said = found[1].strip()
    return None if said == "None" else said
