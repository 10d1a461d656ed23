"""What LLaMA-Factory or its WebUI would trip over in dataset_info.json."""

import inspect
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from prep.errors import InputError
from prep.quality.lint_registry import SCHEMA_NAME, lint_registry
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
        (str(finding.where).removeprefix(prefix), finding.rule, finding.message) for finding in lint_registry(path)
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


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"ranking": "yes"}, "ranking: 'yes' is not of type 'boolean'"),
        ({"num_samples": "5"}, "num_samples: '5' is not of type 'integer', 'null'"),
        ({"num_samples": 0}, "num_samples: 0 is less than the minimum of 1"),
        ({"split": None}, "split: None is not of type 'string'"),
        ({"subset": 1}, "subset: 1 is not of type 'string', 'null'"),
        ({"column": {}}, "LLaMA-Factory knows no key 'column', and does not read it"),
        (
            {"columns": {**COLUMNS, "answer": "output"}},
            "columns: LLaMA-Factory knows no key 'answer', and does not read it",
        ),
        ({"tags": {"user": "human"}}, "tags: LLaMA-Factory knows no key 'user', and does not read it"),
    ],
)
def test_what_the_schema_refuses_is_told_of_an_entry_in_which_nothing_else_was_found(
    entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    row = {**ROW, "answer": ""} if "columns" in entry else ROW
    entry = {"columns": {**COLUMNS}, **entry}
    if message.startswith("columns: "):
        entry["columns"]["answer"] = "answer"
    assert lint_entry(tmp_path, row, **entry) == [("entry", message)]


def test_a_note_of_the_users_in_an_entry_is_no_fault(tmp_path: Path) -> None:
    assert lint_entry(tmp_path, ROW, columns=COLUMNS, _note="mine", comment="too") == []


def test_jsonschema_is_not_loaded_for_a_registry_in_which_something_was_found(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"a": {"file_name": "a.jsonl"}}')
    code = (
        "import sys; from pathlib import Path; from prep.quality.lint_registry import lint_registry;"
        f"assert lint_registry(Path({str(tmp_path / 'dataset_info.json')!r})); assert 'jsonschema' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_register_writes_is_what_the_schema_allows(tmp_path: Path) -> None:
    for name, row in (("alpaca", ROW), ("tools", TURNS)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        register_dataset(tmp_path / f"{name}.jsonl", name, tmp_path)
    assert lint_registry(tmp_path / "dataset_info.json") == []


@pytest.mark.stack
def test_the_schema_of_dataset_info_names_what_llamafactory_reads() -> None:
    from dataclasses import fields

    parser = pytest.importorskip("llamafactory.data.parser")
    schema = json.loads((files("llamafactory_configs") / "schemas" / SCHEMA_NAME).read_text("utf-8"))
    entry = schema["$defs"]["entry"]["properties"]
    known = {*entry, *entry["columns"]["properties"], *entry["tags"]["properties"]}
    where = {name for name in entry if name.endswith("_url") or name in ("file_name", "cloud_file_name")}
    attributes = {field.name for field in fields(parser.DatasetAttr)}
    assert known - where - {"columns", "tags"} == attributes - {"load_from", "dataset_name"}
    source = inspect.getsource(parser.get_dataset_list)
    assert all(f'"{name}"' in source for name in where)
