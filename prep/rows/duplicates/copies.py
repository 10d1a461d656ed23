"""Rows that stand twice: the first stays, the others go into a file that says of whom they are copies."""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prep.choices import Dedup
from prep.rows.duplicates.near import NearIndex
from prep.rows.indexing import RowColumns, describe_lines, hash_exactly, list_origins
from prep.rows.records import TrainingRow, read_record
from prep.rows.row_file import RowFile

# The key of the row index that copies share.
_KEY: Final = "asked"
DUPLICATES_SUFFIX, CONTAMINATED_SUFFIX = ".duplicates.jsonl", ".contaminated.jsonl"
_ORIGIN = b',"origin":"'


class CopyFinder:
    """Tells copies from first rows, in the order in which they come; rows are counted from 0 over all that came.

    `exact`: all fields but the origin are equal. `question`: the normalised question is, in the same context:
    system prompt, tools, earlier turns, images. `near`: in the same context, question and answer have the same
    numbers, units and negations, and share four in five of their pieces of five characters.
    """

    def __init__(self, kind: str, read_line: Callable[[int], bytes] | None = None) -> None:
        """`read_line` returns the line of a row by its number; without it near copies keep lines in a file."""
        self._firsts: dict[bytes, int] = {}
        self._rows = 0
        self._near = NearIndex(read_line) if kind == Dedup.NEAR else None
        self._is_exact = kind == Dedup.EXACT

    def find_in_files(
        self, files: Mapping[str, RowFile], places: Mapping[str, Sequence[int]]
    ) -> list[list[int | None]]:
        """Return for each file, and each of its rows at these places, which earlier one it copies; None stays.

        Only rows that ask the same are read: no others can be copies.
        """
        keys = {name: _list_keys(file, places[name]) for name, file in files.items()}
        counts = Counter(key for listed in keys.values() for key in listed)
        found = []
        for name, file in files.items():
            alike = [number for number, key in enumerate(keys[name]) if self._is_exact and counts[key] > 1]
            rows = file.read_rows(places[name][number] for number in alike)
            for number, row in zip(alike, rows, strict=True):
                keys[name][number] = hash_exactly(row)
            found.append(self._find_keys(keys[name]))
        return found

    def find_in_lines(self, lines: bytes | bytearray, described: RowColumns) -> list[int | None]:
        """Return the same for lines that convert wrote, whose index is being made."""
        if not self._is_exact:
            return self._find_keys(described.list_keys(_KEY))
        keys, start = [], 0
        with memoryview(lines) as view:
            for size in described.sizes:
                end = lines.rfind(_ORIGIN, start, start + size)
                keys.append(hashlib.sha256(view[start:end]).digest())
                start += size + 1
        return self._find_keys(keys)

    def find_near(self, lines: Iterable[bytes]) -> list[int | None]:
        """Return the same for near copies, which need the lines themselves."""
        return [] if self._near is None else self._near.find_copies(lines)

    def _find_keys(self, keys: Sequence[bytes]) -> list[int | None]:
        numbers = range(self._rows, self._rows + len(keys))
        self._rows = numbers.stop
        own = set(keys)
        if len(own) == len(keys) and self._firsts.keys().isdisjoint(own):
            # Mostly none is a copy.
            self._firsts.update(zip(keys, numbers, strict=True))
            return [None] * len(keys)
        firsts = [self._firsts.setdefault(key, number) for key, number in zip(keys, numbers, strict=True)]
        return [None if first == number else first for first, number in zip(firsts, numbers, strict=True)]


class Filtered(NamedTuple):
    """Lines that stay, with what the index says of them where that is known; lines that tell of those that go."""

    kept: bytes | bytearray
    described: RowColumns | None
    gone: bytes
    lost: Counter[str]


class _Origins:
    """The origins of all rows that came, held as the bytes of each batch: few of them are asked for."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._batches: list[bytes] = []
        self._rows = 0

    def add(self, lines: bytes | bytearray, rows: int) -> None:
        """Take the lines of some rows that convert wrote."""
        self._starts.append(self._rows)
        self._batches.append(list_origins(lines))
        self._rows += rows

    def find(self, number: int) -> str:
        """Return the origin of a row, counted from 0."""
        import orjson

        batch = bisect_right(self._starts, number) - 1
        written = self._batches[batch].split(b"\n")[number - self._starts[batch]]
        return str(orjson.loads(b'"%b"' % written))


class DuplicateFilter:
    """Takes the copies out of lines on their way into a file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._finder = CopyFinder(kind)
        self._origins = _Origins()

    def filter_lines(self, lines: bytes | bytearray) -> Filtered:
        """Return what stays, what goes, and what the counts lose by that."""
        import orjson

        described = None
        if self.kind == Dedup.NEAR:
            copied = self._finder.find_near(bytes(lines).split(b"\n")[:-1])
        else:
            described = describe_lines(lines)
            copied = self._finder.find_in_lines(lines, described)
        self._origins.add(lines, len(copied))
        lost: Counter[str] = Counter()
        if not any(first is not None for first in copied):
            return Filtered(lines, described, b"", lost)
        gone: list[bytes] = []
        whole = bytes(lines).split(b"\n")[:-1]
        for line, first in zip(whole, copied, strict=True):
            if first is not None:
                row = read_record(orjson.loads(line))
                gone.append(describe_copy(row, self._origins.find(first), self.kind))
                lost.update(count_row(row))
        stays = [first is None for first in copied]
        kept = b"".join(line + b"\n" for line, stay in zip(whole, stays, strict=True) if stay)
        return Filtered(kept, described and described.select(stays), b"".join(gone), lost)


def describe_copy(row: TrainingRow, first: str, kind: str) -> bytes:
    """Return the line that tells of a row that went, and of which row it is a copy."""
    import orjson

    return orjson.dumps({"origin": row.origin, "duplicate_of": first, "kind": kind, "row": row.values}) + b"\n"


def _list_keys(file: RowFile, places: Sequence[int]) -> list[bytes]:
    keys = file.index.column(_KEY)
    listed: list[bytes] = (keys if len(places) == len(file) else keys[list(places)]).tolist()
    return listed


def count_row(row: TrainingRow) -> Counter[str]:
    """Return what the counts of a conversion lose by a row that goes."""
    if row.formatting == "sharegpt":
        return Counter(tool_records=1, tool_records_with_history=row.has_history)
    return Counter(records=1) + row.kinds
