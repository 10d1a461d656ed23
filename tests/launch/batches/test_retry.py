"""Why a run ended, and the config that goes on from there."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.batches.retry import find_checkpoint, plan_retry, resume, set_aside
from launch.runs.causes import Cause, find_cause
from launch.runs.folder import Run, RunState


def make_run(folder: Path, log: str, *, exit_code: int = 1, state: RunState = RunState.FAILED) -> Run:
    folder.mkdir(exist_ok=True)
    (folder / "log.txt").write_text(log, encoding="utf-8")
    return Run("a", folder, "train", state, {}, {}, None, 1.0, exit_code, [])


@pytest.mark.parametrize(
    ("log", "exit_code", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, Cause.OUT_OF_MEMORY),
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool", 1, Cause.NETWORK),
        ("500 Server Error: Internal for url", 1, Cause.NETWORK),
        ("httpx.ConnectError: [Errno 111] Connection refused", 1, Cause.NETWORK),
        ("OSError: We couldn't connect to 'https://hf.co' to load the files, and", 1, Cause.NETWORK),
        ("step 3", 137, Cause.KILLED),
        ("ValueError: Undefined dataset x in dataset_info.json.", 1, Cause.CONFIG),
        ("", 1, Cause.CONFIG),
    ],
)
def test_the_cause_is_read_from_exit_code_and_log(log: str, exit_code: int, cause: Cause, tmp_path: Path) -> None:
    assert find_cause(make_run(tmp_path / "r", log, exit_code=exit_code)) is cause


def test_a_lost_run_was_killed(tmp_path: Path) -> None:
    assert find_cause(make_run(tmp_path / "r", "step 3", state=RunState.LOST)) is Cause.KILLED


def make_checkpoint(output_dir: Path, step: int, *, whole: bool = True) -> Path:
    path = output_dir / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if whole:
        (path / "trainer_state.json").write_text("{}", encoding="utf-8")
    return path


def test_the_last_whole_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    for step in (90, 100):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 110, whole=False)
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert find_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("batch", "accumulation", "expected"), [(8, 1, (4, 2)), (6, 2, (3, 4)), (9, 1, (3, 3)), (5, 1, (1, 5))]
)
def test_out_of_memory_divides_the_batch_and_keeps_the_global_batch(
    batch: int, accumulation: int, expected: tuple[int, int]
) -> None:
    values = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    again = plan_retry(values, Cause.OUT_OF_MEMORY)
    assert again is not None
    assert (again["per_device_train_batch_size"], again["gradient_accumulation_steps"]) == expected
    assert expected[0] * expected[1] == batch * accumulation


def test_a_batch_of_one_cannot_be_divided() -> None:
    assert plan_retry({"per_device_train_batch_size": 1}, Cause.OUT_OF_MEMORY) is None


def test_a_wrong_config_is_not_tried_again() -> None:
    assert plan_retry({"template": "x"}, Cause.CONFIG) is None


def test_a_retry_goes_on_from_the_last_checkpoint_and_overwrites_nothing(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 10)
    values: dict[str, Any] = {"output_dir": tmp_path.as_posix(), "overwrite_output_dir": True, "seed": 1}
    assert resume(values) == {
        "output_dir": tmp_path.as_posix(),
        "seed": 1,
        "resume_from_checkpoint": (tmp_path / "checkpoint-10").as_posix(),
    }


def test_what_stood_there_is_renamed_and_never_deleted(tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "adapter").write_text(text, encoding="utf-8")
        set_aside(tmp_path / "out")
    assert [(tmp_path / f"out.old-{n}" / "adapter").read_text(encoding="utf-8") for n in (1, 2)] == [
        "first",
        "second",
    ]
    assert set_aside(tmp_path / "out") is None
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["out.old-1", "out.old-2"]'
