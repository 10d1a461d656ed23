"""Rows, tables, manifests, names and arguments of odd kinds: rejects or one error, never a traceback or a wait."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.errors import InputError
from prep.storage.manifests import manifest_path, read_manifest
from tests.support.lfc_runs import ROOT, convert
from tests.support.shapes import medical_rows, sharegpt_rows, write_jsonl

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX links, pipes and bytes in names")
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
DEEP = 10_000


def deep(opening: str, closing: str) -> str:
    return opening * DEEP + closing * DEEP


def call(text: str) -> dict[str, Any]:
    return {"conversations": [TURNS[0], {"from": "function_call", "value": text}], "tools": ""}


def arguments(text: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": text}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": function}]}]
    return {"messages": turns}


ROWS: dict[str, tuple[str, str]] = {
    "tools of deep lists": (json.dumps({"conversations": TURNS, "tools": deep("[", "]")}), "nested more than 100"),
    "tools of deep objects": (
        json.dumps({"conversations": TURNS, "tools": deep('{"a":', "}").replace("}", "1}", 1)}),
        "nested more than 100 levels deep",
    ),
    "tools just too deep": (json.dumps({"conversations": TURNS, "tools": "[" * 101 + "]" * 101}), "nested more"),
    "tools that are no text, deep": ('{"conversations": [], "tools": ' + "[" * 900 + "]" * 900 + "}", "no list of"),
    "a deep call": (json.dumps(call(deep("[", "]"))), "nested more than 100 levels deep"),
    "deep arguments": (json.dumps(arguments(deep("[", "]"))), "nested more than 100 levels deep"),
    "a deep row": ('{"conversations": ' + deep("[", "]") + "}", "not JSON"),
    "tools with NaN": (json.dumps({"conversations": TURNS, "tools": "[NaN]"}), "NaN is no number"),
    "tools with Infinity": (json.dumps({"conversations": TURNS, "tools": "[-Infinity]"}), "-Infinity is no number"),
    "tools with a huge integer": (
        json.dumps({"conversations": TURNS, "tools": "[" + "1" * 9_999 + "]"}),
        "not JSON",
    ),
    "half a pair in arguments": (
        json.dumps(arguments('{"a": "\\ud800"}')),
        "holds what JSON has no form for",
    ),
    "half a pair in a row": ('{"conversations": [{"from": "human", "value": "\\ud800"}]}', "not JSON"),
    "NaN in a row": ('{"conversations": NaN}', "not JSON"),
    "a number for tools": (json.dumps({"conversations": TURNS, "tools": 5}), "tools is not a JSON array"),
    "a turn that is a text": (
        '{"conversations": ["a", {"from": "gpt", "value": "b"}]}',
        "turn 1 is a string, and has no role and text",
    ),
    "a role of any length": (
        json.dumps({"conversations": [{"from": "x" * 100_000, "value": "q"}]}),
        "is of the unknown role",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_an_odd_row_is_a_reject_with_its_reason(case: str, tmp_path: Path) -> None:
    line, reason = ROWS[case]
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    first = json.dumps(good if "messages" in line[:12] else {"conversations": TURNS})
    path = tmp_path / "in.jsonl"
    path.write_text(f"{first}\n{line}\n", encoding="utf-8")
    assert convert(path, tmp_path / "out.jsonl", "--max-rejects", "1").exit_code == 0
    reject = json.loads((tmp_path / "out.jsonl.rejects.jsonl").read_text(encoding="utf-8"))
    assert reject["row"] == 2
    assert reason in reject["reason"]
    assert len(reject["reason"]) <= 1_001


def test_a_key_that_stands_twice_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "x", "question": "q", "answer": "a"}\n', encoding="utf-8")
    result = convert(path, tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert "names 'question' twice: one of the two would be lost" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


# ---- tables


def arrow_columns() -> dict[str, Callable[[], Any]]:
    """Return odd columns by name, of two values each."""
    import pyarrow as pa

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    when = datetime(2020, 1, 1, tzinfo=UTC)
    twice = pa.StructArray.from_arrays([pa.array(["a", "b"]), pa.array(["c", "d"])], ["from", "from"])
    return {
        "binary": lambda: pa.array([b"[]", b"\xff"], pa.binary()),
        "fixed binary": lambda: pa.array([b"ab", b"cd"], pa.binary(2)),
        "dictionary": lambda: pa.array(["a", "b"]).dictionary_encode(),
        "list of dictionaries": lambda: pa.ListArray.from_arrays(
            pa.array([0, 1, 2], pa.int32()), pa.array(["a", "b"]).dictionary_encode()
        ),
        "list of lists": lambda: pa.array([[["a"], None], None]),
        "map": lambda: pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string())),
        "decimal": lambda: pa.array([Decimal("1.5"), None]),
        "timestamp": lambda: pa.array([when, None]),
        "timestamp beyond Python's years": lambda: pa.array([2**62, 0], pa.timestamp("s")),
        "nanoseconds": lambda: pa.array([1, 2], pa.timestamp("ns", tz="Nowhere/Land")),
        "date beyond Python's years": lambda: pa.array([2**30, 0], pa.date32()),
        "duration": lambda: pa.array([2**62, 0], pa.duration("s")),
        "nothing": lambda: pa.nulls(2),
        "NaN": lambda: pa.array([float("nan"), float("inf")]),
        "null turns": lambda: pa.array([[None], None], pa.list_(turn)),
        "null texts": lambda: pa.array([[{"from": None, "value": None}], []], pa.list_(turn)),
        "large lists": lambda: pa.array([TURNS, TURNS], pa.large_list(turn)),
        "struct with a name twice": lambda: twice,
        "extension": lambda: (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16] * 2, pa.binary(16)))
            if hasattr(pa, "uuid")
            else pa.nulls(2)
        ),
    }


PLACES: dict[str, dict[str, Any]] = {
    "conversations": {},
    "tools": {"conversations": [TURNS, TURNS]},
    "system": {"conversations": [TURNS, TURNS]},
    "messages": {},
    "question": {"answer": ["a", "b"]},
    "history": {"instruction": ["q", "r"], "output": ["a", "b"]},
    "output": {"instruction": ["q", "r"]},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", arrow_columns())
def test_an_odd_column_ends_in_rows_rejects_or_one_error(kind: str, place: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.table({place: arrow_columns()[kind](), **PLACES[place]}), tmp_path / "in.parquet")
    except (pa.ArrowException, ValueError):
        pytest.skip("pyarrow does not write this")
    result = convert(tmp_path / "in.parquet", tmp_path / "out.jsonl", "--max-rejects", "1")
    made = [name for name in ("out.jsonl", "out_tools.jsonl") if (tmp_path / name).exists()]
    assert (result.exit_code == 0) == bool(made)
    assert result.exit_code == 0 or result.stderr.startswith("Error: ")
    where = convert(tmp_path / "in.parquet", tmp_path / "w.jsonl", "--where", f"{place}>=1", "--max-rejects", "2")
    assert where.exit_code == 0 or where.stderr.startswith("Error: ")


def write_table(folder: Path, columns: list[Any], names: list[str]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays(columns, names), folder / "in.parquet")
    return folder / "in.parquet"


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    turns = arrow_columns()["large lists"]()
    path = write_table(tmp_path, [turns, turns], ["conversations", "conversations"])
    expected = f"Error: {path} has the column 'conversations' 2 times\n  Try: rename all but one in the file\n"
    assert convert(path, tmp_path / "out.jsonl").stderr == expected
    table = tmp_path / "in.csv"
    table.write_text("question,answer,answer\nq,a,b\n", encoding="utf-8")
    assert f"{table} has the column 'answer' 2 times" in convert(table, tmp_path / "out.jsonl").stderr


def test_tables_without_columns_or_rows_say_so(tmp_path: Path) -> None:
    import pyarrow as pa

    assert "no rows in" in convert(write_table(tmp_path, [], []), tmp_path / "out.jsonl").stderr
    path = write_table(tmp_path, [pa.array([], pa.string()), pa.array([], pa.string())], ["question", "answer"])
    assert convert(path, tmp_path / "out.jsonl").stderr == f"Error: no rows in {path.as_posix()}\n"


def test_a_damaged_table_is_one_error(tmp_path: Path) -> None:
    import pyarrow as pa

    path = write_table(tmp_path, [pa.array(["q"] * 99), pa.array(["a" * 99] * 99)], ["question", "answer"])
    whole = path.read_bytes()
    damaged = [
        whole[:-9],
        whole[:-4] + b"PARE",
        b"PAR1" + whole[:8],
        b"PAR1",
        whole[:40] + b"\xff" * 30 + whole[70:],
    ]
    for content in damaged:
        path.write_bytes(content)
        result = convert(path, tmp_path / "out.jsonl", "--force", "--max-rejects", "99")
        assert result.exit_code == 0 or result.stderr.startswith("Error: ")


# ---- manifests beside an input

GOOD: dict[str, Any] = {
    "manifest_version": 1,
    "step": "convert",
    "options": {},
    "think_policy": "tagged",
    "inputs": [{"path": "raw.jsonl", "bytes": 1, "sha256": "0" * 64}],
    "counts": {"records": 3},
    "output": {"path": "a.jsonl", "bytes": 4, "sha256": "0" * 64},
    "tool": "x",
}
LOOP: dict[str, Any] = {**GOOD, "inputs": []}
for _ in range(60):
    LOOP = {**GOOD, "inputs": [{"path": "p", "sha256": "0", "manifest": LOOP}]}
MALFORMED: dict[str, object] = {
    "a list": [],
    "a number": 3,
    "a null": None,
    "of no version": {"evil": 1},
    "of another version": {**GOOD, "manifest_version": 2},
    "an unknown field": {**GOOD, "evil": 1},
    "a field missing": {key: value for key, value in GOOD.items() if key != "counts"},
    "a step that is no text": {**GOOD, "step": 1},
    "options that are a list": {**GOOD, "options": []},
    "an unknown policy": {**GOOD, "think_policy": "evil"},
    "a policy of another type": {**GOOD, "think_policy": ["tagged"]},
    "inputs that are a number": {**GOOD, "inputs": 5},
    "an input that is a text": {**GOOD, "inputs": ["raw.jsonl"]},
    "an input without a path": {**GOOD, "inputs": [{"sha256": "0"}]},
    "an input with a NUL": {**GOOD, "inputs": [{"path": "a\0b", "sha256": "0"}]},
    "an input whose manifest is none": {**GOOD, "inputs": [{"path": "p", "sha256": "0", "manifest": {"step": 1}}]},
    "manifests without end": LOOP,
    "counts that are null": {**GOOD, "counts": None},
    "a count that is a text": {**GOOD, "counts": {"records": "many"}},
    "a count that is NaN": {**GOOD, "counts": {"records": float("nan")}},
    "an output that is a text": {**GOOD, "output": "a.jsonl"},
    "a size that is a text": {**GOOD, "output": {"bytes": "4"}},
    "a size that is true": {**GOOD, "output": {"bytes": True}},
    "a size below zero": {**GOOD, "output": {"bytes": -1}},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_manifest_is_one_error(case: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", medical_rows())
    manifest_path(path).write_text(json.dumps(MALFORMED[case]), encoding="utf-8")
    result = convert(path, tmp_path / "out.jsonl")
    assert (result.exit_code, result.stderr.startswith(f"Error: {manifest_path(path)} is not a manifest")) == (
        1,
        True,
    )
    assert "  Try: make the data file again, or move the manifest away\n" in result.stderr


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"null", b"1" * 9_999]
)
def test_a_manifest_that_is_no_json_is_one_error(content: bytes, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", medical_rows())
    manifest_path(path).write_bytes(content)
    result = convert(path, tmp_path / "out.jsonl")
    assert (result.exit_code, result.stderr.startswith(f"Error: {manifest_path(path)} ")) == (1, True)


@posix_only
def test_a_manifest_that_is_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", medical_rows())
    os.mkfifo(manifest_path(path))
    assert "it is no file" in convert(path, tmp_path / "out.jsonl").stderr
    manifest_path(path).unlink()
    manifest_path(path).symlink_to("/dev/zero")
    assert "it is no file" in convert(path, tmp_path / "out.jsonl").stderr


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(GOOD)), part=st.sampled_from(["", "path", "bytes", "sha256"]), value=json_values)
def test_any_value_anywhere_in_a_manifest_is_judged(name: str, part: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"row\n")
    content = json.loads(json.dumps(GOOD))
    if part and name in ("inputs", "output"):
        (content["inputs"][0] if name == "inputs" else content["output"])[part] = value
    else:
        content[name] = value
    manifest_path(path).write_text(json.dumps(content), encoding="utf-8")
    with suppress(InputError):
        read_manifest(path)


# ---- names, places and arguments


def run_in(folder: Path, *words: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable.encode(), b"-m", b"launch", b"prep", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=60, check=False)


@posix_only
def test_a_file_of_a_folder_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_jsonl(Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.jsonl")), medical_rows())
    result = run_in(tmp_path, b"convert", b"in", b"-o", b"out.jsonl", b"--json")
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["counts"]["records"] == len(medical_rows())


@posix_only
@pytest.mark.parametrize(
    "option", [(b"--system", b"\xff"), (b"--map", b"answer=\xff"), (b"--where", b"a==\xff"), (b"\xff",)]
)
def test_arguments_that_are_no_text_are_refused(option: tuple[bytes, bytes], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", medical_rows())
    result = run_in(tmp_path, b"convert", b"in.jsonl", b"-o", b"out.jsonl", *option)
    assert result.returncode == 1
    assert re.match(
        rb"Error: argument [67], '[^\n]*\\udcff', holds bytes that are no text in utf-8\n", result.stderr
    )
    assert not (tmp_path / "out.jsonl").exists()


@posix_only
def test_a_deleted_working_folder_is_one_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", medical_rows())
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys; os.chdir(sys.argv.pop(1)); os.rmdir(os.getcwd()); "
        "from launch.cli import main; sys.argv[0] = 'lfc'; main()"
    )
    for source, target in (("in.jsonl", "out.jsonl"), (f"{tmp_path}/in.jsonl", "out.jsonl")):
        command = [sys.executable, "-c", code, str(gone), "prep", "convert", source, "-o", target]
        gone.mkdir(exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stderr.startswith("Error: ")) == (1, True), result.stderr


@posix_only
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
    names = (
        "pipe.jsonl",
        "zero.jsonl",
        "loop.jsonl",
        "folder",
        "/dev/zero",
        "x" * 300 + ".jsonl",
        "missing/*.jsonl",
    )
    for name in names:
        result = convert(tmp_path / name, tmp_path / "out.jsonl")
        assert (result.exit_code, result.stderr.startswith("Error: ")) == (1, True), name
    result = convert(write_jsonl(tmp_path / "in.jsonl", sharegpt_rows()), tmp_path / ("x" * 250 + ".jsonl"))
    assert (result.exit_code, "file name too long" in result.stderr) == (1, True)
