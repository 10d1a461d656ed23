"""The cutoff rule and its advice, without a tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep.tokens.cutoff import (
    RowLoss,
    advise_cutoff,
    keep_lengths,
    percentile,
    replay_cutoff,
    replay_row,
    truncate_turns,
)
from prep.tokens.encoder import EncodedTurn, TurnLengths

sizes = st.integers(1, 200)


def count_longer(ordered: list[int], cutoff_len: int) -> int:
    return sum(length > cutoff_len for length in ordered)


@pytest.mark.parametrize(
    ("source", "target", "room", "kept"),
    [
        (10, 90, 100, (10, 90)),
        (10, 100, 100, (10, 90)),  # the answer is cut where the prompt is short
        (100, 10, 50, (40, 10)),  # the prompt is cut where the answer is short
        (60, 60, 101, (51, 50)),  # both
        (5, 5, 0, (0, 0)),
    ],
)
def test_keep_lengths_cuts_prompt_or_answer_or_both(
    source: int, target: int, room: int, kept: tuple[int, int]
) -> None:
    assert keep_lengths(source, target, room) == kept


@given(source=sizes, target=sizes, room=st.integers(0, 500))
def test_a_turn_stays_whole_exactly_when_it_fits(source: int, target: int, room: int) -> None:
    kept = keep_lengths(source, target, room)
    assert (kept == (source, target)) == (source + target <= room)
    assert sum(kept) <= room


@given(
    turns=st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4), cutoff=st.integers(1, 900), mask=st.booleans()
)
def test_the_replay_agrees_with_the_truncated_ids(turns: list[tuple[int, int]], cutoff: int, mask: bool) -> None:
    encoded = [EncodedTurn([1] * source, [2] * target) for source, target in turns]
    lengths = [TurnLengths(source, target, target // 2) for source, target in turns]
    ids, labels = truncate_turns(encoded, cutoff, mask_history=mask)
    total = sum(source + target for source, target in turns)
    loss = replay_row(lengths, cutoff, mask_history=mask)
    assert len(ids) == len(labels) <= cutoff
    assert (len(ids) == total) == (total <= cutoff)
    if total <= cutoff:
        assert loss == RowLoss()
    wanted = turns[-1][1] if mask else sum(target for _, target in turns)
    trained = sum(label == 2 for label in labels)
    assert (trained < wanted - 1) <= (loss.end_of_turn or loss.turns or not mask)
    if len(turns) == 1:
        assert loss.end_of_turn == (trained < wanted - 1)
        assert loss.answer == (trained < wanted - 2)
        assert loss.close == (trained <= wanted // 2)
        assert loss.prompt == (len(ids) - trained < turns[0][0])


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=400))
def test_advice_cuts_no_row_or_at_most_one_in_a_hundred_and_is_the_smallest(lengths: list[int]) -> None:
    advice = advise_cutoff(lengths)
    ordered = sorted(lengths)
    assert count_longer(ordered, advice.lossless) == 0 < count_longer(ordered, advice.lossless - 1)
    assert (
        count_longer(ordered, advice.one_percent)
        <= len(lengths) / 100
        < count_longer(ordered, advice.one_percent - 1)
    )


def test_advice_without_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows, so no cutoff to advise"):
        advise_cutoff([])


def test_percentiles_are_nearest_ranks() -> None:
    assert [percentile(range(1, 101), percent) for percent in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]


def test_a_replay_counts_rows_and_packing_takes_one_token() -> None:
    rows = [[TurnLengths(4, 6, -1)], [TurnLengths(4, 60, 30)], [TurnLengths(60, 4, -1)]]
    replay = replay_cutoff(rows, 10, mask_history=False)
    assert replay.rows_cut == [1, 2]
    assert replay.losses == {"prompt": 1, "turns": 0, "answer": 1, "end_of_turn": 1, "close": 1}
    assert replay_cutoff(rows, 10, mask_history=False, packing=True).rows_cut == [0, 1, 2]


def test_a_later_turn_that_no_longer_fits_is_a_lost_turn() -> None:
    turns = [TurnLengths(5, 5, -1), TurnLengths(5, 5, -1)]
    assert replay_row(turns, 10, mask_history=False) == RowLoss(turns=True)
    assert replay_row(turns, 14, mask_history=True) == RowLoss(prompt=True)
