"""An evaluation that broke off goes on: which sides have answered, and whether they still are the same sides."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from launch.batches.retry import set_aside
from launch.configs.rules import split_names
from launch.configs.weights import read_json_file
from launch.results.held_out import hash_file
from launch.runs.folder import RunFolder, RunState, is_alive, read_run
from prep.errors import OutputError, UserError
from prep.registry.dataset_info import find_dataset_file
from prep.secrets import mask_values
from prep.storage.atomic import write_json
from prep.wording import in_shell

SIDES_FILE = "evaluation.json"
_MODEL_SUFFIXES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")
_ENDS = {RunState.FAILED: "failed", RunState.STOPPED: "was stopped"}
# A larger weight file is told by its size and its time.
_MAX_HASHED_BYTES = 64 << 20


class OtherEvaluationError(OutputError):
    """A folder holds a finished evaluation of something else."""


class Side(Protocol):
    """What is asked of an entrant here."""

    @property
    def name(self) -> str:
        """The side's name, which is its run folder's."""

    @property
    def config(self) -> dict[str, Any]:
        """Its prediction config."""


def take_up(sides: Iterable[Side], folder: Path, on_note: Callable[[str], None], *, is_finished: bool) -> set[str]:
    """Return the names of the sides that need not answer again; what cannot be taken is set aside, and said.

    Raises: OutputError as `compare_sides` does.
    """
    reasons = compare_sides(sides, folder, is_finished=is_finished)
    for name, reason in reasons.items():
        if reason:
            on_note(f"{name} answers again: it {reason}; what stood there is now {set_aside(folder / name)}")
        elif reason is None:
            on_note(f"{name} has answered already, under the same config from the same rows: its answers are taken")
    return {name for name, reason in reasons.items() if reason is None}


def compare_sides(sides: Iterable[Side], folder: Path, *, is_finished: bool) -> dict[str, str | None]:
    """Return for each side why it must answer again: None when it need not, "" when it never has.

    Raises: OtherEvaluationError when the folder holds a finished evaluation of something else, OutputError when it
    is under way, or a run.
    """
    if RunFolder(folder).plan.exists():
        raise OutputError(f"{folder} is a run, and no evaluation", hint="--name ANOTHER_NAME")
    known = _read_sides(folder)
    reasons: dict[str, str | None] = {}
    for side in sides:
        run = RunFolder(folder / side.name)
        if not run.path.is_dir():
            reasons[side.name] = ""
            continue
        if is_alive(run):
            raise OutputError(
                f"{run.path} is answering now",
                hint=f"lfc launch attach {in_shell(folder.name)}/{in_shell(side.name)}",
            )
        reasons[side.name] = _tell_difference(run, known.get(side.name), side.config)
    others = {name: reason for name, reason in reasons.items() if reason is not None}
    if is_finished and others:
        why = "; ".join(f"{name} {reason or 'was not in it'}" for name, reason in others.items())
        raise OtherEvaluationError(
            f"{folder} holds a finished evaluation of something else: {why}", hint="--name ANOTHER_NAME"
        )
    return reasons


def note_side(folder: Path, name: str, config: Mapping[str, Any]) -> None:
    """Write down what a side is, before it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SIDES_FILE, {"sides": {**_read_sides(folder), name: identify(config)}})


def identify(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a side's answers: its config without secrets, its rows, and the files of its model."""
    rows = {}
    folder = Path(str(config.get("dataset_dir") or "data"))
    for name in split_names(config.get("eval_dataset")):
        try:
            path = find_dataset_file(name, folder)
            rows[name] = hash_file(path) if path.is_file() else path.as_posix()
        except UserError as error:
            rows[name] = str(error)
    models = [str(config.get("model_name_or_path")), *split_names(config.get("adapter_name_or_path"))]
    return {
        "config": mask_values({key: value for key, value in config.items() if key != "output_dir"}),
        "rows": rows,
        "models": {model: _identify_model(Path(model)) for model in models},
    }


def _identify_model(folder: Path) -> dict[str, str]:
    """Return a fingerprint of each file of a model or an adapter, {} for one on a hub."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _MODEL_SUFFIXES)
    # What an evaluation or a training notes beside the model is none of it.
    return {
        path.name: _fingerprint(path) for path in files if not path.name.endswith(("_results.json", "state.json"))
    }


def _fingerprint(path: Path) -> str:
    seen = path.stat()
    return hash_file(path) if seen.st_size <= _MAX_HASHED_BYTES else f"{seen.st_size} bytes, {seen.st_mtime_ns}"


def _tell_difference(run: RunFolder, before: Any, config: Mapping[str, Any]) -> str | None:
    """Say why a side's answers cannot be taken, None when they can."""
    state = read_run(run.path).state if run.plan.is_file() else RunState.QUEUED
    if state is not RunState.FINISHED:
        return _ENDS.get(state, "has begun and not ended")
    if not (Path(str(config["output_dir"])) / "predict_results.json").is_file():
        return "has left no whole predictions"
    if not isinstance(before, dict):
        return "was answered by an lfc that did not write down from what"
    now = identify(config)
    theirs = before.get("config")
    old: Mapping[str, Any] = theirs if isinstance(theirs, dict) else {}
    keys = [key for key in {**old, **now["config"]} if old.get(key) != now["config"].get(key)]
    if keys:
        return f"had another config: {', '.join(sorted(keys))}"
    if before.get("rows") != now["rows"]:
        return "had other rows"
    return None if before.get("models") == now["models"] else "had other weights"


def _read_sides(folder: Path) -> dict[str, Any]:
    content = read_json_file(folder / SIDES_FILE)
    sides = content.get("sides") if isinstance(content, dict) else None
    return sides if isinstance(sides, dict) else {}
