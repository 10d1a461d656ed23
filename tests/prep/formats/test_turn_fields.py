"""A turn's fields are used, known to be about it, or refused with the option that decides."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.errors import RecordError
from prep.formats import messages
from prep.formats.reading import ROLE_FIELDS, TEXT_FIELDS, Reading
from prep.rows.records import Exchange
from prep.rows.thinking import THOUGHT_FIELDS
from tests.support.shapes import write_jsonl

ABOUT = (
    "id",
    "name",
    "timestamp",
    "tool_call_id",
    "model",
    "source_url",
    "昵称",
    "时间",
    "finish_reason",
    "hashed_ip",
)
LOST = ("emotion", "情绪", "channel", "info", "translation", "refusal", "rejected_content")


def read(turn: dict[str, Any], asked: dict[str, Any] | None = None, reading: Reading | None = None) -> Exchange:
    turns = [asked or {"role": "user", "content": "q"}, turn]
    exchange = messages.read_exchanges({"messages": turns}, reading or Reading())[-1]
    assert isinstance(exchange, Exchange)
    return exchange


def convert(rows: list[dict[str, Any]], folder: Path, *options: str) -> Result:
    source = write_jsonl(folder / "in.jsonl", rows)
    return CliRunner().invoke(lfc, ["prep", "convert", str(source), "-o", str(folder / "out.jsonl"), *options])


@pytest.mark.parametrize("role", ROLE_FIELDS)
@pytest.mark.parametrize("text", TEXT_FIELDS)
def test_every_name_of_role_and_text_is_read(role: str, text: str) -> None:
    for spell in (str, str.upper, str.title):
        asked, answered = ({spell(role): who, spell(text): who[0]} for who in ("user", "assistant"))
        assert read(answered, asked)[:3] == ("u", "", "a")


@pytest.mark.parametrize("field", THOUGHT_FIELDS)
def test_every_name_of_a_thought_is_read_a_list_of_texts_too(field: str) -> None:
    for thought in ("T\nU", ["T", "U"]):
        assert read({"role": "assistant", "content": "a", field: thought}).thought == "T\nU"


@pytest.mark.parametrize("field", ABOUT)
def test_what_is_known_to_be_about_a_turn_is_passed_over(field: str) -> None:
    assert read({"role": "assistant", "content": "a", field: "x"}).answer == "a"


@pytest.mark.parametrize("field", LOST)
@pytest.mark.parametrize("value", ["x", 1, True, ["x"], {"x": None}])
def test_what_may_carry_meaning_is_refused_with_the_option_that_decides(field: str, value: object) -> None:
    turn = {"role": "assistant", "content": "a", field: value}
    with pytest.raises(RecordError) as error:
        read(turn)
    assert str(error.value) == f"message 2: the field '{field}' would be lost: a turn has no place for it"
    assert str(error.value.hint).startswith(f"--drop {field} leaves it out")
    assert read(turn, reading=Reading(dropped=frozenset({field}))).answer == "a"


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_field_that_is_empty_holds_nothing_to_lose(value: object) -> None:
    assert read({"role": "assistant", "content": "a", "emotion": value}).answer == "a"


def test_two_texts_of_one_turn_are_asked_about_unless_they_are_the_same() -> None:
    assert read({"role": "assistant", "content": "a", "text": "a"}).answer == "a"
    with pytest.raises(RecordError, match="the field 'text' would be lost"):
        read({"role": "assistant", "content": "a", "text": "b"})
    kept = Reading(fields={"content": "text"}, dropped=frozenset({"content"}))
    asked = {"role": "user", "text": "q"}
    assert read({"role": "assistant", "content": "a", "text": "b"}, asked, kept).answer == "b"


def test_fields_of_ones_own_are_mapped_by_the_command(tmp_path: Path) -> None:
    turns = [{"谁": "用户", "话": "问", "情绪": "急"}, {"谁": "客服", "话": "答", "心里": "想"}]
    rows = [{"conversations": turns}]
    refused = convert(rows, tmp_path)
    assert refused.exit_code == 1
    assert "its fields are '谁', '话', '情绪'" in refused.stderr
    assert "--map role=谁 --map content=话" in refused.stderr
    mapped = ["--map", "role=谁", "--map", "content=话"]
    assert "--drop 情绪" in convert(rows, tmp_path, *mapped).stderr
    result = convert(rows, tmp_path, *mapped, "--drop", "情绪", "--map", "thinking=心里")
    assert result.exit_code == 0, result.stderr
    row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert (row["instruction"], row["output"]) == ("问", "<think>\n想\n</think>\n\n答")


def test_names_of_turns_have_no_place_where_there_are_no_turns(tmp_path: Path) -> None:
    result = convert([{"question": "q", "answer": "a"}], tmp_path, "--map", "role=x", "--format", "medical-cot")
    assert result.exit_code == 1
    assert "medical-cot has no column 'role' to map" in result.stderr
    missing = convert([{"question": "q", "answer": "a"}], tmp_path, "--drop", "emotion")
    assert "column 'emotion' of --drop not found" in missing.stderr


@pytest.mark.parametrize("field", ["images", "image", "image_path", "图片"])
def test_files_that_a_turn_names_are_used(field: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    for text, wanted in (("What?", "<image>What?"), ("See <image>: what?", "See <image>: what?")):
        asked = {"role": "user", "content": text, field: ["a.png"]}
        result = convert([{"messages": [asked, {"role": "assistant", "content": "Red."}]}], tmp_path, "--force")
        assert result.exit_code == 0, result.stderr
        row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
        assert (row["instruction"], row["images"]) == (wanted, ["a.png"])
