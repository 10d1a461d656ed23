"""Turns of any conversation → exchanges: which answers are trained, and what stands before them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from prep.choices import Turns
from prep.errors import RecordError
from prep.formats.chats.tool_calls import (
    NEXT_RESULT,
    UNCHECKED,
    check_calls,
    find_calls,
    is_result,
    parse_calls,
    rewrite_calls,
    unwrap_result,
    write_calls,
)
from prep.formats.reading import (
    ASSISTANT,
    CALL,
    OBSERVATION,
    SYSTEM,
    TURN_FIXES,
    USER,
    Reading,
    note_markup,
)
from prep.rows.records import Exchange, ToolExchange

__all__ = ["ASSISTANT", "CALL", "OBSERVATION", "SYSTEM", "USER", "Turn", "read_conversation"]
_ASKING, _ANSWERING = (USER, OBSERVATION), (ASSISTANT, CALL)


class Turn(NamedTuple):
    """One turn in ShareGPT's roles; `thought` when the source keeps it apart from the text.

    Shape: `is_trained` is false for an answer that is there for the ones after it alone. `markup` names what marked
    the thought, as Split does.
    """

    role: str
    text: str
    thought: str = ""
    is_trained: bool = True
    markup: tuple[str, ...] = ()


def read_conversation(
    turns: list[Turn], system: str, tools: str, reading: Reading
) -> Sequence[Exchange] | Sequence[ToolExchange]:
    """Return an exchange for each answer that is trained.

    Shape: the choice expand gives one for every answer, with the turns before it as history: under
    `mask_history: true` each answer is trained once, in the context it has at inference. `all` and
    `last` give one that ends in the last answer, with and without what stands before; `first` the first.
    Raises: RecordError when the turns are not system?, (question, answer)+, and the fixes do not make them so.
    """
    if turns and turns[0].role == SYSTEM:
        turns = turns[1:] if not (first := turns[0].text).strip() else _drop_system(turns, system)
        system = first if first.strip() else system
    turns = [_part_turn(turn, reading) for turn in turns]
    has_tools = bool(tools) or any(turn.role in (CALL, OBSERVATION) for turn in turns)
    turns, system, notes = _arrange(turns, system, reading)
    _check_order(turns)
    chosen = _choose_positions(turns, reading.turns)
    if has_tools:
        return _read_with_tools(turns, system, tools, chosen, reading.turns, notes)
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    history = tuple((asked.text, answered.text) for asked, answered in pairs[: chosen[-1]])
    return [
        Exchange(
            pairs[place][0].text,
            pairs[place][1].thought,
            pairs[place][1].text,
            system,
            () if reading.turns == Turns.LAST else history[:place],
            notes=(*pairs[place][1].markup, *(notes if place == chosen[0] else ())),
        )
        for place in chosen
    ]


def _drop_system(turns: list[Turn], system: str) -> list[Turn]:
    if system.strip() and system.strip() != turns[0].text.strip():
        raise RecordError("the system turn and the system column differ")
    return turns[1:]


def _part_turn(turn: Turn, reading: Reading) -> Turn:
    """Return a turn whose thought is taken out of its text, whose calls are JSON and whose results are bare."""
    if turn.role == OBSERVATION or (turn.role == USER and is_result(turn.text)):
        return turn._replace(role=OBSERVATION, text=unwrap_result(turn.text))
    if turn.role not in _ANSWERING:
        return turn
    parts = reading.split(turn.text, turn.thought)
    role, text = turn.role, parts.answer
    if role == CALL:
        text = rewrite_calls(text, f"a {CALL} turn")
    elif (found := find_calls(text)) is not None:
        role, text = CALL, write_calls(*found)
    return Turn(role, text, parts.thought, turn.is_trained, note_markup(parts))


def _arrange(turns: list[Turn], system: str, reading: Reading) -> tuple[list[Turn], str, tuple[str, ...]]:
    """Return turns that alternate, the system prompt, and what was done for it; what no fix allows is refused."""
    used: Counter[str] = Counter()
    arranged, prompt = _place_system_turns(turns, system, used)
    while arranged and arranged[0].role == ASSISTANT:
        arranged = arranged[1:]
        used["greeting"] += 1
    joined: list[Turn] = []
    for turn in arranged:
        if not joined or (both := _join(joined[-1], turn, used)) is None:
            joined.append(turn)
        else:
            joined[-1] = both
    while joined and joined[-1].role in _ASKING:
        joined.pop()
        used["drop-tail"] += 1
    needed = [fix for fix in TURN_FIXES if used[fix] and fix not in reading.fixes]
    if needed:
        problem = f"{_name_roles(turns)}; they must alternate {USER} {ASSISTANT}"
        if not joined:
            raise RecordError(problem)
        raise RecordError(f"{problem}: --fix-turns {','.join(needed)} makes them so")
    return joined, prompt, tuple(TURN_FIXES[fix] for fix in used.elements())


def _place_system_turns(turns: list[Turn], system: str, used: Counter[str]) -> tuple[list[Turn], str]:
    """Put a later system turn in front of the question that follows it, and one before all of them to the first."""
    if all(turn.role != SYSTEM for turn in turns):
        return turns, system
    placed: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role == SYSTEM:
            waiting += [turn.text.strip()] if turn.text.strip() else []
            used["system"] += 1
        elif waiting and turn.role == USER:
            placed.append(turn._replace(text="\n\n".join((*waiting, turn.text))))
            waiting = []
        else:
            placed.append(turn)
        if waiting and not placed:
            system, waiting = "\n\n".join(filter(None, (system.strip(), *waiting))), []
    if waiting:
        raise RecordError(f"{_name_roles(turns)}: a system turn stands after the last question")
    return placed, system


def _join(first: Turn, second: Turn, used: Counter[str]) -> Turn | None:
    """Return two turns as one where one side speaks twice; None when they are two."""
    roles = (first.role, second.role)
    if roles == (OBSERVATION, OBSERVATION):
        return first._replace(text=first.text + NEXT_RESULT + second.text)
    if roles not in ((USER, USER), (ASSISTANT, ASSISTANT), (ASSISTANT, CALL), (CALL, CALL)):
        return None
    thought = "\n\n".join(filter(str.strip, (first.thought, second.thought)))
    both = Turn(second.role, "", thought, first.is_trained and second.is_trained, first.markup + second.markup)
    if second.role == CALL:
        # Text and calls, or calls together: one answer of the model, which its template keeps as one.
        before, calls = parse_calls(first.text, CALL) if first.role == CALL else (first.text.strip(), [])
        more, others = parse_calls(second.text, CALL)
        text = "\n\n".join(filter(None, (before, more)))
        return both._replace(text=write_calls(text, calls + others))
    used["join"] += 1
    return both._replace(text=f"{first.text.rstrip()}\n{second.text.lstrip()}")


def _name_roles(turns: list[Turn]) -> str:
    roles = " ".join(turn.role for turn in turns) or "none"
    return f"turns are {roles if len(roles) <= 80 else roles[:79] + '…'}"


def _check_order(turns: list[Turn]) -> None:
    asks = all(turn.role in _ASKING for turn in turns[::2])
    answers = all(turn.role in _ANSWERING for turn in turns[1::2])
    if not turns or len(turns) % 2 or not asks or not answers:
        raise RecordError(f"{_name_roles(turns)}; they must alternate {USER} {ASSISTANT}")
    for call, after in zip(turns[1::2], turns[2::2], strict=False):
        if (call.role == CALL) != (after.role == OBSERVATION):
            fault = "a call is not answered" if call.role == CALL else "a tool answers that was not called"
            raise RecordError(f"{_name_roles(turns)}: {fault}")
    if turns[0].role == OBSERVATION:
        raise RecordError(f"{_name_roles(turns)}: a tool answers that was not called")


def _choose_positions(turns: list[Turn], choice: str) -> list[int]:
    """Return which answers are trained, counted from 0: of those that are not there for the later ones alone."""
    trained = [place for place, turn in enumerate(turns[1::2]) if turn.is_trained]
    if not trained:
        raise RecordError("none of its answers is to be trained on: each has a weight of 0 or no loss")
    if choice == Turns.EXPAND:
        return trained
    return trained[:1] if choice == Turns.FIRST else trained[-1:]


def _read_with_tools(
    turns: list[Turn], system: str, tools: str, chosen: list[int], choice: str, notes: tuple[str, ...]
) -> list[ToolExchange]:
    """Keep calls and observations as turns; a call is an answer of its own, and is trained as one."""
    checked = []
    for number, turn in enumerate(turns, 1):
        if turn.role != CALL:
            checked.append(turn)
            continue
        before, calls = parse_calls(turn.text, CALL)
        kept, is_checked = check_calls(calls, tools, f"turn {number}")
        notes = notes if is_checked else (*notes, UNCHECKED)
        checked.append(turn if kept == calls else turn._replace(text=write_calls(before, kept)))
    exchanges = []
    for place in chosen:
        end = 2 * place + 1
        start = end - 1 if choice == Turns.LAST and checked[end - 1].role == USER else 0
        answer = checked[end]
        earlier = tuple((turn.role, turn.text) for turn in checked[start:end])
        counted = (*answer.markup, *(notes if place == chosen[0] else ()))
        exchange = ToolExchange(earlier, answer.role, answer.thought, answer.text, system, tools, notes=counted)
        exchanges.append(exchange)
    return exchanges
