"""What a trainer's log says, read while it is being written."""

import json
import os
from pathlib import Path

import pytest

from launch.runs.progress import (
    TrainingProgress,
    describe_progress,
    draw_sparkline,
    read_bar,
    read_progress,
    read_trainer_log,
)


def write_log(path: Path, losses: list[float]) -> Path:
    lines = [
        json.dumps(
            {
                "current_steps": step,
                "total_steps": 9,
                "loss": loss,
                "elapsed_time": "0:00:04",
                "remaining_time": "0:01:02",
            }
        )
        for step, loss in enumerate(losses, 1)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_progress_is_the_last_entrys(tmp_path: Path) -> None:
    progress = read_progress(write_log(tmp_path / "log.jsonl", [3.0, 2.0, 1.5]))
    assert progress is not None
    assert (progress.step, progress.total_steps, progress.losses) == (3, 9, (3.0, 2.0, 1.5))
    assert describe_progress(progress) == "step 3/9, loss 1.500 █▃▁, 0.75 steps/s, 0:00:04 spent, 0:01:02 left"


@pytest.mark.parametrize(
    ("elapsed", "speed"), [("0:00:00", ""), ("0:00:09", "1 steps/s, "), ("1 day, 1:00:00", "0.0001 steps/s, ")]
)
def test_the_speed_follows_from_steps_and_time(elapsed: str, speed: str) -> None:
    progress = TrainingProgress(9, 9, (), elapsed, "0:00:00")
    assert describe_progress(progress) == f"step 9/9, {speed}{elapsed} spent, 0:00:00 left"


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [3.0])
    with log.open("a", encoding="utf-8") as out:
        out.write('{"current_steps": 2, "los')
    assert len(read_trainer_log(log)) == 1


def test_an_evaluation_entry_without_a_loss_is_no_loss(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [3.0])
    with log.open("a", encoding="utf-8") as out:
        out.write(
            '{"current_steps": 1, "total_steps": 9, "eval_loss": 2.5, "elapsed_time": "", "remaining_time": ""}\n'
        )
    progress = read_progress(log)
    assert progress is not None
    assert progress.losses == (3.0,)


def test_a_former_runs_log_is_not_this_runs_progress(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [3.0])
    os.utime(log, (1_000, 1_000))
    assert read_progress(log, since=2_000) is None


def test_a_run_without_a_log_has_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "log.jsonl") is None
    assert read_bar(tmp_path / "log.txt") is None


def test_a_sparkline_averages_many_values_into_its_width() -> None:
    assert draw_sparkline(tuple(float(value) for value in range(100)), width=4) == "▁▃▆█"
    assert draw_sparkline((1.0, 1.0)) == "▁▁"
    assert draw_sparkline(()) == ""


def test_the_last_bar_of_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "start\n  0%|          | 0/12 [00:00<?, ?it/s]\r 25%|██▌       | 3/12 [00:01<00:03,  2.1it/s]",
        encoding="utf-8",
    )
    assert read_bar(log) == (3, 12)


def test_speed_and_memory_are_shown_where_they_were_logged(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [3.0])
    entry = json.loads(log.read_text(encoding="utf-8")) | {"throughput": 12345.6, "vram_reserved": 10.24}
    log.write_text(json.dumps(entry) + "\n", encoding="utf-8")
    progress = read_progress(log)
    assert progress is not None
    assert describe_progress(progress) == (
        "step 1/9, loss 3.000 ▁, 12,346 tokens/s, 10.2 GiB, 0:00:04 spent, 0:01:02 left"
    )
