"""Turns of any conversation → exchanges: which answers are trained, and what stands before them."""

from collections.abc import Sequence
from typing import NamedTuple

from prep.errors import RecordError
from prep.formats.fields import parse_json
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import split_thought

USER, ASSISTANT, SYSTEM, CALL, OBSERVATION = "human", "gpt", "system", "function_call", "observation"
TURN_CHOICES = ("expand", "all", "first", "last")
_ASKING, _ANSWERING = (USER, OBSERVATION), (ASSISTANT, CALL)


class Turn(NamedTuple):
    """One turn in ShareGPT's roles; `thought` when the source keeps it apart from the text."""

    role: str
    text: str
    thought: str = ""


def read_conversation(
    turns: list[Turn], system: str, tools: str, choice: str
) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return an exchange for each answer that is trained.

    Shape: `choice` expand gives one for every answer, with the turns before it as history: under
    `mask_history: true` each answer is trained once, in the context it has at inference. `all` and
    `last` give one that ends in the last answer, with and without what stands before; `first` the first.
    Raises: RecordError when the turns are not system?, (question, answer)+.
    """
    if turns and turns[0].role == SYSTEM:
        turns = turns[1:] if not (first := turns[0].text).strip() else _drop_system(turns, system)
        system = first if first.strip() else system
    has_tools = bool(tools.strip()) or any(turn.role in (CALL, OBSERVATION) for turn in turns)
    _check_order(turns)
    if has_tools:
        return _read_with_tools(turns, system, _check_tools(tools), choice)
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    chosen = _choose_positions(len(pairs), choice)
    history = tuple((asked.text, answered.text) for asked, answered in pairs[: chosen[-1]])
    return [
        Exchange(
            pairs[place][0].text,
            *_split_turn(pairs[place][1]),
            system,
            () if choice == "last" else history[:place],
        )
        for place in chosen
    ]


def _drop_system(turns: list[Turn], system: str) -> list[Turn]:
    if system.strip() and system.strip() != turns[0].text.strip():
        raise RecordError("the system turn and the system column differ")
    return turns[1:]


def _check_order(turns: list[Turn]) -> None:
    asks = all(turn.role in _ASKING for turn in turns[::2])
    answers = all(turn.role in _ANSWERING for turn in turns[1::2])
    if not turns or len(turns) % 2 or not asks or not answers:
        roles = " ".join(turn.role for turn in turns) or "none"
        roles = roles if len(roles) <= 80 else roles[:79] + "…"
        raise RecordError(f"turns are {roles}; they must alternate {USER} {ASSISTANT}")


def _choose_positions(answers: int, choice: str) -> list[int]:
    if choice == "expand":
        return list(range(answers))
    return [0] if choice == "first" else [answers - 1]


def _split_turn(turn: Turn) -> tuple[str, str]:
    return (turn.thought, turn.text) if turn.thought else split_thought(turn.text)


def _read_with_tools(turns: list[Turn], system: str, tools: str, choice: str) -> list[ToolExchange]:
    """Keep calls and observations as turns; a call is an answer of its own, and is trained as one."""
    exchanges = []
    for place in _choose_positions(len(turns) // 2, choice):
        end = 2 * place + 1
        start = end - 1 if choice == "last" and turns[end - 1].role == USER else 0
        thought, answer = _split_turn(turns[end])
        earlier = tuple((turn.role, turn.text) for turn in turns[start:end])
        exchanges.append(ToolExchange(earlier, turns[end].role, thought, answer, system, tools))
    for turn in turns[1::2]:
        if turn.role == CALL:
            _check_call(_split_turn(turn)[1])
    return exchanges


def _check_call(text: str) -> None:
    """LLaMA-Factory stops the whole training at a call that is not JSON with a name and arguments."""
    calls = parse_json(text, f"a {CALL} turn")
    for call in calls if isinstance(calls, list) else [calls]:
        if not isinstance(call, dict) or "name" not in call or "arguments" not in call:
            raise RecordError(f"a {CALL} turn is not an object with name and arguments")


def _check_tools(tools: str) -> str:
    if not tools.strip():
        return ""
    content = parse_json(tools, "tools")
    if not isinstance(content, list):
        raise RecordError("tools is not a JSON array")
    return tools if content else ""
