"""Near copies against brute force: whom MinHash names is compared, and hardly anybody is missed."""

import json
import random
from typing import Any

import numpy as np
import orjson
import pytest

from prep.rows.duplicates import pieces
from prep.rows.duplicates.near import ALIKE, NearIndex
from prep.rows.duplicates.pieces import NearText, PieceHasher, cut_pieces, read_near_text
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


def write_row(text: str, system: str = "", **others: Any) -> bytes:
    """Return the line of a row whose compared text is this one, with two line ends before it."""
    row = {"instruction": "", "input": "", "output": text, "system": system, "history": [], "origin": "s/f:1"}
    return orjson.dumps({**row, **others})


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
        made.append(
            NearText((" " if rng.random() < 0.9 else "  ").join(text), rng.choice([b"", b"", b"", b"brief"]))
        )
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
    lines = [write_row(row.text, row.context.decode()) for row in rows]
    for size in sizes:
        found += index.find_copies(lines[start : start + size])
        start += size
    return found + index.find_copies(iter(lines[start:]))


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
    ]
    assert NearIndex().find_copies(map(write_row, texts)) == [
        None,
        None,
        0,
        None,
        None,
        1,
        4,
        None,
        3,
    ]


def test_a_row_is_compared_with_rows_that_stayed_alone() -> None:
    words = [f"{letter}{letter}word" for letter in "abcdefghijklmnopqrstuvwxyz"]
    near, far = list(words), list(words)
    near[10] = near[20] = far[10] = far[20] = "other"
    far[2] = far[6] = "more"
    rows = [NearText(" ".join(text), b"") for text in (words, near, far)]
    assert are_alike(rows[1], rows[2])
    assert not are_alike(rows[0], rows[2])
    assert NearIndex().find_copies([write_row(row.text) for row in rows]) == [None, 0, None]


@pytest.mark.parametrize(
    "pattern", ["{} + {} =", "What is {} times {}?", "第{}章第{}节讲了什么内容，请简单地说明一下"]
)
def test_thousands_of_rows_of_one_pattern_with_other_numbers_all_stay(pattern: str) -> None:
    rows = [write_row(pattern.format(number, number % 7)) for number in range(3_000)]
    assert set(NearIndex().find_copies(rows)) == {None}


PARTS = [
    *(
        "a",
        "word ",
        "B",
        "'",
        '"',
        "\\",
        "/",
        "\n",
        "\t",
        "\b",
        "\x0c",
        "\x00",
        "\x1f",
        "\x7f",
        "1",
        "12",
        "-",
        ".",
        "%",
        "x²",
    ),
    *(
        "中",
        "三",
        "不",
        "，",
        "“",
        "　",
        "Ａ",
        "ß",
        "é",
        "ǅ",
        "\u0301",
        "\u00ad",
        "\u2028",
        "\ue001",
        "😀",
        "𝟙",
        "\U0010ffff",
    ),
]


def write_odd_row(rng: random.Random) -> bytes:
    """Return a row of any kind, with any characters, seldom with more than five."""

    def write(most: int = 6) -> str:
        return "".join(rng.choices(PARTS, k=rng.randrange(most)))

    history = [[write(), write()] for _ in range(rng.choice((0, 0, 1, 2)))]
    row = {"instruction": write(), "input": write(), "output": write(30), "system": write(2), "history": history}
    turns = [{"from": "human", "value": write()}, {"from": "gpt", "value": write()}]
    other = rng.choice(
        (
            {"chosen": write(), "rejected": write()} | {name: row[name] for name in row if name != "output"},
            {"conversations": turns, "system": write(2), "tools": write(2)},
            {"text": write(20)},
            row | {"images": ["a.png"]},
            row | {"kto_tag": True},
        )
    )
    made = (row if rng.random() < 0.7 else other) | {"origin": "s/f:1"}
    # As another program may have spelled it.
    line = orjson.dumps(made) if rng.random() < 0.8 else json.dumps(made, separators=(",", ":")).encode()
    return line.replace(b"/f:1", b"\\/f:1") if rng.random() < 0.1 else line


@pytest.mark.skipif(pieces._load_compiled() is None, reason="what is in C was not compiled")
def test_the_compiled_half_hashes_as_numpy_does_whatever_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    compiled = PieceHasher()
    monkeypatch.setattr(pieces, "_load_compiled", lambda: None)
    plain = PieceHasher()
    for _ in range(60):
        lines = [write_odd_row(rng) for _ in range(rng.randrange(1, 30))]
        for mine, theirs in zip(compiled.hash_lines(lines), plain.hash_lines(lines), strict=True):
            assert mine.tolist() == theirs.tolist()


@pytest.mark.skipif(pieces._load_compiled() is None, reason="what is in C was not compiled")
def test_the_compiled_half_counts_shared_pieces_as_sets_do() -> None:
    rng, compiled = random.Random(6), pieces._load_compiled()
    assert compiled is not None
    for _ in range(2_000):
        letters = rng.choice(("ab", "ab中😀", PARTS[:20]))
        one, other = ("".join(rng.choices(letters, k=rng.randrange(rng.choice((3, 8, 200))))) for _ in range(2))
        other = rng.choice((other, one, one + other, one[1:]))
        mine, theirs = cut_pieces(one), cut_pieces(other)
        assert compiled.compare(one, other) == (len(mine & theirs), len(mine | theirs))


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize(
    "others",
    [{"system": "be brief"}, {"history": [["a", "b"]]}, {"images": ["a.png"]}, {"output": "the word 2"}],
)
def test_rows_of_another_context_or_number_share_no_piece(
    others: dict[str, Any], is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:
        monkeypatch.setattr(pieces, "_load_compiled", lambda: None)
    lines = [write_row("the word 1"), write_row("the word 1", **others), write_row("the  WORD 1!")]
    hashes, places = PieceHasher().hash_lines(lines)
    mine, changed, same = (set(part.tolist()) for part in np.split(hashes, places[1:-1].astype(int)))
    assert len(mine) == 4
    assert mine == same
    assert not mine & changed


def test_a_line_is_read_as_its_row() -> None:
    assert read_near_text(write_row("answer", "brief", instruction="q", input="i")) == NearText(
        "q\ni\nanswer", b'"system":"brief","history":[]'
    )
