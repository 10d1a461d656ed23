"""The think grammar: the table of markup, the fields that hold a thought, and time that grows with the text alone."""

import contextlib
import time
from collections.abc import Callable

import pytest

from prep.choices import ThinkPolicy
from prep.errors import RecordError
from prep.quality.repair import repair_row
from prep.rows.questions import list_facts, normalise_question
from prep.rows.thinking import (
    MARKUPS,
    find_output_fault,
    find_thought,
    join_thought,
    merge_thought,
    repair_answer,
    split_thought,
    unwrap_thought,
)
from tests.support.shapes import MARKED

THOUGHT, ANSWER = "t < 2", "±2"
WRITTEN = join_thought(THOUGHT, ANSWER)


def test_every_markup_of_the_table_has_an_example() -> None:
    assert set(MARKED) == {markup.name for markup in MARKUPS}


@pytest.mark.parametrize("name", MARKED)
def test_markup_at_the_beginning_marks_a_thought(name: str) -> None:
    assert find_thought(MARKED[name]) == (THOUGHT, ANSWER, name)
    assert find_thought(f"\n {MARKED[name]}") == (THOUGHT, ANSWER, name)
    # What a script wrote that took the whole for an answer without a thought.
    assert find_thought(join_thought("", MARKED[name])) == (THOUGHT, ANSWER, name)


@pytest.mark.parametrize("name", MARKED)
def test_markup_inside_a_text_is_text(name: str) -> None:
    text = f"Write {MARKED[name]}"
    assert split_thought(text) == ("", text)


@pytest.mark.parametrize("name", MARKED)
def test_lint_reports_other_markup_and_repair_rewrites_it(name: str) -> None:
    for output in (MARKED[name], join_thought("", MARKED[name])):
        fault = find_output_fault(output)
        assert fault is not None
        assert name.replace("_", " ") in fault
        row = {"instruction": "q", "input": "", "output": output, "system": "", "history": []}
        assert repair_row(row, ThinkPolicy.TAGGED, "x").output == WRITTEN
    assert find_output_fault(WRITTEN) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<thinking>t", "the thought markup <thinking> is never closed"),
        ("<thinking>t</thinking>a</thinking>", "the thought markup <thinking> is opened or closed more than once"),
        ("<thinking>t<thinking>u</thinking>a", "the thought markup <thinking> is opened or closed more than once"),
        (
            "t</think>a",
            "</think> without <think>: --think-open missing takes what stands before it for the thought",
        ),
        ("t</thinking>a", "</thinking> without an opening tag: --think-open missing takes what stands before it"),
        ("t</think>a</think>b", "</think> without <think>"),
    ],
)
def test_markup_that_is_not_whole_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RecordError) as error:
        find_thought(text)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("closing", ["</think>", "</thinking>", "< / Reasoning >", "</thought>"])
def test_a_missing_opening_tag_is_taken_when_the_user_says_so(closing: str) -> None:
    found = find_thought(f"{THOUGHT}\n{closing}\n\n{ANSWER}", may_lack_open=True)
    assert found == (THOUGHT, ANSWER, "no_opening_tag")


def test_a_heading_alone_is_no_markup() -> None:
    for text in ("## Thinking\n\nis fun", "**Reasoning**\nwithout an end", "# Title\n\n## Answer\n\nx"):
        assert split_thought(text) == ("", text)


@pytest.mark.parametrize(
    "field",
    [
        THOUGHT,
        f"<think>\n{THOUGHT}\n</think>",
        f"{THOUGHT}\n</think>",
        f"<think>{THOUGHT}",
        f"<thinking>{THOUGHT}</thinking>",
        f"＜思考＞{THOUGHT}＜/思考＞",
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>",
    ],
)
def test_a_field_of_its_own_holds_the_thought_without_its_tags(field: str) -> None:
    assert unwrap_thought(field) == THOUGHT
    assert merge_thought(field, ANSWER) == (THOUGHT, ANSWER, "")
    assert merge_thought(field, WRITTEN)[:2] == (THOUGHT, ANSWER)


def test_two_different_thoughts_are_refused() -> None:
    with pytest.raises(RecordError, match="two different thoughts: one in a field of its own, one in the answer"):
        merge_thought("another", WRITTEN)


UNITS = (
    "<",
    "< ",
    "<think",
    "&lt;",
    "<thinking>",
    "</thinking>",
    "#",
    "## Answer\n",
    "**",
    "<|",
    "[think]",
    " ",
    "\n",
    "◁",
    "1",
    "1 ",
    "- ",
    "不",
    "<|im_end|>",
    "<|im_start|>user\n",
    "<answer>",
    "＜/",
    "a\u0301",
    "1.",
)
READERS: dict[str, Callable[[str], object]] = {
    "find_thought": find_thought,
    "unwrap_thought": unwrap_thought,
    "repair_answer": repair_answer,
    "find_output_fault": find_output_fault,
    "normalise_question": normalise_question,
    "list_facts": list_facts,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_text_takes_time_in_proportion(reader: str) -> None:
    """Sixteen times the text: a quadratic reader would take 256 times as long."""

    def measure(size: int) -> float:
        begun = time.process_time()
        for unit in UNITS:
            for text in (
                unit * (size // len(unit)),
                f"<thinking>{unit * (size // len(unit))}",
                f"## Thinking\n{unit * (size // len(unit))}",
            ):
                with contextlib.suppress(RecordError):
                    READERS[reader](text)
        return time.process_time() - begun

    small = measure(1 << 14)
    assert measure(1 << 18) < 60 * max(small, 0.01)
