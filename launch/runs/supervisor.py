"""What a supervisor process does: run one prepared run's command to its end, and write down how it ended."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.configs.private import open_private_log
from launch.configs.tracking import find_tracking
from launch.llamaboard.files import write_run_settings
from launch.machine.command import Command
from launch.runs.causes import Cause, is_disk_full, judge_end
from launch.runs.claims import lock_output
from launch.runs.figures import fingerprint_weights, keep_losses, mark_log
from launch.runs.folder import Run, RunFolder, read_run
from launch.runs.identity import identify_process
from launch.runs.logs import iter_blocks, read_tail
from launch.runs.process import Child, run_child
from launch.runs.record import find_boost_flags, find_flags
from prep.errors import OutputError, StoppedError, UserError
from prep.storage.atomic import write_json, write_text
from prep.storage.locks import try_lock

_PATIENCE_S = 0.5
_RESERVE_BYTES = 1 << 16
_NOT_STARTED = 127


def supervise(folder: str, *, is_on_leash: bool = False) -> None:
    """Run a prepared run's command to its end and write its result; a second supervisor does nothing.

    One on a leash stops its run, as one whose machine is taken away, when its stdin ends.
    """
    run = RunFolder(Path(folder))
    _accept_signals()
    is_let_go = watch_stdin() if is_on_leash else threading.Event()
    with (
        try_lock(run.supervisor_lock, patience_s=_PATIENCE_S) as alone,
        try_lock(run.lock, patience_s=_PATIENCE_S) as handle,
    ):
        if alone is None or handle is None or run.result.exists():
            return
        prepared = read_run(run.path)
        started = time.monotonic()
        with reserve_room(run), lock_output(prepared.values) as held:
            ending, mark = (_refuse(prepared), None) if held is None else _run(prepared, (handle, *held), is_let_go)
            ending["seconds"] = round(time.monotonic() - started, 1)
            _write_result(prepared, ending, mark)


@contextmanager
def reserve_room(run: RunFolder) -> Iterator[None]:
    """Keep a little of the disk for what is written at the end; given up there, or when there is none left."""
    with suppress(OSError):
        run.reserve.write_bytes(os.urandom(_RESERVE_BYTES))
    try:
        yield
    finally:
        run.reserve.unlink(missing_ok=True)


def _accept_signals() -> None:
    """Let signals through that who started this process blocked: a training would not hear that it is to stop."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def watch_stdin() -> threading.Event:
    """Return an event that is set when this process's stdin ends."""
    ended = threading.Event()

    def read() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 1):
                pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    return ended


def _run(
    run: Run, kept_open: tuple[int, ...], is_let_go: threading.Event
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Run the command; return how it ended, and where the trainer's log stood before."""
    mark = mark_log(run.trainer_log) if run.values.get("output_dir") else {}
    command = Command(tuple(map(str, run.plan["argv"])), run.plan["env"])
    ended: list[int] = []

    def note_start(child: int) -> None:
        note = {
            "pid": os.getpid(),
            "child": child,
            "child_identity": identify_process(child),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "log": mark,
        }
        write_json(run.folder.process, note)

    if run.action == "train":
        # A config that trains, and that the page cannot show, trains all the same.
        with suppress(UserError):
            write_run_settings(run.values)
    open_private_log(run.folder.log, run.folder.config)
    try:
        child = Child(note_start, kept_open, on_end=ended.append)
        exit_code = run_child(command, run.folder.log, lambda: _obey_stop(run.folder, is_let_go), child)
    except (StoppedError, KeyboardInterrupt) as stop:
        if ended:
            # It had ended by itself when somebody asked it to.
            return _describe_end(run, ended[0]), mark
        code = getattr(stop, "exit_code", 128 + signal.SIGINT)
        is_asked = code == 128 + signal.SIGINT or run.folder.stop_request.exists()
        cause = Cause.STOPPED if is_asked else Cause.PREEMPTED
        return {"exit_code": code, "stopped": True, "cause": cause}, mark
    except OutputError as error:
        # A full disk may take the words as well; the cause stands in the result.
        with suppress(UserError, OSError):
            _append(run.folder.log, f"{error}\n")
        return _describe_end(run, _NOT_STARTED, said=str(error)), mark
    return _describe_end(run, exit_code), mark


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def _refuse(run: Run) -> dict[str, Any]:
    write_text(run.folder.log, f"OutputError: another live run writes into {run.output_dir}\n")
    return {"exit_code": 1, "stopped": False, "cause": Cause.IN_USE}


def _describe_end(run: Run, exit_code: int, said: str | None = None) -> dict[str, Any]:
    ending: dict[str, Any] = {"exit_code": exit_code, "stopped": False, "cause": None}
    is_full = is_disk_full([run.path, run.output_dir])
    if exit_code:
        ending["cause"] = judge_end(exit_code, said or read_tail(run.folder.log), is_full=is_full)
    elif is_full:
        ending["flags"] = ["the disk was full when it ended: what it wrote last may be missing"]
    return ending


def _write_result(run: Run, ending: Mapping[str, Any], mark: object) -> None:
    """Write a run's result, its own losses and what tells its weights; on a full disk at least the result."""
    flags = [*ending.get("flags", []), *find_flags(iter_blocks(run.folder.log), run.values, _read_manifests(run))]
    flags += find_boost_flags(run.folder)
    result = {**ending, "flags": flags}
    if tracking := find_tracking(
        iter_blocks(run.folder.log), run.output_dir if run.values.get("output_dir") else None
    ):
        result["tracking"] = tracking
    if mark is not None and run.values.get("output_dir"):
        result["fingerprint"] = fingerprint_weights(run.output_dir)
        try:
            keep_losses(run.folder, run.trainer_log, mark)
        except OutputError as error:
            result["flags"].append(f"its losses were not kept: {error}")
    try:
        write_json(run.folder.result, result)
    except OutputError as error:
        # The reserve is there for this.
        run.folder.reserve.unlink(missing_ok=True)
        if not result["exit_code"] and not ending.get("flags"):
            result["flags"].append(f"something could not be written when it ended: {error}")
        elif not result["stopped"] and is_disk_full([run.path]):
            result["cause"] = Cause.DISK_FULL
        write_json(run.folder.result, result)


def _read_manifests(run: Run) -> dict[str, Any]:
    datasets: dict[str, Any] = run.plan.get("datasets", {})
    return datasets


def _obey_stop(run: RunFolder, is_let_go: threading.Event) -> None:
    if run.stop_request.exists():
        raise StoppedError("a stop request", signal.SIGINT)
    if is_let_go.is_set():
        raise StoppedError("the end of its worker", signal.SIGTERM)
