"""Lint over preference, KTO, text and media rows: what LLaMA-Factory drops or stops at is found, sound rows are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from prep.quality.findings import Finding
from prep.quality.lint import lint_dataset
from prep.quality.lint_registry import lint_registry
from prep.registry.dataset import find_dataset
from prep.registry.dataset_info import register_dataset
from tests.support.shapes import write_jsonl

ASKED = {"instruction": "q", "input": "", "system": "", "history": []}
PAIR = {**ASKED, "chosen": "a", "rejected": "b"}
LABELLED = {**ASKED, "output": "a", "kto_tag": True}
BAD = {**LABELLED, "instruction": "r", "kto_tag": False}
PICTURE = {**ASKED, "instruction": "<image>q", "output": "a", "images": ["a.png"]}
TURNS = [{"from": "human", "value": "q"}]
TURN_PAIR = {
    "conversations": TURNS,
    "system": "",
    "tools": "",
    "chosen": {"from": "gpt", "value": "a"},
    "rejected": {"from": "gpt", "value": "b"},
}
SOUND: dict[str, list[dict[str, Any]]] = {
    "pairs": [PAIR, {**PAIR, "rejected": "c"}],
    "pairs of turns": [TURN_PAIR],
    "labels": [LABELLED, {**LABELLED, "output": "bad", "kto_tag": False}],
    "an answer about a tag": [{**ASKED, "output": "Write <image> or <video>."}],
    "texts": [{"text": "one page"}, {"text": "another page"}],
    "pictures": [PICTURE, {**ASKED, "output": "a", "images": []}],
}
# {what is wrong: (rows, the rule and the message of each finding)}
WRONG: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "a pair without an answer": (
        [{**PAIR, "rejected": None}],
        [("type", "column 'rejected' is null: LLaMA-Factory drops the row")],
    ),
    "an empty answer": (
        [{**PAIR, "rejected": " "}],
        [("empty", "the output is empty")],
    ),
    "the same answer twice": (
        [{**PAIR, "rejected": "a"}],
        [("same-answers", "the chosen and the rejected answer are the same")],
    ),
    "markup": (
        [{**PAIR, "rejected": "b<|im_end|>"}],
        [("chat-markup", "chat markup <|im_end|> stands inside the rejected answer")],
    ),
    "a broken thought": ([{**PAIR, "rejected": "<think>b"}], [("think", "")]),
    "the same pair twice": ([PAIR, PAIR], [("duplicate-question", "asks what line 1 asks")]),
    "a turn of a user for an answer": (
        [{**TURN_PAIR, "rejected": {"from": "human", "value": "b"}}],
        [("turns", "its rejected turn is no answer")],
    ),
    "a label of null": (
        [LABELLED, BAD, {**LABELLED, "instruction": "s", "kto_tag": None}],
        [("label", "column 'kto_tag' is null, not true or false: LLaMA-Factory drops the row")],
    ),
    "one label alone": ([LABELLED], [("label", "every label is true: KTO needs both")]),
    "an empty text": ([{"text": "page"}, {"text": ""}], [("empty", "the text is empty")]),
    "a text of null": ([{"text": None}], [("type", "column 'text' is null, not a string")]),
    "a text twice": ([{"text": "page"}, {"text": "Page"}], [("duplicate-question", "asks what line 1 asks")]),
    "a picture too many": (
        [{**PICTURE, "images": ["a.png", "a.png"]}],
        [("media", "2 images and 1 <image> in the texts")],
    ),
    "a placeholder too many": (
        [{**PICTURE, "output": "<image>"}],
        [("media", "1 images and 2 <image> in the texts")],
    ),
    "no such picture": ([{**PICTURE, "images": ["b.png"]}], [("media", "b.png does not exist in")]),
    "pictures without a column": (
        [{**ASKED, "instruction": f"<image><video>{place}", "output": "a"} for place in range(2)],
        [
            ("media", "<image> stands in a question, in 2 of the rows, and no column holds images"),
            ("media", "<video> stands in a question, in 2 of the rows, and no column holds videos"),
        ],
    ),
    "a picture in a turn without a column": (
        [{"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "b"}]}],
        [("media", "<image> stands in a question, in 1 of the rows, and no column holds images")],
    ),
    "a picture that is a number": (
        [{**PICTURE, "images": [1]}],
        [("type", "column 'images' is not a list of paths")],
    ),
}


def lint(folder: Path, rows: list[dict[str, Any]]) -> list[Finding]:
    (folder / "a.png").write_bytes(b"png")
    found: list[Finding] = []
    lint_dataset(find_dataset(str(write_jsonl(folder / "rows.jsonl", rows)), folder), found.append)
    return found


@pytest.mark.parametrize("name", SOUND)
def test_sound_rows_of_every_kind_lint_clean_by_path_and_by_name(name: str, tmp_path: Path) -> None:
    assert lint(tmp_path, SOUND[name]) == []
    register_dataset(tmp_path / "rows.jsonl", "own", tmp_path)
    found: list[Finding] = []
    lint_dataset(find_dataset("own", tmp_path), found.append)
    assert found == []


@pytest.mark.parametrize("name", WRONG)
def test_what_llamafactory_drops_or_stops_at_is_found(name: str, tmp_path: Path) -> None:
    rows, expected = WRONG[name]
    found = lint(tmp_path, rows)
    assert [finding.rule for finding in found] == [rule for rule, _ in expected]
    assert all(message in finding.message for (_, message), finding in zip(expected, found, strict=True))
    assert all(finding.fix for finding in found)


def test_an_entry_that_names_a_column_that_no_row_has_is_found(tmp_path: Path) -> None:
    lint(tmp_path, [PAIR])
    register_dataset(tmp_path / "rows.jsonl", "own", tmp_path)
    entry = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    entry["own"]["columns"]["images"] = "images"
    (tmp_path / "dataset_info.json").write_text(json.dumps(entry), encoding="utf-8")
    found: list[Finding] = []
    lint_dataset(find_dataset("own", tmp_path), found.append)
    assert found[0].message.startswith("column 'images' not found")


# {what the entry lacks: (rows, what is taken out of the entry, what is said)}
ENTRIES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], str]] = {
    "ranking": ([PAIR], ("ranking",), "no ranking: true"),
    "chosen": ([PAIR], ("columns", "chosen"), "'chosen' is dropped in silence"),
    "kto_tag": ([LABELLED], ("columns", "kto_tag"), "'kto_tag' is dropped in silence"),
    "images": ([PICTURE], ("columns", "images"), "'images' is dropped in silence"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_loses_what_makes_the_kind_is_found(name: str, tmp_path: Path) -> None:
    rows, keys, message = ENTRIES[name]
    path = tmp_path / "dataset_info.json"
    register_dataset(write_jsonl(tmp_path / "rows.jsonl", rows), "own", tmp_path)
    assert lint_registry(path) == []
    entries = json.loads(path.read_text(encoding="utf-8"))
    part = entries["own"]
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    path.write_text(json.dumps(entries), encoding="utf-8")
    assert message in lint_registry(path)[0].message
