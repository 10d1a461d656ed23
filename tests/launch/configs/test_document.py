"""YAML is read as OmegaConf reads it, with the place of every key."""

from pathlib import Path
from typing import Any

import pytest

from launch.configs.document import Place, format_value, load_document, parse_document, parse_value
from prep.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("2e5", 2e5),
        ("1_000", 1000),
        ("yes", True),
        ("off", False),
        ("2026-01-02", "2026-01-02"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("[a, 1]", ["a", 1]),
        ("qwen3", "qwen3"),
        ("0x1F", 31),
    ],
)
def test_values_are_typed_as_omegaconf_types_them(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "value", ["1e-4", "1", "true", "null", "", "a: b", "中文", "2026-01-02", " x", "#no", 1e-05]
)
def test_a_formatted_value_reads_back_as_itself(value: Any) -> None:
    parsed = parse_value(format_value(value))
    assert parsed == value
    assert type(parsed) is type(value)


def test_format_value_stays_on_one_line() -> None:
    assert format_value({"a": [1, None], "b": "x" * 200}) == "{a: [1, null], b: " + "x" * 200 + "}"


def test_every_key_has_its_place_and_a_second_one_is_a_fault() -> None:
    document = parse_document("a: 1\n# note\nb:\n  c: 2\na: 3\n", "x.yaml")
    assert document.places["b.c"] == Place(4, 3)
    assert [(fault.key, fault.message) for fault in document.faults] == [("a", "is given twice, first on line 1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "x.yaml line 2 column 1: expected ',' or ']', but got '<stream end>'"),
        ("- a\n", "x.yaml must be `key: value` lines, not one list"),
        ("a\n", "x.yaml must be `key: value` lines, not one value"),
        ("# nothing\n", "x.yaml is empty"),
        ("a: 1\n---\nb: 2\n", "x.yaml line 2 column 1: but found another document"),
        (
            "a: !!python/name:os.system\n",
            "x.yaml line 1 column 4: the tag !!python/name:os.system is not one of plain values",
        ),
        ("\tb: 1\n", "x.yaml line 1 column 1: found character '\\t' that cannot start any token"),
    ],
)
def test_text_that_is_no_mapping_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "x.yaml")
    assert str(caught.value).startswith(message)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml does not exist") as caught:
        load_document(tmp_path / "no.yaml")
    assert caught.value.hint == "lfc launch config new PRESET -o FILE"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfstage: sft\n")
    assert load_document(path).values == {"stage": "sft"}
