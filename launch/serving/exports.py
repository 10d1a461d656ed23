"""How what a run made is served: noted when a model is exported, found again for the report of its training."""

from pathlib import Path

from launch.configs.rules import split_names
from launch.runs.folder import RUNS, Run, RunState, list_runs, read_run
from launch.serving.servers import SERVING_FILE, Server, keep_serving, read_serving, write_serving

# What of a training decides how its rows were written.
_KEYS = ("template", "enable_thinking", "mask_history", "preserve_thinking")


def note_serving(folder: Path, root: Path = RUNS) -> list[Server]:
    """Write the Modelfile of what an export's run made, note how it is served beside the run, and return it.

    Raises: UserError or OSError when that cannot be told; the exported model is whole all the same.
    """
    run = read_run(folder, root)
    runs = list_runs(root)
    made_by = next(filter(None, (find_training(path, runs) for path in reversed(_list_weights(run)))), None)
    told = {**run.values, **(made_by.values if made_by else {})}
    servers = write_serving(Path(str(run.values["export_dir"])), {key: told[key] for key in _KEYS if key in told})
    keep_serving(servers, folder / SERVING_FILE)
    return servers


def find_serving(run: Run, root: Path = RUNS) -> list[Server]:
    """Return how what a run made is served: by its own export, or the newest export of what it trained."""
    own = read_serving(run.path / SERVING_FILE)
    if own or run.action != "train" or not run.values.get("output_dir"):
        return own
    exports = [
        other
        for other in list_runs(root)
        if other.action == "export"
        and other.state is RunState.FINISHED
        and any(_made(run, path) for path in _list_weights(other))
    ]
    newest = max(exports, key=lambda other: other.started_at or "", default=None)
    return read_serving(newest.path / SERVING_FILE) if newest else []


def find_training(folder: Path, runs: list[Run]) -> Run | None:
    """Return the newest finished training that wrote a folder, or whose checkpoint it is; None where none did."""
    made = [
        run
        for run in runs
        if run.action == "train"
        and run.state is RunState.FINISHED
        and run.values.get("output_dir")
        and not run.values.get("do_predict")
        and _made(run, folder)
    ]
    return max(made, key=lambda run: run.started_at or "", default=None)


def find_origin(folder: Path, runs: list[Run]) -> Run | None:
    """Return the training of which a folder is the output, or the merged model; None where none of it is here."""
    trained = find_training(folder, runs)
    if trained is not None:
        return trained
    exports = [
        run
        for run in runs
        if run.action == "export"
        and run.state is RunState.FINISHED
        and Path(str(run.values.get("export_dir") or "")).resolve() == folder.resolve()
    ]
    newest = max(exports, key=lambda run: run.started_at or "", default=None)
    weights = reversed(_list_weights(newest)) if newest else ()
    return next(filter(None, (find_training(path, runs) for path in weights)), None)


def _made(run: Run, folder: Path) -> bool:
    real = folder.resolve()
    return run.place.resolve() in (real, real.parent if real.name.startswith("checkpoint-") else real)


def _list_weights(run: Run) -> list[Path]:
    """Return the folders that a run's model is made of: the model itself, then its adapters."""
    names = [str(run.values.get("model_name_or_path") or ""), *split_names(run.values.get("adapter_name_or_path"))]
    return [Path(name) for name in names if name]
