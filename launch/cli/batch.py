"""`lfc launch batch`."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from launch.cli.completion import complete_batch
from launch.cli.notify import StallTeller, describe_batch_end, notify_option, open_notifier, tell_end
from launch.cli.options import (
    boost_option,
    cli_option,
    dry_run_option,
    find_cli,
    judge_name,
    no_check_option,
    read_gpu_option,
    refuse_faults,
    rehearse_option,
)
from launch.cli.placement import SilenceTeller, place_slots, placement_options, read_placement, wants_gpu
from launch.cli.tokens import tell_tokens, tokenize_option
from launch.cli.track import add_tracking_values
from launch.runs.folder import RunState
from prep.cli.options import OUTPUT_FILE, json_option
from prep.cli.output import build_table, echo, open_console, print_json, print_table
from prep.errors import StoppedError
from prep.names import make_name
from prep.secrets import mask_values
from prep.wording import count_of, in_shell

if TYPE_CHECKING:
    from launch.batches.batch import QueuedRun
    from launch.notify.notifier import Notifier
    from launch.runs.backends.job import Placement
    from launch.runs.batch_plan import BatchPlan

    Show = Callable[[list[QueuedRun]], None]

# The exit code of a launcher whose terminal was closed.
_HANGUP = 128 + getattr(signal, "SIGHUP", 1)


@click.command("batch")
@click.argument("paths", nargs=-1, type=OUTPUT_FILE, metavar="SWEEP.yaml|CONFIG...")
@click.option(
    "--name",
    callback=judge_name,
    help="The batch's folder under runs/; from the first file's name if not given.",
)
@click.option("--gpus", metavar="0,1,...", help="One run a GPU at a time.")
@click.option(
    "--slots",
    "slots_at_a_time",
    type=click.IntRange(1),
    help="Runs at a time without GPUs, 1 if not given; on a cluster the most of them.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Starts of one run, the first included.",
)
@boost_option
@rehearse_option
@placement_options
@tokenize_option
@click.option(
    "--continue", "go_on", metavar="NAME", help="Go on with a batch that was begun.", shell_complete=complete_batch
)
@notify_option
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
    slots_at_a_time: int | None,
    max_attempts: int,
    boost: bool,
    rehearse: bool,
    tokenize: bool,
    backend: str,
    gpus_each: int | None,
    cpus_each: int | None,
    address: str | None,
    partition: str | None,
    gres: str | None,
    time_limit: str | None,
    more: tuple[str, ...],
    go_on: str | None,
    addresses: tuple[str, ...],
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Run a sweep, or several configs, through a queue: one run a GPU, the largest first.

    A sweep file names a `config` and changes it by `grid` (every combination), `zip` (paired lists), `runs`
    (named ones) and `set` (for all). A run that ran out of memory goes on with a smaller batch and more
    accumulation, one that was killed from its last checkpoint; a wrong config is not tried again. The state is
    the run folders alone: when this command dies, the runs go on, and --continue picks the queue up, with the
    runs that were stopped or preempted. On a cluster each run is a job that does all of its attempts, also when
    it is preempted and begins again; the folder must lie on storage that all machines share. Ctrl-C, SIGTERM and
    `lfc launch stop NAME` stop the queue and its runs.

    \b
    A whole sweep file, of four runs:
      config: configs/medical.yaml
      set: {num_train_epochs: 2}
      boost: true
      grid:
        learning_rate: [1e-4, 5e-5]
        lora_rank: [8, 32]

    \b
    Examples:
      lfc launch batch sweep.yaml --gpus 0,1,2,3
      lfc launch batch configs/a.yaml configs/b.yaml --gpus 0 --name overnight
      lfc launch batch sweep.yaml --backend slurm --partition gpu --gpus-each 1 --time 4:00:00
      lfc launch batch sweep.yaml --backend ray --address 10.0.0.1:6379 --gpus-each 1
      lfc launch batch --continue overnight
    """
    from launch.batches.batch import read_queue, refuse_taken
    from launch.batches.retry import refuse_to_guess
    from launch.batches.sweep import read_sweep, wants_boost, wants_tokens
    from launch.runs.batch_plan import draft_batch, refuse_taken_name, write_plan
    from launch.runs.claims import starting

    if bool(go_on) == bool(paths):
        raise click.UsageError("name a sweep or configs, or --continue NAME")
    # With --continue it is where a batch on Ray goes on.
    asked = {"partition": partition, "gres": gres, "time": time_limit, "address": None if go_on else address}
    placement = read_placement(backend, {**asked, "gpus": gpus_each, "cpus": cpus_each}, more)
    if go_on and (name or gpus or boost or placement.is_cluster):
        raise click.UsageError(
            "--continue takes the batch as it was begun: without --name, --gpus, --boost, --backend"
        )
    if gpus and placement.is_cluster:
        raise click.UsageError("--gpus names GPUs of this machine; a cluster gives them: --gpus-each 1")
    notifier = open_notifier(addresses)
    cli = find_cli(given_cli)
    if go_on:
        plan = continue_batch(go_on, address, dry_run=dry_run, shared=no_check)
    else:
        name = name or make_name(paths[0].stem)
        configs = read_sweep(paths, name)
        boost = boost or wants_boost(paths)
        configs = add_tracking_values(configs, cli)
        tokenize = tokenize and wants_tokens(paths)
        for values in configs.values():
            refuse_to_guess(values, hint="another output_dir in the sweep's `set`, or rename that folder")
        if placement.is_cluster:
            slots, placement = place_slots(placement, slots_at_a_time)
        else:
            slots = read_gpu_option(gpus, any_number=no_check) or ("cpu",) * (slots_at_a_time or 1)
        if not no_check:
            refuse_batch_faults(ctx, configs, placement)
        if rehearse and not dry_run:
            from launch.cli.rehearse import rehearse_all

            configs = rehearse_all(configs, cli, is_boosted=boost)
        with contextlib.nullcontext() if dry_run else starting():
            plan = draft_batch(name, configs, slots, max_attempts, boost=boost, placement=placement)
            plan = replace(plan, tokenize=tokenize)
            refuse_taken_name(plan.folder)
            refuse_taken(plan, shared=no_check)
            if not dry_run:
                write_plan(plan)
    tell_tokens((run.planned.values for run in read_queue(plan) if not run.is_done), wanted=plan.tokenize)
    if dry_run:
        print_plan(plan, cli, as_json=as_json)
        return
    queue = watch_batch(plan, cli, notifier)
    print_queue(plan, queue, as_json=as_json)
    if any(run.last is None or run.last.state is not RunState.FINISHED for run in queue):
        ctx.exit(1)


def continue_batch(name: str, address: str | None, *, dry_run: bool, shared: bool) -> "BatchPlan":
    """Return the plan of a batch that was begun, its stopped runs taken up; raises OutputError as `take_up`."""
    from launch.batches.batch import move_to_cluster, read_queue, refuse_taken, take_up
    from launch.runs.batch_plan import read_batch
    from launch.runs.claims import starting

    plan = read_batch(name)
    with contextlib.nullcontext() if dry_run else starting():
        if address and not dry_run:
            plan = move_to_cluster(plan, address)
        refuse_taken(plan, shared=shared)
        plan = take_up(plan, dry_run=dry_run)
    broken = [run.last for run in read_queue(plan) if run.last and run.last.state is RunState.BROKEN]
    for run in broken:
        echo(f"Warning: {run.path.as_posix()} is left out: {run.fault}", err=True)
    return plan


def refuse_batch_faults(ctx: click.Context, configs: Mapping[str, dict[str, Any]], placement: "Placement") -> None:
    """Check every config of a batch before the first one starts, for the kind of machine that it will run on."""
    from launch.configs.config import RunConfig
    from launch.configs.rules import choose_machine

    machine = None
    if placement.is_cluster:
        machine = choose_machine("gpu" if wants_gpu(placement) else "cpu")
    for name, values in configs.items():
        refuse_faults(ctx, Path(name), RunConfig(values, ""), machine=machine)


def watch_batch(plan: "BatchPlan", cli: Path, notifier: "Notifier | None" = None) -> "list[QueuedRun]":
    """Work a batch's queue off with a live table; Ctrl-C asks once, then stops all runs cleanly.

    SIGTERM and a request to stop do so without asking; at SIGHUP, the end of a terminal, the runs go on.
    """
    from launch.batches.batch import read_queue, run_batch, stop_batch
    from launch.runs.process import stop_signals_raise

    stall, silence = StallTeller(notifier), SilenceTeller(plan)

    def describe() -> tuple[str, str]:
        return describe_batch_end(plan.folder.name, describe_queue(read_queue(plan)))

    with tell_end(notifier, describe), stop_signals_raise():
        while True:
            try:
                with show_queue(plan) as show:

                    def on_poll(queue: "list[QueuedRun]", show: "Show" = show) -> None:
                        show(queue)
                        stall.look_at_queue(plan.folder.name, queue)
                        silence.look(queue)

                    return run_batch(plan, cli, on_poll)
            except KeyboardInterrupt:
                if not is_asking() or click.confirm(
                    "\nStop all runs? Otherwise the batch goes on", default=True, err=True
                ):
                    stop_batch(plan)
                    raise
            except StoppedError as stop:
                if stop.exit_code != _HANGUP:
                    stop_batch(plan)
                raise


def is_asking() -> bool:
    """Tell whether there is somebody to ask: a terminal, in whose foreground this process is."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    return not hasattr(os, "tcgetpgrp") or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()


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
    from launch.runs.progress import describe_progress, read_progress

    rows: list[tuple[str, ...]] = []
    for run in queue:
        progress = read_progress(run.last.trainer_log) if run.last and not run.last.fault else None
        line = describe_progress(progress) if progress else ""
        rows.append((run.planned.name, describe_state(run), line))
    return rows


def describe_state(run: "QueuedRun") -> str:
    """Return one run's state in words, with its attempts and why the last one ended."""
    if run.last is None:
        return "queued"
    attempt = f", attempt {len(run.attempts)}" if len(run.attempts) > 1 else ""
    cause = f" ({run.cause})" if run.cause and run.cause.value != run.last.state.value else ""
    again = ", will be tried again" if run.next_values is not None else ""
    if run.last.fault:
        return f"{run.last.state}: {run.last.fault}"
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
    best = find_best(queue)
    rows = describe_queue(queue)
    if best is not None:
        name = f"{plan.folder.name}/{best.name}"
        rows = [*rows, ("", ""), ("lowest loss", f"{best.loss:.4f}, {name}")]
        rows += [("all of them", f"lfc launch report {in_shell(plan.folder.name)}")]
    if as_json:
        print_json({"batch": plan.folder.as_posix(), "runs": result, "best": best.name if best else None})
    else:
        print_table(rows, title=f"{plan.folder}")


class BestRun(NamedTuple):
    """The run of a batch with the lowest loss, on validation rows where all have one."""

    name: str
    loss: float


def find_best(queue: "Sequence[QueuedRun]") -> BestRun | None:
    """Return a batch's best run; None where losses cannot be compared: fewer than two, or of different kinds."""
    from launch.results.summary import summarise_runs

    ended = [run for run in queue if run.last is not None and run.last.state is RunState.FINISHED]
    summaries = summarise_runs(run.last for run in ended if run.last is not None)
    losses = [
        BestRun(run.planned.name, summary.best_loss)
        for run, summary in zip(ended, summaries, strict=True)
        if summary.best_loss is not None
    ]
    if len(losses) < 2 or len({bool(summary.eval_losses) for summary in summaries}) > 1:
        return None
    return min(losses, key=lambda run: run.loss)


def print_plan(plan: "BatchPlan", cli: Path, *, as_json: bool) -> None:
    """Print what a batch would start: each run that is not done with its slot's variables and its command."""
    from launch.batches.batch import preview_commands

    queue = preview_commands(plan, cli)
    commands = [
        {
            "run": name,
            "output_dir": str(values.get("output_dir")),
            "command": command,
            "config": mask_values(values),
        }
        for name, values, command in queue
    ]
    if as_json:
        print_json(
            {
                "batch": plan.folder.as_posix(),
                "runs": {entry["run"]: entry["config"] for entry in commands},
                "commands": {entry["run"]: entry["command"] for entry in commands},
            }
        )
    else:
        print_table(
            [(str(entry["run"]), str(entry["output_dir"]), str(entry["command"])) for entry in commands],
            title=f"{plan.folder.name}, {count_of(len(plan.slots), 'slot')}",
        )
