"""YAML that would never end, or is of no plain value: one clear error each, at once, from every reader of YAML."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.configs.document import format_entry, format_value, load_document, parse_document, parse_value
from launch.llamaboard.files import is_settings
from prep.errors import ConfigError
from prep.storage.bounded_yaml import MAX_BYTES, load_plain, read_text

TOO_MANY = "holds more than 10,000 values once its aliases are written out"
TOO_DEEP = "is nested deeper than 64 levels"
INSIDE = "the alias stands inside what it stands for"


def laugh(item: str, first: str) -> str:
    """Return forty lines, each of which names the one before it twice."""
    lines = [f"k0: &k0 {first}"]
    lines += [f"k{level}: &k{level} {item.replace('@', f'*k{level - 1}')}" for level in range(1, 41)]
    return "\n".join(lines) + "\n"


HOSTILE = {
    "aliases in mappings": (laugh("{a: @, b: @}", "{a: 1}"), TOO_MANY),
    "aliases in lists": (laugh("[@, @]", "[1]"), TOO_MANY),
    "aliases in merge keys": (laugh("{<<: [@, @]}", "{a: 1}"), TOO_MANY),
    "a long list": ("a: [" + "1," * 20_000 + "]\n", TOO_MANY),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(9_000)), TOO_MANY),
    "deep mappings": ("a: " + "{a: " * 5_000 + "1" + "}" * 5_000, TOO_DEEP),
    "deep lists": ("a: " + "[" * 100_000, TOO_DEEP),
    "deep by lines": ("".join(f"{' ' * level}a:\n" for level in range(200)), TOO_DEEP),
    "deep by aliases": (laugh("[@]", "[1]").replace("]\n", "]\n") + "z: " + "[" * 40 + "*k40" + "]" * 40, TOO_DEEP),
    "a list inside itself": ("a: &a [*a]\n", INSIDE),
    "a mapping inside itself": ("a: &a {b: *a}\n", INSIDE),
    "a merge of itself": ("a: &a {<<: *a, b: 1}\n", INSIDE),
    "a number without end": ("a: " + "9" * 500_000, "a number of 500,000 characters"),
    "a number of base 60": ("a: " + ":".join(["1"] * 100_000), "a number of 199,999 characters"),
    "python's own tag": ("a: !!python/object/apply:os.system [ls]\n", "the tag !!python/object/apply:os.system is not"),
    "a set": ("a: !!set {x}\n", "the tag !!set is not one of plain values"),
    "bytes": ("a: !!binary aGk=\n", "the tag !!binary is not one of plain values"),
    "a date by its tag": ("a: !!timestamp 2026-01-02\n", "the tag !!timestamp is not one of plain values"),
    "a tag of its own": ("a: !mine x\n", "the tag !mine is not one of plain values"),
    "an empty whole number": ("a: !!int ''\n", "holds a value that is not of its type"),
    "digits that are none": ("a: 0x_\n", "holds a value that is not of its type"),
    "a word for true": ("a: !!bool perhaps\n", "holds a value that is not of its type"),
    "a list as a key": ("[x]: y\n", "found unhashable key"),
    "half a surrogate": ('a: "\\uD800"\n', "the escape of U+D800, which no file takes"),
    "a null character": ('a: "x\\0y"\n', "the escape of U+0000, which no file takes"),
    "no character at all": ('a: "\\U00110000"\n', "holds an escape that is no character"),
    "a control character": ("a: \x1b[2J\n", "character U+001B at position 4 is not allowed in YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "but found another document"),
}  # fmt: skip
READERS: dict[str, Callable[[str], Any]] = {
    "config": lambda text: parse_document(text, "x.yaml"),
    "saved page": lambda text: load_plain(text, "x.yaml"),
    "override": parse_value,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", HOSTILE)
def test_every_reader_of_yaml_ends_at_once_with_one_error(case: str, reader: str) -> None:
    text, message = HOSTILE[case]
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        READERS[reader](text)
    assert time.process_time() - started < 5
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_variable_of_omegaconf_allows_more_values(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [" + "1," * 12_000 + "]\n"
    monkeypatch.setenv("OMEGACONF_MAX_YAML_EXPANDED_NODES", "20000")
    assert len(parse_document(text, "x.yaml").values["a"]) == 12_000
    monkeypatch.setenv("OMEGACONF_MAX_YAML_EXPANDED_NODES", "many")
    with pytest.raises(ConfigError, match="holds more than 10,000 values"):
        parse_document(text, "x.yaml")


def test_aliases_and_merge_keys_within_the_limits_are_read_as_ever() -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  y: 3\n"
    whole = {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}
    assert parse_document(text, "x.yaml").values == load_plain(text, "x.yaml") == whole


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a file"),
        pytest.param(make_pipe, "is not a file", marks=pytest.mark.skipif(os.name == "nt", reason="no pipes")),
        (lambda path: path.symlink_to(path), "cannot be read: "),
        (lambda path: path.write_bytes("a: é".encode("utf-16")), "cannot be read: it is UTF-16"),
        (lambda path: path.write_bytes("a: é".encode("latin-1")), "cannot be read: it is not UTF-8 at byte 3"),
        (lambda path: path.write_bytes(b"# " + b"x" * MAX_BYTES), "is larger than 1 MiB"),
    ],
    ids=["missing", "folder", "pipe", "link to itself", "UTF-16", "latin-1", "too large"],
)
@pytest.mark.parametrize("read", [load_document, is_settings, read_text], ids=["config", "saved page", "text"])
def test_what_is_no_readable_file_is_one_error(
    make: Callable[[Path], None], message: str, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.yaml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} {message}")


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_document(path).values == {"a": 1}


@pytest.mark.parametrize(
    ("text", "key"), [("1: a", "1"), ("true: a", "true"), ("null: a", "null"), ("1.5: a", "1.5")]
)
def test_a_key_that_is_no_text_is_a_fault(text: str, key: str) -> None:
    (fault,) = parse_document(text, "x.yaml").faults
    assert (fault.key, fault.message.partition(" of type")[0], fault.is_error) == (key, "is a key", True)


@pytest.mark.parametrize(
    "value", ["a\nb", "\r", "\x85", "\u2028x", "\x0b", "\x1b[0m", {"k": "l\n m"}, {"no": ["a: b\u2028 #c"]}]
)
def test_what_is_written_is_one_line_a_value_and_reads_back(value: Any) -> None:
    assert len(format_value(value).splitlines()) == 1
    assert parse_document(format_entry("key", value), "x.yaml").values == {"key": value}


@pytest.mark.parametrize("key", ["no", "a: b\nc", "# x", "1", "", "key", "- a"])
def test_a_key_is_written_as_the_key_that_it_is(key: str) -> None:
    document = parse_document(format_entry(key, "v"), "x.yaml")
    assert (document.values, document.faults) == ({key: "v"}, [])
