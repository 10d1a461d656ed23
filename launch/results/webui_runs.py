"""The runs that were started on LlamaBoard's page: folders under saves/ with its settings in them."""

from datetime import UTC, datetime
from pathlib import Path

from launch.llamaboard.fields import SAVES
from launch.llamaboard.files import RUN_ARGUMENTS, read_quietly
from launch.runs.folder import Run, RunState
from launch.runs.progress import read_trainer_log
from prep.secrets import mask_values

_QUIET_S = 600
_WEBUI_FLAG = "started in the WebUI"


def list_webui_runs(saves: Path = SAVES) -> list[Run]:
    """Return the runs that were started on the page, the newest first; other folders under saves/ are left out."""
    runs = [_read_run(path.parent, saves) for path in saves.glob(f"*/*/*/{RUN_ARGUMENTS}")]
    return sorted(runs, key=lambda run: run.started_at or "", reverse=True)


def _read_run(folder: Path, saves: Path) -> Run:
    values = read_quietly(folder / RUN_ARGUMENTS)
    results = read_quietly(folder / "all_results.json")
    seconds = results.get("train_runtime") or results.get("predict_runtime")
    started = datetime.fromtimestamp((folder / RUN_ARGUMENTS).stat().st_mtime, UTC)
    return Run(
        name=folder.relative_to(saves).as_posix(),
        path=folder,
        action="train",
        state=_tell_state(folder, is_done=bool(results)),
        values=mask_values(values),
        plan={},
        started_at=started.isoformat(timespec="seconds"),
        seconds=float(seconds) if seconds else None,
        exit_code=None,
        flags=[_WEBUI_FLAG],
    )


def _tell_state(folder: Path, *, is_done: bool) -> RunState:
    entries = read_trainer_log(folder / "trainer_log.jsonl")
    if is_done:
        steps = [entry for entry in entries if "current_steps" in entry and "total_steps" in entry]
        is_whole = not steps or steps[-1]["current_steps"] >= steps[-1]["total_steps"]
        return RunState.FINISHED if is_whole else RunState.STOPPED
    # Nothing but the age of what it wrote last tells a run that goes on from one whose process is gone.
    newest = max(path.stat().st_mtime for path in folder.iterdir())
    is_recent = datetime.now(UTC).timestamp() - newest < _QUIET_S
    return RunState.RUNNING if is_recent else RunState.LOST
