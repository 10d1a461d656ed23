"""dataset_info.json: every other entry keeps its bytes, whatever happens."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.errors import InputError, RegistryError
from prep.registry.dataset_info import (
    SHAREGPT_TAGS,
    find_dataset_file,
    read_registry,
    register_dataset,
    remove_dataset,
)
from prep.rows.kinds import ALPACA_COLUMNS
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, write_manifest

ROOT = Path(__file__).parents[3]
ROW = {"instruction": "q", "input": "", "output": "a", "system": "", "history": []}
OTHERS = '{\n\t"théa" : {"file_name":"x.json" },\r\n\n  "b": {"hf_hub_url": "a/b", "n": 1.0}\n\n}  \n'


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or (ROW,)), encoding="utf-8")
    return path


def test_a_first_entry_names_every_column_and_loads_as_ascii(tmp_path: Path) -> None:
    result = register_dataset(write_rows(tmp_path / "数据.jsonl"), "医疗", tmp_path)
    registry = tmp_path / "dataset_info.json"
    assert registry.read_bytes().isascii()
    assert json.loads(registry.read_text(encoding="ascii")) == {
        "医疗": {"file_name": "数据.jsonl", "formatting": "alpaca", "columns": ALPACA_COLUMNS}
    }
    assert (result.changed, result.backup) == (True, None)


def test_other_entries_keep_every_byte_and_the_old_file_is_kept_as_backup(tmp_path: Path) -> None:
    registry = tmp_path / "dataset_info.json"
    registry.write_bytes(OTHERS.encode())
    result = register_dataset(write_rows(tmp_path / "m.jsonl"), "m", tmp_path)
    after = registry.read_bytes().decode()
    head, tail = OTHERS.split("\n\n}")
    assert after.startswith(f"{head},")
    assert after.endswith("\n\n}" + tail)
    assert list(json.loads(after)) == ["théa", "b", "m"]
    assert result.backup is not None
    assert result.backup.read_bytes() == OTHERS.encode()


def test_register_then_remove_gives_the_old_bytes_back(tmp_path: Path) -> None:
    registry = tmp_path / "dataset_info.json"
    registry.write_bytes(OTHERS.encode())
    register_dataset(write_rows(tmp_path / "m.jsonl"), "m", tmp_path)
    remove_dataset("m", tmp_path)
    assert registry.read_bytes() == OTHERS.encode()


@pytest.mark.parametrize(("name", "left"), [("théa", ["b"]), ("b", ["théa"])])
def test_remove_takes_one_entry_and_keeps_the_file_valid(tmp_path: Path, name: str, left: list[str]) -> None:
    (tmp_path / "dataset_info.json").write_bytes(OTHERS.encode())
    assert remove_dataset(name, tmp_path).entry == json.loads(OTHERS)[name]
    assert list(read_registry(tmp_path)) == left
    remove_dataset(left[0], tmp_path)
    assert read_registry(tmp_path) == {}


def test_removing_an_unknown_name_says_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_bytes(OTHERS.encode())
    with pytest.raises(RegistryError, match=r"dataset 'c' is not in .*; registered are théa, b"):
        remove_dataset("c", tmp_path)


def test_a_taken_name_is_refused_without_replace_and_replaced_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_bytes(OTHERS.encode())
    path = write_rows(tmp_path / "m.jsonl")
    with pytest.raises(RegistryError, match=r"'théa' is registered already, for x.json") as error:
        register_dataset(path, "théa", tmp_path)
    assert error.value.hint == "--replace, or another --name"
    assert (tmp_path / "dataset_info.json").read_bytes() == OTHERS.encode()
    register_dataset(path, "théa", tmp_path, replace=True)
    assert list(read_registry(tmp_path)) == ["théa", "b"]
    assert (tmp_path / "dataset_info.json").read_bytes().decode().endswith(OTHERS.partition(" },")[2])


def test_registering_the_same_again_changes_nothing(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl")
    register_dataset(path, "m", tmp_path)
    before = (tmp_path / "dataset_info.json").read_bytes()
    assert register_dataset(path, "m", tmp_path).changed is False
    assert (tmp_path / "dataset_info.json").read_bytes() == before
    assert not (tmp_path / "dataset_info.json.bak").exists()


@pytest.mark.parametrize("name", ["", "a,b", "a/b", "a\\b", 'a"b', " a", "a\n"])
def test_a_name_that_would_break_the_list_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="cannot be a dataset's name"):
        register_dataset(write_rows(tmp_path / "m.jsonl"), name, tmp_path)


def test_a_manifest_that_says_sharegpt_gives_an_entry_with_tags(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[]"}
    path = write_rows(tmp_path / "tools.jsonl", row)
    output = {"path": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path), "formatting": "sharegpt"}
    write_manifest(path, Manifest("convert", {}, "tagged", [], {}, output))
    assert register_dataset(path, "tools", tmp_path).entry == {
        "file_name": "tools.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "tools": "tools"},
        "tags": SHAREGPT_TAGS,
    }


def test_a_foreign_file_gets_only_the_columns_that_its_rows_have(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", {"instruction": "q", "input": "", "output": "a"})
    columns = register_dataset(path, "f", tmp_path).entry["columns"]
    assert columns == {"prompt": "instruction", "query": "input", "response": "output"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.jsonl", '{"question": "q"}\n', "m.jsonl row 1: column 'instruction' not found; columns are 'question'"),
        (
            "m.jsonl",
            '{"instruction": 1, "output": "a"}\n',
            "m.jsonl row 1: column 'instruction' is int, not a string",
        ),
        ("m.jsonl", "[1]\n", "m.jsonl line 1: a JSON list, not an object"),
        ("m.jsonl", '{"a": \n', "m.jsonl line 1: not JSON"),
        ("m.jsonl", "", "m.jsonl has no rows"),
        ("m.json", json.dumps(ROW) + "\n" + json.dumps(ROW), "m.json holds one object a line"),
    ],
)
def test_rows_that_are_not_what_the_entry_would_say_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RegistryError, match=message):
        register_dataset(tmp_path / name, "m", tmp_path)
    assert not (tmp_path / "dataset_info.json").exists()


def test_a_file_that_changed_after_its_manifest_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl")
    write_manifest(
        path, Manifest("convert", {}, "tagged", [], {}, {"path": "m.jsonl", "bytes": 1, "sha256": hash_file(path)})
    )
    with pytest.raises(RegistryError, match=r"was changed after its manifest m.manifest.json was written"):
        register_dataset(path, "m", tmp_path)


def test_a_file_of_another_type_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"files of type '.csv' are not training rows"):
        register_dataset(tmp_path / "m.csv", "m", tmp_path)
    with pytest.raises(InputError, match="does not exist or is not a file"):
        register_dataset(tmp_path / "n.jsonl", "m", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "a": {},\n}\n', "line [23] column "),
        (b"\xef\xbb\xbf{}", "line 1 column 1: Unexpected UTF-8 BOM"),
        (b'{"a": "\xc4"}', "is not UTF-8: byte 8 is 0xc4"),
        (b'{"a": 1}', "must be one JSON object whose values are objects"),
        (b'{"m": {}, "m": {}}', "names 'm' twice"),
    ],
)
def test_a_broken_registry_is_left_as_it_is_with_the_place_of_the_fault(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "dataset_info.json").write_bytes(content)
    with pytest.raises(RegistryError, match=message):
        register_dataset(write_rows(tmp_path / "x.jsonl"), "x", tmp_path)
    assert (tmp_path / "dataset_info.json").read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "info.json").write_text("{}", encoding="utf-8")
    (tmp_path / "dataset_info.json").symlink_to(tmp_path / "real" / "info.json")
    register_dataset(write_rows(tmp_path / "m.jsonl"), "m", tmp_path)
    assert (tmp_path / "dataset_info.json").is_symlink()
    assert "m" in json.loads((tmp_path / "real" / "info.json").read_text(encoding="utf-8"))


def test_find_dataset_file_returns_the_file_and_names_what_is_known(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl")
    register_dataset(path, "m", tmp_path)
    assert find_dataset_file("m", tmp_path) == path
    with pytest.raises(RegistryError, match="registered are m"):
        find_dataset_file("n", tmp_path)
    path.unlink()
    with pytest.raises(RegistryError, match=r"its file .* does not exist"):
        find_dataset_file("m", tmp_path)


json_leaves = st.none() | st.booleans() | st.integers() | st.text()
json_values = st.recursive(json_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=40, deadline=None)
@given(
    entries=st.dictionaries(st.text(), st.dictionaries(st.text(), json_values, max_size=3), max_size=4),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    is_ascii=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_valid_registry_survives_register_and_remove_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory,
    entries: dict[str, dict[str, object]],
    indent: int | str | None,
    is_ascii: bool,
    line_end: str,
) -> None:
    folder = tmp_path_factory.mktemp("registry")
    entries.pop("new", None)
    before = json.dumps(entries, indent=indent, ensure_ascii=is_ascii).replace("\n", line_end).encode()
    (folder / "dataset_info.json").write_bytes(before)
    register_dataset(write_rows(folder / "m.jsonl"), "new", folder)
    assert list(read_registry(folder)) == [*entries, "new"]
    remove_dataset("new", folder)
    after = (folder / "dataset_info.json").read_bytes()
    assert after == before if entries else json.loads(after) == {}


REGISTER_MANY = """
import sys
from pathlib import Path
from prep.registry.dataset_info import register_dataset
folder = Path(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    register_dataset(folder / "m.jsonl", f"name{number}", folder)
"""


def start_register(folder: Path, first: int, last: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", REGISTER_MANY, str(folder), str(first), str(last)], cwd=ROOT, stderr=subprocess.PIPE
    )


def test_50_concurrent_registers_lose_no_entry(tmp_path: Path) -> None:
    write_rows(tmp_path / "m.jsonl")
    children = [start_register(tmp_path, number, number + 1) for number in range(50)]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert (child.returncode, errors) == (0, b"")
    assert sorted(read_registry(tmp_path)) == sorted(f"name{number}" for number in range(50))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_kill_at_random_moments_leaves_a_valid_registry_that_the_next_run_can_change(tmp_path: Path) -> None:
    write_rows(tmp_path / "m.jsonl")
    registry = tmp_path / "dataset_info.json"
    registry.write_bytes(OTHERS.encode())
    rng = random.Random(5)
    known: set[str] = {"théa", "b"}
    for round_number in range(10):
        before = registry.read_bytes()
        child = start_register(tmp_path, round_number * 1000, round_number * 1000 + 1000)
        deadline = time.monotonic() + 60
        while registry.read_bytes() == before and time.monotonic() < deadline:
            time.sleep(0.002)
        # It is among its writes now, one every few milliseconds.
        time.sleep(rng.random() * 0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        entries = read_registry(tmp_path)
        assert known < entries.keys()
        assert {name: entries[name] for name in ("théa", "b")} == json.loads(OTHERS)
        known = set(entries)
    register_dataset(tmp_path / "m.jsonl", "last", tmp_path)
    assert "last" in read_registry(tmp_path)
