"""A run's losses and scores are its own: also after --fresh, --resume, and when it was never evaluated."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launch.cli.train import move_aside
from launch.results.summary import RunSummary, summarise_all
from launch.runs.figures import fingerprint_weights, keep_losses, mark_log, read_own_log, seal_earlier
from launch.runs.folder import RunFolder, list_runs
from launch.runs.logs import iter_blocks, read_last_lines
from prep.storage.atomic import write_json
from tests.support.run_folders import write_evaluation, write_run

VALUES: dict[str, Any] = {"output_dir": "saves/f", "dataset": "d"}
OUTPUTS = {"base": ["x"] * 12, "adapter": ["good"] * 12}
EARLY, LATE = "2026-11-22T08:00:00+00:00", "2026-11-22T09:00:00+00:00"


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(name: str, at: str, **note: Any) -> Path:
    """Write a finished run that started at a time, without a log."""
    folder = write_run(Path("runs", name), VALUES)
    write_json(folder / "process.json", {"pid": 1, "child": 2, "started_at": at, **note})
    return folder


def log(*losses: float) -> None:
    path = Path("saves/f/trainer_log.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        for loss in losses:
            stream.write(json.dumps({"current_steps": int(loss), "total_steps": 9, "loss": loss}) + "\n")


def summarise() -> dict[str, RunSummary]:
    return {summary.run.name: summary for summary in summarise_all()}


def test_after_fresh_each_run_has_its_own_losses() -> None:
    begin("f", EARLY)
    log(9.0, 8.0)
    move_aside(Path("saves/f"))
    begin("f.2", LATE)
    log(7.0)
    found = summarise()
    assert found["f"].losses == ((8, 8.0), (9, 9.0))
    assert found["f.2"].losses == ((7, 7.0),)
    assert found["f"].run.place == Path("saves/f.old-1")


def test_after_resume_each_run_has_what_it_logged_itself() -> None:
    begin("f", EARLY)
    log(9.0)
    seal_earlier(Path("saves/../saves/f"), list_runs())
    begin("f.2", LATE, log=mark_log(Path("saves/f/trainer_log.jsonl")))
    log(5.0)
    found = summarise()
    assert (found["f"].losses, found["f.2"].losses) == (((9, 9.0),), ((5, 5.0),))


def test_of_older_runs_without_their_own_log_the_last_one_owns_the_folder() -> None:
    begin("f", EARLY)
    begin("f.2", LATE)
    log(5.0)
    found = summarise()
    assert (found["f"].losses, found["f.2"].losses) == ((), ((5, 5.0),))


def test_a_run_that_was_never_evaluated_shows_no_score() -> None:
    begin("f", EARLY)
    write_evaluation(Path("runs/e"), "saves/f", OUTPUTS, "good")
    os.utime("runs/e/comparison.json", (1_795_336_200, 1_795_336_200))  # 2026-11-22 08:30 UTC
    begin("f.2", LATE)
    found = summarise()
    assert found["f"].score is not None
    assert found["f.2"].score is None


def test_a_folder_that_was_set_aside_is_followed_by_its_score() -> None:
    begin("f", EARLY)
    log(1.0)
    move_aside(Path("saves/f"))
    begin("f.2", LATE)
    write_evaluation(Path("runs/e"), "saves/f.old-1", OUTPUTS, "good")
    found = summarise()
    assert found["f"].score is not None
    assert found["f.2"].score is None


def test_a_score_of_other_weights_is_not_the_runs() -> None:
    folder = begin("f", EARLY)
    write_json(folder / "result.json", {"exit_code": 0, "stopped": False, "fingerprint": "1" * 64})
    write_evaluation(Path("runs/e"), "saves/f", OUTPUTS, "good")
    assert summarise()["f"].score is not None
    content = json.loads(Path("runs/e/comparison.json").read_text(encoding="utf-8"))
    content["sides"][1]["fingerprint"] = "2" * 64
    write_json(Path("runs/e/comparison.json"), content)
    assert summarise()["f"].score is None


def test_the_fingerprint_tells_weights_apart_and_not_names_of_folders(tmp_path: Path) -> None:
    for name, text in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(text * 100_000)
    a, b, c = (fingerprint_weights(tmp_path / name) for name in "abc")
    assert a == c != b
    assert fingerprint_weights(tmp_path / "none") == fingerprint_weights(tmp_path) == ""


def test_a_log_that_was_replaced_is_all_the_runs_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n", encoding="utf-8")
    mark = mark_log(path)
    path.write_text("new and longer\n", encoding="utf-8")
    assert read_own_log(path, mark) == b"new and longer\n"
    path.write_text("old\nown\n", encoding="utf-8")
    assert read_own_log(path, mark) == b"own\n"
    marks: list[Any] = [{"bytes": -1}, {"bytes": "x"}, {"bytes": 10**9}, [], None]
    for broken in marks:
        assert read_own_log(path, broken) == b"old\nown\n"
    keep_losses(RunFolder(tmp_path), path, mark)
    assert (tmp_path / "losses.jsonl").read_bytes() == b"own\n"


def test_a_large_log_is_read_in_bounds(tmp_path: Path) -> None:
    """One line of 80 MB, and many lines: neither is ever held whole."""
    import tracemalloc

    path = tmp_path / "log.txt"
    with path.open("wb") as stream:
        for _ in range(80):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\n" + b"line\n" * 1_000_000)
    tracemalloc.start()
    assert sum(block.count("line") for block in iter_blocks(path)) == 1_000_000
    assert read_last_lines(path, 2) == "line\nline\n"
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
