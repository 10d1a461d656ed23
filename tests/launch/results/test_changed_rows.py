"""The rows that changed most, ranked and written to be read."""

from pathlib import Path

import pytest

from launch.results.changed_rows import (
    format_changes,
    rank_changes,
    read_changed_rows,
    read_question,
    write_changed_rows,
)
from launch.results.scores import Prediction
from prep.errors import InputError

PROMPT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nfirst<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n"
    "<|im_start|>user\nWhat is it?\nSay.<|im_end|>\n<|im_start|>assistant\n"
)


def rows(*outputs: str) -> list[Prediction]:
    return [Prediction(PROMPT, output, f"label {number}\n") for number, output in enumerate(outputs, 1)]


def scores(*values: float) -> list[dict[str, float]]:
    return [{"bleu_4": 50.0, "rouge_l": value, "think_format": 100.0} for value in values]


PREDICTIONS = {"base": rows("a", "b", "c"), "adapter": rows("d", "e", "c")}
SCORES = {"base": scores(10, 80, 50), "adapter": scores(30, 20, 50)}


def test_the_greatest_step_up_or_down_comes_first_and_unchanged_rows_are_left_out() -> None:
    ranked = rank_changes("base", PREDICTIONS, SCORES)
    assert [(row["row"], row["change"]) for row in ranked] == [(2, -30.0), (1, 10.0)]
    assert ranked[0]["question"] == "What is it?\nSay."
    assert ranked[0]["wanted"] == "label 2"
    assert ranked[0]["outputs"] == {"base": "b", "adapter": "e"}


def test_of_several_adapters_the_one_that_moved_a_row_most_ranks_it() -> None:
    predictions = {**PREDICTIONS, "other": rows("f", "g", "h")}
    ranked = rank_changes("base", predictions, {**SCORES, "other": scores(10, 80, 100)})
    assert [(row["row"], row["change"]) for row in ranked] == [(2, -30.0), (3, 25.0), (1, 10.0)]


def test_at_most_twenty_rows_are_shown() -> None:
    predictions = {"base": rows(*"x" * 30), "adapter": rows(*"y" * 30)}
    ranked = rank_changes("base", predictions, {"base": scores(*[0] * 30), "adapter": scores(*range(30))})
    assert [row["row"] for row in ranked] == list(range(30, 10, -1))


def test_the_markdown_fences_what_a_model_wrote() -> None:
    predictions = {"base": rows("a"), "adapter": rows("````text\n# no heading\n````")}
    text = format_changes(rank_changes("base", predictions, {"base": scores(0), "adapter": scores(50)}))
    assert text.startswith(
        "# The 1 row that changed most\n\n## Row 1: +25.0\n\n**Question**\n\n```text\nWhat is it?\n"
    )
    assert "**base** (bleu_4 50.0, rouge_l 0.0, think_format 100.0)\n\n```text\na\n```\n" in text
    assert "`````text\n````text\n# no heading\n````\n`````\n" in text


def test_both_files_are_written_and_the_rows_are_read_back(tmp_path: Path) -> None:
    line_separator = {"base": rows("a\u2028b", "b", "c"), "adapter": PREDICTIONS["adapter"]}
    write_changed_rows(tmp_path, "base", line_separator, SCORES)
    assert read_changed_rows(tmp_path) == rank_changes("base", line_separator, SCORES)
    assert (tmp_path / "changed_rows.md").read_text(encoding="utf-8").count("## Row ") == 2


def test_a_folder_without_changes_has_none(tmp_path: Path) -> None:
    assert read_changed_rows(tmp_path) == []


def test_a_prompt_of_another_template_is_shown_whole() -> None:
    assert read_question("Human: hi\nAssistant:") == "Human: hi\nAssistant:"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        "null",
        '{"row": "x"}',
        '{"row": 1, "change": "x", "question": "", "wanted": "", "outputs": {}, "scores": {}}',
        '{"row": 1, "change": 1, "question": null, "wanted": "", "outputs": {}, "scores": {}}',
        '{"row": 1, "change": 1, "question": "", "wanted": "", "outputs": [], "scores": {}}',
        '{"row": 1, "change": 1, "question": "", "wanted": "", "outputs": {"a": 3}, "scores": {}}',
        '{"row": 1, "change": 1, "question": "", "wanted": "", "outputs": {}, "scores": {"a": {"b": "c"}}}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_changed_row_is_one_error(tmp_path: Path, line: str) -> None:
    good = '{"row": 1, "change": 1, "question": "", "wanted": "", "outputs": {"a": ""}, "scores": {"a": {"b": 1}}}'
    (tmp_path / "changed_rows.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"changed_rows\.jsonl line 2 is no changed row"):
        read_changed_rows(tmp_path)


def test_a_file_without_an_end_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.results.changed_rows._MOST_CHARACTERS", 10)
    (tmp_path / "changed_rows.jsonl").write_text(" " * 11, encoding="utf-8")
    with pytest.raises(InputError, match="has more than 10 characters"):
        read_changed_rows(tmp_path)


def test_what_acts_on_a_terminal_is_spelled_out_for_people_and_kept_for_scripts(tmp_path: Path) -> None:
    attack = "\x1b[2J\u202e\x9b"
    predictions = {"base": [Prediction(attack, attack, "x")], "a": [Prediction(attack, f"{attack}b", "x")]}
    scores = {name: [{"rouge_l": value}] for name, value in (("base", 1.0), ("a", 9.0))}
    write_changed_rows(tmp_path, "base", predictions, scores)
    assert read_changed_rows(tmp_path)[0]["outputs"] == {"base": attack, "a": f"{attack}b"}
    for path in tmp_path.iterdir():
        assert not {"\x1b", "\u202e", "\x9b"} & set(path.read_text(encoding="utf-8"))
