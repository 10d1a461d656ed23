"""Answers from several processes: all of them, in order, and no process that stays."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prep.errors import InputError, UserError
from prep.parallel.processes import WorkerPool
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import find_dataset
from prep.rows.conversation import Conversation
from prep.tokens.encoder import make_measurer
from prep.tokens.turns import TemplateOptions
from tests.prep.quality.test_stats import write_rows
from tests.support.processes import is_running


def make_adder(summand: int) -> Callable[[int], tuple[int, int]]:
    """Return what answers late, and the later the sooner it was asked."""

    def add(number: int) -> tuple[int, int]:
        if number < 0:
            raise InputError("numbers are not negative", hint="ask for another one")
        time.sleep(max(0, 10 - number) / 200)
        return number + summand, os.getpid()

    return add


def test_answers_come_in_the_questions_order_and_the_processes_end() -> None:
    with WorkerPool(3, make_adder, 100) as pool:
        answers = list(pool.map(range(40)))
        more = list(pool.map(iter([7])))
        assert list(pool.map([])) == []
    assert [answer for answer, _ in answers + more] == [*range(100, 140), 107]
    processes = {process for _, process in answers}
    assert len(processes) == 3
    assert os.getpid() not in processes
    assert not any(map(is_running, processes))


def test_questions_are_taken_a_few_ahead() -> None:
    taken = []

    def ask() -> Iterator[int]:
        for number in range(1_000):
            taken.append(number)
            yield number

    with WorkerPool(2, make_adder, 0) as pool:
        answers = pool.map(ask())
        assert next(answers)[0] == 0
        assert len(taken) <= 5


def test_what_a_process_says_is_raised_here(qwen3_folder: Path, tmp_path: Path) -> None:
    with WorkerPool(2, make_adder, 0) as pool:
        answers = pool.map([1, -1, 2])
        assert next(answers)[0] == 1
        with pytest.raises(InputError, match="not negative") as caught:
            next(answers)
        assert caught.value.hint == "ask for another one"
    bad = Conversation("", [("user", "1?"), ("assistant", "a")], tools="{")
    with (
        WorkerPool(2, make_measurer, qwen3_folder, TemplateOptions()) as pool,
        pytest.raises(InputError, match="its tools text is not JSON"),
    ):
        list(pool.map([[bad]]))
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with (
        WorkerPool(2, make_measurer, tmp_path, TemplateOptions()) as pool,
        pytest.raises(UserError, match="is not a tokenizer"),
    ):
        list(pool.map([[bad]]))


def test_a_process_that_ends_early_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ends.py"
    program.write_text("raise SystemExit(7)", encoding="utf-8")
    monkeypatch.setattr("prep.parallel.processes._PROGRAM", program)
    with (
        WorkerPool(1, make_adder, 0) as pool,
        pytest.raises(InputError, match="a worker process ended early, with exit code 7"),
    ):
        list(pool.map([1]))


PLANTED = ("json", "pickle", "orjson", "pyarrow", "random", "queue", "signal", "subprocess", "collections", "prep")


def test_modules_in_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLANTED:
        code = f"import pathlib; pathlib.Path({str(tmp_path)!r}, {name!r} + '.ran').touch()"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with WorkerPool(2, make_adder, 0) as pool:
        assert [answer for answer, _ in pool.map(range(4))] == [0, 1, 2, 3]
    assert list(tmp_path.glob("*.ran")) == []


def make_printer() -> Callable[[int], int]:
    """Return what answers, and prints as a careless library does."""

    def answer(number: int) -> int:
        sys.stdout.write("warning: careless\n")
        sys.stdout.flush()
        return number

    return answer


def test_what_a_process_prints_is_no_answer() -> None:
    with WorkerPool(1, make_printer) as pool:
        assert list(pool.map(range(5))) == [0, 1, 2, 3, 4]


def make_faulty() -> Callable[[int], int]:
    """Return what fails as only a bug does."""

    def answer(number: int) -> int:
        return 1 // number

    return answer


def test_a_bug_in_a_process_ends_the_work_here() -> None:
    with WorkerPool(1, make_faulty) as pool, pytest.raises(InputError, match="ended early, with exit code 1"):
        list(pool.map([1, 0, 2]))


def test_statistics_of_a_large_file_are_those_of_a_small_one(
    tmp_path: Path, qwen3_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", *("four " * number for number in range(1, 60)))
    dataset, options = find_dataset(str(path), tmp_path), StatsOptions(qwen3_folder)
    expected = collect_stats(dataset, options).as_dict()
    monkeypatch.setattr("prep.quality.stats._PARALLEL_BYTES", 0)
    monkeypatch.setattr("prep.quality.stats.count_workers", lambda: 2)
    assert json.dumps(collect_stats(dataset, options).as_dict()) == json.dumps(expected)
