"""The fields of one turn: which hold its role, text, thought and calls, and which would be lost."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from prep.errors import RecordError
from prep.formats.chats.parts import Parts, read_parts
from prep.formats.chats.tool_calls import read_calls, write_calls
from prep.formats.chats.turns import Turn
from prep.formats.columns import is_metadata, quote_column
from prep.formats.fields import describe_type, parse_json
from prep.formats.reading import ASSISTANT, CALL, OBSERVATION, ROLE_FIELDS, ROLES, TEXT_FIELDS, TURN_FIELDS, Reading
from prep.rows.thinking import THOUGHT_FIELDS

_CALL_FIELDS = ("tool_calls", "function_call", "tool_call", "function_calls")
_WEIGHTS = ("weight", "loss", "train", "trainable", "loss_scale", "loss_weight")
# What a turn's field may be beside a column's metadata: who and when, and how an interface had got it.
_METADATA = {
    *("name", "tool_call_id", "call_id", "end_turn", "recipient", "annotations", "finish_reason", "stop_reason"),
    *("status", "object", "markdown", "nickname", "avatar", "device", "platform", "turn", "round", "position"),
    *("country", "state", "region", "city", "header", "headers", "ip", "hashed_ip", "user_agent", "redacted_ip"),
    *("参与者", "昵称", "轮次", "发送时间"),
}
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_SHOWN = 8
_SHOWN_CHARACTERS = 80
_WORDS = re.compile(r"[\s-]+")


class TurnLayout(NamedTuple):
    """What the fields of turns are that have these names: those of each purpose in the order of our tables.

    Shape: `others` may carry meaning, and have no place in a row.
    """

    roles: tuple[str, ...]
    texts: tuple[str, ...]
    thoughts: tuple[str, ...]
    calls: tuple[str, ...]
    weights: tuple[str, ...]
    others: tuple[str, ...]


def read_turn(where: str, turn: object, reading: Reading) -> Turn:
    """Return one turn of a conversation, which errors call `where`.

    Raises: RecordError when it has no role and text, or a field that would be lost.
    """
    if not isinstance(turn, dict):
        raise RecordError(f"{where} is {describe_type(turn)}, and has no role and text")
    layout = _lay_out(tuple(turn), tuple(sorted(reading.fields.items())), reading.dropped)
    role = _read_role(where, turn, layout, reading)
    thought = _read_thought(where, turn, layout) if role in (ASSISTANT, CALL) else ""
    calls = next((turn[field] for field in layout.calls if turn[field]), None)
    if isinstance(calls, str):
        calls = parse_json(calls, f"{where}: its tool calls")
    field = _find_field(turn, layout.texts)
    content = None if field is None else turn[field]
    _refuse_lost_fields(where, turn, layout, content, field)
    if isinstance(content, list):
        parts = read_parts(where, content)
        thought, calls = _take_parts(where, role, thought, calls, parts)
        role = OBSERVATION if parts.is_result else role
        content = parts.text
    text = "" if content is None and (calls or thought) else _read_content(where, content, turn)
    if calls:
        split = reading.split(text, thought)
        text = write_calls(split.answer.strip(), read_calls(calls, f"{where}: a tool call"))
        return Turn(CALL, text, split.thought, is_trained=_is_trained(where, turn, layout))
    return Turn(role, text, thought, is_trained=_is_trained(where, turn, layout))


def _take_parts(where: str, role: str, thought: str, calls: object, parts: Parts) -> tuple[str, object]:
    """Return a turn's thought and calls, which stand in fields of the turn or in parts of its content."""
    if role not in (ASSISTANT, CALL) and (parts.thought or parts.calls):
        raise RecordError(f"{where}: a thought or a call stands in a turn that is no answer")
    if parts.thought and thought and parts.thought.strip() != thought.strip():
        raise RecordError(f"{where}: two different thoughts, the second in a part of its content")
    if parts.calls and calls:
        raise RecordError(f"{where}: it has calls in a field and inside its content")
    return parts.thought or thought, parts.calls or calls


@lru_cache(maxsize=1024)
def _lay_out(names: tuple[str, ...], mapped: tuple[tuple[str, str], ...], dropped: frozenset[str]) -> TurnLayout:
    """Sort the names of a turn's fields; what the user mapped or dropped is not guessed to be anything else."""
    fields = dict(mapped)
    kept = [name for name in names if name not in dropped]
    taken = set(fields.values())
    purposes = (ROLE_FIELDS, TEXT_FIELDS, THOUGHT_FIELDS, _CALL_FIELDS, _WEIGHTS)
    found: list[tuple[str, ...]] = []
    for index, known in enumerate(purposes):
        ours = TURN_FIELDS[index] if index < len(TURN_FIELDS) else ""
        if ours in fields:
            found.append(tuple(name for name in kept if name == fields[ours]))
        else:
            order = {name: place for place, name in enumerate(known)}
            alike = [name for name in kept if name not in taken and _simplify(name) in order]
            found.append(tuple(sorted(alike, key=lambda name: order[_simplify(name)])))
    used = {name for group in found for name in group}
    others = tuple(name for name in kept if name not in used and not is_turn_metadata(name))
    roles, texts, thoughts, calls, weights = found
    return TurnLayout(roles, texts, thoughts, calls, weights, others)


def is_turn_metadata(name: str) -> bool:
    """Whether a turn's field is known to tell about it, and holds nothing to train on."""
    return _simplify(name) in _METADATA or is_metadata(name)


def _simplify(name: str) -> str:
    return _WORDS.sub("_", name.strip().casefold())


def _find_field(turn: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if turn[name] is not None), None)


def _read_role(where: str, turn: Mapping[str, Any], layout: TurnLayout, reading: Reading) -> str:
    field = _find_field(turn, layout.roles)
    name = None if field is None else turn[field]
    if not isinstance(name, str):
        fault = f"{where} has no 'role' or 'from' string; {_list_fields(turn)}"
        raise RecordError(fault, hint=_hint_map(turn, reading))
    role = reading.find_role(name)
    if role is None:
        raise RecordError(
            f"{where} is of the unknown role '{name[:80]}'; known are {', '.join(list(ROLES)[:8])} and others: "
            f"--role {name[:80]}=user or assistant"
        )
    return role


def _list_fields(turn: Mapping[str, Any]) -> str:
    names = [name[:_SHOWN_CHARACTERS] for name in list(turn)[:10]]
    return "its fields are " + ", ".join(f"'{name}'" for name in names) if names else "it has no fields"


def _hint_map(turn: Mapping[str, Any], reading: Reading) -> str | None:
    """Return the options that read such a turn: of two texts that which names a role, or the shorter one, is it."""
    texts = [
        name for name, value in turn.items() if isinstance(value, str) and value and not is_turn_metadata(name)
    ]
    if len(texts) < 2:
        return None
    role, content = sorted(texts[:2], key=lambda name: (reading.find_role(turn[name]) is None, len(turn[name])))
    return f"--map role={quote_column(role)} --map content={quote_column(content)}, if that is what they hold"


def _refuse_lost_fields(
    where: str, turn: Mapping[str, Any], layout: TurnLayout, content: object, field: str | None
) -> None:
    """Raise RecordError when a field that is not used holds something, a second text among them."""
    lost = [name for name in layout.others if turn[name] not in _EMPTY]
    second = [name for name in layout.texts if name != field and turn[name] not in _EMPTY and turn[name] != content]
    if not lost and not second:
        return
    lost += second
    shown = [name[:_SHOWN_CHARACTERS] for name in lost[:_SHOWN]]
    names = ", ".join(f"'{name}'" for name in shown) + (", …" if len(lost) > _SHOWN else "")
    noun, them = ("fields", "them") if len(lost) > 1 else ("field", "it")
    drops = " ".join(f"--drop {quote_column(name)}" for name in shown)
    text = next((name for name in lost if isinstance(turn[name], str)), None)
    takes = f", --map content={quote_column(text or '')} takes it for the text, --map thinking=… for the thought"
    raise RecordError(
        f"{where}: the {noun} {names} would be lost: a turn has no place for {them}",
        hint=f"{drops} leaves {them} out{takes if text else ''}",
    )


def _read_thought(where: str, turn: Mapping[str, Any], layout: TurnLayout) -> str:
    thought = ""
    for field in layout.thoughts:
        value = turn[field]
        if not value:
            continue
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n".join(value)
        if not isinstance(value, str):
            raise RecordError(f"{where}: '{field}' is not a string")
        if thought and thought.strip() != value.strip():
            raise RecordError(f"{where}: two different thoughts, the second in '{field}'")
        thought = value
    return thought


def _is_trained(where: str, turn: Mapping[str, Any], layout: TurnLayout) -> bool:
    for field in layout.weights:
        weight = turn[field]
        if weight is None:
            continue
        if not isinstance(weight, int | float) or weight not in (0, 1):
            raise RecordError(f"{where}: '{field}' is neither 0 nor 1: LLaMA-Factory has no weights between")
        return bool(weight)
    return True


def _read_content(where: str, content: object, turn: Mapping[str, Any]) -> str:
    if content is None:
        raise RecordError(
            f"{where} has no text in 'content' or 'value'; {_list_fields(turn)}",
            hint="--map content=FIELD, where another field holds it",
        )
    if isinstance(content, str):
        return content
    raise RecordError(f"{where}: 'content' is not text")
