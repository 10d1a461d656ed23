"""What each answer is worth, and how sure a difference is."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.results.scores import (
    Change,
    Prediction,
    average_scores,
    bootstrap_change,
    compare_scores,
    count_common_subsequence,
    find_boxed,
    load_similarity,
    match_results,
    normalise_result,
    read_answer,
    score_row,
    shows_thought,
)
from prep.errors import StackError
from prep.rows.thinking import EMPTY_THOUGHT, find_thought
from tests.support.shapes import MARKED
from tests.support.warm_stack import stack_python

THOUGHT, EMPTY = "<think>\nT\n</think>\n\nA", "<think>\n\n</think>\n\nA"


def score(output: str, label: str, prompt: str = "p") -> dict[str, float]:
    """Score with a stand-in for the metrics: 100 for the same text, else 0."""

    def measure(answer: str, wanted: str) -> dict[str, float]:
        return {"rouge_l": 100.0 if answer == wanted else 0.0}

    return score_row(Prediction(prompt, output, label), measure)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (THOUGHT, "A"),
        (EMPTY, "A"),
        (" A\n", "A"),
        ("<think>\nT", ""),
        ("T\n</think>\n\nA", "A"),
        ("<think>a</think>b<think>c</think>\nd", "d"),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_thought(text: str, answer: str) -> None:
    assert read_answer(text) == answer


@pytest.mark.parametrize("name", MARKED)
def test_a_thought_in_any_markup_is_none_of_the_answer(name: str) -> None:
    answer = find_thought(MARKED[name]).answer.strip()
    for text in (MARKED[name], f"{EMPTY_THOUGHT}{MARKED[name]}"):
        assert read_answer(text) == answer != text.strip()
        assert shows_thought(text)


def test_what_only_looks_like_markup_is_all_answer() -> None:
    for text in ("<thinking>never closed", "See <b>x</b>.", "</thinking> alone"):
        assert read_answer(text) == text
        assert not shows_thought(text)


def test_the_thought_is_not_scored() -> None:
    assert score("<think>\nquite other\n</think>\n\nA", THOUGHT)["rouge_l"] == 100
    assert score("<think>\nT\n</think>\n\nB", THOUGHT)["rouge_l"] == 0


@pytest.mark.parametrize(
    ("output", "label", "formed"),
    [
        (THOUGHT, THOUGHT, True),
        (EMPTY, THOUGHT, True),
        ("A", "B", True),
        (THOUGHT, "B", False),  # a block where none is
        ("A", THOUGHT, False),  # none where one is
        ("<think>\nT", THOUGHT, False),  # cut off before it closed
        ("<think>\nT\n</think>\n\n", THOUGHT, False),  # no answer
        ("<think><think>x</think>A", THOUGHT, False),  # two openings
    ],
)
def test_think_format_wants_the_held_out_rows_form(output: str, label: str, formed: bool) -> None:
    assert score(output, label)["think_format"] == (100 if formed else 0)


@pytest.mark.parametrize(("output", "cut"), [("<think>\nT", 100), (THOUGHT, 0), ("A", 0), ("", 0)])
def test_cut_off_is_a_thought_that_never_ended(output: str, cut: float) -> None:
    assert score(output, THOUGHT)["cut_off"] == cut


@pytest.mark.parametrize(("output", "unasked"), [(THOUGHT, 100), ("<think>\nT", 100), (EMPTY, 0), ("A", 0)])
@pytest.mark.parametrize("label", [EMPTY, "A"])
def test_a_thought_is_unasked_where_the_held_out_row_has_none(output: str, label: str, unasked: float) -> None:
    assert score(output, label)["unasked"] == unasked


def test_where_a_thought_was_asked_for_none_is_unasked() -> None:
    assert "unasked" not in score(THOUGHT, THOUGHT)


@pytest.mark.parametrize(("output", "unthought"), [(THOUGHT, 0), ("<think>\nT", 0), (EMPTY, 100), ("A", 100)])
def test_a_model_that_was_asked_to_think_and_did_not_is_told(output: str, unthought: float) -> None:
    assert score(output, THOUGHT)["unthought"] == unthought
    asked = score_row(Prediction("p", output, "A"), lambda output, label: {}, asks_to_think=True)
    assert asked["unthought"] == unthought
    assert "unasked" not in asked
    assert "unthought" not in score(output, "A")


def test_a_block_that_the_prompt_opened_is_part_of_the_output() -> None:
    opened = "<|im_start|>assistant\n<think>\n"
    assert score("T\n</think>\n\nA", THOUGHT, opened)["think_format"] == 100
    assert score("T that goes on", THOUGHT, opened) | {"rouge_l": 0} == {
        "rouge_l": 0,
        "think_format": 0,
        "cut_off": 100,
        "unthought": 0,
    }
    closed = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert score("A", "A", closed)["think_format"] == 100


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{42}", "42"),
        (r"\boxed{1} then \boxed{ \frac{1}{2} }.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\fbox{3}", None),
        ("42", None),
    ],
)
def test_the_last_whole_box_is_the_result(text: str, found: str | None) -> None:
    assert find_boxed(text) == found


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("0.5", r"\dfrac{1}{2}"),
        (r"\frac12", "2/4"),
        (r"-\frac{1}{2}", r"\frac{-1}{2}"),
        ("1,000", "1000.0"),
        ("1{,}000", "1000"),
        ("x = 5", "5"),
        (r"50\%", "50"),
        (r"90^\circ", r"90^{\circ}"),
        (r"\text{yes}.", "yes"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"\$ 3", "3"),
        ("+3", "3"),
    ],
)
def test_results_written_differently_are_the_same(found: str, wanted: str) -> None:
    assert match_results(found, wanted)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(None, "5"), ("5", "6"), ("1,2", "12"), ("1, 200", "1200"), ("x", "y"), ("-5", "5"), ("1/0", "0")],
)
def test_other_results_are_wrong(found: str | None, wanted: str) -> None:
    assert not match_results(found, wanted)


def test_a_result_that_is_no_plain_number_is_not_worked_out() -> None:
    assert not match_results("1e999999999", "5")
    assert not match_results("9" * 10_000, "5")


def test_maths_counts_only_rows_with_a_boxed_result() -> None:
    assert score(r"<think>\boxed{5}</think> \boxed{4}", r"\boxed{5}")["maths"] == 0
    assert score(r"\boxed{5.0}", r"so \boxed{5}")["maths"] == 100
    assert "maths" not in score(r"\boxed{5}", "5")


def test_means_are_over_the_rows_that_a_figure_applies_to() -> None:
    rows = [{"rouge_l": 10.0, "maths": 100.0}, {"rouge_l": 20.0}]
    assert average_scores(rows) == {"rouge_l": 15.0, "maths": 100.0}


def test_a_clear_change_excludes_zero_and_a_shuffled_one_does_not() -> None:
    better = [{"rouge_l": 40.0 + row} for row in range(40)]
    worse = [{"rouge_l": 20.0 + row} for row in range(40)]
    change = compare_scores(worse, better)["rouge_l"]
    assert (change.value, change.low, change.high, change.is_clear) == (20, 20, 20, True)
    assert change.format() == "+20.00 [+20.00, +20.00]*"
    mixed = random.Random(5).sample(worse, 40)
    change = compare_scores(worse, mixed)["rouge_l"]
    assert change.value == 0
    assert change.low < 0 < change.high
    assert not change.is_clear


def test_identical_answers_change_nothing() -> None:
    rows = [{"rouge_l": float(row)} for row in range(40)]
    assert compare_scores(rows, rows)["rouge_l"] == Change(0, 0, 0, 40)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(1)
    held = 0
    for _ in range(200):
        change = bootstrap_change([rng.gauss(0, 30) for _ in range(50)], seed=42)
        held += change.low <= 0 <= change.high
    assert 180 <= held <= 199  # 95 % of 200, give or take three standard errors


def test_the_same_seed_gives_the_same_interval() -> None:
    differences = [random.Random(3).gauss(1, 5) for _ in range(30)]
    assert bootstrap_change(differences, seed=1) == bootstrap_change(differences, seed=1)


def test_a_handful_of_rows_is_never_clear() -> None:
    assert not bootstrap_change([5.0] * 9, seed=1).is_clear
    assert bootstrap_change([5.0] * 10, seed=1).is_clear


def test_missing_packages_are_one_error_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_chinese", None)
    with pytest.raises(StackError, match="scoring needs jieba, nltk and rouge_chinese") as caught:
        load_similarity()
    assert "pip install jieba nltk rouge-chinese" in (caught.value.hint or "")


PAIRS = [
    ("手足口病是常见的儿童疾病。", "手足口病是一种儿童常见病，请注意休息。"),
    ("the cat sat on the mat", "a cat sat on a mat"),
    ("same", "same"),
    ("", "label"),
    ("output", ""),
    (" \n ", "x"),
    ("<think>\nT\n</think>\n\nA. B! 真的吗？是的。", "<think>\n\n</think>\n\nA. C! 真的。"),
]
THEIRS = """
import json, sys
import numpy as np
from llamafactory.train.sft.metric import ComputeSimilarity

class Decoder:
    pad_token_id = 0
    def batch_decode(self, ids, skip_special_tokens):
        return [texts[int(row[0])] for row in ids]

class Batch:
    pass

pairs = json.loads(sys.stdin.read())
for output, label in pairs:
    texts = {1: output, 2: label}
    batch = Batch()
    batch.predictions, batch.label_ids = np.array([[1]]), np.array([[2]])
    print("LINE", json.dumps(ComputeSimilarity(Decoder())(batch)))
"""


@pytest.mark.stack
@pytest.mark.usefixtures("warm_cli")
def test_bleu_and_rouge_are_llamafactorys_own_numbers() -> None:
    result = subprocess.run(
        [stack_python(), "-c", THEIRS],
        input=json.dumps(PAIRS),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=Path(__file__).parents[3],
    )
    lines = [line.removeprefix("LINE ") for line in result.stdout.splitlines() if line.startswith("LINE ")]
    theirs = [{name.replace("-", "_"): value for name, value in json.loads(line).items()} for line in lines]
    measure = load_similarity()
    assert theirs == [measure(*pair) for pair in PAIRS], result.stderr[-2000:]


def test_the_longest_common_subsequence_is_that_of_the_plain_table() -> None:
    chance = random.Random(3)
    for _ in range(300):
        first, second = (chance.choices("abcd", k=chance.randrange(90)) for _ in range(2))
        table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for row, one in enumerate(first):
            for column, other in enumerate(second):
                longest = max(table[row][column + 1], table[row + 1][column])
                table[row + 1][column + 1] = table[row][column] + 1 if one == other else longest
        assert count_common_subsequence(first, second) == table[-1][-1]


@pytest.mark.stack
def test_a_long_answer_counts_whole_in_little_time() -> None:
    pytest.importorskip("jieba")
    text = "".join(f"病人第{number}天体温正常，脉搏平稳。" for number in range(4_000))
    other = text[: len(text) // 2] + "x" + "无关的话。" * 9_000
    started = time.process_time()
    same, half = load_similarity()(text, text), load_similarity()(other, text)
    assert same["rouge_l"] == pytest.approx(100, abs=0.01)
    assert 40 < half["rouge_l"] < 60
    assert time.process_time() - started < 30


MEGABYTE = 1_000_000
ENDLESS = {
    "boxes that never close": r"\boxed{" * (MEGABYTE // 7),
    "boxes inside boxes": r"\boxed{" * (MEGABYTE // 14) + "}" * (MEGABYTE // 14),
    "braces that open": "{" * MEGABYTE,
    "braces that close": "}" * MEGABYTE,
    "a box and white space": r"\boxed" + " " * MEGABYTE,
    "texts that never close": r"\text{" * (MEGABYTE // 6),
    "a text and white space": r"\text" + " " * MEGABYTE,
    "powers and white space": "^ " * (MEGABYTE // 2),
    "digits": "1" * MEGABYTE,
    "digits and commas": "1," * (MEGABYTE // 2),
    "a fraction of digits": r"\frac{" + "1" * MEGABYTE + "}{2}",
    "thoughts that never end": "<think>" * (MEGABYTE // 7),
    "thoughts that never begin": "</think>" * (MEGABYTE // 8),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_no_answer_takes_longer_than_its_length(name: str) -> None:
    text = ENDLESS[name]
    label = r"<think>\n\n</think>\n\n\boxed{1}"
    started = time.process_time()
    scores = score_row(Prediction("p", text, label), lambda output, label: {})
    assert time.process_time() - started < 2
    assert scores["maths"] == 0
    started = time.process_time()
    normalise_result(text)
    assert time.process_time() - started < 1


def test_the_last_box_that_closes_counts_however_the_braces_lie() -> None:
    for text, found in {
        r"\boxed{a} \boxed{b": "a",
        r"\boxed{a \boxed{b}": "b",
        r"} \boxed{a}": "a",
        r"\boxed{\boxed{x}}": "x",
        r"{\boxed{a}": "a",
        r"\boxed {1} and \fbox{2}": "1",
        r"\boxed{\frac{1}{2}} }": r"\frac{1}{2}",
        r"\boxed{": None,
        "{}": None,
    }.items():
        assert find_boxed(text) == found, text


@pytest.mark.parametrize("text", ["好" * MEGABYTE, "." * MEGABYTE, "a " * (MEGABYTE // 2)])
def test_similarity_of_a_megabyte_is_measured_on_its_beginning(text: str, full: bool) -> None:
    if not full:
        text = text[:3_000]
    measure = load_similarity()
    measure("warm", "up")
    started = time.process_time()
    measure(text, text)
    assert time.process_time() - started < 15
