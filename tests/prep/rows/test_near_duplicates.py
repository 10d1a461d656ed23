"""Near copies against brute force: whom MinHash names is compared, and hardly anybody is missed."""

import random

import pytest

from prep.rows.duplicates.near import ALIKE, NearIndex, NearText, cut_pieces
from prep.rows.questions import list_facts, normalise_question

LATIN = [
    "the",
    "patient",
    "takes",
    "this",
    "drug",
    "every",
    "morning",
    "and",
    "feels",
    "better",
    "while",
    "a",
    "doctor",
]
HAN = list("病人每天早上服用这种药物感觉好多医生在旁边看着检查结果显示肝脏情况稳定需要继续观察治疗")


def write_families(rows: int, seed: int) -> list[NearText]:
    """Return texts of which many are another one with some words changed, from a little to a lot."""
    rng = random.Random(seed)
    texts: list[list[str]] = []
    made = []
    for _ in range(rows):
        is_han = rng.random() < 0.4
        words = HAN if is_han else LATIN
        if texts and rng.random() < 0.6:
            text = list(rng.choice(texts[-40:]))
            for _ in range(rng.randint(0, max(1, len(text) // 8))):
                text[rng.randrange(len(text))] = rng.choice(words)
        else:
            text = [rng.choice(words) + rng.choice(["", "", "", "s", "x"]) for _ in range(rng.randint(1, 60))]
        texts.append(text)
        made.append(NearText((" " if rng.random() < 0.9 else "  ").join(text), rng.choice(["", "", "", "brief"])))
    return made


def are_alike(one: NearText, other: NearText) -> bool:
    if one.context != other.context or list_facts(one.text) != list_facts(other.text):
        return False
    pieces, theirs = cut_pieces(normalise_question(one.text)), cut_pieces(normalise_question(other.text))
    return len(pieces & theirs) >= ALIKE * len(pieces | theirs)


def find_by_brute_force(rows: list[NearText]) -> list[int | None]:
    pieces = [(row.context, list_facts(row.text), cut_pieces(normalise_question(row.text))) for row in rows]
    kept: list[int] = []
    found: list[int | None] = []
    for number, (context, facts, mine) in enumerate(pieces):
        first = None
        for other in kept:
            theirs = pieces[other][2]
            if min(len(mine), len(theirs)) < ALIKE * max(len(mine), len(theirs)):
                continue
            if pieces[other][:2] == (context, facts) and len(mine & theirs) >= ALIKE * len(mine | theirs):
                first = other
                break
        found.append(first)
        if first is None:
            kept.append(number)
    return found


def find_in_parts(rows: list[NearText], sizes: list[int]) -> list[int | None]:
    index, start = NearIndex(), 0
    found: list[int | None] = []
    for size in sizes:
        found += index.find_copies(rows[start : start + size])
        start += size
    return found + index.find_copies(rows[start:])


def test_hardly_a_near_copy_is_missed_and_none_is_made_up() -> None:
    rows = write_families(1_500, seed=7)
    found = find_in_parts(rows, [1, 0, 300, 7, 500])
    expected = find_by_brute_force(rows)
    copies = {number for number, first in enumerate(expected) if first is not None}
    told = {number for number, first in enumerate(found) if first is not None}
    assert len(copies) >= 300
    # Whom one greedy pass keeps may differ after a miss: each pair by itself is judged.
    wrong = [number for number in told if not are_alike(rows[number], rows[found[number] or 0])]
    assert wrong == []
    assert len(copies & told) >= 0.97 * len(copies)


def test_the_first_of_equal_texts_stays_however_short_they_are() -> None:
    texts = [
        "",
        "a",
        "",
        "?!",
        "abcd",
        "a",
        "ABCD!",
        "abcde",
        "?!",
        "\ud800 half of a pair",
        "\ud800 half of a pair",
    ]
    assert NearIndex().find_copies([NearText(text, "") for text in texts]) == [
        None,
        None,
        0,
        None,
        None,
        1,
        4,
        None,
        3,
        None,
        9,
    ]


def test_a_row_is_compared_with_rows_that_stayed_alone() -> None:
    words = [f"{letter}{letter}word" for letter in "abcdefghijklmnopqrstuvwxyz"]
    near, far = list(words), list(words)
    near[10] = near[20] = far[10] = far[20] = "other"
    far[2] = far[6] = "more"
    rows = [NearText(" ".join(text), "") for text in (words, near, far)]
    assert are_alike(rows[1], rows[2])
    assert not are_alike(rows[0], rows[2])
    assert NearIndex().find_copies(rows) == [None, 0, None]


@pytest.mark.parametrize(
    "pattern", ["{} + {} =", "What is {} times {}?", "第{}章第{}节讲了什么内容，请简单地说明一下"]
)
def test_thousands_of_rows_of_one_pattern_with_other_numbers_all_stay(pattern: str) -> None:
    rows = [NearText(pattern.format(number, number % 7), "") for number in range(3_000)]
    assert set(NearIndex().find_copies(rows)) == {None}
