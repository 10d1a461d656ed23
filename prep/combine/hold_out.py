"""Which groups of rows are held out: the sizes asked for, as nearly as whole groups make them."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from prep.errors import UserError

SIDES = ("test", "val", "train")
Groups = list[list[int]]
# Makes the error of a side that cannot be met: its name, the rows asked for, the nearest sizes.
OnFar = Callable[[str, int, list[int]], UserError]
# How far a side may be from what was asked before it is refused: a row, or a tenth.
_ROWS_OFF, _SHARE_OFF = 1, 0.1
# Above this, looking for the best sum would take longer than it is worth; so many rows have small groups.
_MOST_SUM = 1 << 20
_MOST_ITEMS = 256


def assign_sides(
    strata: Mapping[str, Groups], wanted: Mapping[str, int], seed: int, on_far: OnFar
) -> dict[str, list[int]]:
    """Return the indices of the rows of each side; no group is torn, and each source gives its share.

    Raises: what `on_far` returns when a side is further off than a row or a tenth, or would be empty.
    """
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    total = sum(len(group) for groups in strata.values() for group in groups)
    rooms_by_source = _share_out(wanted, strata, total)
    sides: dict[str, Groups] = {side: [] for side in SIDES}
    left: Groups = []
    for source, groups in strata.items():
        shuffled = rng.sample(groups, len(groups))
        left += _fill(shuffled, rooms_by_source[source], sides)
    # What the groups' sizes kept from one source's share, another source's rows fill.
    left = _fill(left, {side: rows - _count(sides[side]) for side, rows in wanted.items()}, sides)
    if _is_met(sides, wanted) and left:
        sides["train"] = left
    else:
        pool = [group for groups in (*sides.values(), left) for group in groups]
        sides = _choose_best(pool, wanted, on_far)
    return {side: sorted(index for group in groups for index in group) for side, groups in sides.items()}


def _choose_best(pool: Groups, wanted: Mapping[str, int], on_far: OnFar) -> dict[str, Groups]:
    """Choose the groups of each side anew, so that the sizes are as near as whole groups can make them."""
    asked = {side: rows for side, rows in wanted.items() if rows}
    found: list[dict[str, Groups]] = []
    errors: list[UserError] = []
    for order in (list(asked), list(asked)[::-1]):
        try:
            found.append(_choose_in_order(pool, asked, order, on_far))
        except UserError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return min(found, key=lambda sides: sum(abs(_count(sides[side]) - rows) for side, rows in asked.items()))


def _choose_in_order(
    pool: Groups, asked: Mapping[str, int], order: Sequence[str], on_far: OnFar
) -> dict[str, Groups]:
    sides: dict[str, Groups] = {side: [] for side in SIDES}
    left = pool
    for index, side in enumerate(order):
        # One group at least for each side that is still to come, and for what is trained on.
        spare = sum(sorted(map(len, left))[: len(order) - index])
        sums = _Sums([len(group) for group in left], asked[side], _count(left) - spare)
        nearest = sums.list_nearest()
        if not nearest or abs(nearest[0] - asked[side]) > max(_ROWS_OFF, _SHARE_OFF * asked[side]):
            raise on_far(side, asked[side], nearest)
        sides[side], left = _take(left, sums.pick(nearest[0]))
    sides["train"] = left
    return sides


class _Sums:
    """The sums that some of the groups' sizes make, as the bits of one number a step."""

    def __init__(self, sizes: Sequence[int], wanted: int, limit: int) -> None:
        self._wanted = wanted
        # Twice as much is further off than nothing is.
        self._limit = max(0, min(limit, 2 * wanted + max(sizes, default=0)))
        self._items = _bundle(sizes, self._limit)
        mask = (1 << (self._limit + 1)) - 1
        self._steps = [1]
        for size, count in self._items:
            self._steps.append((self._steps[-1] | self._steps[-1] << (size * count)) & mask)

    def list_nearest(self) -> list[int]:
        """Return the nearest sum above nothing, and the nearest on its other side, if there are."""
        reached = self._steps[-1] >> 1 << 1
        below = reached & ((1 << (self._wanted + 1)) - 1)
        above = reached >> self._wanted
        found = [below.bit_length() - 1] if below else []
        if above:
            found.append(self._wanted + (above & -above).bit_length() - 1)
        return sorted(dict.fromkeys(found), key=lambda size: (abs(size - self._wanted), size))

    def pick(self, total: int) -> Counter[int]:
        """Return how many groups of each size make a sum."""
        picked: Counter[int] = Counter()
        for (size, count), before in zip(reversed(self._items), reversed(self._steps[:-1]), strict=True):
            if not before >> total & 1:
                picked[size] += count
                total -= size * count
        return picked


def _bundle(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Return (size, count) bundles of 1, 2, 4 … equal groups: any number of them is a sum of bundles."""
    bundles = []
    for size, count in sorted(Counter(sizes).items()):
        usable, step = min(count, limit // size), 1
        while usable:
            step = min(step, usable)
            bundles.append((size, step))
            usable -= step
            step *= 2
    # Small groups make every sum; many large ones add nothing but time.
    return bundles[: _MOST_ITEMS if limit < _MOST_SUM else _MOST_ITEMS // 8]


def _take(groups: Groups, picked: Counter[int]) -> tuple[Groups, Groups]:
    """Divide groups into the first ones of the picked sizes, and the others."""
    still = picked.copy()
    taken, left = [], []
    for group in groups:
        if still[len(group)]:
            still[len(group)] -= 1
            taken.append(group)
        else:
            left.append(group)
    return taken, left


def _fill(groups: Groups, rooms: dict[str, int], sides: dict[str, Groups]) -> Groups:
    """Put groups where they fit, in their order; return those that fit nowhere."""
    left = []
    for place, group in enumerate(groups):
        for side, room in rooms.items():
            if room >= len(group):
                sides[side].append(group)
                rooms[side] -= len(group)
                break
        else:
            left.append(group)
            if not any(rooms.values()):
                return [*left, *groups[place + 1 :]]
    return left


def _share_out(wanted: Mapping[str, int], strata: Mapping[str, Groups], total: int) -> dict[str, dict[str, int]]:
    """Divide each side's rows among the sources, by largest remainder, so that the sum is exact."""
    rooms: dict[str, dict[str, int]] = {source: {} for source in strata}
    for side, rows in wanted.items():
        exact = {source: rows * sum(map(len, groups)) / max(total, 1) for source, groups in strata.items()}
        for source, share in exact.items():
            rooms[source][side] = int(share)
        missing = rows - sum(int(share) for share in exact.values())
        for source in sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))[:missing]:
            rooms[source][side] += 1
    return rooms


def _is_met(sides: Mapping[str, Groups], wanted: Mapping[str, int]) -> bool:
    return all(_count(sides[side]) == rows for side, rows in wanted.items())


def _count(groups: Groups) -> int:
    return sum(map(len, groups))
