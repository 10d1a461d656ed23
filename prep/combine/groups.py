"""Which rows must not part: rows that share a key, and rows that share one with one of those."""

from collections.abc import Sequence
from typing import Any


def number_keys(keys: Any) -> Any:
    """Return a number for each row, the same for equal keys of 16 bytes."""
    import numpy as np

    halves = keys.view(np.uint64).reshape(-1, 2)
    _, firsts, numbers = np.unique(halves[:, 0], return_index=True, return_inverse=True)
    if (halves[firsts[numbers], 1] == halves[:, 1]).all():
        return numbers
    # Half a key was not enough, as never happens by chance.
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys.tolist()])


def number_conversations(conversations: Any) -> Any:
    """Return a number for each row, the same for rows of one conversation; 0 is a conversation of one row."""
    import numpy as np

    _, numbers = np.unique(conversations, return_inverse=True)
    alone = conversations == 0
    numbers = numbers.astype(np.int64)
    numbers[alone] = numbers.max(initial=0) + 1 + np.arange(int(alone.sum()))
    return numbers


def join_groups(keys: Sequence[Any]) -> Any:
    """Return for each row the first row of its group.

    Shape: `keys` are arrays of one number a row; rows with one number in one of them belong together.
    """
    import numpy as np

    groups = np.arange(len(keys[0]))
    while True:
        before = groups
        for numbers in keys:
            least = np.full(int(numbers.max(initial=0)) + 1, len(groups))
            np.minimum.at(least, numbers, groups)
            groups = least[numbers]
        # A row's first row has a first row of its own: long chains are walked in few steps.
        groups = groups[groups]
        if (groups == before).all():
            return groups
