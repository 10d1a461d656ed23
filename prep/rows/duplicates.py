"""Rows that stand twice: the first stays, the others go into a file that says of whom they are copies."""

import json
import tempfile
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from prep.errors import StackError
from prep.rows.questions import hash_question, hash_text, list_facts, normalise_question
from prep.rows.records import TrainingRow, has_thought, read_record
from prep.storage.os_errors import explain_os_error

KINDS = ("exact", "question", "near")
DUPLICATES_SUFFIX = ".duplicates.jsonl"
_PERMUTATIONS, _BANDS, ALIKE = 128, 16, 0.8
# MinHash only finds whom to compare: its own guess is off by a few hundredths.
_WORTH_A_LOOK = 0.6
_PIECE_CHARACTERS = 5
_KEY_CHARACTERS = 8
_SPOOL_BYTES = 64 << 20


class DuplicateFilter:
    """Tells copies from first rows, in the order in which they come.

    `exact`: all fields but the origin are equal. `question`: the normalised question is, in the same context:
    system prompt, tools, earlier turns, images. `near`: in the same context, question and answer have the same
    numbers, units and negations, and share four in five of their pieces of five characters.
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
            row = read_record(orjson.loads(line))
            first = self.find_first(row)
            if first is None:
                kept.append(line)
                continue
            gone.append(self.describe(row, first))
            lost.update(_count_row(row))
        return b"".join(kept), b"".join(gone), lost

    def find_first(self, row: TrainingRow) -> str | None:
        """Return the origin of the earlier row that this one copies, or None and remember this one."""
        if self._near is not None:
            return self._near.find_first(row)
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


class _NearIndex:
    """Finds the rows that may be alike by MinHash, and compares them piece by piece.

    The texts to compare with lie in a temporary file: memory holds half a kilobyte a row.
    """

    def __init__(self) -> None:
        try:
            import rensa
        except ImportError:
            raise StackError(
                "--dedup near needs the package rensa", hint='pip install "llamafactory-companion[dedup]"'
            ) from None
        self._sketch_type: Any = rensa.RMinHash
        self._index = rensa.RMinHashLSH(threshold=ALIKE, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._seen: list[Any] = []
        self._origins: list[str] = []
        # Closed, and with that deleted, when the filter goes.
        self._texts = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._starts = array("Q", [0])

    def find_first(self, row: TrainingRow) -> str | None:
        text = normalise_question(f"{row.question}\n{row.answer}")
        # Part of every piece, so that rows that say another number share none and never meet.
        facts = list_facts(f"{row.question}\n{row.answer}")
        key = hash_text(json.dumps([row.formatting, row.context, facts])).hex()
        pieces = _cut(text)
        sketch = self._sketch_type(num_perm=_PERMUTATIONS, seed=0)
        sketch.update(sorted(key[:_KEY_CHARACTERS] + piece for piece in pieces))
        for number in sorted(self._index.query(sketch)):
            if sketch.jaccard(self._seen[number]) >= _WORTH_A_LOOK and self._is_alike(number, key, pieces):
                return str(self._origins[number])
        self._index.insert(len(self._seen), sketch)
        self._seen.append(sketch)
        self._origins.append(row.origin)
        self._write(f"{key}{text}")
        return None

    def _is_alike(self, number: int, key: str, pieces: set[str]) -> bool:
        other = self._read(number)
        if not other.startswith(key):
            return False
        theirs = _cut(other[len(key) :])
        return len(pieces & theirs) >= ALIKE * len(pieces | theirs)

    def _write(self, text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        with explain_os_error(Path(tempfile.gettempdir())):
            self._texts.seek(self._starts[-1])
            self._texts.write(content)
        self._starts.append(self._starts[-1] + len(content))

    def _read(self, number: int) -> str:
        start, end = self._starts[number], self._starts[number + 1]
        self._texts.seek(start)
        return self._texts.read(end - start).decode("utf-8", "surrogatepass")


def _cut(text: str) -> set[str]:
    return {text[start : start + _PIECE_CHARACTERS] for start in range(max(1, len(text) - _PIECE_CHARACTERS + 1))}


def _hash_row(row: TrainingRow) -> bytes:
    values = {name: value for name, value in row.values.items() if name != "origin"}
    return hash_text(json.dumps(values, sort_keys=True))


def _hash_context(row: TrainingRow) -> bytes:
    """The same question after another history is another question; "go on" stands in many conversations."""
    return hash_text(row.context) if row.context else b""


def _count_row(row: TrainingRow) -> Counter[str]:
    if row.formatting == "sharegpt":
        return Counter(tool_records=1, tool_records_with_history=row.has_history)
    counts = Counter(records=1, with_system=bool(row.values["system"]), with_history=row.has_history)
    counts["reasoning" if has_thought(row.answer) else "chat"] += 1
    return counts
