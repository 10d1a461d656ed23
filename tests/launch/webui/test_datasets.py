"""Each fault of a dataset that the WebUI meets in silence, said before the start."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.webui.datasets import check_datasets
from prep.errors import RegistryError
from prep.rows.kinds import ALPACA_COLUMNS

ROW = {"instruction": "q", "input": "", "output": "a", "system": "", "history": []}
VALUES = {"dataset": "good", "dataset_dir": "data"}


def write_rows(path: Path, rows: int = 2, prefix: bytes = b"") -> None:
    path.write_bytes(
        prefix + b"".join(json.dumps(ROW | {"instruction": f"q{n}"}).encode() + b"\n" for n in range(rows))
    )


def describe(file_name: str) -> dict[str, Any]:
    return {"file_name": file_name, "formatting": "alpaca", "columns": ALPACA_COLUMNS}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset folder with one good dataset."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "good.jsonl")
    write_registry(folder, {"good": describe("good.jsonl")})
    return folder


def write_registry(folder: Path, entries: object) -> None:
    (folder / "dataset_info.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")


def refuse(values: dict[str, Any] | None = None) -> str:
    with pytest.raises(RegistryError) as refused:
        check_datasets(values or VALUES)
    return str(refused.value)


def test_good_datasets_pass_without_a_word() -> None:
    assert check_datasets(VALUES) == []


def test_a_trailing_comma_is_shown_with_line_and_column(data: Path) -> None:
    (data / "dataset_info.json").write_text('{\n  "good": {"file_name": "good.jsonl"},\n}\n', encoding="utf-8")
    said = refuse()
    assert "data/dataset_info.json:2:38: error: a comma stands before the closing bracket" in said
    assert "Try: take it out" in said


def test_a_byte_order_mark_in_the_registry_is_refused(data: Path) -> None:
    path = data / "dataset_info.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "data/dataset_info.json:1:1: error: a byte order mark" in refuse()


def test_another_encoding_of_the_registry_is_refused(data: Path) -> None:
    (data / "dataset_info.json").write_bytes('{"good": {"file_name": "g\xfcte.jsonl"}}'.encode("latin-1"))
    assert "byte 0xfc is not UTF-8" in refuse()


def test_letters_beyond_ascii_in_the_registry_are_worth_a_note(data: Path) -> None:
    write_rows(data / "güte.jsonl")
    text = '{"good": {"file_name": "güte.jsonl", "columns": ' + json.dumps(ALPACA_COLUMNS) + "}}"
    (data / "dataset_info.json").write_text(text, encoding="utf-8")
    (note,) = check_datasets(VALUES)
    assert "is not ASCII" in note


def test_a_string_where_an_entry_should_be_is_refused(data: Path) -> None:
    write_registry(data, {"good": describe("good.jsonl"), "bad": "bad.jsonl"})
    assert "'bad': a JSON str, not an object" in refuse()


def test_a_comma_in_a_chosen_name_is_refused(data: Path) -> None:
    write_registry(data, {"good": describe("good.jsonl"), "a,b": describe("good.jsonl")})
    assert "'a,b'" in check_datasets(VALUES)[0]
    assert "'a,b': the name cannot be used" in refuse({"dataset": ["a,b"], "dataset_dir": "data"})


def test_a_blank_line_in_the_rows_is_refused(data: Path) -> None:
    path = data / "good.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    assert "data/good.jsonl:3" in refuse()


def test_a_byte_order_mark_in_the_rows_is_refused(data: Path) -> None:
    write_rows(data / "good.jsonl", prefix=b"\xef\xbb\xbf")
    assert "data/good.jsonl:1: error: the file begins with a byte order mark" in refuse()


def test_lines_of_json_in_a_file_named_json_are_refused(data: Path) -> None:
    write_rows(data / "good.json")
    write_registry(data, {"good": describe("good.json")})
    assert "one object a line, in a file named .json" in refuse()


def test_a_broken_row_is_shown_with_its_line(data: Path) -> None:
    path = data / "good.jsonl"
    path.write_bytes(path.read_bytes() + b'{"instruction": \n')
    assert "data/good.jsonl:3" in refuse()


def test_an_unknown_dataset_is_refused() -> None:
    assert "'other'" in refuse({"dataset": "other", "dataset_dir": "data"})


def test_a_missing_registry_is_refused_with_the_command_that_writes_one() -> None:
    with pytest.raises(RegistryError, match=r"dataset_info\.json does not exist") as refused:
        check_datasets({"dataset": "good", "dataset_dir": "nowhere"})
    assert "lfc prep register" in str(refused.value.hint)


def test_faults_of_datasets_that_the_config_does_not_name_are_notes(data: Path) -> None:
    write_rows(data / "other.jsonl", prefix=b"\xef\xbb\xbf")
    write_registry(data, {name: describe(f"{name}.jsonl") for name in ("good", "other", "gone")})
    gone, other = check_datasets(VALUES)
    assert "file_name 'gone.jsonl' does not exist" in gone
    assert other.startswith("dataset 'other': data/other.jsonl:1: the file begins with a byte order mark")


def test_preference_data_is_judged_by_what_the_page_can_read(data: Path) -> None:
    row = {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}
    (data / "good.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    write_registry(data, {"good": {"file_name": "good.jsonl", "ranking": True, "columns": columns}})
    assert check_datasets(VALUES) == []
