"""Near copies: which rows share four in five of their pieces of five characters, found without comparing all pairs.

A batch of rows is folded and hashed as one array of characters. MinHash says whom to compare; whom it names is
compared piece by piece, so that no row goes by a guess.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from prep.rows.duplicates.characters import BASE, CharacterTable, mix, read_codes
from prep.rows.questions import fold_character, hash_text, is_fact_character, list_facts, normalise_question
from prep.storage.os_errors import explain_os_error

# How much of the pieces of both rows together both must have.
ALIKE = 0.8
_PIECE_CHARACTERS = 5
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
_BATCH_CHARACTERS = 1 << 18
_MASK = (1 << 64) - 1


class NearText(NamedTuple):
    """What is compared of a row: its text, and the context in which it must be the same."""

    text: str
    context: str


class NearIndex:
    """Tells which rows are near copies of an earlier one that stayed; about 450 bytes a row in memory.

    The texts to compare with lie in a temporary file.
    """

    def __init__(self) -> None:
        import tempfile

        self._sketcher = _Sketcher()
        self._bands = _SortedRuns()
        self._sketches: list[Any] = []
        self._sketched = array("Q", [0])
        self._keys: dict[int, bytes] = {}
        # Closed, and with that deleted, when the index goes.
        self._folder = Path(tempfile.gettempdir())
        self._texts = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._starts = array("Q", [0])

    def find_copies(self, rows: Sequence[NearText]) -> list[int | None]:
        """Return for each row the number of the earlier one that it is like, None when it stays.

        Shape: numbers count from 0 over all rows that were ever given.
        """
        found: list[int | None] = []
        start, characters = 0, 0
        for end, row in enumerate(rows, 1):
            characters += len(row.text)
            if characters >= _BATCH_CHARACTERS or end == len(rows):
                found += self._take(rows[start:end])
                start, characters = end, 0
        return found

    def _take(self, rows: Sequence[NearText]) -> list[int | None]:
        import numpy as np

        first = len(self._starts) - 1
        self._write(rows)
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
        pieces: set[str] | None = None
        for other in others:
            if self._key_of(other) != self._key_of(number):
                continue
            pieces = pieces or cut_pieces(normalise_question(self._read(number).text))
            theirs = cut_pieces(normalise_question(self._read(other).text))
            if len(pieces & theirs) >= ALIKE * len(pieces | theirs):
                return other
        return None

    def _key_of(self, number: int) -> bytes:
        """Return what must be equal in near copies: the context, and the facts that the text tells."""
        if number not in self._keys:
            row = self._read(number)
            self._keys[number] = hash_text("\0".join([row.context, *list_facts(row.text)]))
        return self._keys[number]

    def _write(self, rows: Sequence[NearText]) -> None:
        written = []
        for row in rows:
            content = f"{row.context}\0{row.text}".encode("utf-8", "surrogatepass")
            self._starts.append(self._starts[-1] + len(content))
            written.append(content)
        with explain_os_error(self._folder):
            self._texts.seek(0, 2)
            self._texts.write(b"".join(written))

    def _read(self, number: int) -> NearText:
        start, end = self._starts[number], self._starts[number + 1]
        self._texts.seek(start)
        context, _, text = self._texts.read(end - start).decode("utf-8", "surrogatepass").partition("\0")
        return NearText(text, context)


def cut_pieces(text: str) -> set[str]:
    """Return a normalised text's pieces of five characters; a shorter text is one piece."""
    return {text[start : start + _PIECE_CHARACTERS] for start in range(max(1, len(text) - _PIECE_CHARACTERS + 1))}


class _Sketcher:
    """Makes MinHash sketches of batches of texts."""

    def __init__(self) -> None:
        import numpy as np
        import rensa

        self._rensa: Any = rensa.RMinHash
        self._folded = CharacterTable(fold_character)
        self._is_fact = CharacterTable(lambda code: is_fact_character(chr(code)))
        self._factors = np.array([pow(BASE, place + 1, 1 << 64) | 1 for place in range(_BAND_ROWS)], np.uint64)

    def sketch(self, rows: Sequence[NearText]) -> Any:
        """Return one row of `_PERMUTATIONS` numbers for each text, uint32."""
        import numpy as np

        codes, ends = read_codes([row.text for row in rows])
        folded = self._folded.look_up(codes)
        is_kept = folded != 0
        kept_before = np.concatenate(([0], np.cumsum(is_kept)))
        ends = kept_before[ends]
        folded = folded[is_kept]
        hashes, offsets = _hash_pieces(folded, ends, self._mark(rows, folded, ends))
        matrix = self._rensa.digest_matrix_from_flat_token_hashes(hashes, offsets, _PERMUTATIONS, _SEED)
        numbers = chain.from_iterable(matrix.to_rows())
        made = np.fromiter(numbers, dtype=np.uint32, count=len(rows) * _PERMUTATIONS)
        return made.reshape(len(rows), _PERMUTATIONS)

    def cut_bands(self, sketches: Any) -> Any:
        """Return one hash for each row and band, uint64."""
        import numpy as np

        used = sketches[:, : _BANDS * _BAND_ROWS].reshape(len(sketches), _BANDS, _BAND_ROWS).astype(np.uint64)
        mixed = (used * self._factors).sum(axis=2, dtype=np.uint64) + np.arange(_BANDS, dtype=np.uint64)
        return mix(mixed)

    def _mark(self, rows: Sequence[NearText], folded: Any, ends: Any) -> Any:
        """Return a mark for each row, in which rows of different numbers or contexts differ.

        It becomes part of every piece: such rows, often thousands of one pattern, share none and never meet.
        """
        import numpy as np

        contexts = [int.from_bytes(hash_text(row.context)[:8], "little") if row.context else 0 for row in rows]
        marks = np.array(contexts, dtype=np.uint64)
        where = np.flatnonzero(self._is_fact.look_up(folded))
        if len(where):
            row_of = np.searchsorted(ends, where, side="right")
            begins = np.searchsorted(row_of, np.arange(len(rows)))
            ranks = (np.arange(len(where)) - begins[row_of]).astype(np.uint64)
            signs = mix(folded[where].astype(np.uint64) + (ranks << np.uint64(21)))
            np.add.at(marks, row_of, signs)
        return marks


def _hash_pieces(folded: Any, ends: Any, marks: Any) -> tuple[Any, Any]:
    """Return the hashes of all rows' pieces, one row's after the other, and where each row's begin."""
    import numpy as np

    starts = np.concatenate(([0], ends[:-1]))
    # A text shorter than a piece is filled up.
    short = np.maximum(_PIECE_CHARACTERS - (ends - starts), 0)
    if short.any():
        folded = np.insert(folded, np.repeat(ends, short), 0)
        ends = ends + np.cumsum(short)
        starts = np.concatenate(([0], ends[:-1]))
    base = np.uint64(BASE)
    codes = folded.astype(np.uint64)
    pairs = codes[:-1] * base
    pairs += codes[1:]
    hashes = pairs[:-3] * np.uint64(BASE * BASE & _MASK)
    hashes += pairs[2:-1]
    hashes *= base
    hashes += codes[4:]
    counts = ends - starts - (_PIECE_CHARACTERS - 1)
    is_inside = np.ones(len(hashes), dtype=bool)
    for place in range(1, _PIECE_CHARACTERS):
        is_inside[ends[:-1] - place] = False
    hashes = hashes[is_inside]
    hashes ^= np.repeat(mix(marks), counts)
    return mix(hashes), np.concatenate(([0], np.cumsum(counts))).astype(np.uint64)


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
