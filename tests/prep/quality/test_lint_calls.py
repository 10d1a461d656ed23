"""Lint of rows that call tools: each call against the tools that its row declares."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.registry.dataset_info import register_dataset
from tests.support.public_shapes import SHAPES, TOOLS
from tests.support.shapes import write_jsonl

GOOD = {"name": "add", "arguments": {"a": 1, "b": 2}}


def make_row(call: Any, *, tools: str = TOOLS, answered: bool = True) -> dict[str, Any]:
    turns = [("human", "1+2?"), ("function_call", json.dumps(call)), ("observation", "3"), ("gpt", "3")]
    if not answered:
        turns[2] = ("human", "And?")
    conversations = [{"from": role, "value": text} for role, text in turns]
    return {"conversations": conversations, "system": "", "tools": tools, "origin": "x/x:1"}


def lint(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Return what lint says of these rows as tool calls."""
    path = write_jsonl(folder / "calls.jsonl", rows)
    register_dataset(path, "calls", folder)
    arguments = ["prep", "lint", "calls", "--dataset-dir", str(folder)]
    said = CliRunner().invoke(lfc, arguments, catch_exceptions=False).output
    return [line for line in said.splitlines() if "[tool-call]" in line]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (make_row({"name": "add", "arguments": {"a": 1}}), "'b' is a required property"),
        (make_row({"name": "add", "arguments": {"a": "1", "b": 2}}), "arguments.a: '1' is not of type 'integer'"),
        (
            make_row([GOOD, {"name": "sub", "arguments": {}}]),
            "calls the tool 'sub', which the tools do not declare",
        ),
        (make_row(GOOD, answered=False), "the call in turn 2 is not answered"),
    ],
)
def test_lint_tells_the_row_and_the_path_of_a_call_that_does_not_fit(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    found = lint(tmp_path, [make_row(GOOD), row])
    assert len(found) == 1
    assert "calls.jsonl:2" in found[0]
    assert reason in found[0]


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.holds == "calls"])
def test_what_convert_writes_of_calls_is_found_sound(name: str, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [SHAPES[name].make(i) for i in range(3)])
    arguments = ["prep", "convert", str(source), "-o", str(tmp_path / "out.jsonl")]
    assert CliRunner().invoke(lfc, arguments, catch_exceptions=False).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "out_tools.jsonl").read_text("utf-8").splitlines()]
    assert lint(tmp_path, rows) == []
