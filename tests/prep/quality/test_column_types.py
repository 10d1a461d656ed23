"""A column's type changes just where pyarrow, with which LLaMA-Factory reads JSON, says so."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from prep.quality.column_types import ColumnTypes, TypeChange
from prep.quality.findings import Finding, LintRule
from prep.quality.lint import lint_dataset
from prep.registry.dataset import find_dataset
from tests.support.shapes import write_jsonl

ROW = {"instruction": "q", "input": "", "output": "a", "system": "", "history": []}


def find_changes(*rows: dict[str, Any]) -> list[TypeChange]:
    types = ColumnTypes()
    return [change for number, row in enumerate(rows, 1) for change in types.learn(number, row)]


@pytest.mark.parametrize(
    ("first", "second", "column"),
    [
        (1, "x", "m"),
        (True, 1, "m"),
        ("x", ["x"], "m"),
        ([1], ["x"], "m[]"),
        ({"a": 1}, [1], "m"),
        ({"a": 1}, {"a": "x"}, "m.a"),
        ([{"a": [1]}], [{"a": [{}]}], "m[].a[]"),
    ],
)
def test_a_change_is_told_with_its_path(first: object, second: object, column: str) -> None:
    (change,) = find_changes({"m": first}, {"m": None}, {"m": second}, {"m": second})
    assert (change.column, change.first) == (column, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.5),
        (None, "x"),
        ([], ["x"]),
        ([None], [1]),
        ({"a": 1}, {"b": "x"}),
        ({}, {"a": None}),
        ("2020-01-01", "x"),
    ],
)
def test_what_pyarrow_reads_as_one_type_is_no_change(first: object, second: object) -> None:
    assert find_changes({"m": first}, {"m": second}) == []


def make_value(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind < 5:
        return (None, rng.randint(0, 3), 1.5, "x", True)[kind]
    if kind == 5:
        return {key: make_value(rng, depth - 1) for key in rng.sample("abc", rng.randint(0, 2))}
    return [make_value(rng, depth - 1) for _ in range(rng.randint(0, 2))]


def test_random_rows_are_judged_as_pyarrow_judges_them(*, full: bool) -> None:
    from pyarrow import ArrowInvalid
    from pyarrow.json import read_json

    rng = random.Random(5)
    stopped = 0
    rounds = 20_000 if full else 1500
    for _ in range(rounds):
        rows = [{"a": make_value(rng, 2), "b": rng.choice((1, "x"))} for _ in range(rng.randint(1, 3))]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        try:
            read_json(io.BytesIO(data))
            stops = False
        except ArrowInvalid as error:
            assert "changed from" in str(error)
            stops = True
        stopped += stops
        assert bool(find_changes(*rows)) == stops, rows
    assert rounds / 10 < stopped < rounds * 0.9


def test_lint_tells_of_a_column_that_nothing_reads_once(tmp_path: Path) -> None:
    rows = [{**ROW, "instruction": f"q{place}", "id": 7 if place < 3 else "x"} for place in range(6)]
    findings: list[Finding] = []
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    lint_dataset(find_dataset(str(path), tmp_path), findings.append)
    assert [(one.rule, one.where.line, one.message) for one in findings] == [
        (LintRule.TYPE, 4, "column 'id' is a string, and in line 1 a number: pyarrow stops the training")
    ]


def test_keys_that_are_data_do_not_fill_the_memory() -> None:
    types = ColumnTypes()
    for number in range(3):
        assert not list(types.learn(number, {f"k{number}-{place}": place for place in range(20_000)}))
    assert types.size <= 10_000
