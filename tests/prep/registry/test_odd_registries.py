"""dataset_info.json and paths as nobody should write them: findings or one error, in bounded time."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc

ROW = '{"instruction": "q%d", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}\n'
ENTRY = {"file_name": "s.jsonl"}
ODD: dict[str, list[Any]] = {
    "file_name": [5, None, [], "../../../etc/passwd", "/dev/zero", "loop.jsonl", "pipe.jsonl", "x" * 5_000],
    "columns": [5, [], "x", {"prompt": 5}, {"prompt": []}, {"messages": {}}],
    "tags": [5, ["a"], {"user_tag": {}}, {"role_tag": None}],
    "formatting": [5, {}, "evil", "\x1b[2J"],
}


def write_rows(folder: Path) -> Path:
    (folder / "s.jsonl").write_text("".join(ROW % number for number in range(3)), encoding="utf-8")
    return folder / "s.jsonl"


def run(*arguments: object) -> int:
    result = CliRunner().invoke(lfc, ["prep", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0 or "Error: " in result.stderr or " finding" in result.stdout
    assert "\x1b" not in result.output
    return result.exit_code


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"d": "x"}',
        b'{"d": NaN}',
        b'{"d": {"file_name": "s.jsonl"},}',
        b'{"d": {"file_name": "t.jsonl"}, "d": {"file_name": "s.jsonl"}}',
        b"\xef\xbb\xbf" + json.dumps({"d": ENTRY}).encode(),
        json.dumps({"d": ENTRY}).encode("utf-16"),
        b"[" * 100_000,
        b'{"d": ' + b"1" * 5_000 + b"}",
        *(json.dumps({"d": {**ENTRY, key: value}}).encode() for key, values in ODD.items() for value in values),
    ],
)
def test_an_odd_registry_ends_in_findings_or_one_error(content: bytes, tmp_path: Path) -> None:
    path = write_rows(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    registry = tmp_path / "dataset_info.json"
    registry.write_bytes(content)
    run("lint", registry)
    run("lint", "d", "--dataset-dir", tmp_path)
    run("stats", "d", "--dataset-dir", tmp_path)
    run("split", path, "--test", 1, "-o", tmp_path / "z")
    run("register", path, "--name", "n", "--dataset-dir", tmp_path)


@pytest.mark.parametrize("name", ["pipe.jsonl", "loop.jsonl", "folder.jsonl", "/dev/zero", "missing.jsonl", "."])
def test_what_is_no_file_is_never_opened(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    path = tmp_path / name
    assert run("mix", f"a={path}", "-o", tmp_path / "out.jsonl") == 1
    assert run("split", path, "--test", 1, "-o", tmp_path / "z") == 1
    assert run("explain", f"{path}:1") == 1
    assert run("stats", path) == 1
    assert run("lint", path) == 1
    assert run("repair", path, "-o", tmp_path / "out.jsonl") == 1
    assert run("register", path, "--name", "n", "--dataset-dir", tmp_path) == 1


@pytest.mark.parametrize("target", ["dataset_info.json", "/dev/zero"])
def test_a_registry_that_is_no_file_is_one_error(target: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path)
    (tmp_path / "dataset_info.json").symlink_to(target)
    assert run("register", path, "--name", "n", "--dataset-dir", tmp_path) == 1
    assert run("lint", tmp_path / "dataset_info.json") == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("words", [("register", "FILE", "--name", "x"), ("unregister", "x")])
def test_a_link_to_nothing_makes_no_file_elsewhere(words: tuple[str, ...], tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere.json"
    data.mkdir()
    (data / "dataset_info.json").symlink_to(elsewhere)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction":"q","input":"","output":"a"}\n', encoding="utf-8")
    given = [str(rows) if word == "FILE" else word for word in words]
    result = CliRunner().invoke(lfc, ["prep", *given, "--dataset-dir", str(data)])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert not elsewhere.exists()
