"""Splitting: no question on two sides, exact sizes, every source in its proportion, test sets kept clean."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prep.combine.mix import MixOptions, mix_files
from prep.combine.split import SplitOptions, SplitResult, SplitSizes, split_file
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.errors import OutputError, UserError
from prep.registry.dataset_info import register_dataset
from prep.rows.questions import normalise_question
from prep.storage.manifests import read_manifest
from tests.support.shapes import sharegpt_rows, write_jsonl


def convert(folder: Path, name: str, questions: list[str]) -> Path:
    raw = write_jsonl(folder / f"{name}-raw.jsonl", [{"question": text, "answer": "x"} for text in questions])
    convert_files([raw], folder / f"{name}.jsonl", ConvertOptions())
    return folder / f"{name}.jsonl"


def split(path: Path, test: float, val: float = 0, **options: Any) -> SplitResult:
    return split_file(path, path.with_name("s"), SplitOptions(SplitSizes(test, val), **options))


def read_side(result: SplitResult, side: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.outputs[side].read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What  is ＡＦＰ?", "what is afp", True),
        ("发热，三天！", "发热三天", True),
        ("2*5?", "25?", False),
        ("x = -3", "x = 3", False),
        ("3.5", "35", False),
        ("a+b", "ab", False),
        ("Hello - world.", "hello world", True),
    ],
)
def test_questions_are_compared_without_case_width_and_punctuation(one: str, other: str, same: bool) -> None:
    assert (normalise_question(one) == normalise_question(other)) == same


def test_the_sides_have_their_exact_sizes_and_hold_every_row_once(tmp_path: Path) -> None:
    path = convert(tmp_path, "a", [f"question {number}" for number in range(100)])
    result = split(path, 13, 0.1)
    assert result.rows == {"test": 13, "val": 10, "train": 77}
    lines = [line for target in result.outputs.values() for line in target.read_bytes().splitlines()]
    assert sorted(lines) == sorted(path.read_bytes().splitlines())


def test_no_question_stands_on_two_sides(tmp_path: Path) -> None:
    questions = [f"Question {number % 40}{'?' * (number // 40)}" for number in range(120)]
    result = split(convert(tmp_path, "a", questions), 30, 30)
    assert result.rows == {"test": 30, "val": 30, "train": 60}
    keys = [{normalise_question(row["instruction"]) for row in read_side(result, side)} for side in result.outputs]
    assert keys[0] & keys[1] == keys[0] & keys[2] == keys[1] & keys[2] == set()


def test_the_rows_of_one_conversation_stay_together(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        row = json.loads(json.dumps(sharegpt_rows()[2]))
        for turn in row["conversations"]:
            turn["value"] += f" {number}"
        rows.append(row)
    convert_files([write_jsonl(tmp_path / "raw.jsonl", rows)], tmp_path / "a.jsonl", ConvertOptions())
    result = split(tmp_path / "a.jsonl", 10)
    conversations = [
        {row["origin"].partition("#")[0] for row in read_side(result, side)} for side in result.outputs
    ]
    assert conversations[0] & conversations[1] == set()
    assert result.rows == {"test": 10, "train": 50}


def test_each_side_holds_the_sources_in_proportion_and_sums_exactly(tmp_path: Path) -> None:
    parts = {
        name: convert(tmp_path, name, [f"{name} {number}" for number in range(rows)])
        for name, rows in (("a", 70), ("b", 21), ("c", 9))
    }
    mix_files(parts, tmp_path / "mixed.jsonl", MixOptions())
    result = split(tmp_path / "mixed.jsonl", 17)
    counts = Counter(row["origin"].partition("/")[0] for row in read_side(result, "test"))
    assert counts == {"a": 12, "b": 4, "c": 1}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    path = convert(tmp_path, "a", [str(number) for number in range(50)])
    made = []
    for seed in (3, 3, 4):
        split(path, 10, 5, seed=seed, force=True)
        made.append({file.name: file.read_bytes() for file in tmp_path.glob("s_*")})
    assert made[0] == made[1] != made[2]


def test_manifests_carry_the_policy_and_the_side(tmp_path: Path) -> None:
    result = split(convert(tmp_path, "a", [str(number) for number in range(9)]), 3)
    for side, target in result.outputs.items():
        manifest = read_manifest(target)
        assert manifest is not None
        assert (manifest.think_policy, manifest.options["side"]) == ("tagged", side)
        assert manifest.counts["records"] == manifest.counts["chat"] == result.rows[side]


def test_rows_that_a_registered_test_set_asks_are_refused(tmp_path: Path) -> None:
    first = split(convert(tmp_path, "a", [f"q {number}" for number in range(20)]), 5)
    register_dataset(first.outputs["test"], "a_heldout", tmp_path)
    held_out = [row["instruction"] for row in read_side(first, "test")]
    path = convert(tmp_path, "b", [*(f"new {number}" for number in range(20)), held_out[0].upper() + "!"])
    with pytest.raises(UserError) as caught:
        split_file(path, tmp_path / "t", SplitOptions(SplitSizes(2)))
    assert str(caught.value) == (
        f"{path}: the registered test set 'a_heldout' asks the same as 1 row of it; the first is row 21"
    )
    assert caught.value.hint == "--drop-overlap to leave them out"
    assert list(tmp_path.glob("t_*")) == []
    result = split_file(path, tmp_path / "t", SplitOptions(SplitSizes(2), drop_overlap=True))
    assert (result.dropped, result.rows, result.checked_against) == (1, {"test": 2, "train": 18}, ["a_heldout"])


def test_a_split_that_is_made_anew_does_not_refuse_itself(tmp_path: Path) -> None:
    path = convert(tmp_path, "a", [f"q {number}" for number in range(20)])
    register_dataset(split(path, 5).outputs["test"], "s_test", tmp_path)
    assert split(path, 4, force=True).rows == {"test": 4, "train": 16}


@pytest.mark.parametrize(
    ("test", "val", "message"),
    [
        (20, 0, "test 20 and val 0 of 20 rows leave none to train on"),
        (-1, 0, "a size of -1 rows cannot be held out"),
        (2.5, 0, "a size of 2.5 rows cannot be held out"),
    ],
)
def test_sizes_that_cannot_be_are_refused(test: float, val: float, message: str, tmp_path: Path) -> None:
    path = convert(tmp_path, "a", [str(number) for number in range(20)])
    with pytest.raises(UserError) as caught:
        split(path, test, val)
    assert str(caught.value) == message


def test_a_file_of_the_users_is_not_replaced_without_force(tmp_path: Path) -> None:
    path = convert(tmp_path, "a", [str(number) for number in range(20)])
    (tmp_path / "s_test.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"s_test\.jsonl exists already"):
        split(path, 5)
    assert (tmp_path / "s_test.jsonl").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "s_train.jsonl").exists()
