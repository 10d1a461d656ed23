"""A key that stands twice in one object: one of the two values would be lost, so every command tells of it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.rows.repeated_keys import find_repeated_key

GOOD = '{"instruction":"q","input":"","output":"a","system":"","history":[]}'
TWICE = '{"instruction":"q","instruction":"r","input":"","output":"a","system":"","history":[]}'
SAID = "names 'instruction' twice"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a":1,"a":2}', "a"),
        ('{"a" :1,"a":2}', "a"),
        ('{"a"\t:1,"a":2}', "a"),
        ('{"a"\n:1,"a":2}', "a"),
        ('{"a"\r:1,"a":2}', "a"),
        ('{"k":[{"z":1,"z":1}]}', "z"),
        ('{"a\\\\":1,"b":1,"b":2}', "b"),
        ('{"a":"\\":","a":2}', "a"),
        ('{"a":"\\":","b":2}', None),
        ('{"a\\\\\\":":1}', None),
        ('{"a":{"b":1},"b":{"a":1}}', None),
        ("[1]", None),
    ],
)
def test_a_key_that_stands_twice_is_found_however_it_is_written(text: str, key: str | None) -> None:
    import orjson

    assert find_repeated_key(text.encode(), orjson.loads(text)) == key


COMMANDS = {
    "convert": ("convert", "{file}", "-o", "{out}"),
    "lint": ("lint", "{file}"),
    "repair": ("repair", "{file}", "-o", "{out}"),
    "stats": ("stats", "{file}"),
    "register": ("register", "{file}", "--name", "x", "--dataset-dir", "{folder}"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "text"),
    [("in.jsonl", f"{GOOD}\n{TWICE}\n"), ("first.jsonl", f"{TWICE}\n{GOOD}\n"), ("in.json", f"[{GOOD},\n{TWICE}]")],
)
def test_every_command_tells_of_it(command: str, name: str, text: str, tmp_path: Path) -> None:
    path, out = tmp_path / name, tmp_path / "out.jsonl"
    path.write_text(text, encoding="utf-8")
    words = [word.format(file=path, out=out, folder=tmp_path / "data") for word in COMMANDS[command]]
    result = CliRunner().invoke(lfc, ["prep", *words])
    assert (result.exit_code, SAID in result.output) == (1, True), result.output
    assert not out.exists()
    assert not (tmp_path / "data" / "dataset_info.json").exists()


def test_convert_keeps_the_other_rows_when_it_may(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(f"{GOOD}\n{TWICE}\n", encoding="utf-8")
    words = ["prep", "convert", str(path), "-o", str(out), "--max-rejects", "1"]
    assert CliRunner().invoke(lfc, words).exit_code == 0
    assert len(out.read_bytes().splitlines()) == 1
    assert SAID in (tmp_path / "out.jsonl.rejects.jsonl").read_text(encoding="utf-8")
