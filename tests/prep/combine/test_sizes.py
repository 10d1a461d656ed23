"""Mixes and splits of whole rows: as near as they can be to what was asked, and refused when that is far."""

import json
import random
from array import array
from collections import Counter
from pathlib import Path

import orjson
import pytest

from prep.combine.draw import PartRows, Wish, draw_rows
from prep.combine.hold_out import assign_sides
from prep.combine.split import _refuse_size
from prep.errors import InputError, UserError
from prep.rows.duplicates.copies import DuplicateFilter
from prep.rows.questions import list_facts
from prep.rows.row_file import RowFile
from prep.rows.thinking import unwrap_chat_markup
from prep.tokens.templates import find_template
from prep.tokens.turns import remove_thought


def draw(sizes: dict[str, list[int]], shares: dict[str, float], **options: object) -> dict[str, int]:
    parts = {name: PartRows(array("Q", rows), range(len(rows))) for name, rows in sizes.items()}
    by_rows = all(size == 1 for rows in sizes.values() for size in rows)
    wish = Wish(shares, by_rows=by_rows, **options)  # type: ignore[arg-type]
    return draw_rows(parts, wish, random.Random(1)).sizes


@pytest.mark.parametrize(
    ("rows", "share", "taken"),
    [
        ((30, 44), 0.3, (19, 44)),
        ((300, 1000), 0.3, (300, 700)),
        ((3, 3), 0.3, (1, 2)),
        ((1, 2), 0.3, (1, 2)),
        ((1, 1), 0.5, (1, 1)),
        ((1, 100), 0.001, (1, 100)),
    ],
)
def test_by_rows_the_nearest_whole_rows_are_taken(
    rows: tuple[int, int], share: float, taken: tuple[int, int]
) -> None:
    sizes = {"a": [1] * rows[0], "b": [1] * rows[1]}
    assert tuple(draw(sizes, {"a": share, "b": 1 - share}).values()) == taken


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([5] * 300, [1000] * 10),
        ([5] * 60, [1000, 1000, 300]),
        ([7] * 500, [1, 1, 1, 100_000, 900, 900, 900]),
    ],
)
def test_by_size_a_mix_within_the_tolerance_is_found_where_there_is_one(a: list[int], b: list[int]) -> None:
    sizes = draw({"a": a, "b": b}, {"a": 0.5, "b": 0.5})
    assert abs(sizes["a"] / sum(sizes.values()) - 0.5) <= 0.02


def test_a_mix_that_is_far_off_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        draw({"a": [1] * 10 + [2], "b": [100]}, {"a": 0.5, "b": 0.5})
    assert str(caught.value) == (
        "no mix of whole rows comes nearer to a 50.0%, b 50.0% than a 10.7%, b 89.3%, which is 39.3 percentage points "
        "off; allowed are 2"
    )
    assert draw({"a": [1] * 10 + [2], "b": [100]}, {"a": 0.5, "b": 0.5}, tolerance=0.4) == {"a": 12, "b": 100}


def test_oversampling_that_would_repeat_rows_without_end_is_refused() -> None:
    with pytest.raises(UserError, match="repeated more than 1,000 times"):
        draw({"a": [1], "b": [1] * 100}, {"a": 0.99999, "b": 0.00001}, oversample=True)


def hold_out(groups: list[int], **wanted: int) -> dict[str, int]:
    places = iter(range(sum(groups)))
    strata = {"s": [[next(places) for _ in range(size)] for size in groups]}
    sides = assign_sides(strata, {"test": 0, "val": 0} | wanted, 1, _refuse_size)
    assert sorted(place for side in sides.values() for place in side) == list(range(sum(groups)))
    assert sides["train"]
    return {side: len(sides[side]) for side in ("test", "val")}


@pytest.mark.parametrize(
    ("groups", "wanted", "held"),
    [
        ([10] * 6, {"test": 10}, (10, 0)),
        ([10] * 6, {"test": 9, "val": 21}, (10, 20)),
        ([2] * 30, {"test": 5}, (4, 0)),
        ([7, 5, 4, 3, 2], {"test": 9, "val": 7}, (9, 7)),
        ([100, *[1] * 50], {"test": 50}, (50, 0)),
        ([3, 1], {"test": 1}, (1, 0)),
    ],
)
def test_a_size_is_met_as_nearly_as_whole_groups_can(
    groups: list[int], wanted: dict[str, int], held: tuple[int, int]
) -> None:
    assert tuple(hold_out(groups, **wanted).values()) == held


@pytest.mark.parametrize(
    ("groups", "wanted", "nearest"),
    [
        ([10] * 6, {"test": 5}, "the nearest sizes that can be held out are 10"),
        ([10] * 6, {"test": 25}, "the nearest sizes that can be held out are 20 and 30"),
        ([60], {"test": 5}, "leaves none for the other sides"),
        ([30, 30], {"test": 5, "val": 5}, "leaves none for the other sides|are 30"),
    ],
)
def test_a_size_that_cannot_be_met_is_refused_with_the_nearest(
    groups: list[int], wanted: dict[str, int], nearest: str
) -> None:
    with pytest.raises(UserError, match=nearest):
        hold_out(groups, **wanted)


@pytest.mark.parametrize("seed", range(40))
def test_random_groups_are_never_torn_and_no_side_is_empty(seed: int) -> None:
    rng = random.Random(seed)
    groups = [rng.randint(1, rng.choice([1, 3, 30])) for _ in range(rng.randint(1, 40))]
    test = rng.randint(1, max(1, sum(groups) // 2))
    try:
        held = hold_out(groups, test=test)
    except UserError:
        return
    assert held["test"] > 0
    assert abs(held["test"] - test) <= max(1, test / 10)


def find_copies(kind: str, texts: list[tuple[str, str]]) -> list[bool]:
    rows = [
        {
            "instruction": text,
            "input": "",
            "output": "yes",
            "system": system,
            "history": [],
            "origin": f"s/f:{number}",
        }
        for number, (text, system) in enumerate(texts)
    ]
    found = DuplicateFilter(kind).filter_lines(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    gone = {json.loads(line)["origin"] for line in found.gone.splitlines()}
    return [row["origin"] in gone for row in rows]


LONG = "The patient has had a fever for {} days and complains of pain in the upper right abdomen since then. " * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3", "4"),
        ("3", "-3"),
        ("3.5", "3.6"),
        ("３", "４"),
        ("三", "四"),
        ("10\u00b2", "102"),
        ("three", "four"),
        ("5 mg", "5 g"),
        ("5毫克", "5克"),
        ("not", "all"),
        ("1/2", "1/3"),
        ("没有", "都有"),
    ],
)
def test_rows_that_differ_in_a_number_unit_or_negation_are_not_near_copies(one: str, other: str) -> None:
    assert find_copies("near", [(LONG.replace("{}", text, 1), "") for text in (one, other, one)]) == [
        False,
        False,
        True,
    ]


def test_near_copies_share_four_fifths_of_their_pieces_and_their_context() -> None:
    reworded = LONG.replace("complains", "speaks", 1)
    other = "Something else entirely, about the weather of the last days."
    assert find_copies("near", [(LONG, ""), (reworded, ""), (other, ""), (LONG, "Be brief.")]) == [
        False,
        True,
        False,
        False,
    ]


def test_a_question_under_another_system_prompt_is_another_question() -> None:
    assert find_copies("question", [("Hello", "a"), ("hello!", "a"), ("Hello", "b")]) == [False, True, False]


ROW = {"instruction": "q", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
CALLS = {"conversations": TURNS, "system": "", "tools": "", "origin": "s/f:1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ROW | {"system": None}, "row 1 has a 'system' that is null, not a string"),
        (
            ROW | {"history": None},
            "row 1 has a 'history' that is null, not a list of [question, answer] pairs of strings",
        ),
        (
            ROW | {"history": [["a"]]},
            "row 1 has a 'history' that is not a list of [question, answer] pairs of strings",
        ),
        (ROW | {"output": 5}, "row 1 has a 'output' that is int, not a string"),
        (ROW | {"origin": 5}, "row 1 has a 'origin' that is int, not a string"),
        (CALLS | {"tools": {}}, "row 1 has a 'tools' that is dict, not a string"),
        (
            CALLS | {"conversations": []},
            "row 1 has a 'conversations' that is not a list of {from, value} turns of strings",
        ),
        (CALLS | {"conversations": TURNS[:1]}, "row 1 ends with a turn from 'human', not with an answer"),
        ([1], "row 1 is a JSON list, not an object"),
        (
            '{"instruction": "q", "instruction": "z"}',
            "row 1 names 'instruction' twice: one of the two would be lost",
        ),
        ("{", "row 1: not JSON: unexpected end of data: line 1 column 2 (char 1)"),
    ],
)
def test_a_row_of_wrong_types_is_one_error_with_its_row(line: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text((line if isinstance(line, str) else json.dumps(line)) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        RowFile(path)
    assert str(caught.value) == f"{path} {message}"
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["<think>\n" * 100_000, "x" + "<|im_end|> " * 90_000, "²1." * 200_000, " " * 1_000_000]
)
def test_a_hostile_megabyte_takes_no_longer_than_reading_it(text: str) -> None:
    import time

    start = time.process_time()
    remove_thought(text, find_template("qwen3"))
    unwrap_chat_markup(text)
    list_facts(text)
    assert time.process_time() - start < 20
    assert Counter(list_facts("no 5 mg")) == {"no": 1, "5mg": 1}
