"""Malformed rows of every kind: each is written or rejected with a reason, and none ends in a traceback."""

import copy
import random
from pathlib import Path
from typing import Any

from prep.choices import ThinkPolicy
from prep.convert.media import MediaFolders
from prep.convert.shard import ConvertPlan, convert_rows
from prep.errors import InputError
from prep.formats import SOURCES, recognise_source
from prep.inputs.reader import SourceRow
from prep.rows.kinds import MEDIA, Kind
from tests.prep.convert.test_kinds import LABELS, PICTURES, PREFERENCES

ODD: list[Any] = [
    None,
    "",
    " ",
    3,
    1.5,
    True,
    [],
    {},
    [None],
    [[]],
    {"a": 1},
    ["a", "b"],
    ["a", 2],
    "<think>",
    "<|im_end|>",
]
ODD += [
    "[",
    "<image>",
    "\ud800",
    {"type": "image"},
    {"role": "user"},
    [{"role": "assistant", "content": None}],
    "\x00",
]
ROWS = [row for row, _ in PREFERENCES.values()] + [{**row, "label": True} for row, _ in LABELS.values()]
ROWS += [*PICTURES.values(), {"text": "A page."}]


def spoil(value: Any, rng: random.Random) -> Any:
    """Return a value with one part, however deep, replaced, taken out or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: spoil(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :] if rng.random() < 0.5 else [*value, value[place]]
        return [*value[:place], spoil(value[place], rng), *value[place + 1 :]]
    return copy.deepcopy(rng.choice(ODD))


def test_a_malformed_row_is_written_or_rejected_with_a_reason(tmp_path: Path, full: bool) -> None:
    rng = random.Random(8)
    folders = MediaFolders((tmp_path,), tmp_path, keeps_missing=True)
    seen = {"records": 0, "rejects": 0}
    for number in range(10_000 if full else 2_000):
        row = rng.choice(ROWS)
        try:
            source = recognise_source(list(row), {})
        except InputError as error:
            raise AssertionError(row) from error
        key = rng.choice(list(row))
        spoilt = {**row, key: spoil(row[key], rng)}
        kind = rng.choice(list(Kind))
        media = tuple(name for name in MEDIA if rng.random() < 0.5)
        plan = ConvertPlan(
            source.name, {}, ThinkPolicy.TAGGED, "expand", "x", kind=kind, media=media, media_folders=folders
        )
        made = convert_rows(plan, [SourceRow(number, spoilt)], "in.jsonl", "in.jsonl")
        assert made.counts["rejects"] == made.rejects.count(b"\n")
        assert made.counts["rejects"] or made.records or made.tool_records
        seen["rejects"] += made.counts["rejects"]
        seen["records"] += made.records.count(b"\n")
    assert min(seen.values()) > 30
    assert {source.name for source in SOURCES.values()} >= {"preference", "text"}
