"""Why a run ended: by its exit code and the exception that ended it."""

import signal
from pathlib import Path
from typing import Any

import pytest

import launch.runs.causes
from launch.batches.retry import plan_retry
from launch.runs.causes import Cause, find_cause, find_telling_lines, judge_end
from launch.runs.folder import Run, RunState

TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1\n    x()\n'


@pytest.mark.parametrize(
    ("log", "exit_code", "cause"),
    [
        ("[WARNING] if you run out of memory, lower the batch\nValueError: Some other thing", 1, Cause.CONFIG),
        ("INFO: torch.OutOfMemoryError is raised when …\n" + TRACE + "KeyError: 'x'", 1, Cause.CONFIG),
        ("requests.exceptions.ConnectionError: retried\nstep 3\n" + TRACE + "ValueError: x", 1, Cause.CONFIG),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", 1, Cause.OUT_OF_MEMORY),
        ("[rank1]: torch.OutOfMemoryError: CUDA out of memory.", 1, Cause.OUT_OF_MEMORY),
        ("RuntimeError: CUDA error: out of memory", 1, Cause.OUT_OF_MEMORY),
        ("RuntimeError: CUDA driver error: out of memory", 1, Cause.OUT_OF_MEMORY),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", 1, Cause.OUT_OF_MEMORY),
        ("torch.OutOfMemoryError: HIP out of memory.", 1, Cause.OUT_OF_MEMORY),
        (
            "torch.OutOfMemoryError: CUDA out of memory.\n" + TRACE
            + "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \nx FAILED",
            1,
            Cause.OUT_OF_MEMORY,
        ),
        (
            TRACE + "torch.OutOfMemoryError: CUDA out of memory.\n\n"
            "During handling of the above exception, another exception occurred:\n\n" + TRACE + "RuntimeError: x",
            1,
            Cause.OUT_OF_MEMORY,
        ),
        ("torch.OutOfMemoryError: CUDA out of memory.\nException ignored in: <f>\n" + TRACE + "TypeError: x", 1,
         Cause.OUT_OF_MEMORY),
        ("MemoryError", 1, Cause.HOST_MEMORY),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate\nOSError: [Errno 12] Cannot allocate memory",
         1, Cause.HOST_MEMORY),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", 1, Cause.HOST_MEMORY),
        ("RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.", 1, Cause.HOST_MEMORY),
        ("OSError: [Errno 28] No space left on device", 1, Cause.DISK_FULL),
        ("OSError: [Errno 122] Disk quota exceeded: 'x'", 1, Cause.DISK_FULL),
        ("safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 28, message: "
         "\"No space left on device\" })", 1, Cause.DISK_FULL),
        ("RuntimeError: PytorchStreamWriter failed writing file data/3", 1, Cause.DISK_FULL),
        (TRACE + "OSError: [Errno 28] No space left on device\n\nDuring handling of the above exception, another "
         "exception occurred:\n\n" + TRACE + "RuntimeError: unexpected pos 64 vs 0", 1, Cause.DISK_FULL),
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool", 1, Cause.NETWORK),
        ("step 3", 128 + signal.SIGKILL, Cause.KILLED),
        ("step 3", 128 + signal.SIGSEGV, Cause.CRASHED),
        ("step 3", 128 + signal.SIGABRT, Cause.CRASHED),
        ("step 3", 128 + signal.SIGTERM, Cause.PREEMPTED),
        ("Root Cause:\n  exitcode  : -11 (pid: 7)\n  exitcode  : -15 (pid: 8)", 1, Cause.CRASHED),
        ("Root Cause:\n  exitcode  : -9 (pid: 7)", 1, Cause.KILLED),
        ("", 1, Cause.CONFIG),
        ("x" * 1_000_000, 1, Cause.CONFIG),
    ],
)  # fmt: skip
def test_the_cause_is_that_of_the_exception_that_ended_it(log: str, exit_code: int, cause: Cause) -> None:
    assert judge_end(exit_code, log) is cause


def test_a_full_disk_is_the_cause_where_nothing_else_is_said() -> None:
    assert judge_end(1, "ValueError: x", is_full=True) is Cause.DISK_FULL
    assert judge_end(1, "torch.OutOfMemoryError: CUDA out of memory", is_full=True) is Cause.OUT_OF_MEMORY


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.RUNNING, RunState.QUEUED, RunState.BROKEN])
def test_what_did_not_end_before_its_time_has_no_cause(state: RunState, tmp_path: Path) -> None:
    assert find_cause(Run("a", tmp_path, "train", state, {}, {}, None, 1.0, 0, [])) is None


def test_the_cause_that_was_recorded_stays_when_the_log_is_gone(tmp_path: Path) -> None:
    result: dict[str, Any] = {"cause": "network"}
    run = Run("a", tmp_path, "train", RunState.FAILED, {}, {}, None, 1.0, 1, [], result=result)
    assert find_cause(run) is Cause.NETWORK


def test_a_run_whose_supervisor_could_not_write_on_a_full_disk_is_not_called_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("a", tmp_path, "train", RunState.LOST, {}, {}, None, None, None, [])
    assert find_cause(run) is Cause.KILLED
    monkeypatch.setattr(launch.runs.causes, "is_disk_full", lambda _: True)
    assert find_cause(run) is Cause.DISK_FULL


@pytest.mark.parametrize("cause", list(Cause))
def test_only_what_may_pass_is_tried_again(cause: Cause) -> None:
    again = plan_retry({"per_device_train_batch_size": 2}, cause)
    passing = (Cause.OUT_OF_MEMORY, Cause.HOST_MEMORY, Cause.NETWORK, Cause.KILLED, Cause.PREEMPTED)
    assert (again is not None) == (cause in passing)


@pytest.mark.parametrize("values", [{"per_device_train_batch_size": "abc"}, {"gradient_accumulation_steps": "x"}])
def test_a_batch_size_that_is_no_number_cannot_be_divided(values: dict[str, Any]) -> None:
    assert plan_retry(values, Cause.OUT_OF_MEMORY) is None


def test_an_endless_line_is_cut() -> None:
    assert max(map(len, find_telling_lines("x" * 5_000_000))) <= 2_000
