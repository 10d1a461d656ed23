"""Lengths from several processes: the same, in order, and no process that stays."""

import json
from pathlib import Path

import pytest

import prep.length_workers
from prep.dataset import Conversation, find_dataset
from prep.errors import InputError, UserError
from prep.length_workers import measure_in_processes
from prep.stats import StatsOptions, collect_stats
from prep.thinking import join_thought
from prep.tokens import RowEncoder, TemplateOptions
from tests.test_prep_stats import write_rows

OPTIONS = TemplateOptions()
ROWS = [
    Conversation(
        "Be kind." if number % 3 else "", [("user", f"{number}?"), ("assistant", join_thought("", "a" * number))]
    )
    for number in range(40)
]


def test_lengths_are_those_of_one_process_in_the_rows_order(
    qwen3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prep.length_workers, "_BATCH_ROWS", 3)
    expected = list(RowEncoder(qwen3_folder, OPTIONS).measure_rows(ROWS))
    assert list(measure_in_processes(qwen3_folder, OPTIONS, ROWS, 2)) == expected


def test_what_a_process_says_is_raised_here(qwen3_folder: Path, tmp_path: Path) -> None:
    bad = Conversation("", ROWS[0].messages, tools="{")
    with pytest.raises(InputError, match="its tools text is not JSON"):
        list(measure_in_processes(qwen3_folder, OPTIONS, [bad], 2))
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is not a tokenizer"):
        list(measure_in_processes(tmp_path, OPTIONS, ROWS, 2))


def test_a_process_that_ends_early_is_one_clear_error(qwen3_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prep.length_workers, "_START", "raise SystemExit(7)")
    with pytest.raises(InputError, match="a measuring process ended early, with exit code 7"):
        list(measure_in_processes(qwen3_folder, OPTIONS, ROWS, 1))


def test_statistics_of_a_large_file_are_those_of_a_small_one(
    tmp_path: Path, qwen3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", *("four " * number for number in range(1, 60)))
    dataset, options = find_dataset(str(path), tmp_path), StatsOptions(qwen3_folder)
    expected = collect_stats(dataset, options).as_dict()
    monkeypatch.setattr("prep.stats._PARALLEL_BYTES", 0)
    monkeypatch.setattr("prep.stats.count_workers", lambda: 2)
    assert json.dumps(collect_stats(dataset, options).as_dict()) == json.dumps(expected)
