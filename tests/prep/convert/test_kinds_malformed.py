"""Malformed rows of every kind: each is written or rejected with a reason, and none ends in a traceback."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from prep.choices import ThinkPolicy, Turns
from prep.convert.media import MediaFolders
from prep.convert.shard import ConvertPlan, convert_rows
from prep.errors import InputError
from prep.formats import SOURCES, recognise_source
from prep.formats.reading import TURN_FIXES
from prep.inputs.reader import SourceRow
from prep.rows.kinds import MEDIA, Kind
from tests.prep.convert.test_kinds import LABELS, PICTURES, PREFERENCES
from tests.support.public_shapes import SHAPES

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
# Every public layout too, and what marks turns, calls and parts in them.
LAYOUTS = [shape.make(1) for shape in SHAPES.values() if "--map" not in shape.options]
MARKS: tuple[str, ...] = (
    "USER:",
    "ASSISTANT:",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "### Human:",
    "<eoh>",
    "<|Human|>: ",
    "\n\nHuman:",
    "[|AI|]",
)
MARKS += (
    "<functioncall>",
    "[add(",
    ")]",
    "<|im_start|>",
    "<｜User｜>",
    "{",
    "}",
    "'",
    '"',
    "<tool_call>",
    "<think>",
    "\\",
)


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
    if isinstance(value, str) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice(("", rng.choice(MARKS))) + value[place + rng.randint(0, 9) :]
    return copy.deepcopy(rng.choice(ODD))


@pytest.mark.parametrize("rows", [ROWS, LAYOUTS], ids=["kinds", "layouts"])
def test_a_malformed_row_is_written_or_rejected_with_a_reason(
    rows: list[dict[str, Any]], tmp_path: Path, full: bool
) -> None:
    rng = random.Random(8)
    folders = MediaFolders((tmp_path,), tmp_path, keeps_missing=True)
    seen = {"records": 0, "rejects": 0}
    for number in range(10_000 if full else 2_000):
        row = rng.choice(rows)
        try:
            source = recognise_source(list(row), {})
        except InputError as error:
            raise AssertionError(row) from error
        key = rng.choice(list(row))
        spoilt = {**row, key: spoil(row[key], rng)}
        kind = rng.choice(list(Kind))
        media = tuple(name for name in MEDIA if rng.random() < 0.5)
        plan = ConvertPlan(
            source.name,
            {},
            rng.choice(list(ThinkPolicy)),
            rng.choice(list(Turns)),
            "x",
            kind=kind,
            media=media,
            media_folders=folders,
            fixes=tuple(fix for fix in TURN_FIXES if rng.random() < 0.3),
            may_lack_open=rng.random() < 0.3,
        )
        made = convert_rows(plan, [SourceRow(number, spoilt)], "in.jsonl", "in.jsonl")
        assert made.counts["rejects"] == made.rejects.count(b"\n")
        assert made.counts["rejects"] or made.records or made.tool_records
        seen["rejects"] += made.counts["rejects"]
        seen["records"] += made.records.count(b"\n") + made.tool_records.count(b"\n")
    assert min(seen.values()) > 30
    assert {source.name for source in SOURCES.values()} >= {"preference", "text"}
