"""Near copies: which rows share four in five of their pieces of five characters, found without comparing all pairs.

The pieces of a batch of rows are hashed as one array. MinHash says whom to compare; whom it names is compared piece
by piece, so that no row goes by a guess.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from prep.rows.duplicates.characters import BASE, mix
from prep.rows.duplicates.pieces import NearText, PieceHasher, are_alike, read_near_text
from prep.rows.questions import hash_text, list_facts, normalise_question
from prep.storage.os_errors import explain_os_error

# How much of the pieces of both rows together both must have.
ALIKE = 0.8
# Of two rows that are just alike enough, 98.5 % share one of the bands; of two that share half, 13 %.
_BANDS, _BAND_ROWS = 18, 7
_PERMUTATIONS = 128
_SEED = 0
# MinHash's guess is off by a few hundredths.
_WORTH_A_LOOK = 0.65
# Rows that were written from one pattern share bands in thousands: those most alike are looked at.
_MOST_MATCHES, _MOST_COMPARED = 32, 64
_SEEN_BITS = 24
_SPOOL_BYTES = 16 << 20
_BATCH_BYTES = 1 << 20
_RECENT_CHARACTERS = 1 << 22


class NearIndex:
    """Tells which rows are near copies of an earlier one that stayed; about 450 bytes a row in memory."""

    def __init__(self, read_line: Callable[[int], bytes] | None = None) -> None:
        """`read_line` returns the line of a row that was given, by its number; else lines are kept in a file."""
        self._sketcher = _Sketcher()
        self._bands = _SortedRuns()
        self._sketches: list[Any] = []
        self._sketched = array("Q", [0])
        self._keys: dict[int, bytes] = {}
        # What is compared is often compared again soon.
        self._recent: dict[int, _ReadRow] = {}
        self._recent_characters = 0
        kept = _KeptLines()
        self._keep = kept.add if read_line is None else _drop
        self._read_line = kept.read if read_line is None else read_line

    def find_copies(self, lines: Iterable[bytes]) -> list[int | None]:
        """Return for each row the number of the earlier one that it is like, None when it stays.

        Shape: lines as convert writes them, without line ends; numbers count from 0 over all that were ever given.
        """
        found: list[int | None] = []
        batch: list[bytes] = []
        size = 0
        for line in lines:
            batch.append(line)
            size += len(line)
            if size >= _BATCH_BYTES:
                found += self._take(batch)
                batch, size = [], 0
        return found + (self._take(batch) if batch else [])

    def _take(self, rows: Sequence[bytes]) -> list[int | None]:
        import numpy as np

        first = self._sketched[-1]
        self._keep(rows)
        sketches = self._sketcher.sketch(rows)
        self._sketches.append(sketches.astype(np.uint8))
        self._sketched.append(first + len(rows))
        bands = self._sketcher.cut_bands(sketches)
        numbers = np.arange(first, first + len(rows), dtype=np.uint32)
        matches = self._bands.match(bands, first)
        for row, others in _match_within(bands, first).items():
            matches[row].update(others)
        found: list[int | None] = [None] * len(rows)
        for row in sorted(matches):
            number = first + row
            stay = [other for other in matches[row] if other < first or found[other - first] is None]
            ordered = sorted(stay, key=lambda other: (-matches[row][other], other))[:_MOST_COMPARED]
            close = sorted(other for other in ordered if self._guess(number, other) >= _WORTH_A_LOOK)
            found[row] = self._find_like(number, close)
        stays = np.array([copied is None for copied in found])
        self._bands.add(bands[stays], numbers[stays])
        return found

    def _guess(self, number: int, other: int) -> float:
        """Return about how much of their pieces two rows share."""
        return float((self._sketch_of(number) == self._sketch_of(other)).mean())

    def _sketch_of(self, number: int) -> Any:
        from bisect import bisect_right

        batch = bisect_right(self._sketched, number) - 1
        return self._sketches[batch][number - self._sketched[batch]]

    def _find_like(self, number: int, others: Sequence[int]) -> int | None:
        for other in others:
            texts = self._read(number).normalised, self._read(other).normalised
            if are_alike(*texts, ALIKE) and self._key_of(number) == self._key_of(other):
                return other
        return None

    def _key_of(self, number: int) -> bytes:
        """Return what must be equal in near copies: the context, and the facts that the text tells."""
        if number not in self._keys:
            row = self._read(number).row
            self._keys[number] = hash_text(b"\0".join([row.context, *map(str.encode, list_facts(row.text))]))
        return self._keys[number]

    def _read(self, number: int) -> "_ReadRow":
        if number not in self._recent:
            row = read_near_text(self._read_line(number))
            self._recent_characters += len(row.text)
            if self._recent_characters > _RECENT_CHARACTERS:
                self._recent.clear()
                self._recent_characters = len(row.text)
            self._recent[number] = _ReadRow(row, normalise_question(row.text))
        return self._recent[number]


class _ReadRow(NamedTuple):
    """A row that is compared, and its text as it is compared."""

    row: NearText
    normalised: str


def _drop(_lines: Sequence[bytes]) -> None:
    """Keep nothing: the lines can be read where they came from."""


class _KeptLines:
    """Lines in a temporary file, which is closed, and with that deleted, when this goes."""

    def __init__(self) -> None:
        import tempfile

        self._folder = Path(tempfile.gettempdir())
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._starts = array("Q", [0])

    def add(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        with explain_os_error(self._folder):
            self._file.seek(0, 2)
            self._file.write(b"".join(lines))

    def read(self, number: int) -> bytes:
        start, end = self._starts[number], self._starts[number + 1]
        self._file.seek(start)
        return self._file.read(end - start)


class _Sketcher:
    """Makes MinHash sketches of batches of rows."""

    def __init__(self) -> None:
        import numpy as np
        import rensa

        self._rensa: Any = rensa.RMinHash
        self._hasher = PieceHasher()
        self._factors = np.array([pow(BASE, place + 1, 1 << 64) | 1 for place in range(_BAND_ROWS)], np.uint64)

    def sketch(self, lines: Sequence[bytes]) -> Any:
        """Return one row of `_PERMUTATIONS` numbers for each line, uint32."""
        import numpy as np

        hashes, offsets = self._hasher.hash_lines(lines)
        matrix = self._rensa.digest_matrix_from_flat_token_hashes(hashes, offsets, _PERMUTATIONS, _SEED)
        numbers = chain.from_iterable(matrix.to_rows())
        made = np.fromiter(numbers, dtype=np.uint32, count=len(lines) * _PERMUTATIONS)
        return made.reshape(len(lines), _PERMUTATIONS)

    def cut_bands(self, sketches: Any) -> Any:
        """Return one hash for each row and band, uint64."""
        import numpy as np

        used = sketches[:, : _BANDS * _BAND_ROWS].reshape(len(sketches), _BANDS, _BAND_ROWS).astype(np.uint64)
        mixed = (used * self._factors).sum(axis=2, dtype=np.uint64) + np.arange(_BANDS, dtype=np.uint64)
        return mix(mixed)


def _match_within(bands: Any, first: int) -> dict[int, Counter[int]]:
    """Return {row of a batch: {the number of an earlier row of it: bands that both have}}."""
    import numpy as np

    order = np.argsort(bands, axis=None, kind="stable")
    flat = bands.reshape(-1)[order]
    rows = order // bands.shape[1]
    found: dict[int, Counter[int]] = {}
    is_equal = np.flatnonzero(flat[1:] == flat[:-1])
    groups: dict[int, list[int]] = {}
    for place in is_equal.tolist():
        groups.setdefault(int(flat[place]), [int(rows[place])]).append(int(rows[place + 1]))
    for members in groups.values():
        for index, row in enumerate(members[1:], 1):
            for other in members[max(0, index - _MOST_MATCHES) : index] + members[:1]:
                found.setdefault(row, Counter())[first + other] += 1
    return found


class _SortedRuns:
    """Band hashes with their rows' numbers in a few sorted arrays, each at least twice as large as the next."""

    def __init__(self) -> None:
        import numpy as np

        self._runs: list[tuple[Any, Any]] = []
        self._seen = np.zeros(1 << _SEEN_BITS, dtype=bool)

    def match(self, bands: Any, first: int) -> "_Matches":
        """Return {row of the batch: {number of an earlier row: bands that both have}}."""
        import numpy as np

        found = _Matches()
        # Most bands were never seen: a table says so at once.
        flat = bands.reshape(-1)
        maybe = np.flatnonzero(self._seen[(flat >> np.uint64(64 - _SEEN_BITS)).astype(np.int64)])
        flat = flat[maybe]
        for keys, numbers in self._runs:
            left = np.searchsorted(keys, flat)
            hits = np.flatnonzero(keys[np.minimum(left, len(keys) - 1)] == flat)
            if not len(hits):
                continue
            right = np.searchsorted(keys, flat[hits], side="right")
            rows = maybe[hits] // bands.shape[1]
            for row, begin, end in zip(rows.tolist(), left[hits].tolist(), right.tolist(), strict=True):
                found[row].update(numbers[begin : min(end, begin + _MOST_MATCHES)].tolist())
        return found

    def add(self, bands: Any, numbers: Any) -> None:
        """Take the bands of rows, each with its number."""
        import numpy as np

        if not len(bands):
            return
        keys, owners = bands.reshape(-1), np.repeat(numbers, bands.shape[1])
        self._seen[(keys >> np.uint64(64 - _SEEN_BITS)).astype(np.int64)] = True
        self._runs.append((keys, owners))
        while True:
            order = np.argsort(keys, kind="stable")
            keys, owners = keys[order], owners[order]
            self._runs[-1] = (keys, owners)
            if len(self._runs) < 2 or len(self._runs[-2][0]) > 2 * len(keys):
                return
            older = self._runs.pop(-2)
            keys, owners = np.concatenate((older[0], keys)), np.concatenate((older[1], owners))


class _Matches(dict[int, Counter[int]]):
    def __missing__(self, row: int) -> Counter[int]:
        self[row] = Counter()
        return self[row]
