"""What LLaMA-Factory or its WebUI would trip over in dataset_info.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from prep.errors import InputError
from prep.quality.lint_registry import lint_registry
from prep.registry.dataset_info import register_dataset

ROW = {"instruction": "q", "input": "more", "output": "a", "system": "", "history": []}
TURNS = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[]"}
COLUMNS = {name: name for name in ("system", "history")} | {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
}


def lint_text(folder: Path, text: str | bytes) -> list[tuple[str, str, str]]:
    path = folder / "dataset_info.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    prefix = path.as_posix()
    return [
        (finding.place.removeprefix(prefix), finding.kind.value, finding.message) for finding in lint_registry(path)
    ]


def lint_entry(folder: Path, row: object, **entry: Any) -> list[tuple[str, str]]:
    (folder / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    found = lint_text(folder, json.dumps({"a": {"file_name": "a.jsonl", **entry}}))
    return [(kind, message.removeprefix("'a': ")) for _, kind, message in found]


@pytest.mark.parametrize(
    ("text", "place", "kind", "message"),
    [
        ('{\n  "a": {"x": 1},\n}\n', ":2:16", "json", "a comma stands before the closing bracket"),
        ('{\n  "a": {"x": [1,]}}\n', ":2:16", "json", "a comma stands before the closing bracket"),
        ('{\n  "a" {}}\n', ":2:7", "json", "Expecting ':' delimiter"),
        (b'{\n "a": {"f": "\xc4\xe3"}}', ":2:14", "encoding", "byte 0xc4 is not UTF-8"),
        ("[]", ":1:1", "not-object", "a JSON list, not an object of entries"),
        ('{"a": 1}', ":1:2", "not-object", "'a': a JSON int, not an object"),
        ("[" * 100_000, ":1:1", "json", "nested too deeply"),
        (
            '{\n\n "é": {"hf_hub_url": "a/b"}}',
            ":3:3",
            "encoding",
            "'é' is not ASCII: LLaMA-Factory reads the file in the locale's encoding",
        ),
        (
            '{\n "data/a.jsonl": {"hf_hub_url": "a/b"}}',
            ":2:2",
            "name",
            "'data/a.jsonl': the name cannot be used: a name is a key, not a path",
        ),
        (
            '{"a": {"hf_hub_url": "x"},\n "a": {"hf_hub_url": "y"}}',
            ":2:2",
            "name",
            "'a': the name stands 2 times: only the last entry counts",
        ),
        (
            '{"a": {"formatting": "chatml", "file_name": "a"}}',
            ":1:2",
            "formatting",
            "'a': formatting 'chatml' is unknown; allowed are alpaca, sharegpt, openai",
        ),
        ('{"a": {}}', ":1:2", "missing-file", "'a': the entry names no file_name and no hub"),
    ],
)
def test_each_fault_is_told_with_line_and_column(
    tmp_path: Path, text: str | bytes, place: str, kind: str, message: str
) -> None:
    assert lint_text(tmp_path, text) == [(place, kind, message)]


def test_a_comma_in_a_name_and_a_missing_file_are_both_told(tmp_path: Path) -> None:
    assert lint_text(tmp_path, '{"a,b": {"file_name": "x.jsonl"}}') == [
        (
            ":1:2",
            "name",
            "'a,b': the name cannot be used: commas, slashes, quotes, control characters and outer spaces break it",
        ),
        (":1:2", "missing-file", f"'a,b': file_name 'x.jsonl' does not exist in {tmp_path.as_posix()}"),
    ]


def test_a_name_that_no_terminal_can_print_is_told_escaped(tmp_path: Path) -> None:
    found = lint_text(tmp_path, r'{"\ud800": {"hf_hub_url": "a/b"}}')
    assert [message[:12] for _, _, message in found] == [r"'\ud800': the"[:12]]


def test_a_byte_order_mark_is_told_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    kinds = [kind for _, kind, _ in lint_text(tmp_path, b'\xef\xbb\xbf{"a": {}}')]
    assert kinds == ["bom", "missing-file"]


def test_what_register_writes_has_no_fault(tmp_path: Path) -> None:
    for name, row in (("a", ROW), ("b", TURNS)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        register_dataset(path, name, tmp_path)
    assert lint_registry(tmp_path / "dataset_info.json") == []


def test_a_partial_column_map_drops_columns_and_is_told_for_each(tmp_path: Path) -> None:
    columns = {"prompt": "instruction", "response": "output"}
    assert lint_entry(tmp_path, ROW, columns=columns) == [
        ("columns", f"columns lists no {name}, so the rows' '{column}' is dropped in silence")
        for name, column in (("query", "input"), ("system", "system"), ("history", "history"))
    ]


def test_without_columns_llamafactory_reads_no_system_and_no_history(tmp_path: Path) -> None:
    assert lint_entry(tmp_path, {"instruction": "q", "input": "", "output": "a", "system": "s"}) == [
        (
            "columns",
            "without columns, LLaMA-Factory reads no system, so the rows' 'system' is dropped in silence",
        )
    ]
    assert lint_entry(tmp_path, {"instruction": "q", "input": "", "output": "a"}) == []


def test_a_column_that_no_row_has_is_told(tmp_path: Path) -> None:
    assert lint_entry(tmp_path, {"instruction": "q", "output": "a"}, columns=COLUMNS) == [
        ("columns", f"{name} is column '{column}', which the rows do not have: a KeyError in LLaMA-Factory")
        for name, column in (("system", "system"), ("history", "history"), ("query", "input"))
    ]
    assert lint_entry(tmp_path, ROW, columns="instruction") == [("columns", "columns is not an object of strings")]


def test_tags_that_do_not_match_the_turns_are_told(tmp_path: Path) -> None:
    columns = {"messages": "conversations", "tools": "tools"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    assert lint_entry(tmp_path, TURNS, formatting="sharegpt", columns=columns, tags=tags) == [
        ("tags", "the turns have no 'role'; they have 'from', 'value'")
    ]
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "gpt"}
    assert lint_entry(tmp_path, TURNS, formatting="sharegpt", columns=columns, tags=tags) == [
        ("tags", "no tag is 'human', which turns carry: LLaMA-Factory skips such rows")
    ]
    assert lint_entry(tmp_path, TURNS, formatting="sharegpt", columns={"messages": "conversations"}) == [
        ("columns", "columns lists no tools, so the rows' 'tools' is dropped in silence")
    ]


def test_turns_of_odd_types_do_not_crash_the_lint(tmp_path: Path) -> None:
    shapes: list[Any] = [5, "x", ["x"], [[1]], [None], {}, []]
    for turns in shapes:
        assert isinstance(lint_entry(tmp_path, {"conversations": turns}, formatting="sharegpt"), list)


def test_a_registry_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: no such file or directory"):
        lint_registry(tmp_path / "dataset_info.json")
