"""Rows packed into sequences of one length, as LLaMA-Factory packs a batch of them.

Source: LLaMA-Factory 0.9.5, data/processor/supervised.py, PackedSupervisedDatasetProcessor, and greedy_knapsack in
data/processor/processor_utils.py.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prep.tokenized.rows import LabelledRows
from prep.tokens.cutoff import IGNORE_INDEX

if TYPE_CHECKING:
    import numpy as np

# What stands where a sequence has no image: LLaMA-Factory's largest number of a row in a sequence.
NO_MEDIA = 2**32


class PackedRows(NamedTuple):
    """Sequences of one length, a row of each array; `bounds` are where the rows in each begin and end."""

    ids: "np.ndarray[Any, np.dtype[np.int32]]"
    labels: "np.ndarray[Any, np.dtype[np.int64]]"
    mask: "np.ndarray[Any, np.dtype[np.int64]]"
    positions: "np.ndarray[Any, np.dtype[np.int64]]"
    bounds: list[list[int]]


def pack_rows(rows: LabelledRows, cutoff_len: int, pad: int, *, neat: bool) -> PackedRows:
    """Fill sequences of `cutoff_len` + 1 tokens, the last of which is always padding; longer rows are left out.

    `neat` numbers the rows of a sequence in its mask, so that none sees another.
    """
    import numpy as np

    lengths = rows.lengths.tolist()
    starts = (rows.ends - rows.lengths).tolist()
    packed = list(fill_knapsacks(lengths, cutoff_len))
    shape = len(packed), cutoff_len + 1
    ids = np.full(shape, pad, np.int32)
    labels = np.full(shape, IGNORE_INDEX, np.int64)
    mask = np.full(shape, 0 if neat else 1, np.int64)
    positions = np.zeros(shape, np.int64)
    bounds = []
    for sequence, members in enumerate(packed):
        at = 0
        places = [0]
        for number, row in enumerate(members, 1):
            end, taken = at + lengths[row], slice(starts[row], starts[row] + lengths[row])
            ids[sequence, at:end] = rows.ids[taken]
            labels[sequence, at:end] = rows.labels[taken]
            mask[sequence, at:end] = number if neat else 1
            positions[sequence, at:end] = np.arange(end - at)
            places.append(end)
            at = end
        bounds.append([*places, cutoff_len + 1])
    return PackedRows(ids, labels, mask, positions, bounds)


def fill_knapsacks(lengths: Sequence[int], capacity: int) -> Iterator[list[int]]:
    """Yield which rows go together: into each knapsack the longest that still fits, until none does.

    Of rows of one length the last is taken first.
    """
    waiting: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        if length <= capacity:
            waiting.setdefault(length, []).append(row)
    known = sorted(waiting)
    while known:
        members: list[int] = []
        room = capacity
        while (place := bisect_right(known, room) - 1) >= 0:
            length = known[place]
            members.append(waiting[length].pop())
            room -= length
            if not waiting[length]:
                del known[place]
        yield members


def join_texts(lengths: Iterable[int], block: int) -> int:
    """Return how many tokens of a batch's texts, one after the other, make whole blocks."""
    return sum(lengths) // block * block
