"""Rows that stand twice: the first stays, the others go into a file that says of whom they are copies."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from prep.choices import Dedup
from prep.rows.duplicates.near import NearIndex, NearText
from prep.rows.indexing import RowFacts, describe_lines
from prep.rows.records import TrainingRow, read_record
from prep.storage.row_index import RowIndex

# The key of the row index by which rows are copies.
KEYS: Final[Mapping[str, str]] = {Dedup.EXACT: "exact", Dedup.QUESTION: "asked"}
DUPLICATES_SUFFIX, CONTAMINATED_SUFFIX = ".duplicates.jsonl", ".contaminated.jsonl"
_ORIGIN = b',"origin":"'
_BATCH_ROWS = 500


class CopyFinder:
    """Tells copies from first rows, in the order in which they come; rows are counted from 0 over all that came.

    `exact`: all fields but the origin are equal. `question`: the normalised question is, in the same context:
    system prompt, tools, earlier turns, images. `near`: in the same context, question and answer have the same
    numbers, units and negations, and share four in five of their pieces of five characters.
    """

    def __init__(self, kind: str) -> None:
        self._firsts: dict[bytes, int] = {}
        self._rows = 0
        self._near = NearIndex() if kind == Dedup.NEAR else None
        self._key = KEYS.get(kind, "")

    def find_in_index(self, index: RowIndex, places: Sequence[int]) -> list[int | None]:
        """Return for each row the number of the earlier one that it copies, None for one that stays."""
        keys = index.column(self._key)
        return self._find_keys((keys if len(places) == len(index) else keys[list(places)]).tolist())

    def find_in_facts(self, facts: Sequence[RowFacts]) -> list[int | None]:
        """Do the same for rows whose index is being made."""
        return self._find_keys([getattr(row, self._key) for row in facts])

    def find_in_rows(self, rows: Iterable[TrainingRow]) -> list[int | None]:
        """Do the same for near copies, which need the rows themselves."""
        found: list[int | None] = []
        coming = iter(rows)
        while self._near is not None and (batch := list(islice(coming, _BATCH_ROWS))):
            texts = [NearText(f"{row.question}\n{row.answer}", _name_context(row)) for row in batch]
            found += self._near.find_copies(texts)
        return found

    def _find_keys(self, keys: Iterable[bytes]) -> list[int | None]:
        found: list[int | None] = []
        for number, key in enumerate(keys, self._rows):
            first = self._firsts.setdefault(key, number)
            found.append(None if first == number else first)
        self._rows += len(found)
        return found


class Filtered(NamedTuple):
    """Lines that stay, with what the index says of them where that is known; lines that tell of those that go."""

    kept: bytes
    facts: list[tuple[int, RowFacts]] | None
    gone: bytes
    lost: Counter[str]


class DuplicateFilter:
    """Takes the copies out of lines on their way into a file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._finder = CopyFinder(kind)
        self._origins: list[str] = []

    def filter_lines(self, lines: bytes) -> Filtered:
        """Return what stays, what goes, and what the counts lose by that."""
        import orjson

        whole = lines.split(b"\n")[:-1]
        facts = list(describe_lines(lines)) if self.kind in KEYS else None
        if facts is not None:
            copied = self._finder.find_in_facts([row for _, row in facts])
        else:
            copied = self._finder.find_in_rows(read_record(orjson.loads(line)) for line in whole)
        self._origins += map(_read_origin, whole)
        gone: list[bytes] = []
        lost: Counter[str] = Counter()
        for line, first in zip(whole, copied, strict=True):
            if first is not None:
                row = read_record(orjson.loads(line))
                gone.append(describe_copy(row, self._origins[first], self.kind))
                lost.update(count_row(row))
        stays = [first is None for first in copied]
        kept = b"".join(line + b"\n" for line, stay in zip(whole, stays, strict=True) if stay)
        facts = facts and [row for row, stay in zip(facts, stays, strict=True) if stay]
        return Filtered(kept, facts, b"".join(gone), lost)


def describe_copy(row: TrainingRow, first: str, kind: str) -> bytes:
    """Return the line that tells of a row that went, and of which row it is a copy."""
    import orjson

    return orjson.dumps({"origin": row.origin, "duplicate_of": first, "kind": kind, "row": row.values}) + b"\n"


def _read_origin(line: bytes) -> str:
    """Return the origin of a line that convert wrote."""
    import orjson

    start = line.rfind(_ORIGIN) + len(_ORIGIN)
    origin = line[start : line.find(b'"', start)]
    return str(orjson.loads(line)["origin"]) if b"\\" in origin else origin.decode()


def _name_context(row: TrainingRow) -> str:
    """Return the context in which a near copy must stand too: "" for an Alpaca row without one."""
    return row.context if row.formatting == "alpaca" else f"{row.formatting} {row.context}"


def count_row(row: TrainingRow) -> Counter[str]:
    """Return what the counts of a conversion lose by a row that goes."""
    if row.formatting == "sharegpt":
        return Counter(tool_records=1, tool_records_with_history=row.has_history)
    return Counter(records=1) + row.kinds
