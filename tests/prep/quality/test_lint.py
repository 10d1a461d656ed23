"""Lint finds every planted fault, and none in what convert writes."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from prep.choices import ThinkPolicy
from prep.errors import InputError
from prep.quality.findings import Finding, LintRule
from prep.quality.lint import lint_dataset
from prep.registry.dataset import Dataset, find_dataset
from prep.registry.dataset_info import register_dataset
from prep.rows.thinking import join_thought
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, write_manifest
from tests.support.told_progress import ToldProgress

Plant = Callable[[dict[str, Any]], Any]
RECORD_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "AlpacaRecord",
    "type": "object",
    "required": ["instruction", "input", "output", "system", "history"],
    "properties": {
        "instruction": {"type": "string", "minLength": 1},
        "input": {"type": "string"},
        "output": {"type": "string", "minLength": 1},
        "system": {"type": "string"},
        "history": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
        },
        "origin": {"type": "string"},
    },
}


def make_row(number: int, thought: str = "T", **changes: object) -> dict[str, Any]:
    row = {
        "instruction": f"question {number}",
        "input": "",
        "output": join_thought(thought, "A"),
        "system": "",
        "history": [["q", "a"]] if number % 3 == 0 else [],
        "origin": f"a/b:{number}",
    }
    return {**row, **changes}


def write_lines(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows))
    return path


def lint(path: Path, **options: Any) -> list[Finding]:
    findings: list[Finding] = []
    summary = lint_dataset(find_dataset(str(path), path.parent), findings.append, **options)
    assert summary.total == len(findings)
    return findings


def places(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(finding.where.line, finding.rule) for finding in findings]


PLANTS: dict[str, tuple[LintRule, Plant]] = {
    "cut short": (LintRule.JSON, lambda row: orjson.dumps(row)[:-9] + b"\n"),
    "NUL": (LintRule.JSON, lambda row: b"\0" + orjson.dumps(row) + b"\n"),
    "bad UTF-8": (LintRule.ENCODING, lambda row: orjson.dumps(row).replace(b"question", b"qu\xc4stion") + b"\n"),
    "a list": (LintRule.NOT_OBJECT, lambda row: [row]),
    "a missing column": (LintRule.COLUMNS, lambda row: {key: row[key] for key in row if key != "system"}),
    "a column too many": (LintRule.COLUMNS, lambda row: {**row, "score": 1}),
    "a null system": (LintRule.TYPE, lambda row: {**row, "system": None}),
    "a number": (LintRule.TYPE, lambda row: {**row, "input": 5}),
    "a null history": (LintRule.TYPE, lambda row: {**row, "history": None}),
    "a history string": (LintRule.HISTORY, lambda row: {**row, "history": "q"}),
    "a history of three": (LintRule.HISTORY, lambda row: {**row, "history": [["q", "a", "x"]]}),
    "an empty question": (LintRule.EMPTY, lambda row: {**row, "instruction": " \n"}),
    "an empty output": (LintRule.EMPTY, lambda row: {**row, "output": join_thought("T", " ")}),
    "never closed": (LintRule.THINK, lambda row: {**row, "output": "<think>\nT"}),
    "opened twice": (LintRule.THINK, lambda row: {**row, "output": "<think>\n\n<think>\nA"}),
    "never opened": (LintRule.THINK, lambda row: {**row, "output": "T</think>A"}),
    "text before": (LintRule.THINK, lambda row: {**row, "output": "x" + row["output"]}),
    "a newline too few": (LintRule.THINK, lambda row: {**row, "output": "<think>\nT\n</think>\nA"}),
    "a newline too many": (LintRule.THINK, lambda row: {**row, "output": "<think>\nT\n</think>\n\n\nA"}),
    "a space": (LintRule.THINK, lambda row: {**row, "output": "<think>\nT\n</think> \n A"}),
    "a blank thought": (LintRule.THINK, lambda row: {**row, "output": "<think>\n \n</think>\n\nA"}),
    "untagged": (LintRule.THINK_POLICY, lambda row: {**row, "output": "A"}),
    "a thought in history": (LintRule.HISTORY_THOUGHT, lambda row: {**row, "history": [["q", "<think>a"]]}),
    "markup in the question": (LintRule.MARKUP, lambda row: {**row, "instruction": "<|im_start|>user\nq"}),
    "markup in the system": (LintRule.MARKUP, lambda row: {**row, "system": "<|eot_id|>"}),
    "markup in the history": (LintRule.MARKUP, lambda row: {**row, "history": [["q<|im_end|>", "a"]]}),
    "markup in the output": (LintRule.MARKUP, lambda row: {**row, "output": row["output"] + "<|im_end|>\n"}),
    "the same question": (LintRule.DUPLICATE, lambda row: {**row, "instruction": " Question  1", "history": []}),
}


@pytest.mark.parametrize("name", PLANTS)
def test_each_planted_fault_is_found_at_its_line_and_nothing_else(tmp_path: Path, name: str) -> None:
    fault, plant = PLANTS[name]
    rows = [make_row(number) for number in range(1, 9)]
    path = write_lines(tmp_path / "a.jsonl", *rows[:5], plant(rows[5]), *rows[6:])
    write_manifest(
        path, Manifest("convert", {}, "tagged", [], {}, {"bytes": path.stat().st_size, "sha256": hash_file(path)})
    )
    assert places(lint(path)) == [(6, fault.value)]
    assert lint(path, ignore={fault.value}) == []


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_mixture_of_planted_faults_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    # Two rows with one plant may ask the same question.
    plants = [None, *(name for name, (fault, _) in PLANTS.items() if fault is not LintRule.DUPLICATE)]
    names = data.draw(st.lists(st.sampled_from(plants), min_size=1, max_size=12))
    rows: list[Any] = [make_row(1)]
    expected = set()
    for line, name in enumerate(names, 2):
        row = make_row(line * 3 + 1)
        rows.append(PLANTS[name][1](row) if name else row)
        if name:
            expected.add((line, PLANTS[name][0].value))
    path = write_lines(tmp_path_factory.mktemp("lint") / "a.jsonl", *rows)
    write_manifest(
        path, Manifest("convert", {}, "tagged", [], {}, {"bytes": path.stat().st_size, "sha256": hash_file(path)})
    )
    assert set(places(lint(path, ignore={"duplicate-question"}))) == expected


odd_values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.lists(st.text(max_size=2), max_size=3))
odd_rows = st.builds(
    lambda row, changes, gone: {key: value for key, value in {**row, **changes}.items() if key not in gone},
    st.just(make_row(1)),
    st.dictionaries(st.sampled_from(sorted(make_row(1))), odd_values, max_size=3),
    st.sets(st.sampled_from(sorted(make_row(1))), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(row=odd_rows)
def test_whatever_the_record_schema_refuses_lint_finds(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    # Not by orjson, which writes no integer beyond 64 bits.
    path = write_lines(tmp_path_factory.getbasetemp() / "schema.jsonl", json.dumps(row).encode() + b"\n")
    findings: list[Finding] = []
    lint_dataset(Dataset((path,), policy=ThinkPolicy.TAGGED), findings.append)
    assert findings or Draft202012Validator(RECORD_SCHEMA).is_valid(row)


def test_sound_rows_have_no_findings_and_progress_adds_up(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *(make_row(number) for number in range(2500)))
    told = ToldProgress()
    findings: list[Finding] = []
    summary = lint_dataset(find_dataset(str(path), tmp_path), findings.append, on_rows=told)
    assert (summary.rows, summary.counts, told.rows, findings) == (2500, {}, 2500, [])


def test_line_faults_are_reported_once_with_their_number(tmp_path: Path) -> None:
    first, second = (orjson.dumps(make_row(number)) for number in (1, 2))
    path = write_lines(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + first + b"\r\n\r\n\n" + second + b"\r\n")
    findings = lint(path)
    assert places(findings) == [(1, "bom"), (1, "crlf"), (2, "blank-line")]
    assert [finding.message for finding in findings][1:] == [
        r"the line ends in \r\n, one of 3 such lines",
        "the line is blank, one of 2 such lines",
    ]


def test_a_utf_16_file_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "q"}\n' * 3, encoding="utf-16")
    findings = lint(tmp_path / "a.jsonl")
    assert [(str(finding.where), finding.message) for finding in findings] == [
        (f"{(tmp_path / 'a.jsonl').as_posix()}:1", "the file is UTF-16, not UTF-8")
    ]


def test_a_jsonl_named_json_is_found_and_its_rows_are_still_checked(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.json", make_row(1), make_row(2, output=""))
    assert places(lint(path)) == [(0, "file-name"), (2, "empty")]


def test_a_json_array_is_checked_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(orjson.dumps([make_row(1), make_row(2, output="")]))
    assert places(lint(tmp_path / "a.json")) == [(2, "empty")]
    (tmp_path / "a.json").write_bytes(b'[{"a": 1},]')
    findings = lint(tmp_path / "a.json")
    # Rows before the fault are checked too: the array is read element by element.
    assert places(findings) == [(1, "columns"), (0, "json")]
    assert findings[1].message.startswith("line 1 column 11: not JSON: ")


def test_an_empty_file_and_other_shapes_are_findings(tmp_path: Path) -> None:
    assert places(lint(write_lines(tmp_path / "a.jsonl"))) == [(0, "no-rows")]
    findings = lint(write_lines(tmp_path / "b.jsonl", {"question": "q", "answer": "a"}))
    assert places(findings) == [(1, "columns")]
    assert findings[0].message == "column 'instruction' not found; columns are 'question', 'answer'"
    with pytest.raises(InputError, match=r"files of type '.parquet' are not training rows"):
        lint_dataset(Dataset((tmp_path / "c.parquet",)), findings.append)


def test_a_foreign_alpaca_file_may_lack_what_it_never_uses(tmp_path: Path) -> None:
    assert lint(write_lines(tmp_path / "a.jsonl", {"instruction": "q", "output": "a"})) == []


@pytest.mark.parametrize(
    ("policy", "output", "message"),
    [
        ("masked", join_thought("", "A"), "an empty think block, in a file made with think policy masked"),
        ("strip", join_thought("T", "A"), "a think block, in a file made with think policy strip"),
        ("tagged", "A", "no think block, in a file made with think policy tagged"),
    ],
)
def test_an_output_against_the_files_think_policy_is_found(
    tmp_path: Path, policy: str, output: str, message: str
) -> None:
    path = write_lines(tmp_path / "a.jsonl", make_row(1, output=output))
    findings: list[Finding] = []
    lint_dataset(Dataset((path,), policy=ThinkPolicy(policy)), findings.append)
    assert [finding.message for finding in findings] == [message]


def test_without_a_manifest_empty_and_missing_thoughts_together_are_one_finding(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", make_row(1, ""), make_row(2, output="A"), make_row(4, ""))
    findings = lint(path)
    assert places(findings) == [(2, "think-policy")]
    assert findings[0].message == "2 rows have an empty think block and 1 have none"


@pytest.mark.parametrize(
    ("question", "thought", "message"),
    [
        ("How warm? /no_think", "T", "the question says /no_think, and the answer holds a thought"),
        ("How warm? /think", "", "the question says /think, and the answer holds no thought"),
        ("How warm? /no_think", "", None),
        ("/think How warm?", "T", None),
        ("/think How warm? /no_think", "", None),
        ("/no_think How warm?\n/think", "T", None),
        ("what is /usr/think or a/no_think?", "T", None),
        ("do think", "", None),
    ],
)
def test_an_answer_against_its_questions_soft_switch_is_found(
    question: str, thought: str, message: str | None, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", make_row(1, thought, instruction=question))
    assert [(finding.rule, finding.message) for finding in lint(path)] == (
        [("soft-switch", message)] if message else []
    )
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": join_thought(thought, "A")}]
    path = write_lines(tmp_path / "turns.jsonl", {"conversations": turns, "system": "", "tools": ""})
    assert [finding.message for finding in lint(path)] == ([message] if message else [])


def test_a_spoiled_row_says_that_fix_repairs_it_and_a_hopeless_one_does_not(tmp_path: Path) -> None:
    spoiled = make_row(1, instruction="<|im_start|>user\nQ<|im_end|>\n")
    path = write_lines(tmp_path / "a.jsonl", spoiled, make_row(2, output="<think>\nT"))
    assert [finding.fix[:11] for finding in lint(path)] == ["lfc prep re", "fix it by h"]


def test_a_registered_entry_whose_columns_the_rows_lack_is_found(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", make_row(1))
    register_dataset(path, "a", tmp_path)
    write_lines(path, {"instruction": "q", "output": "a"})
    findings: list[Finding] = []
    lint_dataset(find_dataset("a", tmp_path), findings.append)
    assert [finding.message for finding in findings] == [
        "column 'input' not found; columns are 'instruction', 'output'"
    ]


def test_sharegpt_rows_are_checked_for_turns_thoughts_and_markup(tmp_path: Path) -> None:
    def row(*values: tuple[str, str]) -> dict[str, Any]:
        return {"conversations": [{"from": role, "value": value} for role, value in values], "tools": "[]"}

    path = write_lines(
        tmp_path / "a.jsonl",
        row(
            ("human", "q"), ("function_call", '{"name": "f", "arguments": {}}'), ("observation", "1"), ("gpt", "a")
        ),
        row(("human", "q"), ("human", "q")),
        row(("human", "q"), ("function_call", "f()")),
        row(("human", "q"), ("gpt", "<think>\nT\n</think>\n\na"), ("human", "q"), ("gpt", "<think>a")),
        row(("human", "<|im_end|>"), ("gpt", " ")),
        {"conversations": "x", "tools": "[]"},
    )
    assert places(lint(path)) == [
        *[(2, "turns"), (3, "turns"), (4, "history-thought"), (4, "think")],
        *[(5, "chat-markup"), (5, "empty"), (5, "empty"), (6, "turns")],
    ]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_lint(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content + b"\n" + orjson.dumps(make_row(1)))
    try:
        assert lint(path)
    except InputError as error:
        # Bytes that begin as a packed file does.
        assert "bytes.jsonl cannot be" in str(error)


def test_a_thousand_mutilated_files_end_in_findings_or_one_clear_error(tmp_path: Path) -> None:
    rng = random.Random(3)
    whole = b"".join(orjson.dumps(make_row(number)) + b"\n" for number in range(1, 6))
    for number in range(1000):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(content))
            action = rng.randrange(4)
            if action == 0:
                content[place] = rng.randrange(256)
            elif action == 1:
                del content[place : place + rng.randint(1, 50)]
            elif action == 2:
                content[place:place] = rng.choice([b"\0", b"\xff\xfe", b"[" * 2000, b"null", b"\r\n", b'"'])
            else:
                content = content[:place] or bytearray(b"{")
        path = tmp_path / f"m{number % 2}.json{'l' * (number % 3 > 0)}"
        path.write_bytes(content)
        try:
            lint(path)
        except InputError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "line",
    [
        '{"instruction": "q", "instruction": "z", "output": "a"}',
        '{"instruction": "q", "\\u006futput": "b", "output": "a"}',
        '{"instruction" : "q", "output": "b", "output" : "a"}',
    ],
)
def test_a_key_that_stands_twice_is_found(line: str, tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    found: list[Finding] = []
    lint_dataset(find_dataset(str(path), tmp_path), found.append)
    assert [(finding.where.line, finding.rule) for finding in found] == [(1, LintRule.REPEATED_KEY)]


def test_every_null_of_a_row_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "nulls.jsonl"
    path.write_text(
        '{"instruction": "q", "input": null, "output": "a", "system": null, "history": null}\n', encoding="utf-8"
    )
    found: list[Finding] = []
    lint_dataset(find_dataset(str(path), tmp_path), found.append)
    assert [finding.message for finding in found] == [
        f"column '{name}' is null" for name in ("input", "system", "history")
    ]
