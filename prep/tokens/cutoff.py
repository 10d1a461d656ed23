"""What LLaMA-Factory's cutoff_len cuts from rows, and which cutoff_len to take. Pure arithmetic.

Source of the rule: LLaMA-Factory 0.9.5, data/processor/processor_utils.py, infer_seqlen, applied turn by
turn to what is left of the cutoff as data/processor/supervised.py does. A test holds it equal.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prep.tokens.encoder import EncodedTurn, TurnLengths

IGNORE_INDEX = -100


@dataclass(frozen=True)
class CutoffAdvice:
    """Which cutoff_len a dataset needs, in tokens.

    `lossless` cuts no row; `one_percent` cuts at most one row in a hundred.
    """

    rows: int
    lossless: int
    one_percent: int


class RowLoss(NamedTuple):
    """What a cutoff takes from one row; all False when the row stays whole.

    `prompt`: the end of a prompt, or an earlier turn that is not trained on; `turns`: a whole turn;
    `answer`: the end of a trained answer; `end_of_turn`: its `<|im_end|>`; `close`: its `</think>`.
    """

    prompt: bool = False
    turns: bool = False
    answer: bool = False
    end_of_turn: bool = False
    close: bool = False


@dataclass(frozen=True)
class CutoffReplay:
    """How many rows lose what under one cutoff_len; `rows_cut` are their places, from 0."""

    cutoff_len: int
    packing: bool
    losses: dict[str, int]
    rows_cut: list[int]


def advise_cutoff(lengths: Sequence[int]) -> CutoffAdvice:
    """Return the smallest cutoff_len that cuts no row, and the smallest that cuts at most 1 %.

    Shape: `lengths` are whole rows in tokens. A row is whole exactly when its length is not above cutoff_len.
    Raises: ValueError when there are none.
    """
    if not lengths:
        raise ValueError("no rows, so no cutoff to advise")
    ordered = sorted(lengths)
    may_be_cut = len(ordered) // 100
    return CutoffAdvice(len(ordered), ordered[-1], ordered[-1 - may_be_cut])


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return the nearest-rank percentile of sorted lengths."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def keep_lengths(source: int, target: int, room: int) -> tuple[int, int]:
    """Return how many tokens of a turn's prompt and answer stay when `room` tokens are left."""
    if target * 2 < room:
        most = room
    elif source * 2 < room:
        most = room - source
    else:
        # The float and its rounding are LLaMA-Factory's: another order of operations differs by one.
        most = int(room * (target / (source + target)))
    kept_target = min(most, target)
    return min(max(room - kept_target, 0), source), kept_target


def truncate_turns(
    turns: Sequence[EncodedTurn], cutoff_len: int, *, mask_history: bool, end_of_row: int | None = None
) -> tuple[list[int], list[int]]:
    """Return (input_ids, labels) of a row under a cutoff, as LLaMA-Factory's supervised processor makes them.

    `end_of_row` stands after the last turn and is trained before each later turn, as an answer's end.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    end = [] if end_of_row is None else [end_of_row]
    cutoff_len -= len(end)
    for place, turn in enumerate(reversed(turns) if mask_history else turns):
        if len(input_ids) >= cutoff_len:
            break
        kept_source, kept_target = keep_lengths(len(turn.source), len(turn.target), cutoff_len - len(input_ids))
        source, target = turn.source[:kept_source], turn.target[:kept_target]
        is_trained = not (mask_history and place)
        source_labels = [IGNORE_INDEX] * len(source)
        if end and place:
            source_labels = end + source_labels[1:]
        turn_labels = source_labels + (target if is_trained else [IGNORE_INDEX] * len(target))
        if mask_history:
            input_ids, labels = source + target + input_ids, turn_labels + labels
        else:
            input_ids, labels = input_ids + source + target, labels + turn_labels
    return input_ids + end, labels + end


def replay_row(turns: Sequence[TurnLengths], cutoff_len: int, *, mask_history: bool) -> RowLoss:
    """Return what a cutoff takes from one row."""
    used = 0
    lost = RowLoss()
    for place, turn in enumerate(reversed(turns) if mask_history else turns):
        if used >= cutoff_len:
            return lost._replace(turns=True)
        source, target = keep_lengths(turn.source, turn.target, cutoff_len - used)
        used += source + target
        if mask_history and place:
            lost = lost._replace(prompt=lost.prompt or source + target < turn.source + turn.target)
        else:
            lost = RowLoss(*map(any, zip(lost, _compare_turn(turn, source, target), strict=True)))
    return lost


def replay_cutoff(
    rows: Iterable[Sequence[TurnLengths]],
    cutoff_len: int,
    *,
    mask_history: bool,
    packing: bool = False,
    row_tokens: int = 0,
) -> CutoffReplay:
    """Return what a cutoff takes from each row of a dataset; `row_tokens` stand after each row's last turn.

    With packing LLaMA-Factory 0.9.5 takes one token from the cutoff and then cuts rows in the same way: under
    Qwen3's templates it drops none.
    """
    losses = dict.fromkeys(RowLoss._fields, 0)
    rows_cut = []
    room = cutoff_len - packing - row_tokens
    for place, turns in enumerate(rows):
        if sum(turn.source + turn.target for turn in turns) <= room:
            continue
        rows_cut.append(place)
        for name, is_lost in replay_row(turns, room, mask_history=mask_history)._asdict().items():
            losses[name] += is_lost
    return CutoffReplay(cutoff_len, packing, losses, rows_cut)


def _compare_turn(turn: TurnLengths, source: int, target: int) -> RowLoss:
    return RowLoss(
        prompt=source < turn.source,
        answer=target < turn.target - turn.tail,
        end_of_turn=turn.tail > 0 and target < turn.target - turn.after,
        close=turn.close >= 0 and target <= turn.close,
    )
