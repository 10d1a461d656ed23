"""One file → train, validation and test files with no question on two sides."""

import random
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.files import Manifest, describe_input, open_atomic, read_manifest, refuse_existing, write_manifest
from prep.mix import count_kinds, read_lines


@dataclass(frozen=True)
class SplitSizes:
    """Rows (an int) or shares below 1 (a float) to hold out."""

    test: float
    val: float = 0


@dataclass(frozen=True)
class SplitResult:
    """The files written and the rows in each, by side: train, val, test."""

    outputs: dict[str, Path]
    rows: dict[str, int]


def split_file(path: Path, prefix: Path, sizes: SplitSizes, *, seed: int, force: bool = False) -> SplitResult:
    """Split a converted file into `<prefix>_train.jsonl`, `<prefix>_test.jsonl` and, if asked, `_val`.

    Rows with the same normalised question, and rows of one conversation, stay on one side; each side
    holds the sources in the proportion of the whole. A side can be a few rows short of its size where a
    group would not fit.
    Raises: UserError when the sizes leave nothing to train on.
    """
    import orjson

    lines = read_lines(path)
    records = [orjson.loads(line) for line in lines]
    wanted = {"test": _count_rows(sizes.test, len(lines)), "val": _count_rows(sizes.val, len(lines))}
    if sum(wanted.values()) >= len(lines):
        raise UserError(
            f"test {wanted['test']} and val {wanted['val']} of {len(lines)} rows leave none to train on"
        )
    sides = _assign_sides(records, wanted, seed)
    outputs = {side: prefix.with_name(f"{prefix.name}_{side}.jsonl") for side in ("test", "val", "train")}
    outputs = {side: target for side, target in outputs.items() if side == "train" or wanted[side]}
    for target in outputs.values():
        refuse_existing(target, force=force)
    manifest = read_manifest(path)
    source = describe_input(path)
    rows = {}
    for side, target in outputs.items():
        kept = [lines[number] for number in sides[side]]
        rows[side] = len(kept)
        with open_atomic(target) as out:
            for line in kept:
                out.write(line)
        write_manifest(
            target,
            Manifest(
                step="split",
                options={"side": side, "test": sizes.test, "val": sizes.val, "seed": seed},
                think_policy=manifest.think_policy if manifest else None,
                inputs=[source],
                counts={"records": len(kept), **count_kinds(kept)},
                output={"path": target.name, "bytes": out.bytes_written, "sha256": out.sha256},
            ),
        )
    return SplitResult(outputs, rows)


def normalise_question(text: str) -> str:
    """Return a question's key: NFKC, case folded, letters and digits alone.

    >>> normalise_question("What  is ＡＦＰ?") == normalise_question("what is afp")
    True
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum()) or folded


def _assign_sides(records: list[dict[str, Any]], wanted: dict[str, int], seed: int) -> dict[str, list[int]]:
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in _group_rows(records):
        strata[_source_of(records[group[0]])].append(group)
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    sides: dict[str, list[int]] = {"test": [], "val": [], "train": []}
    for source in sorted(strata):
        groups = strata[source]
        rng.shuffle(groups)
        room = {side: round(rows * sum(map(len, groups)) / len(records)) for side, rows in wanted.items()}
        for group in groups:
            side = next((side for side, free in room.items() if free >= len(group)), "train")
            sides[side] += group
            if side != "train":
                room[side] -= len(group)
    return {side: sorted(numbers) for side, numbers in sides.items()}


def _group_rows(records: list[dict[str, Any]]) -> list[list[int]]:
    """Group the rows that must not part: union by question and by conversation."""
    parent = list(range(len(records)))

    def find(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first_with: dict[tuple[str, str], int] = {}
    for number, record in enumerate(records):
        keys = [("question", normalise_question(f"{record['instruction']}\n{record['input']}"))]
        if record.get("origin"):
            keys.append(("conversation", record["origin"].partition("#")[0]))
        for key in keys:
            parent[find(number)] = find(first_with.setdefault(key, number))
    groups: dict[int, list[int]] = defaultdict(list)
    for number in range(len(records)):
        groups[find(number)].append(number)
    return list(groups.values())


def _source_of(record: dict[str, Any]) -> str:
    return str(record.get("origin", "")).partition("/")[0]


def _count_rows(size: float, total: int) -> int:
    if size < 0:
        raise UserError(f"a size of {size} rows cannot be held out")
    return round(size * total) if 0 < size < 1 else int(size)
