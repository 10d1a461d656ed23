"""Which rows LLaMA-Factory trains on in which order, and which of them it handles at a time.

Source: LLaMA-Factory 0.9.5, data/loader.py and data/data_utils.py; datasets 3.6, Dataset.train_test_split and map.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prep.errors import InputError
from prep.tokenized.settings import TokenSettings
from prep.tokenized.sources import RowPlaces

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.int64]]


_BATCH_ROWS = 512


@dataclass(frozen=True)
class OrderedRows:
    """Rows of one split, in order: the file, counted from 0, the start and the size of each, all int64."""

    name: str
    files: "Numbers"
    starts: "Numbers"
    sizes: "Numbers"

    def __len__(self) -> int:
        return len(self.files)

    def take(self, name: str, chosen: "Numbers | slice") -> "OrderedRows":
        """Return some of the rows, as a split of that name."""
        return OrderedRows(name, self.files[chosen], self.starts[chosen], self.sizes[chosen])


def join_rows(name: str, datasets: Sequence[Sequence[RowPlaces]], first_file: int, most: int | None) -> OrderedRows:
    """Return the rows of several datasets one after the other, of each its first `most`.

    `first_file` is the number of the first dataset's first file.
    """
    import numpy as np

    files, starts, sizes = [], [], []
    for dataset in datasets:
        left = most if most is not None else sum(map(len, dataset))
        for places in dataset:
            taken = min(left, len(places))
            files.append(np.full(taken, first_file, np.int64))
            starts.append(places.starts[:taken])
            sizes.append(places.sizes[:taken])
            left -= taken
            first_file += 1
    return OrderedRows(name, np.concatenate(files), np.concatenate(starts), np.concatenate(sizes))


def split_rows(rows: OrderedRows, val_size: float, seed: int) -> list[OrderedRows]:
    """Return the rows to train on, and those held out when `val_size` is not 0.

    Raises: InputError when that leaves no row on one of the two sides.
    """
    import numpy as np

    if not val_size:
        return [rows.take("train", slice(None))]
    held_out = math.ceil(val_size * len(rows)) if val_size < 1 else int(val_size)
    if not 0 < held_out < len(rows):
        raise InputError(
            f"val_size {val_size:g} holds out {held_out:,} of {len(rows):,} rows, and leaves none to train on",
            hint="val_size: 0.1",
        )
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    return [rows.take("train", shuffled[held_out:]), rows.take("validation", shuffled[:held_out])]


def cut_batches(count: int, settings: TokenSettings) -> Iterator[slice]:
    """Yield which rows are handled at a time.

    Rows that are packed are those that LLaMA-Factory packs together: each of its processes takes an equal part of
    all rows, in batches. Others stay as they are in any batch.
    """
    if not settings.packing:
        yield from (slice(first, min(first + _BATCH_ROWS, count)) for first in range(0, count, _BATCH_ROWS))
        return
    parts = min(settings.workers, count) if count else 0
    start = 0
    for number in range(parts):
        end = start + count // parts + (number < count % parts)
        for first in range(start, end, settings.batch_rows):
            yield slice(first, min(first + settings.batch_rows, end))
        start = end
