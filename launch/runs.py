"""What stands in `runs/`: each run's folder, its files, and the state that they tell. Reads, starts nothing."""

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.files import try_lock
from prep.secrets import mask_values

RUNS = Path("runs")


class RunState(StrEnum):
    """Where a run stands; `lost` means that its processes are gone and left no result."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


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
    def result(self) -> Path:
        """Exit code, seconds and flags, written when the child has ended."""
        return self.path / "result.json"

    @property
    def stop_request(self) -> Path:
        """Stands there when somebody asked the run to stop."""
        return self.path / "stop"

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
    """One run as its folder tells it; `seconds` and `exit_code` are None until it ended."""

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

    @property
    def folder(self) -> RunFolder:
        """Its files."""
        return RunFolder(self.path)

    @property
    def output_dir(self) -> Path:
        """Where LLaMA-Factory writes adapter, checkpoints and trainer_log.jsonl."""
        return Path(str(self.values.get("output_dir", "")))

    @property
    def trainer_log(self) -> Path:
        """LLaMA-Factory's own log of steps and losses."""
        return self.output_dir / "trainer_log.jsonl"


def list_runs(root: Path = RUNS) -> list[Run]:
    """Return every run under a folder, batches' and evaluations' runs too, in the order of their names."""
    found = []
    for parent, folders, names in os.walk(root):
        folders.sort()
        if "run.json" in names:
            folders.clear()
            found.append(read_run(Path(parent), root))
    return found


def find_run(name: str, root: Path = RUNS) -> Run:
    """Return a run by its name or its folder; raises InputError that names the runs there are."""
    for path in (root / name, Path(name)):
        if (path / "run.json").is_file():
            return read_run(path, root)
    known = ", ".join(run.name for run in list_runs(root)) or "none"
    raise InputError(f"no run is called '{name}' in {root}; there are {known}", hint="lfc launch runs")


def read_run(path: Path, root: Path = RUNS) -> Run:
    """Return one run; raises InputError when a file of it is broken."""
    folder = RunFolder(path)
    plan, process, result = (_read_json(file) for file in (folder.plan, folder.process, folder.result))
    return Run(
        name=path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix(),
        path=path,
        action=str(plan.get("action", "")),
        state=_tell_state(folder, process, result),
        # A folder that was made elsewhere, or by an earlier lfc, may hold secrets.
        values=mask_values(plan.get("values", {})),
        plan=plan,
        started_at=process.get("started_at"),
        seconds=result.get("seconds"),
        exit_code=result.get("exit_code"),
        flags=result.get("flags", []),
    )


def _tell_state(folder: RunFolder, process: dict[str, Any], result: dict[str, Any]) -> RunState:
    if result:
        if result.get("stopped"):
            return RunState.STOPPED
        return RunState.FAILED if result["exit_code"] else RunState.FINISHED
    if is_alive(folder):
        return RunState.RUNNING
    # The result may have been written between the two looks.
    if folder.result.is_file():
        return _tell_state(folder, process, _read_json(folder.result))
    return RunState.LOST if process else RunState.QUEUED


def is_alive(folder: RunFolder) -> bool:
    """Tell whether a run's supervisor or child lives: no process ids, which systems use again."""
    return _is_locked(folder.lock)


def is_supervised(folder: RunFolder) -> bool:
    """Tell whether the process that will write a run's result lives."""
    return _is_locked(folder.supervisor_lock)


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with try_lock(path) as handle:
        return handle is None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return content
