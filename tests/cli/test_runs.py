"""`lfc launch runs`, `compare` and `report`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from tests.support.run_folders import write_dataset, write_evaluation, write_run

VALUES: dict[str, Any] = {
    "model_name_or_path": "m",
    "dataset": "medical",
    "dataset_dir": "data",
    "learning_rate": 1e-4,
}


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, one of them scored, the other flagged and failed."""
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("data"), "medical", {"path": "raw/r1.jsonl", "sha256": "1" * 64})
    write_run(Path("runs/fast"), {**VALUES, "output_dir": "saves/fast"}, [3.0, 1.25])
    slow = {**VALUES, "output_dir": "saves/slow", "learning_rate": 5e-5, "packing": True}
    write_run(Path("runs/slow"), slow, [3.0], exit_code=1, flags=["Unsloth fell back"])
    write_evaluation(Path("runs/fast-eval"), "saves/fast", {"base": ["x"] * 12, "adapter": ["good"] * 12}, "good")


def run(*argv: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", *argv])


def cells(result: Result) -> list[list[str]]:
    """Return the words of each printed line, split where two or more spaces stand."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()]


def test_runs_is_one_line_a_run() -> None:
    result = run("runs")
    assert result.exit_code == 0
    assert cells(result) == [
        ["2 runs"],
        ["run", "kind", "state", "cause", "best loss", "last loss", "score", "time", "tokens/s", "data", "flags"],
        ["fast", "train", "finished", "1.25", "1.25", "rouge_l 80.00 (+69.00*)", "2 min 5 s", "raw/r1.jsonl 111111111111"],
        ["slow", "train", "failed", "config or data", "3", "3", "2 min 5 s", "raw/r1.jsonl 111111111111", "Unsloth fell back"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["fast.2", "fast.3"], "2 runs, 4 attempts"),
        (["slow.2"], "2 runs, 3 attempts"),
        (["night/a", "night/a.2"], "3 runs, 4 attempts"),
        # The names of two runs, neither of which is the other's attempt.
        (["v1.5", "lr-0.2"], "4 runs"),
    ],
)
def test_attempts_are_not_counted_as_runs(names: list[str], title: str) -> None:
    for name in names:
        write_run(Path("runs", name), {**VALUES, "output_dir": f"saves/{name}"}, [2.0])
    assert cells(run("runs"))[0] == [title]


def test_runs_as_json_holds_the_whole_score() -> None:
    fast, slow = json.loads(run("runs", "--json").stdout)["runs"]
    assert (fast["name"], fast["best_loss"], fast["score"]["figures"]["rouge_l"]) == ("fast", 1.25, 80.0)
    assert fast["score"]["changes"]["rouge_l"]["low"] > 0
    assert (slow["state"], slow["exit_code"], slow["score"], slow["flags"]) == (
        "failed",
        1,
        None,
        ["Unsloth fell back"],
    )


def test_without_runs_the_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = run("runs")
    assert result.exit_code == 0
    assert result.stdout.split() == ["0", "runs", "no", "run", "yet"]


def test_compare_shows_losses_scores_and_the_keys_that_differ() -> None:
    lines = cells(run("compare", "fast", "slow"))
    assert lines[0] == ["fast and slow: 3 config keys differ"]
    assert lines[1] == ["fast", "slow"]
    assert ["last loss", "1.25", "3"] in lines
    assert ["rouge_l", "80.00", "+69.00 [+68.58, +69.42]*"] in lines
    assert ["learning_rate", "0.0001", "5.0e-05"] in lines
    assert ["packing", "(not set)", "true"] in lines


def test_compare_as_json_gives_both_runs_and_the_difference() -> None:
    content = json.loads(run("compare", "fast", "slow", "--json").stdout)
    assert content["config"] == {
        "output_dir": ["saves/fast", "saves/slow"],
        "learning_rate": [1e-4, 5e-5],
        "packing": [None, True],
    }
    assert (content["a"]["name"], content["b"]["name"]) == ("fast", "slow")


@pytest.mark.parametrize("argv", [("compare", "fast", "nope"), ("report", "nope")])
def test_an_unknown_run_is_one_error_that_names_the_others(argv: tuple[str, ...]) -> None:
    result = run(*argv)
    assert result.exit_code == 1
    assert result.stderr == "Error: no run is called 'nope' in runs; there are fast, slow\n  Try: lfc launch runs\n"


def test_report_writes_the_page_where_it_is_told() -> None:
    result = run("report", "fast", "-o", "pages/fast.html", "--json")
    assert result.exit_code == 0
    size = Path("pages/fast.html").stat().st_size
    assert json.loads(result.stdout) == {"report": "pages/fast.html", "bytes": size}


def test_report_lies_beside_the_runs_folder_if_no_place_is_given() -> None:
    result = run("report", "fast")
    assert "runs/fast.html" in result.stdout
    assert Path("runs/fast.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_compare_of_a_batch_names_its_runs_and_the_report() -> None:
    from tests.support.begun_runs import plan_batch

    plan_batch("overnight", {"a": dict(VALUES), "b": dict(VALUES)}, ("cpu",), 1)
    write_run(Path("runs/overnight/a"), {**VALUES, "output_dir": "saves/a"}, [3.0])
    result = run("compare", "overnight", "fast")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: 'overnight' is a batch; compare takes two runs, such as of overnight/a, overnight/b\n"
        "  Try: lfc launch report overnight compares all of them\n",
    )
    assert run("compare", "overnight/a", "fast").exit_code == 0
