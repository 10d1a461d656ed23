"""Twenty rows of every well-known layout: recognised, read whole, and named in docs/formats.md."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.formats.reading import ROLES, TURN_FIXES
from prep.rows.thinking import MARKUPS, THOUGHT_FIELDS
from tests.support.public_shapes import SHAPES, a, call, q, t
from tests.support.shapes import write_jsonl

DOCS = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
ROWS = range(1, 21)
EMPTY = "<think>\n\n</think>\n\n"


def convert(name: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return convert's result, and the rows of whichever file it wrote."""
    shape = SHAPES[name]
    source = write_jsonl(folder / "in.jsonl", [shape.make(i) for i in ROWS])
    arguments = ["prep", "convert", str(source), "-o", str(folder / "out.jsonl"), "--json", *shape.options]
    result = CliRunner().invoke(lfc, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    output = folder / ("out_tools.jsonl" if shape.holds == "calls" else "out.jsonl")
    return json.loads(result.stdout), [json.loads(line) for line in output.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", SHAPES)
def test_a_public_shape_is_recognised_and_read_whole(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    result, rows = convert(name, tmp_path)
    assert (result["format"], result["counts"]["rejects"]) == (shape.format, 0)
    if shape.holds == "calls":
        called = [row for row in rows if row["conversations"][-1]["from"] == "function_call"]
        assert [row["conversations"][0]["value"] for row in called] == [q(i) for i in ROWS]
        for i, row in zip(ROWS, called, strict=True):
            calls = json.loads(row["conversations"][-1]["value"].removeprefix(EMPTY))
            assert (calls[0] if isinstance(calls, list) else calls) == call(i)
            assert json.loads(row["tools"])[0].get("function", json.loads(row["tools"])[0])["name"] == "add"
        return
    block = {"thought": lambda i: f"<think>\n{t(i)}\n</think>\n\n{a(i)}", "answer": lambda i: EMPTY + a(i)}
    last = [row for row in rows if row["instruction"].endswith(tuple(q(i) for i in ROWS))]
    assert [row["output"] for row in last] == [block[shape.holds](i) for i in ROWS]


def test_there_are_at_least_forty_of_them() -> None:
    assert len(SHAPES) >= 40


@pytest.mark.parametrize("name", SHAPES)
def test_the_page_of_formats_names_each_shape_with_its_format_and_options(name: str) -> None:
    shape = SHAPES[name]
    options = f"`{' '.join(shape.options)}`" if shape.options else ""
    assert f"| {name} | `{shape.format}` | {shape.holds} | {options} |\n" in DOCS


def test_the_page_of_formats_lists_the_tables_of_the_code() -> None:
    assert ", ".join(f"`{name}`" for name in THOUGHT_FIELDS) in DOCS
    for markup in MARKUPS:
        assert (
            f"| `{markup.name}` | `{markup.shown}` |".replace("|begin_of_thought|", r"\|begin_of_thought\|") in DOCS
        )
    for role in dict.fromkeys(ROLES.values()):
        names = ", ".join(f"`{name}`" for name, ours in ROLES.items() if ours == role)
        assert f"| `{role}` | {names} |" in DOCS
    assert all(f"| `{fix}` |" in DOCS for fix in TURN_FIXES)
