"""Rows of every kind through mix, split, dedup and the index: one kind in one form, and no question on two sides."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from prep.combine.mix import MixOptions, mix_files
from prep.combine.split import SplitOptions, SplitSizes, split_file
from prep.errors import InputError, UserError
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import find_dataset
from prep.rows.row_file import RowFile
from prep.storage.row_index import index_path
from tests.support.shapes import write_jsonl


def alpaca(question: str, **more: Any) -> dict[str, Any]:
    return {"instruction": question, "input": "", **more, "system": "", "history": []}


def sharegpt(question: str, answers: int, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "yes"}][: 1 + answers]
    return {"conversations": turns, **more, "system": "", "tools": "[]"}


YES, NO = {"from": "gpt", "value": "yes"}, {"from": "gpt", "value": "<think>\nhm\n</think>\n\nno"}
# What a kind is called, and a row of it that asks a question.
KINDS: dict[str, Any] = {
    "sft (alpaca)": lambda question: alpaca(question, output="<think>\nhm\n</think>\n\nyes"),
    "sft (sharegpt)": lambda question: sharegpt(question, 1),
    "preference (alpaca)": lambda question: alpaca(question, chosen="yes", rejected="no"),
    "preference (sharegpt)": lambda question: sharegpt(question, 0, chosen=YES, rejected=NO),
    "kto (alpaca)": lambda question: alpaca(question, output="yes", kto_tag=True),
    "kto (sharegpt)": lambda question: sharegpt(question, 1, kto_tag=False),
    "text (alpaca)": lambda question: {"text": f"{question} <think> is no thought here."},
    "sft (alpaca, with images)": lambda question: alpaca(question, output="yes", images=["a.png"]),
    "sft (alpaca, with images and audios)": lambda question: alpaca(
        question, output="y", images=[], audios=["a.mp3"]
    ),
}


def write(folder: Path, kind: str, rows: int = 40) -> Path:
    made = [KINDS[kind](f"Question {number // 2}{'?' * (number % 2)}") for number in range(rows)]
    made = [{**row, "origin": f"s/f.jsonl:{number}"} for number, row in enumerate(made, 1)]
    return write_jsonl(folder / f"{kind}.jsonl", made)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_split_mixed_deduplicated_and_counted(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind)
    sides = split_file(path, tmp_path / "s", SplitOptions(SplitSizes(10))).outputs
    lines = {side: target.read_bytes().splitlines() for side, target in sides.items()}
    asked = {
        side: {line.replace(b"?", b"").partition(b'"origin"')[0] for line in found} for side, found in lines.items()
    }
    assert (len(lines["test"]), len(lines["train"])) == (10, 30)
    assert asked["test"] & asked["train"] == set()
    out = tmp_path / "mixed.jsonl"
    result = mix_files({"a": sides["train"], "b": sides["test"]}, out, MixOptions(dedup="question"))
    assert (result.rows, result.duplicates) == (20, 20)
    with RowFile(out) as file:
        assert (file.describe_form(0), file.form.kind.value) == (kind, kind.partition(" ")[0])
    dataset = find_dataset(str(out), tmp_path)
    stats = collect_stats(dataset, StatsOptions()).as_dict()
    index_path(out).unlink()
    assert collect_stats(dataset, StatsOptions()).as_dict() == stats
    assert stats["kinds"]["reasoning"] == (20 if kind == "sft (alpaca)" else 0)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(KINDS, 2)))
def test_rows_of_two_kinds_are_never_mixed(one: str, other: str, tmp_path: Path) -> None:
    parts = {"a": write(tmp_path, one, 2), "b": write(tmp_path, other, 2)}
    with pytest.raises(UserError) as caught:
        mix_files(parts, tmp_path / "mixed.jsonl", MixOptions())
    assert f"a is {one}, b is {other};" in str(caught.value)
    assert caught.value.hint
    both = tmp_path / "both.jsonl"
    both.write_bytes(parts["a"].read_bytes() + parts["b"].read_bytes())
    with pytest.raises(InputError) as refused:
        split_file(both, tmp_path / "s", SplitOptions(SplitSizes(1)))
    assert str(refused.value) == f"{both} row 3 is {other}, and row 1 is {one}"


@pytest.mark.parametrize("context", [{"system": "Be brief."}, {"history": [["a", "b"]]}, {"images": ["b.png"]}])
def test_a_question_in_another_context_is_another_question(context: dict[str, Any], tmp_path: Path) -> None:
    more = {"images": ["a.png"]} if "images" in context else {}
    rows = [alpaca("q", output="a", **more), alpaca("Q?", output="b", **more)]
    rows.append(alpaca("q", output="c", **more) | context)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    result = mix_files({"a": path}, tmp_path / "m.jsonl", MixOptions(dedup="question"))
    gone = (tmp_path / "m.jsonl.duplicates.jsonl").read_text(encoding="utf-8").splitlines()
    assert (result.rows, [json.loads(line)["row"]["output"] for line in gone]) == (2, ["b"])
