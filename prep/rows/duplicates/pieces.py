"""The pieces of five characters of rows' texts, as one array of hashes: what near copies share.

`_near.c` hashes plain lines, without a Python object for a row; what it leaves, and all rows where it is not there,
is hashed here in numpy, to the same numbers.
"""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, Final, NamedTuple

from prep.rows.duplicates.characters import BASE, CharacterTable, mix, read_codes
from prep.rows.indexing import write_context
from prep.rows.questions import fold_character, hash_text, is_fact_character
from prep.rows.records import read_record

PIECE_CHARACTERS: Final = 5
# The bit of a folded character that stands in facts: numbers, negations.
_FACT: Final = 1 << 31
_RANK_BITS: Final = 21
_MASK: Final = (1 << 64) - 1


class NearText(NamedTuple):
    """What is compared of a row: its text, and the context in which it must be the same."""

    text: str
    context: bytes


def read_near_text(line: bytes) -> NearText:
    """Return what is compared of a row that convert wrote."""
    import orjson

    row = read_record(orjson.loads(line))
    form = b"" if row.formatting == "alpaca" else row.formatting.encode()
    return NearText(f"{row.question}\n{row.answer}", form + write_context(row))


def cut_pieces(text: str) -> set[str]:
    """Return a normalised text's pieces of five characters; a shorter text is one piece."""
    return {text[start : start + PIECE_CHARACTERS] for start in range(max(1, len(text) - PIECE_CHARACTERS + 1))}


def are_alike(one: str, other: str, share: float) -> bool:
    """Whether two normalised texts have this share of all their pieces in common."""
    compiled = _load_compiled()
    if compiled is not None:
        both, either = compiled.compare(one, other)
    else:
        pieces, others = cut_pieces(one), cut_pieces(other)
        both, either = len(pieces & others), len(pieces | others)
    return bool(both >= share * either)


class PieceHasher:
    """Hashes the pieces of lines, folded character by character.

    Rows of different numbers or contexts, often thousands of one pattern, have a mark of their own in every piece:
    they share none, and never meet.
    """

    def __init__(self) -> None:
        self._folded = CharacterTable(_fold)
        self._compiled = _load_compiled()

    def hash_lines(self, lines: Sequence[bytes]) -> tuple[Any, Any]:
        """Return the hashes of all rows' pieces, one row's after the other, and where each row's begin and end.

        Shape: both uint64; one more place than there are rows, the first 0.
        """
        import numpy as np

        if self._compiled is None:
            return self._hash_texts([read_near_text(line) for line in lines])
        rows: list[bytes | tuple[str, int]] = list(lines)
        hashes = np.empty(sum(map(len, lines)) + PIECE_CHARACTERS * len(lines), dtype=np.uint64)
        counts: list[int] = []
        used = 0
        while len(counts) < len(rows):
            told = self._compiled.hash_rows(rows, len(counts), _mark, self._folded.table, hashes[used:])
            used += sum(told)
            counts += told
            if len(counts) < len(rows):
                row = read_near_text(lines[len(counts)])
                self._folded.look_up(read_codes([row.text])[0])
                rows[len(counts)] = row.text, _mark(row.context)
        return hashes[:used], np.cumsum([0, *counts], dtype=np.uint64)

    def _hash_texts(self, rows: Sequence[NearText]) -> tuple[Any, Any]:
        import numpy as np

        codes, ends = read_codes([row.text for row in rows])
        told = self._folded.look_up(codes)
        is_kept = told != 0
        ends = np.concatenate(([0], np.cumsum(is_kept)))[ends]
        told = told[is_kept]
        is_fact = told >= np.uint32(_FACT)
        folded = told & np.uint32(_FACT - 1)
        marks = np.array([_mark(row.context) for row in rows], dtype=np.uint64)
        where = np.flatnonzero(is_fact)
        if len(where):
            row_of = np.searchsorted(ends, where, side="right")
            begins = np.searchsorted(row_of, np.arange(len(rows)))
            ranks = (np.arange(len(where)) - begins[row_of]).astype(np.uint64)
            np.add.at(marks, row_of, mix(folded[where].astype(np.uint64) + (ranks << np.uint64(_RANK_BITS))))
        return _hash_pieces(folded, ends, marks)


def _fold(code: int) -> int:
    folded = fold_character(code)
    return folded | _FACT if folded and is_fact_character(chr(folded)) else folded


def _mark(context: bytes) -> int:
    """Return the number that the rows of one context share, 0 without any."""
    return int.from_bytes(hash_text(context)[:8], "little") if context else 0


@cache
def _load_compiled() -> ModuleType | None:
    try:
        from prep.rows.duplicates import _near
    except ImportError:
        return None
    return _near


def _hash_pieces(folded: Any, ends: Any, marks: Any) -> tuple[Any, Any]:
    """Return the hashes of the pieces of characters, and where each row's begin and end."""
    import numpy as np

    starts = np.concatenate(([0], ends[:-1]))
    # A text shorter than a piece is filled up.
    short = np.maximum(PIECE_CHARACTERS - (ends - starts), 0)
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
    counts = ends - starts - (PIECE_CHARACTERS - 1)
    is_inside = np.ones(len(hashes), dtype=bool)
    for place in range(1, PIECE_CHARACTERS):
        is_inside[ends[:-1] - place] = False
    hashes = hashes[is_inside]
    hashes ^= np.repeat(mix(marks), counts)
    return mix(hashes), np.concatenate(([0], np.cumsum(counts))).astype(np.uint64)
