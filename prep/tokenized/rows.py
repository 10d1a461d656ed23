"""Many rows' ids and labels under one cutoff, as LLaMA-Factory's supervised processor makes them, at once.

Source: LLaMA-Factory 0.9.5, data/processor/supervised.py, _encode_data_example. Tests hold them equal row by row.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from prep.tokens.cutoff import IGNORE_INDEX, keep_lengths
from prep.tokens.encoder import EncodedRows

if TYPE_CHECKING:
    import numpy as np

    Ids = np.ndarray[Any, np.dtype[np.int32]]
    Labels = np.ndarray[Any, np.dtype[np.int64]]
    Numbers = np.ndarray[Any, np.dtype[np.int64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]


class LabelledRows(NamedTuple):
    """Rows one after the other: `ids` int32, `labels` int64, and where each row ends, int64."""

    ids: "Ids"
    labels: "Labels"
    ends: "Numbers"

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> "Numbers":
        """The tokens of each row."""
        import numpy as np

        return np.diff(self.ends, prepend=0)


class LabelRules(NamedTuple):
    """What is trained, and how much of a row is kept; `end_of_row` is a template's token after the last turn."""

    cutoff_len: int
    mask_history: bool = False
    train_on_prompt: bool = False
    end_of_row: int | None = None


def label_rows(rows: EncodedRows, rules: LabelRules) -> LabelledRows:
    """Return whole rows cut to the cutoff, with the labels of what is trained."""
    import numpy as np

    sizes = np.diff(rows.ends, prepend=0)
    turns = np.array(rows.turns, dtype=np.int64)
    # Of each row: where its segments begin among all of them; a turn is two, its prompt and its answer.
    firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(2 * turns)))
    kept = _keep(sizes, firsts, rules)
    ids = rows.ids if kept is sizes else rows.ids[_is_kept(sizes, kept)]
    is_trained = np.zeros(len(sizes), bool)
    is_trained[1::2] = True
    if rules.mask_history:
        is_trained[:] = False
        is_trained[firsts[1:] - 1] = True
    if rules.train_on_prompt:
        is_trained[0::2] = True
    labels = ids.astype(np.int64)
    labels[~np.repeat(is_trained, kept)] = IGNORE_INDEX
    ends = np.cumsum(kept)
    row_ends = np.concatenate((np.zeros(1, np.int64), ends))[firsts[1:]]
    if rules.end_of_row is None:
        return LabelledRows(ids, labels, row_ends)
    return _end_rows(LabelledRows(ids, labels, row_ends), _find_joints(ends - kept, kept, firsts, rules), rules)


def _keep(sizes: "Numbers", firsts: "Numbers", rules: LabelRules) -> "Numbers":
    """Return how many tokens of each segment stay; `sizes` itself when no row is cut."""
    import numpy as np

    room = rules.cutoff_len - (rules.end_of_row is not None)
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[firsts]
    is_long = np.diff(ends) > room
    if not is_long.any():
        return sizes
    kept = sizes.copy()
    for row in is_long.nonzero()[0].tolist():
        left = room
        places = range(int(firsts[row]), int(firsts[row + 1]), 2)
        for place in reversed(places) if rules.mask_history else places:
            pair = keep_lengths(int(sizes[place]), int(sizes[place + 1]), left) if left > 0 else (0, 0)
            kept[place : place + 2] = pair
            left -= sum(pair)
    return kept


def _is_kept(sizes: "Numbers", kept: "Numbers") -> "Flags":
    import numpy as np

    starts = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum()), dtype=np.int64) - np.repeat(starts, sizes)
    return places < np.repeat(kept, sizes)


def _find_joints(starts: "Numbers", kept: "Numbers", firsts: "Numbers", rules: LabelRules) -> "Numbers":
    """Return where prompts begin that follow, or with mask_history come before, another turn of their row."""
    import numpy as np

    is_other = np.zeros(len(kept), bool)
    is_other[0::2] = True
    has_turns = np.diff(firsts) > 0
    excluded = (firsts[1:] - 2) if rules.mask_history else firsts[:-1]
    is_other[excluded[has_turns]] = False
    return starts[is_other & (kept > 0)]


def _end_rows(rows: LabelledRows, joints: "Numbers", rules: LabelRules) -> LabelledRows:
    """Put the end of each row after it, and train it at the joints between turns."""
    import numpy as np

    labels = rows.labels.copy()
    labels[joints] = rules.end_of_row or 0
    ids = np.insert(rows.ids, rows.ends, rules.end_of_row or 0)
    labels = np.insert(labels, rows.ends, rules.end_of_row or 0)
    return LabelledRows(ids, labels, rows.ends + np.arange(1, len(rows) + 1))
