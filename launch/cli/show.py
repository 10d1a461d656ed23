"""What is shown while something runs, and comparisons."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.runs.folder import RUNS, Run, RunFolder
from prep.cli.output import echo, open_console, print_json, print_table
from prep.terminal import neutralise_line
from prep.wording import in_shell

if TYPE_CHECKING:
    from launch.configs.config import RunConfig
    from launch.results.comparison import Comparison, Side


def print_comparison(comparison: "Comparison") -> None:
    """Print the sides' figures, and how each moved from the first's with its 95 % interval."""
    print_comparisons({"": comparison}, comparison.folder)


def print_comparisons(comparisons: "Mapping[str, Comparison]", folder: Path) -> None:
    """Print the figures of one comparison, or of one a mode side by side, and the losses of the held-out rows."""
    from launch.results.scores import FIGURES

    columns = [(mode, comparison, side) for mode, comparison in comparisons.items() for side in comparison.sides]
    heads = [
        part
        for mode, _, side in columns
        for part in (f"{mode}: {side.name}" if mode else side.name, *(["change"] if side.changes else []))
    ]
    rows = [
        (
            figure.name,
            *(part for _, _, side in columns for part in format_figure(side, figure.name)),
            figure.meaning,
        )
        for figure in FIGURES
        if any(figure.name in side.figures for _, _, side in columns)
    ]
    datasets = dict.fromkeys(name for comparison in comparisons.values() for name in comparison.losses)
    for name in datasets:
        losses = [
            part
            for _, comparison, side in columns
            for part in (
                format_loss(comparison.losses.get(name, {}).get(side.name)),
                *([""] if side.changes else []),
            )
        ]
        rows.append((f"loss of {name}", *losses, "mean a token of the wanted answers; not 0 to 100"))
    count = next(iter(comparisons.values())).rows
    print_table([("", *heads, ""), *rows], title=f"{count} held-out rows, 0 to 100, after </think> ({folder})")
    kept = "/".join((folder.as_posix(), *(["MODE"] if "" not in comparisons else [])))
    ranked = f"; rows by loss: {kept}/row_losses.jsonl" if datasets else ""
    echo(f"* the 95 % interval of the change excludes 0; rows that changed most: {kept}/changed_rows.md{ranked}")


def format_figure(side: "Side", name: str) -> list[str]:
    """Return a side's figure, and its change where the side has changes; empty where it has no such figure."""
    figure = f"{side.figures[name]:.2f}" if name in side.figures else ""
    change = side.changes[name].format() if name in side.changes else ""
    return [figure, change] if side.changes else [figure]


def format_loss(loss: float | None) -> str:
    """Return a mean loss, empty for none."""
    return "" if loss is None else f"{loss:.4f}"


@contextlib.contextmanager
def show_status(describe: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Show one line that changes on a terminal's stderr; elsewhere a line whenever a tenth more is done."""
    from rich.markup import escape

    def show() -> str:
        return escape(neutralise_line(describe()))

    console = open_console(err=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with console.status(show()) as status:
        yield lambda: status.update(show())


@contextlib.contextmanager
def show_training(trainer_log: Path, since: float | None = None) -> Iterator[Callable[[], None]]:
    """Show step, loss and time left of the run that writes `trainer_log` from `since` on, now if not given."""
    import time

    from launch.runs.progress import describe_progress, read_progress

    started = time.time()

    def describe() -> str:
        progress = read_progress(trainer_log, since=started if since is None else since)
        return describe_progress(progress) if progress else f"starting LLaMA-Factory, {time.time() - started:.0f} s"

    with show_status(describe) as on_poll:
        yield on_poll


@contextlib.contextmanager
def show_prediction(side: str, log: Path) -> Iterator[Callable[[], None]]:
    """Show how many batches one side of a comparison has answered."""
    from launch.runs.progress import read_bar

    def describe() -> str:
        bar = read_bar(log)
        return f"{side}: {bar[0]}/{bar[1]} batches" if bar else f"{side}: starting LLaMA-Factory"

    with show_status(describe) as on_poll:
        yield on_poll


def format_setting(value: Any) -> str:
    """Return a value as it stands in the YAML."""
    from launch.configs.document import format_value

    return format_value(value)


def print_dry_run(
    cli: Path,
    action: str,
    path: Path,
    pairs: tuple[str, ...],
    config: "RunConfig",
    env: Mapping[str, str] | None = None,
) -> None:
    """Print the command of a run, ready to paste; `env` is what it gets on top of the user's variables."""
    from launch.machine.command import boost_command, build_llamafactory_command, is_boosted
    from launch.runs.claims import list_claims, rank_gpus

    environ = {**os.environ, **(env or {})}
    command = build_llamafactory_command(cli, action, path, config.values, environ, rank_gpus(list_claims()))
    if is_boosted(action, config.values, environ):
        command = boost_command(command)
    echo(command.with_env(env or {}).with_arguments(pairs).format())


def print_detached(run: RunFolder, *, as_json: bool) -> None:
    """Say how to get back to a run that goes on in the background."""
    name = run.path.relative_to(RUNS).as_posix()
    if as_json:
        print_json({"run": run.path.as_posix()})
    else:
        print_table(
            [
                ("watch", f"lfc launch attach {in_shell(name)}"),
                ("log", f"lfc launch logs {in_shell(name)}"),
                ("stop", f"lfc launch stop {in_shell(name)}"),
            ],
            title=f"{run.path} runs in the background",
        )


def print_trained(run: Run, *, as_json: bool) -> None:
    """Print what a finished training run made, and what its own log says of the loss."""
    from launch.configs.weights import holds_weights
    from launch.results.summary import summarise_runs

    summary = summarise_runs([run])[0]
    has_weights = holds_weights(run.place)
    losses = [loss for _, loss in summary.losses]
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    rows = [
        ("loss", f"{first:.3f} → {last:.3f}, {len(losses)} log steps" if losses else "none was logged"),
        ("read from", str(run.trainer_log)),
        ("trained", f"{run.output_dir}{'' if has_weights else ', into which no weights were written'}"),
        ("whole log", str(run.folder.log)),
        ("seconds", f"{run.seconds or 0:.0f}"),
        *summary.speed.list_figures(),
        *(("flag", flag) for flag in run.flags),
    ]
    result = {
        "run": run.path.as_posix(),
        "state": run.state.value,
        "output_dir": run.output_dir.as_posix(),
        "has_weights": has_weights,
        "seconds": run.seconds,
        "first_loss": first,
        "last_loss": last,
        "flags": run.flags,
        "speed": asdict(summary.speed),
    }
    if as_json:
        print_json(result)
    else:
        print_table(rows, title=f"{run.path} {run.state.value}")
