"""Rows of any JSON in any field: each command ends in a result, findings or one error, and loses no row in silence."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.cli import lfc

ALPACA = {"instruction": "q", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    "system": "",
    "tools": "",
    "origin": "s/f:1",
}
DEEP = "[" * 10_000 + "]" * 10_000
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["<think>", "</think>", "<|im_start|>user\n", "<|im_end|>", "s/f:1", "{}", "[1]", "[", DEEP, "\x1b[2J"]
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(TEXTS, st.sampled_from(["from", "value", "role", "content"])), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def odd_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row of which some fields, or some of a turn's fields, are anything."""
    row: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from([ALPACA, SHAREGPT]))))
    for name in draw(st.lists(st.sampled_from([*row, "images", "chosen"]), max_size=3)):
        row[name] = draw(JSON)
    turns = row.get("conversations")
    if isinstance(turns, list) and draw(st.booleans()):
        for turn in turns:
            if isinstance(turn, dict) and draw(st.booleans()):
                turn[draw(st.sampled_from(["from", "value", "tool_calls"]))] = draw(JSON)
    for name in draw(st.lists(st.sampled_from(list(row)), max_size=1)):
        del row[name]
    return row


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(lfc, ["prep", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1), result.output
    if result.exit_code == 1:
        assert "Error: " in result.stderr or " finding" in result.stdout
    return result


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(odd_rows(), min_size=1, max_size=3))
def test_a_row_of_any_content_ends_in_a_result_or_one_error(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, ALPACA]), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    for options in ([], ["--ratio", "a=1", "--by", "characters"]):
        result = run("mix", f"a={path}", "-o", out, "--force", "--json", *options)
        if result.exit_code == 0:
            assert count_lines(out) == len(rows) + 1
    for kind in ("exact", "question", "near"):
        result = run("mix", f"a={path}", "-o", out, "--force", "--dedup", kind, "--json")
        if result.exit_code == 0:
            assert count_lines(out) + json.loads(result.stdout)["duplicates"] == len(rows) + 1
    result = run("split", path, "--test", 1, "-o", tmp_path / "s", "--force", "--json")
    if result.exit_code == 0:
        sides = [count_lines(tmp_path / f"s_{side}.jsonl") for side in ("train", "test")]
        assert sum(sides) == len(rows) + 1
        assert min(sides) > 0
    for number in range(1, len(rows) + 2):
        run("explain", f"{path}:{number}")
    run("stats", path)
    run("lint", path)
    result = run("repair", path, "-o", out, "--force", "--max-rejects", 9, "--json")
    if result.exit_code == 0:
        counts = json.loads(result.stdout)["counts"]
        assert counts["records"] + counts["rejects"] == counts["rows"] == len(rows) + 1
        assert run("mix", f"a={out}", "-o", tmp_path / "again.jsonl", "--force").exit_code == 0
    run("register", path, "--name", "odd", "--dataset-dir", tmp_path, "--replace")
