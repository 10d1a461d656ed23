"""The commands of `lfc launch` that take paths and options, as functions; none prints.

Each raises prep.errors.UserError, whose text says what is wrong and whose `hint` the next step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prep.api.progress import watch
from prep.errors import ConfigError
from prep.frames import make_frame

if TYPE_CHECKING:
    import pandas as pd

    from launch.configs.config import Check, RunConfig
    from launch.configs.prove import Answer
    from launch.results.comparison import Comparison
    from launch.runs.folder import Run
    from prep.quality.findings import Finding

StrPath = str | PathLike[str]


class Runs(list["Run"]):
    """Runs, in the order of their names."""

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a run: its name, action, state, start, seconds, exit code and output folder."""
        return make_frame(
            {
                "run": run.name,
                "action": run.action,
                "state": run.state.value,
                "started_at": run.started_at,
                "seconds": run.seconds,
                "exit_code": run.exit_code,
                "output_dir": run.output_dir.as_posix(),
            }
            for run in self
        )


def check_config(path: StrPath, *, measure: bool = False) -> "Check":
    """Find everything that is wrong with a YAML config on this machine, as `lfc launch config check` does.

    To `measure` is to read its datasets in the model's tokens, which takes seconds.
    """
    from launch.configs.config import check_config as check
    from launch.configs.rules import read_machine

    return check(Path(path), read_machine(), measure=measure)


def prove_model(
    model: str,
    template: str | None = None,
    *,
    config: StrPath | None = None,
    datasets: Sequence[str] = (),
    dataset_dir: StrPath = "data",
) -> "Answer":
    """Compare LLaMA-Factory's template with a model's own chat template, as `lfc launch prove` does."""
    from launch.configs.prove import Asked, answer

    asked = Asked(model, template, Path(config) if config else None, tuple(datasets), Path(dataset_dir))
    return answer(asked)


def train(
    config: StrPath,
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    tokenize: bool = True,
    llamafactory_cli: StrPath | None = None,
) -> "Run":
    """Train with llamafactory-cli in runs/NAME, as `lfc launch train` does, and return the run when it ended well.

    `overrides` are keys of the config with other values. An interrupt stops the training as Ctrl-C does there.
    Raises: ConfigError when the config cannot work or its output_dir holds a training already, ChildFailedError
    with the training's exit code.
    """
    from launch.batches.retry import refuse_to_guess
    from launch.machine.command import find_llamafactory_cli
    from launch.runs.claims import starting
    from launch.runs.folder import choose_run_folder, read_run
    from launch.runs.run import prepare_llamafactory, refuse_taken_run, run_to_end
    from launch.runs.tokens import use_tokens

    prepared = _read_config(Path(config), overrides or {})
    folder = choose_run_folder(name, Path(config))
    cli = find_llamafactory_cli(str(llamafactory_cli) if llamafactory_cli else None)
    refuse_to_guess(prepared.values, hint='another output_dir: train(…, {"output_dir": FOLDER})')
    refuse_taken_run(folder)
    _refuse_faults(Path(config), prepared)
    if tokenize:
        with watch("tokenizing", "rows") as on_rows:
            prepared, _ = use_tokens(prepared, on_rows=on_rows)
    with starting():
        run = prepare_llamafactory(cli, "train", prepared, folder)
    with _watch_steps(run.path, Path(str(prepared.values.get("output_dir") or ""))) as on_poll:
        run_to_end(run, on_poll)
    return read_run(folder)


def evaluate(
    configs: StrPath | Sequence[StrPath],
    eval_dataset: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    adapters: Sequence[StrPath] = (),
    name: str | None = None,
    llamafactory_cli: StrPath | None = None,
) -> "Comparison":
    """Compare the base model with what trainings made of it on held-out rows, as `lfc launch eval` does.

    `overrides` are what the prediction runs take, such as max_new_tokens.
    """
    from launch.configs.config import read_config
    from launch.configs.rules import read_machine
    from launch.machine.command import find_llamafactory_cli
    from launch.results.endpoint_sides import Asking
    from launch.results.evaluate import evaluate as evaluate_rows
    from launch.results.evaluate import find_entrant_faults, list_trained, plan_entrants
    from launch.runs.folder import RUNS
    from prep.names import check_name, make_name

    paths = [Path(path) for path in ([configs] if isinstance(configs, str | PathLike) else configs)]
    values = {path.stem: read_config(path) for path in paths}
    if not paths or len(values) < len(paths):
        raise ConfigError("evaluate takes training configs of different names")
    folder = RUNS / (check_name(name, "run name") if name else make_name(f"{paths[0].stem}-eval"))
    trained = list_trained(values, [Path(adapter) for adapter in adapters])
    entrants = plan_entrants(values, trained, eval_dataset, folder, dict(overrides or {}))
    for side, faults in find_entrant_faults(entrants, read_machine()).items():
        _refuse_errors(f"the prediction of {side}", faults)
    cli = find_llamafactory_cli(str(llamafactory_cli) if llamafactory_cli else None)
    return evaluate_rows(cli, entrants, folder, _watch_side, asking=Asking(RUNS))


def list_runs(root: StrPath = "runs") -> Runs:
    """Return every run under a folder, as `lfc launch runs` lists them."""
    from launch.runs.folder import list_runs as list_all

    return Runs(list_all(Path(root)))


def _read_config(path: Path, overrides: Mapping[str, Any]) -> "RunConfig":
    from launch.configs.config import read_run_config
    from launch.configs.document import format_value

    return read_run_config(path, [f"{key}={format_value(value)}" for key, value in overrides.items()])


def _refuse_faults(path: Path, config: "RunConfig") -> None:
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import check_values
    from launch.configs.rules import read_machine
    from launch.configs.schema import guess_kind

    refuse_other_purpose("train", path, config.values)
    _refuse_errors(str(path), check_values(config.values, guess_kind(config.values), read_machine(), path))


def _refuse_errors(what: str, faults: Sequence["Finding"]) -> None:
    errors = [fault for fault in faults if fault.is_error]
    if errors:
        told = "; ".join(fault.describe() for fault in errors)
        raise ConfigError(f"{what} cannot work as it stands: {told}", hint=errors[0].fix)


@contextmanager
def _watch_steps(run: Path, output_dir: Path) -> Iterator[Callable[[], None]]:
    """Count a training's steps as its log tells them."""
    from launch.runs.progress import read_progress

    with watch(run.as_posix(), "steps") as on_steps:
        done = 0

        def poll() -> None:
            nonlocal done
            progress = read_progress(output_dir / "trainer_log.jsonl")
            step = progress.step if progress else 0
            if step > done:
                on_steps(step - done)
                done = step

        yield poll


@contextmanager
def _watch_side(side: str, log: Path) -> Iterator[Callable[[], None]]:
    """Count the batches that one side of a comparison answered."""
    from launch.runs.progress import read_bar

    with watch(side, "batches") as on_batches:
        done = 0

        def poll() -> None:
            nonlocal done
            bar = read_bar(log)
            answered = int(bar[0]) if bar else 0
            if answered > done:
                on_batches(answered - done)
                done = answered

        yield poll
