"""Why a run ended: judged by its exit code and the exception that ended it, by no other word of its log."""

import re
import shutil
import signal
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from launch.runs.folder import Run, RunState
from launch.runs.logs import read_tail

# Below this a disk is full for all that a training writes.
FULL_DISK_BYTES = 1 << 20
_MAX_LINE = 2_000
_TELLING_LINES = 12
_TOLD_CAUSES = 2
_SIGNALLED = 128
# Ranks of torchrun have their own prefix.
_RANK = r"(?:\[rank\d+\]:\s*|\[[\w.-]+:\d+\]:?\s*)?"
# Lines that say what went wrong: the end of a traceback, or what the shell and the kernel say.
_ERROR_LINE = re.compile(
    rf"^{_RANK}(?:(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b|Killed|(?:CUDA|HIP|NPU) out of memory)"
)
# What only passes on that another process failed.
_PASSED_ON = re.compile(rf"^{_RANK}(?:\w+\.)*(?:ChildFailedError|CalledProcessError|SystemExit)\b")
_CHAINED = re.compile(
    r"^\s*(?:\[rank\d+\]:\s*)?(?:The above exception was the direct cause|During handling of the above exception)"
)
# What Python says while it ends, about errors that ended nothing.
_IGNORED = re.compile(r"^(?:Exception ignored |Error in atexit\b|Error in sys\.excepthook)")
_RANK_SIGNAL = re.compile(r"exitcode\s*:\s*-(\d+)\b")


class Cause(StrEnum):
    """Why a run ended before its time."""

    OUT_OF_MEMORY = "out of memory"
    HOST_MEMORY = "out of host memory"
    DISK_FULL = "disk full"
    NETWORK = "network"
    KILLED = "killed"
    CRASHED = "crashed"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    IN_USE = "in use by another run"
    CONFIG = "config or data"


HINTS = {
    Cause.OUT_OF_MEMORY: "a smaller per_device_train_batch_size or cutoff_len; lfc launch batch tries that",
    Cause.HOST_MEMORY: "fewer preprocessing_num_workers and dataloader_num_workers, or a machine with more memory",
    Cause.DISK_FULL: "free some disk space, then --resume",
    Cause.NETWORK: "when the network is back: --resume, or download the model first",
    Cause.KILLED: "probably the machine's memory ran out: fewer workers or a smaller model, then --resume",
    Cause.CRASHED: "a fault in native code: lfc doctor, or another version of torch or its driver",
    Cause.PREEMPTED: "--resume goes on from the last checkpoint",
}

_SAID = {
    Cause.DISK_FULL: re.compile(
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|os error (?:28|122)"
        r"|not enough disk space|PytorchStreamWriter failed|inline_container|iostream error",
        re.IGNORECASE,
    ),
    Cause.OUT_OF_MEMORY: re.compile(
        r"\bOutOfMemoryError\b|(?:CUDA|HIP|NPU|XPU|MPS)\w*(?: driver)?(?: error:)? (?:backend )?out of memory"
        r"|CU(?:BLAS|DNN|SPARSE|SOLVER)_STATUS_ALLOC_FAILED",
        re.IGNORECASE,
    ),
    Cause.HOST_MEMORY: re.compile(
        r"\bMemoryError\b|Cannot allocate memory|\[Errno 12\]|DefaultCPUAllocator|not enough memory: you tried"
        r"|out of shared memory|insufficient shared memory|DataLoader worker .*killed by signal: Killed",
        re.IGNORECASE,
    ),
    Cause.NETWORK: re.compile(
        r"Connect(?:ion)?Error|ConnectTimeout|ReadTimeout|MaxRetryError|couldn't connect to"
        r"|failure in name resolution|HTTPError: 5\d\d|50[0234] (?:Server Error|Bad Gateway|Service|Gateway)"
        r"|ChunkedEncodingError|RemoteDisconnected|ProtocolError|RemoteProtocolError"
    ),
}
_CRASHES = {
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE") if hasattr(signal, name)
}
_PREEMPTIONS = {getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)}


def find_cause(run: Run) -> Cause | None:
    """Return why a run ended before its time: what its result says, else its exit code and the end of its log."""
    if run.state not in (RunState.FAILED, RunState.LOST, RunState.STOPPED):
        return None
    recorded = run.result.get("cause")
    if recorded in list(Cause):
        return Cause(recorded)
    if run.state is RunState.STOPPED:
        return Cause.STOPPED
    is_full = is_disk_full([run.path, run.output_dir])
    if run.state is RunState.LOST:
        return Cause.DISK_FULL if is_full else Cause.KILLED
    return judge_end(run.exit_code or 1, read_tail(run.folder.log), is_full=is_full)


def judge_end(exit_code: int, said: str, *, is_full: bool = False) -> Cause:
    """Return why a child ended with a code that is not 0; `said` is the end of its log."""
    lines = split_lines(said)
    judged = _find_judged(lines)
    for line in judged:
        for cause, pattern in _SAID.items():
            if pattern.search(line):
                return cause
    if is_full:
        return Cause.DISK_FULL
    return _judge_signal(exit_code, said) or Cause.CONFIG


def _judge_signal(exit_code: int, said: str) -> Cause | None:
    """Return what the signal means that ended the child, or one of its ranks."""
    ranks = [int(number) for number in _RANK_SIGNAL.findall(said)]
    numbers = [exit_code - _SIGNALLED] if exit_code > _SIGNALLED else ranks
    if not numbers:
        return None
    if any(number in _CRASHES for number in numbers):
        return Cause.CRASHED
    # torchrun ends the other ranks by SIGTERM: of several signals the others tell more.
    return Cause.PREEMPTED if all(number in _PREEMPTIONS for number in numbers) else Cause.KILLED


def is_disk_full(places: Sequence[Path]) -> bool:
    """Tell whether a disk that a run writes on has no room left."""
    return any(_measure_free(place) < FULL_DISK_BYTES for place in places)


def _measure_free(place: Path) -> float:
    for folder in (place, *place.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return float("inf")


def split_lines(text: str) -> list[str]:
    """Return a log's lines as a terminal would leave them: of a progress bar its last state, nothing endless."""
    lines = [line.rsplit("\r", 1)[-1].rstrip()[-_MAX_LINE:] for line in text.split("\n")]
    return [line for line in lines if line.strip()]


def find_telling_lines(text: str) -> list[str]:
    """Return the last error line of a log with its causes and a few lines around, or else the log's last lines."""
    lines = split_lines(text)
    position = _find_error(lines, len(lines))
    if position is None:
        return lines[-_TELLING_LINES:]
    begin = max(0, position - 4)
    causes = [_find_error(lines, place) for place, line in enumerate(lines[:begin]) if _CHAINED.match(line)]
    said = list(dict.fromkeys(lines[place] for place in causes if place is not None))
    return [*said[-_TOLD_CAUSES:], *lines[begin : position + _TELLING_LINES - 4]]


def _find_judged(lines: Sequence[str]) -> list[str]:
    """Return the line of the exception that ended a log and of those that led to it; the last line without one."""
    position = _find_error(lines, len(lines))
    if position is None:
        return list(lines[-1:])
    judged = [lines[position]]
    while (chained := _find_chained(lines, position)) is not None:
        position = chained
        judged.append(lines[position])
    return judged


def _find_chained(lines: Sequence[str], end: int) -> int | None:
    """Return where the exception stands that led to the one at `end`."""
    for place in range(end - 1, -1, -1):
        if _CHAINED.match(lines[place]):
            return _find_error(lines, place)
        if _ERROR_LINE.match(lines[place]):
            return None
    return None


def _find_error(lines: Sequence[str], end: int) -> int | None:
    """Return where the last error line before `end` stands, of those that do not merely pass on another's."""
    found: list[int] = []
    is_ignored = False
    for place in range(end):
        if _IGNORED.match(lines[place]):
            is_ignored = True
        elif _ERROR_LINE.match(lines[place]):
            if not is_ignored:
                found.append(place)
            is_ignored = False
    own = [place for place in found if not _PASSED_ON.match(lines[place])]
    return own[-1] if own else found[-1] if found else None
