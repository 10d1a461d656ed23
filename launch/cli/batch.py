"""`lfc launch batch`."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.options import cli_option, dry_run_option, find_cli, no_check_option, refuse_faults
from launch.cli.root import launch
from launch.runs import RunState
from prep.cli import OUTPUT_FILE, json_option
from prep.cli.output import build_table, echo, open_console, print_result
from prep.secrets import mask_values

if TYPE_CHECKING:
    from launch.batch import BatchPlan, QueuedRun


@launch.command("batch")
@click.argument("paths", nargs=-1, type=OUTPUT_FILE, metavar="SWEEP.yaml|CONFIG...")
@click.option("--name", help="The batch's folder under runs/; from the first file's name if not given.")
@click.option("--gpus", metavar="0,1,...", help="One run a GPU at a time.")
@click.option("--slots", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time without GPUs.")
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Starts of one run, the first included.",
)
@click.option("--continue", "go_on", metavar="NAME", help="Go on with a batch that was begun.")
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def batch(
    ctx: click.Context,
    paths: tuple[Path, ...],
    name: str | None,
    gpus: str | None,
    slots: int,
    max_attempts: int,
    go_on: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Run a sweep, or several configs, through a queue: one run a GPU, the largest first.

    A sweep file names a `config` and changes it by `grid` (every combination), `zip` (paired lists), `runs`
    (named ones) and `set` (for all). A run that ran out of memory goes on with a smaller batch and more
    accumulation, one that was killed from its last checkpoint; a wrong config is not tried again. The state is
    the run folders alone: when this command dies, the runs go on, and --continue picks the queue up.

    \b
    Examples:
      lfc launch batch sweep.yaml --gpus 0,1,2,3
      lfc launch batch configs/a.yaml configs/b.yaml --gpus 0 --name overnight
      lfc launch batch --continue overnight
    """
    from launch.batch import plan_batch, read_batch, read_sweep
    from launch.retry import refuse_to_guess

    if bool(go_on) == bool(paths):
        raise click.UsageError("name a sweep or configs, or --continue NAME")
    if go_on:
        plan = read_batch(go_on)
    else:
        name = name or paths[0].stem
        configs = read_sweep(paths, name)
        for values in configs.values():
            refuse_to_guess(values, hint="another output_dir in the sweep's `set`, or rename that folder")
        places = tuple(gpus.split(",")) if gpus else ("cpu",) * slots
        if not no_check:
            refuse_batch_faults(ctx, configs)
        if dry_run:
            print_result(
                {"runs": mask_values(configs)},
                describe_configs(configs),
                as_json=as_json,
                title=f"{name}, {len(places)} slots",
            )
            return
        plan = plan_batch(name, configs, places, max_attempts)
    queue = watch_batch(plan, find_cli(given_cli))
    print_queue(plan, queue, as_json=as_json)
    if any(run.last is None or run.last.state is not RunState.FINISHED for run in queue):
        ctx.exit(1)


def refuse_batch_faults(ctx: click.Context, configs: Mapping[str, dict[str, Any]]) -> None:
    """Check every config of a batch before the first one starts."""
    from launch.config import RunConfig

    for name, values in configs.items():
        refuse_faults(ctx, Path(name), RunConfig(values, ""))


def watch_batch(plan: "BatchPlan", cli: Path) -> "list[QueuedRun]":
    """Work a batch's queue off with a live table; Ctrl-C asks once, then stops all runs cleanly."""
    from launch.batch import run_batch, stop_batch

    while True:
        try:
            with show_queue(plan) as on_poll:
                return run_batch(plan, cli, on_poll)
        except KeyboardInterrupt:
            asks = sys.stdin.isatty()
            if not asks or click.confirm("\nStop all runs? Otherwise the batch goes on", default=True, err=True):
                stop_batch(plan)
                raise


@contextlib.contextmanager
def show_queue(plan: "BatchPlan") -> "Iterator[Callable[[list[QueuedRun]], None]]":
    """Show where every run stands: a live table on a terminal, one line for each change elsewhere."""
    from rich.live import Live

    console = open_console(err=True)
    seen: dict[str, str] = {}
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield lambda queue: live.update(
                build_table(describe_queue(queue), plan.folder.as_posix()), refresh=True
            )
        return

    def tell_changes(queue: "list[QueuedRun]") -> None:
        for run in queue:
            state = describe_state(run)
            if seen.get(run.planned.name) != state:
                seen[run.planned.name] = state
                echo(f"{run.planned.name}: {state}", err=True)

    yield tell_changes


def describe_queue(queue: "Sequence[QueuedRun]") -> list[tuple[str, ...]]:
    """Return a table row for each run of a batch."""
    from launch.progress import describe_progress, read_progress

    rows: list[tuple[str, ...]] = []
    for run in queue:
        progress = read_progress(run.last.trainer_log) if run.last else None
        line = describe_progress(progress) if progress else ""
        rows.append((run.planned.name, describe_state(run), line))
    return rows


def describe_state(run: "QueuedRun") -> str:
    """Return one run's state in words, with its attempts and why the last one ended."""
    if run.last is None:
        return "queued"
    attempt = f", attempt {len(run.attempts)}" if len(run.attempts) > 1 else ""
    cause = f" ({run.cause})" if run.cause else ""
    again = ", will be tried again" if run.next_values is not None else ""
    return f"{run.last.state}{cause}{attempt}{again}"


def print_queue(plan: "BatchPlan", queue: "Sequence[QueuedRun]", *, as_json: bool) -> None:
    """Print how a batch ended."""
    result = [
        {
            "run": run.planned.name,
            "state": run.last.state.value if run.last else "queued",
            "attempts": len(run.attempts),
            "cause": run.cause.value if run.cause else None,
            "folder": run.last.path.as_posix() if run.last else None,
            "output_dir": str(run.planned.values.get("output_dir")),
        }
        for run in queue
    ]
    print_result(
        {"batch": plan.folder.as_posix(), "runs": result},
        describe_queue(queue),
        as_json=as_json,
        title=f"{plan.folder}",
    )


def describe_configs(configs: Mapping[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a table row for each config of a batch: its name and output folder."""
    return [(name, str(values.get("output_dir"))) for name, values in configs.items()]
