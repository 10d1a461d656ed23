"""What stands in `runs/`: each run's folder, its files, and the state that they tell. Reads, starts nothing."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from launch.runs.backends.job import JobState
from launch.runs.backends.scheduler import ask_scheduler
from prep.errors import InputError, UserError
from prep.names import check_name, make_name
from prep.secrets import mask_values
from prep.storage.locks import is_locked
from prep.storage.os_errors import describe_os_error

RUNS = Path("runs")
_MAX_FILE_BYTES = 32 << 20
# Manifests in manifests are the deepest that we write; whoever reads a run walks all of it.
_MAX_DEPTH = 200
_NAMED_RUNS = 20
# What a run's files hold; a file of somebody else, or of a later version, may hold anything.
_PLAN_TYPES: dict[str, tuple[type, ...]] = {
    "action": (str,), "values": (dict,), "argv": (list,), "env": (dict,), "slot": (str, type(None)),
    "datasets": (dict,), "versions": (dict,), "gpus": (list,),
}  # fmt: skip
_PROCESS_TYPES: dict[str, tuple[type, ...]] = {"started_at": (str,)}
_RESULT_TYPES: dict[str, tuple[type, ...]] = {
    "exit_code": (int,), "stopped": (bool,), "seconds": (int, float), "flags": (list,), "cause": (str, type(None)),
}  # fmt: skip
_JOB_TYPES: dict[str, tuple[type, ...]] = {"backend": (str,), "id": (str,), "address": (str, type(None))}
_MOVED_TYPES: dict[str, tuple[type, ...]] = {"output_dir": (str,), "at": (int, float)}
_WORDS = {
    str: "a text", dict: "a mapping", list: "a list", int: "a whole number", float: "a number",
    bool: "true or false", type(None): "null",
}  # fmt: skip


class RunState(StrEnum):
    """Where a run stands.

    `lost` means that its processes are gone and left no result, `broken` that its files cannot be read.
    """

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    BROKEN = "broken"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. Every one is plain text; a config with a secret is its owner's alone, as is its log."""

    path: Path

    @property
    def config(self) -> Path:
        """The exact YAML that ran."""
        return self.path / "config.yaml"

    @property
    def command(self) -> Path:
        """The command, ready to paste."""
        return self.path / "command.txt"

    @property
    def environment(self) -> Path:
        """The variables that matter, secrets masked."""
        return self.path / "environment.json"

    @property
    def plan(self) -> Path:
        """Action, arguments, added variables, versions and the datasets' manifests, before the start."""
        return self.path / "run.json"

    @property
    def process(self) -> Path:
        """The supervisor's process id and start, written by itself."""
        return self.path / "process.json"

    @property
    def log(self) -> Path:
        """Everything that the child printed."""
        return self.path / "log.txt"

    @property
    def job(self) -> Path:
        """What a cluster knows the run by; not there for one of this machine."""
        return self.path / "job.json"

    @property
    def result(self) -> Path:
        """Exit code, seconds and flags, written when the child has ended."""
        return self.path / "result.json"

    @property
    def stop_request(self) -> Path:
        """Stands there when somebody asked the run to stop."""
        return self.path / "stop"

    @property
    def losses(self) -> Path:
        """The lines of trainer_log.jsonl that this run itself wrote, kept at its end."""
        return self.path / "losses.jsonl"

    @property
    def boost(self) -> Path:
        """Whether a boosted training was boosted, why not, and what was compared (launch/guest/boost.py)."""
        return self.path / "boost.json"

    @property
    def moved(self) -> Path:
        """Where its output lies since it was set aside."""
        return self.path / "moved.json"

    @property
    def preparing(self) -> Path:
        """Who is writing this folder; gone when it is complete."""
        return self.path / ".preparing"

    @property
    def reserve(self) -> Path:
        """Room on the disk for the result, should the disk be full by then."""
        return self.path / ".reserve"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor and its child for as long as either lives."""
        return self.path / ".alive"

    @property
    def supervisor_lock(self) -> Path:
        """Locked by the supervisor alone."""
        return self.path / ".supervised"


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it; `seconds` and `exit_code` are None until it ended.

    `fault` says what is wrong with the files of a broken one.
    """

    name: str
    path: Path
    action: str
    state: RunState
    values: dict[str, Any]
    plan: dict[str, Any]
    started_at: str | None
    seconds: float | None
    exit_code: int | None
    flags: list[str]
    process: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    moved: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def folder(self) -> RunFolder:
        """Its files."""
        return RunFolder(self.path)

    @property
    def output_dir(self) -> Path:
        """Where LLaMA-Factory writes adapter, checkpoints and trainer_log.jsonl."""
        return Path(str(self.values.get("output_dir", "")))

    @property
    def place(self) -> Path:
        """Where its output lies now: another folder than `output_dir` once it was set aside."""
        return Path(self.moved["output_dir"]) if "output_dir" in self.moved else self.output_dir

    @property
    def trainer_log(self) -> Path:
        """LLaMA-Factory's own log of steps and losses."""
        return self.place / "trainer_log.jsonl"


def choose_run_folder(name: str | None, config: Path) -> Path:
    """Return a run's folder: under the name given, which is judged, else under its config's."""
    return RUNS / (check_name(name, "run name") if name else make_name(config.stem))


def list_runs(root: Path = RUNS) -> list[Run]:
    """Return every run under a folder, batches' and evaluations' runs too, in the order of their names.

    One whose files cannot be read is there as well, as a broken one: it hides no other.
    Raises: InputError when the folder itself cannot be read.
    """
    check_root(root)
    return [_read_or_fault(path, root, fault) for path, fault in _walk_runs(root)]


def check_root(root: Path) -> None:
    """Raise InputError when `root` is no folder, or the working folder was deleted."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError("the working folder was deleted", hint="cd to a folder that is there") from error
    if os.path.lexists(root) and not os.path.isdir(root):  # noqa: PTH112 - pathlib may raise
        raise InputError(f"{root} is not a folder", hint=f"rename it: runs are kept in {root}/")


def is_run(path: Path) -> bool:
    """Tell whether a folder holds a run, whatever the path is."""
    return os.path.isfile(path / "run.json")  # noqa: PTH113 - pathlib may raise


def find_run(name: str, root: Path = RUNS) -> Run:
    """Return a run by its name or its folder; raises InputError that names the runs there are."""
    for path in (root / name, Path(name)):
        if is_run(path):
            return read_run(path, root)
    names = [run.name for run in list_runs(root)]
    more = f" and {len(names) - _NAMED_RUNS} more" if len(names) > _NAMED_RUNS else ""
    known = ", ".join(names[:_NAMED_RUNS]) or "none"
    raise InputError(f"no run is called '{name}' in {root}; there are {known}{more}", hint="lfc launch runs")


def read_run(path: Path, root: Path = RUNS) -> Run:
    """Return one run; raises InputError when a file of it is broken."""
    folder = RunFolder(path)
    plan = _read_json(folder.plan, _PLAN_TYPES)
    process = _read_json(folder.process, _PROCESS_TYPES)
    result = _read_json(folder.result, _RESULT_TYPES)
    if not plan:
        raise InputError(f"{folder.plan} cannot be used: it says nothing")
    if not result and folder.result.is_file():
        # Written since the first look, or empty: it is written whole.
        result = _read_json(folder.result, _RESULT_TYPES)
        if not result:
            raise InputError(f"{folder.result} cannot be used: it says nothing")
    _check_time(folder.process, process.get("started_at"))
    return Run(
        name=_name_run(path, root),
        path=path,
        action=plan.get("action", ""),
        state=_tell_state(folder, process, result),
        # A folder that was made elsewhere, or by an earlier lfc, may hold secrets.
        values=mask_values({str(key): value for key, value in plan.get("values", {}).items()}),
        plan=plan,
        started_at=process.get("started_at"),
        seconds=result.get("seconds"),
        exit_code=result.get("exit_code"),
        flags=[str(flag) for flag in result.get("flags", [])],
        process=process,
        result=result,
        moved=_read_json(folder.moved, _MOVED_TYPES),
    )


def describe_broken(path: Path, fault: str, root: Path = RUNS) -> Run:
    """Return what cannot be read as a run that says so."""
    return Run(_name_run(path, root), path, "", RunState.BROKEN, {}, {}, None, None, None, [fault], fault=fault)


def _walk_runs(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every run's folder with "", and every folder that cannot be looked into with the reason."""
    faults: list[OSError] = []
    for parent, folders, names in os.walk(root, onerror=faults.append):
        # A hidden folder is one of ours, or the beginning of a run.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "run.json" in (*names, *folders):
            folders.clear()
            yield Path(parent), ""
    for error in faults:
        if not isinstance(error, FileNotFoundError):
            yield Path(error.filename), f"{error.filename} cannot be read: {describe_os_error(error)}"


def _read_or_fault(path: Path, root: Path, fault: str) -> Run:
    if not fault:
        try:
            return read_run(path, root)
        except UserError as error:
            fault = str(error)
    return describe_broken(path, fault, root)


def _name_run(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _tell_state(folder: RunFolder, process: dict[str, Any], result: dict[str, Any]) -> RunState:
    if result:
        if result.get("stopped"):
            return RunState.STOPPED
        if "exit_code" not in result:
            raise InputError(f"{folder.result} cannot be used: it has no `exit_code`")
        return RunState.FAILED if result["exit_code"] else RunState.FINISHED
    if is_alive(folder):
        return RunState.RUNNING
    # The result may have been written between the two looks.
    if folder.result.is_file() and (result := _read_json(folder.result, _RESULT_TYPES)):
        return _tell_state(folder, process, result)
    return RunState.LOST if process else RunState.QUEUED


def is_alive(folder: RunFolder) -> bool:
    """Tell whether a run's supervisor or child lives: no process ids, which systems use again.

    Of a run on a cluster, whose file system may keep locks to one machine, the scheduler is asked too.
    """
    return is_locked(folder.lock) or (
        folder.process.exists() and not folder.result.exists() and find_job_state(folder) is JobState.RUNNING
    )


def read_job(folder: RunFolder) -> dict[str, Any]:
    """Return what a cluster knows a run by, {} for a run of this machine; raises InputError when it is broken."""
    return _read_json(folder.job, _JOB_TYPES)


def find_job_state(folder: RunFolder) -> JobState:
    """Return what a run's cluster says of its job; a run of this machine has none."""
    return ask_scheduler(read_job(folder))


def is_supervised(folder: RunFolder) -> bool:
    """Tell whether the process that will write a run's result lives."""
    return is_locked(folder.supervisor_lock)


def _read_json(path: Path, types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return one of a run's files, {} when it is not there; raises InputError when it is not what it must be."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path} cannot be used: it is larger than {_MAX_FILE_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} cannot be used: it must be one mapping")
    if _is_deep(content):
        raise InputError(f"{path} cannot be used: it is nested deeper than {_MAX_DEPTH} levels")
    for key, allowed in types.items():
        value = content.get(key, ...)
        if value is ... or _is_one_of(value, allowed):
            continue
        words = " or ".join(_WORDS[kind] for kind in allowed)
        raise InputError(f"{path} cannot be used: `{key}` is {str(value)[:60]!r}, allowed is {words}")
    return content


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(_MAX_DEPTH):
        level = [inner for value in level for inner in _list_inner(value)]
        if not level:
            return False
    return True


def _list_inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_time(path: Path, text: str | None) -> None:
    try:
        datetime.fromisoformat(text or "2026-01-01")
    except ValueError as error:
        raise InputError(f"{path} cannot be used: `started_at` is {text!r:.60}, allowed is a time") from error


def _is_one_of(value: object, types: tuple[type, ...]) -> bool:
    # In Python true is a whole number too.
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) and (not isinstance(value, float) or math.isfinite(value))
