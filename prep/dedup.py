"""Rows that stand twice: the first stays, the others go into a file that says of whom they are copies."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prep.errors import StackError
from prep.questions import hash_question, hash_text, normalise_question, read_question
from prep.records import has_thought

KINDS = ("exact", "question", "near")
DUPLICATES_SUFFIX = ".duplicates.jsonl"
_PERMUTATIONS, _BANDS, _ALIKE = 128, 16, 0.8
_PIECE_CHARACTERS = 5


class DuplicateFilter:
    """Tells copies from first rows, in the order in which they come.

    `exact`: all fields but the origin are equal. `question`: the normalised question and the history are.
    `near`: question and answer share four in five of their pieces of five characters, by MinHash.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._origins: dict[bytes, str] = {}
        self._near = _NearIndex() if kind == "near" else None

    def filter_lines(self, lines: bytes) -> tuple[bytes, bytes, Counter[str]]:
        """Return the lines that stay, a line for each that goes, and what the counts lose by them."""
        import orjson

        kept: list[bytes] = []
        gone: list[bytes] = []
        lost: Counter[str] = Counter()
        for line in lines.splitlines(keepends=True):
            record = orjson.loads(line)
            first = self.find_first(record)
            if first is None:
                kept.append(line)
                continue
            entry = {"origin": record.get("origin", ""), "duplicate_of": first, "kind": self.kind}
            gone.append(orjson.dumps({**entry, "row": record}) + b"\n")
            lost.update(_count_record(record))
        return b"".join(kept), b"".join(gone), lost

    def find_first(self, record: Mapping[str, Any]) -> str | None:
        """Return the origin of the earlier row that this one copies, or None and remember this one."""
        origin = str(record.get("origin", ""))
        if self._near is not None:
            return self._near.find_first(record, origin)
        key = _hash_record(record) if self.kind == "exact" else _hash_question_in_context(record)
        if key in self._origins:
            return self._origins[key]
        self._origins[key] = origin
        return None


class _NearIndex:
    def __init__(self) -> None:
        try:
            import rensa
        except ImportError:
            raise StackError(
                "--dedup near needs the package rensa", hint='pip install "llamafactory-companion[dedup]"'
            ) from None
        self._sketch_type: Any = rensa.RMinHash
        self._index = rensa.RMinHashLSH(threshold=_ALIKE, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._seen: list[Any] = []
        self._origins: list[str] = []

    def find_first(self, record: Mapping[str, Any], origin: str) -> str | None:
        answer = record["conversations"][-1]["value"] if "conversations" in record else record["output"]
        text = normalise_question(f"{read_question(record)}\n{answer}")
        pieces = {text[start : start + _PIECE_CHARACTERS] for start in range(max(1, len(text) - 4))}
        sketch = self._sketch_type(num_perm=_PERMUTATIONS, seed=0)
        sketch.update(sorted(pieces))
        for number in sorted(self._index.query(sketch)):
            if sketch.jaccard(self._seen[number]) >= _ALIKE:
                return self._origins[int(number)]
        self._index.insert(len(self._seen), sketch)
        self._seen.append(sketch)
        self._origins.append(origin)
        return None


def _hash_record(record: Mapping[str, Any]) -> bytes:
    return hash_text(
        json.dumps({name: value for name, value in record.items() if name != "origin"}, sort_keys=True)
    )


def _hash_question_in_context(record: Mapping[str, Any]) -> bytes:
    """The same question after another history is another question; "go on" stands in many conversations."""
    history = json.dumps(record.get("history") or [])
    return hash_question(record) + (hash_text(history) if history != "[]" else b"")


def _count_record(record: Mapping[str, Any]) -> Counter[str]:
    if "conversations" in record:
        return Counter(tool_records=1, tool_records_with_history=len(record["conversations"]) > 2)
    counts = Counter(records=1, with_system=bool(record["system"]), with_history=bool(record["history"]))
    counts["reasoning" if has_thought(record["output"]) else "chat"] += 1
    return counts
