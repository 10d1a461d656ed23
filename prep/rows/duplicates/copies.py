"""Rows that stand twice: the first stays, the others go into a file that says of whom they are copies."""

import json
from collections import Counter
from collections.abc import Sequence

from prep.rows.duplicates.near import NearIndex, NearText
from prep.rows.questions import hash_question, hash_text
from prep.rows.records import TrainingRow, has_thought, read_record

KINDS = ("exact", "question", "near")
DUPLICATES_SUFFIX = ".duplicates.jsonl"


class DuplicateFilter:
    """Tells copies from first rows, in the order in which they come.

    `exact`: all fields but the origin are equal. `question`: the normalised question is, in the same context:
    system prompt, tools, earlier turns, images. `near`: in the same context, question and answer have the same
    numbers, units and negations, and share four in five of their pieces of five characters.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._origins: dict[bytes, str] = {}
        self._near = NearIndex() if kind == "near" else None
        self._near_origins: list[str] = []

    def filter_lines(self, lines: bytes) -> tuple[bytes, bytes, Counter[str]]:
        """Return the lines that stay, a line for each that goes, and what the counts lose by them."""
        import orjson

        whole = lines.splitlines(keepends=True)
        rows = [read_record(orjson.loads(line)) for line in whole]
        kept: list[bytes] = []
        gone: list[bytes] = []
        lost: Counter[str] = Counter()
        for line, row, first in zip(whole, rows, self.find_firsts(rows), strict=True):
            if first is None:
                kept.append(line)
                continue
            gone.append(self.describe(row, first))
            lost.update(_count_row(row))
        return b"".join(kept), b"".join(gone), lost

    def find_firsts(self, rows: Sequence[TrainingRow]) -> list[str | None]:
        """Return for each row the origin of the earlier row that it copies, None for one that stays."""
        if self._near is None:
            return [self._find_first(row) for row in rows]
        copied = self._near.find_copies(
            [NearText(f"{row.question}\n{row.answer}", _name_context(row)) for row in rows]
        )
        self._near_origins += [row.origin for row in rows]
        return [None if number is None else self._near_origins[number] for number in copied]

    def _find_first(self, row: TrainingRow) -> str | None:
        key = _hash_row(row) if self.kind == "exact" else hash_question(row) + _hash_context(row)
        if key in self._origins:
            return self._origins[key]
        self._origins[key] = row.origin
        return None

    def describe(self, row: TrainingRow, first: str) -> bytes:
        """Return the line that tells of a row that went, and of which row it is a copy."""
        import orjson

        entry = {"origin": row.origin, "duplicate_of": first, "kind": self.kind, "row": row.values}
        return orjson.dumps(entry) + b"\n"


def _hash_row(row: TrainingRow) -> bytes:
    values = {name: value for name, value in row.values.items() if name != "origin"}
    return hash_text(json.dumps(values, sort_keys=True))


def _hash_context(row: TrainingRow) -> bytes:
    """The same question after another history is another question; "go on" stands in many conversations."""
    return hash_text(row.context) if row.context else b""


def _name_context(row: TrainingRow) -> str:
    """Return the context in which a near copy must stand too: "" for an Alpaca row without one."""
    return row.context if row.formatting == "alpaca" else f"{row.formatting} {row.context}"


def _count_row(row: TrainingRow) -> Counter[str]:
    if row.formatting == "sharegpt":
        return Counter(tool_records=1, tool_records_with_history=row.has_history)
    counts = Counter(records=1, with_system=bool(row.values["system"]), with_history=row.has_history)
    counts["reasoning" if has_thought(row.answer) else "chat"] += 1
    return counts
