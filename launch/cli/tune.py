"""`lfc launch tune`."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.options import cli_option, dry_run_option, find_cli, name_option, refuse_faults
from prep.cli.options import OUTPUT_FILE, force_option, json_option
from prep.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from launch.tune.candidates import Candidate
    from launch.tune.search import Limits, Search
    from launch.tune.trials import Bench, Outcome

_GIB = 1 << 30


@click.command("tune")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.option("-o", "--output", type=OUTPUT_FILE, help="The YAML to write; CONFIG's name with .tuned before .yaml.")
@click.option(
    "--minutes", type=click.FloatRange(0.1, 24 * 60), default=8.0, show_default=True, help="How long to try."
)
@click.option("--max-memory", type=click.FloatRange(1), metavar="GB", help="Choose for a GPU with so much memory.")
@click.option("--any-backend", is_flag=True, help="Let use_unsloth change, which else stays as CONFIG has it.")
@name_option
@force_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def tune(
    ctx: click.Context,
    config_path: Path,
    output: Path | None,
    minutes: float,
    max_memory: float | None,
    any_backend: bool,
    name: str | None,
    force: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Find the fastest schedule of the same training, by short real runs on its own rows.

    What defines the training stays: data, global batch, learning rate, schedule, LoRA, precision, cutoff, seed.
    What only schedules it is tried: batch against accumulation, gradient checkpointing, Liger, Unsloth, boost.
    Each candidate is a training of its own on the same rows, the longest first; one that runs out of memory, fails
    or is far slower than the best is an answer. The losses of the first steps, which must agree, are shown.

    Written is your own YAML with the keys that won, each with a comment of what it brought; what was tried lies in
    runs/NAME/tune.json. One GPU is measured, whatever number the training will use.

    \b
    Examples:
      lfc launch tune configs/medical.yaml
      lfc launch tune configs/medical.yaml --minutes 15 --any-backend -o configs/medical-fast.yaml
      lfc launch tune configs/medical.yaml --max-memory 24
    """
    from launch.configs.config import read_run_config
    from launch.runs.folder import choose_run_folder
    from launch.tune.search import search
    from launch.tune.trials import Bench
    from prep.storage.atomic import refuse_existing
    from prep.storage.paths import find_free_path

    target = output or config_path.with_name(f"{config_path.stem}.tuned.yaml")
    refuse_existing(target, force=force)
    config = read_run_config(config_path, ())
    refuse_faults(ctx, config_path, config)
    refuse_untunable(config.values)
    limits = read_limits(minutes * 60, max_memory, any_backend=any_backend)
    if dry_run:
        print_plan(config.values, limits, config_path)
        return
    folder = find_free_path(choose_run_folder(name or f"{config_path.stem}-tune", config_path), ".")
    bench = Bench(find_cli(given_cli), folder, int(max_memory * 1e9 * 0.97) if max_memory else 0)
    found = search(config.values, bench, limits, show_trial, tell_outcome)
    write_results(found, bench, config_path, target, as_json=as_json)


def refuse_untunable(values: dict[str, Any]) -> None:
    """Raise ConfigError for a training that the trials would not be the same as."""
    from prep.errors import ConfigError

    for key in ("deepspeed", "fsdp", "streaming", "use_kt", "use_mca"):
        if values.get(key):
            raise ConfigError(f"`{key}` is not tuned: trials run on one GPU, with rows that are all there")
    if not values.get("do_train"):
        raise ConfigError("there is nothing to tune: do_train is not set")


def read_limits(seconds: float, max_memory: float | None, *, any_backend: bool) -> "Limits":
    """Return what the search may take, by the options and this machine."""
    from launch.machine.gpus import read_gpus
    from launch.tune.search import Limits

    gpus = read_gpus().gpus
    smallest = max((gpu.memory_bytes for gpu in gpus or ()), default=0)
    most = int(max_memory * 1e9) if max_memory else smallest
    return Limits(seconds, most, any_backend, gpus is None or bool(gpus), os.cpu_count() or 1)


@contextlib.contextmanager
def show_trial(candidate: "Candidate", number: int) -> Iterator[Callable[[], None]]:
    """Show which trial runs, and for how long."""
    import time

    from launch.cli.show import show_status

    started = time.monotonic()
    with show_status(
        lambda: f"trial {number + 1}: {candidate.name}, {time.monotonic() - started:.0f} s"
    ) as on_poll:
        yield on_poll


def tell_outcome(outcome: "Outcome") -> None:
    """Say on stderr how a trial ended."""
    speed = (
        f"{outcome.tokens_per_s:,.0f} tokens/s, {outcome.peak_bytes / _GIB:.1f} GiB" if outcome.tokens_per_s else ""
    )
    said = ", ".join(part for part in (str(outcome.end), speed, outcome.reason) if part)
    echo(f"{outcome.candidate.name}: {said}", err=True)


def print_plan(values: dict[str, Any], limits: "Limits", path: Path) -> None:
    """Print what would be tried, and start nothing."""
    from launch.tune.search import plan

    rows = [
        (candidate.name, format_gib(needed), " ".join(f"{key}={value}" for key, value in candidate.changes.items()))
        for candidate, needed in plan(values, limits)
    ]
    print_table([("", "memory", "changes"), *rows], title=f"What would be tried of {path}")


def format_gib(count: int) -> str:
    """Return bytes as GiB, `?` for 0."""
    return f"{count / _GIB:.1f} GiB" if count else "?"


def write_results(found: "Search", bench: "Bench", config_path: Path, target: Path, *, as_json: bool) -> None:
    """Write the tuned config and tune.json, and print the table; raises ConfigError when nothing was measured."""
    import shutil

    from launch.configs.private import write_config_text
    from launch.tune.report import describe_changes, describe_head, list_lines, write_report
    from launch.tune.tuned_config import write_tuned_text
    from prep.errors import ConfigError

    shutil.rmtree(bench.folder / "tokens", ignore_errors=True)
    write_report(found, bench.folder)
    if not found.best.tokens_per_s:
        first = found.baseline
        raise ConfigError(
            f"no candidate could be measured; {config_path} as it is: {first.end} {first.reason}".rstrip(),
            hint=f"{bench.folder.as_posix()}/00/log.txt tells more; --minutes gives more time",
        )
    changes, comments = describe_changes(found, os.cpu_count() or 1)
    text = write_tuned_text(config_path, changes, comments, describe_head(found, target))
    write_config_text(target, text, {**found.values, **changes})
    title = f"{config_path} → {target} ({bench.folder})"
    if as_json:
        told = {"config": target.as_posix(), "run": bench.folder.as_posix(), "changes": changes}
        print_json({**told, "boost": bool(found.best.candidate.boost)})
        return
    head, *lines = list_lines(found)
    print_table([head, *lines], title=title)
    for line in describe_head(found, target):
        echo(line)
