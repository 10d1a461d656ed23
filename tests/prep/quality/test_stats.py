"""Kinds, lengths and the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prep.errors import InputError
from prep.quality.stats import Bar, StatsOptions, collect_stats, make_histogram, name_kind
from prep.quality.stats_page import render_page
from prep.registry.dataset import find_dataset
from prep.rows.thinking import join_thought
from prep.tokens.cutoff import CutoffAdvice
from prep.tokens.turns import TemplateOptions


def write_rows(path: Path, *outputs: str) -> Path:
    rows = ({"instruction": "hi", "input": "", "output": output, "system": "", "history": []} for output in outputs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_kinds_are_told_by_the_thought() -> None:
    outputs = ("a", join_thought("", "a"), join_thought("T", "a"), "<think>\n \n</think>\n\na")
    assert [name_kind(output) for output in outputs] == ["chat", "empty thought", "reasoning", "empty thought"]


def test_without_a_model_lengths_are_characters_and_no_cutoff_is_advised(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", "a" * 8, "b")
    stats = collect_stats(find_dataset(str(path), tmp_path), StatsOptions())
    assert stats.unit == "characters"
    assert stats.lengths == {
        "min": 3,
        "mean": 6.5,
        "p50": 3,
        "p90": 10,
        "p95": 10,
        "p99": 10,
        "max": 10,
        "total": 13,
    }
    assert (stats.advice, stats.replays) == (None, [])


def test_with_a_model_lengths_are_tokens_and_the_cut_lines_are_told(tmp_path: Path, qwen3_folder: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", "four", join_thought("T", "four " * 30))
    options = StatsOptions(qwen3_folder, cutoff_lens=(20,))
    stats = collect_stats(find_dataset(str(path), tmp_path), options)
    # <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n is 9 tokens; an empty thought 4; <|im_end|>\n 2.
    assert stats.lengths["min"] == 9 + 4 + 1 + 2
    assert stats.advice == CutoffAdvice(2, int(stats.lengths["max"]), int(stats.lengths["max"]))
    assert stats.cut_lines == [2]
    assert stats.as_dict()["cutoffs"] == [
        {
            **{"cutoff_len": 20, "packing": False, "rows_cut": 1, "rows_losing_prompt": 0, "rows_losing_turns": 0},
            **{"rows_losing_answer": 1, "rows_losing_end_of_turn": 1, "rows_losing_close": 0, "rows_dropped": 0},
        }
    ]
    nothink = StatsOptions(qwen3_folder, TemplateOptions("qwen3_nothink"))
    assert collect_stats(find_dataset(str(path), tmp_path), nothink).lengths["min"] == 9 + 1 + 2


def test_a_row_that_cannot_be_read_is_one_error_with_its_line(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", "a")
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"instruction": "q", "output": null}\n')
    with pytest.raises(InputError, match=r"a.jsonl line 2: a column that is read is not a string"):
        collect_stats(find_dataset(str(path), tmp_path), StatsOptions())
    path.write_text("[1", encoding="utf-8")
    with pytest.raises(InputError, match=r"a.jsonl line 1: not JSON"):
        collect_stats(find_dataset(str(path), tmp_path), StatsOptions())
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no rows in"):
        collect_stats(find_dataset(str(path), tmp_path), StatsOptions())


def test_a_histogram_has_round_bars_that_hold_every_row() -> None:
    assert make_histogram([0, 1, 1]) == [Bar(0, 1, 1), Bar(1, 2, 2)]
    for longest in (19, 20, 399, 12_345, 1_000_000):
        bars = make_histogram(sorted([1, 2, longest]))
        assert sum(bar.rows for bar in bars) == 3
        assert len(bars) <= 20
        assert re.fullmatch(r"[125]0*", str(bars[0].high))


class PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_is_whole_needs_nothing_else_and_escapes_names(tmp_path: Path, qwen3_folder: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", "four", join_thought("T", "four " * 30))
    stats = collect_stats(find_dataset(str(path), tmp_path), StatsOptions(qwen3_folder, cutoff_lens=(20, 40)))
    page = render_page(stats, "<a&b>", "Measured.")
    reader = PageReader()
    reader.feed(page)
    assert reader.open == []
    assert reader.links == ["data:,"]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "script" not in reader.seen
    assert "svg" in reader.seen
    assert "<h1>&lt;a&amp;b&gt;</h1><p>2 rows. Measured.</p>" in page
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "width=device-width" in page
    assert page.count("<tr><td>20</td><td>1</td>") == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "q", "input": "", "output": "a", "history": None}, "column 'history' is null"),
        ({"instruction": "q", "input": "", "output": "a", "history": "x"}, "its history is not a list"),
        ({"instruction": "q", "input": "", "output": "a", "tools": "[" * 100_000}, "tools"),
        ({"instruction": "q", "input": "", "output": "a", "tools": "no JSON"}, "tools"),
    ],
)
def test_a_row_that_stops_llamafactory_is_one_error_by_characters_too(
    row: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "a.jsonl", "a")
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    with pytest.raises(InputError) as caught:
        collect_stats(find_dataset(str(path), tmp_path), StatsOptions())
    assert str(caught.value).startswith(f"{path} line 2: ")
    assert message in str(caught.value)
