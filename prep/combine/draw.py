"""Which rows make a mix: the shares that can be reached with whole rows, as near as possible to those asked for."""

import random
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from prep.errors import UserError

# A row that stands in a mix so often is learnt by heart; a share that needs more is a slip of the pen.
_MOST_COPIES = 1_000
_MOST_SCALES = 256
_LOOKED_AT = 64


@dataclass
class PartRows:
    """A part's rows: `sizes` by index in the unit of --by, `indices` the rows that may be taken, in drawn order."""

    sizes: "array[int]"
    indices: Sequence[int]

    @cached_property
    def total(self) -> int:
        """The size of all rows that may be taken."""
        return sum(self.sizes[position] for position in self.indices)


@dataclass(frozen=True)
class Wish:
    """What a mix should be: `shares` sum to 1, and `by_rows` says that every row has the size 1.

    `tolerance` is how far, from 0 to 1, a share may be off.
    """

    shares: Mapping[str, float]
    by_rows: bool
    oversample: bool = False
    tolerance: float = 0.02


@dataclass
class Draw:
    """Rows of each part, by index, and what they make in the unit of --by."""

    indices: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def draw_rows(parts: Mapping[str, PartRows], wish: Wish, rng: random.Random) -> Draw:
    """Draw rows so that each part makes its share of the result.

    The largest mix is drawn that repeats no row, or with `oversample` the smallest that takes every row. When
    whole rows cannot make that within the tolerance, the nearest smaller (larger) mix that they can is drawn.
    Raises: UserError when the nearest is further off than the tolerance; half a row is always allowed.
    """
    drawers = {name: _Drawer(part, rng, by_rows=wish.by_rows) for name, part in parts.items()}
    for name, drawer in drawers.items():
        if not drawer.total:
            raise UserError(f"{name} has nothing to take a share of", hint=f"take {name} out of the mix")
    scales = {name: drawer.total / wish.shares[name] for name, drawer in drawers.items()}
    scale = max(scales.values()) if wish.oversample else min(scales.values())
    if scale * max(share / drawers[name].total for name, share in wish.shares.items()) > _MOST_COPIES:
        raise UserError(
            f"to keep this ratio, rows would be repeated more than {_MOST_COPIES:,} times",
            hint="leave out --oversample, or give small parts a smaller share",
        )
    best = _reach(drawers, wish, scale)
    if _error(best, wish) > wish.tolerance:
        others = (_reach(drawers, wish, other) for other in _list_scales(drawers, wish, scale))
        # Among those that are good enough the largest is the best.
        good = wish.tolerance / 4
        best = min((best, *others), key=lambda sizes: (max(_error(sizes, wish), good), -sum(sizes.values())))
    _refuse_far(best, wish)
    draw = Draw()
    for name, drawer in drawers.items():
        draw.indices[name], draw.sizes[name] = drawer.draw(best[name], oversample=wish.oversample)
    return draw


def take_all(parts: Mapping[str, PartRows], rng: random.Random) -> Draw:
    """Take every row of every part."""
    draw = Draw()
    for name, part in parts.items():
        drawer = _Drawer(part, rng, by_rows=True)
        draw.indices[name], draw.sizes[name] = drawer.draw(part.total, oversample=False) if part.total else ([], 0)
    return draw


def _reach(drawers: Mapping[str, "_Drawer"], wish: Wish, scale: float) -> dict[str, int]:
    """Return the size of each part that whole rows can make, nearest to its share of `scale`."""
    return {
        # Rounding first keeps 300 / 0.3 * 0.3 from becoming 299.
        name: drawer.reach(round(round(scale * wish.shares[name], 6)), oversample=wish.oversample)
        for name, drawer in drawers.items()
    }


def _list_scales(drawers: Mapping[str, "_Drawer"], wish: Wish, limit: float) -> Iterator[float]:
    """Yield the sizes of a mix in which one part is met exactly, those next to the limit first."""
    for name, drawer in drawers.items():
        share = wish.shares[name]
        for size in drawer.list_sizes(limit * share, oversample=wish.oversample):
            yield size / share


def _error(sizes: Mapping[str, int], wish: Wish) -> float:
    total = max(sum(sizes.values()), 1)
    return max(abs(size / total - wish.shares[name]) for name, size in sizes.items())


def _refuse_far(sizes: Mapping[str, int], wish: Wish) -> None:
    total = max(sum(sizes.values()), 1)
    error = _error(sizes, wish)
    allowed = max(wish.tolerance, 0.5 / total if wish.by_rows else 0.0)
    # Floats: a share of 0.52 is not further than 0.02 from 0.5.
    if error <= allowed + 1e-9:
        return
    reached = ", ".join(f"{name} {size / total:.1%}" for name, size in sizes.items())
    asked = ", ".join(f"{name} {wish.shares[name]:.1%}" for name in sizes)
    raise UserError(
        f"no mix of whole rows comes nearer to {asked} than {reached}, which is {100 * error:.1f} percentage "
        f"points off; allowed are {100 * wish.tolerance:g}",
        hint=f"--tolerance {100 * error + 0.1:.1f} takes it; more rows, or --by rows, come nearer",
    )


class _Drawer:
    """Takes a part's rows in a random order, so that the rows for a size are the first ones and one that fills."""

    def __init__(self, part: PartRows, rng: random.Random, *, by_rows: bool) -> None:
        self.total = part.total
        self._part, self._by_rows = part, by_rows
        self._order = array("Q", rng.sample(part.indices, len(part.indices)))
        self._ends = array("Q")
        size = 0
        for position in self._order if not by_rows else ():
            size += part.sizes[position]
            self._ends.append(size)

    def reach(self, wanted: int, *, oversample: bool) -> int:
        """Return the size nearest to the wanted one that rows can make: at least one row."""
        copies, rest = divmod(wanted, self.total) if oversample else (0, min(wanted, self.total))
        count, filler = self._choose(rest, needs_one=not copies)
        return copies * self.total + self._size_of(count, filler)

    def draw(self, size: int, *, oversample: bool) -> tuple[list[int], int]:
        """Return the indices of the rows that make a size that `reach` returned, every row as often as it fits."""
        copies, rest = divmod(size, self.total) if oversample or size == self.total else (0, size)
        count, filler = self._choose(rest, needs_one=not copies)
        drawn = [position for _ in range(copies) for position in self._part.indices]
        drawn += self._order[:count]
        drawn += [self._order[filler]] if filler is not None else []
        return drawn, copies * self.total + self._size_of(count, filler)

    def list_sizes(self, limit: float, *, oversample: bool) -> list[int]:
        """Return sizes that rows can make up to a limit, the largest first; with `oversample` from it on."""
        if oversample:
            unit = max(self.total // max(len(self._order), 1), 1)
            start = int(limit) // unit
            return [unit * (start + step) for step in range(1, _LOOKED_AT)]
        if self._by_rows:
            return list(range(int(limit), max(0, int(limit) - _MOST_SCALES), -1))
        end = bisect_left(self._ends, limit)
        singles = self._by_size[: bisect_left(self._by_size, limit, key=self._size_at)]
        sums = self._ends[max(0, end - _MOST_SCALES) : end]
        return [*reversed(sums), *(self._size_at(index) for index in singles[-_MOST_SCALES:])]

    @cached_property
    def _by_size(self) -> "array[int]":
        """The drawn order's indexes, by their rows' sizes."""
        return array("Q", sorted(range(len(self._order)), key=self._size_at))

    def _size_at(self, index: int) -> int:
        return self._part.sizes[self._order[index]]

    def _size_of(self, count: int, filler: int | None) -> int:
        if self._by_rows:
            return count
        return (self._ends[count - 1] if count else 0) + (self._size_at(filler) if filler is not None else 0)

    def _choose(self, wanted: int, *, needs_one: bool) -> tuple[int, int | None]:
        """Return how many of the first rows to take, and which other row fills what is left, None for no row."""
        if self._by_rows:
            return max(wanted, 1 if needs_one else 0), None
        count = bisect_left(self._ends, wanted)
        if count < len(self._ends) and self._ends[count] == wanted:
            return count + 1, None
        gap = wanted - (self._ends[count - 1] if count else 0)
        filler = self._find_filler(gap, count)
        if filler is None or (abs(self._size_at(filler) - gap) > gap and (count or not needs_one)):
            return count, None
        return count, filler

    def _find_filler(self, gap: int, first: int) -> int | None:
        """Return the index, from `first` on, of a row whose size is next to a gap."""
        middle = bisect_left(self._by_size, (gap, first), key=lambda index: (self._size_at(index), index))
        best: int | None = None
        for around in (range(middle - 1, max(-1, middle - _LOOKED_AT), -1), range(middle, len(self._by_size))):
            for looked_at, position in enumerate(around):
                index = self._by_size[position]
                if index >= first:
                    if best is None or abs(self._size_at(index) - gap) < abs(self._size_at(best) - gap):
                        best = index
                    break
                if looked_at > _LOOKED_AT:
                    break
        return best
