"""One run: `lfc launch predict`, `export`, `chat`, `api`, and `attach`, `logs`, `stop`."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.options import (
    cli_option,
    dry_run_option,
    find_cli,
    name_option,
    no_check_option,
    refuse_faults,
)
from launch.cli.show import show_prediction, show_training
from launch.runs.folder import RUNS, Run, RunFolder, RunState, choose_run_folder, read_run
from prep.cli.options import OUTPUT_FILE, json_option
from prep.cli.output import echo, print_result
from prep.errors import OutputError, UserError
from prep.secrets import mask_text
from prep.terminal import neutralise_log

if TYPE_CHECKING:
    from launch.configs.config import RunConfig


@click.command("predict")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def predict(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Answer the rows of a dataset with a prediction config, as one run.

    The answers are written to generated_predictions.jsonl in its output_dir.

    \b
    Example:
      lfc launch predict configs/medical-predict.yaml eval_dataset=medical_test
    """
    launch_action(ctx, "predict", config_path, pairs, **options)


@click.command("export")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def export(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Merge an adapter into its model and write the whole to export_dir, as one run.

    \b
    Example:
      lfc launch export configs/medical-export.yaml export_dir=models/medical
    """
    launch_action(ctx, "export", config_path, pairs, **options)


@click.command("chat")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def chat(ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], **options: Any) -> None:
    """Talk to a model in this terminal.

    \b
    Example:
      lfc launch chat configs/infer.yaml adapter_name_or_path=saves/Qwen3-4B/lora/medical
    """
    run_in_terminal(ctx, "chat", config_path, pairs, **options)


@click.command("api")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens the API to the network.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, help="Where it listens.")
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def api(
    ctx: click.Context, /, config_path: Path, pairs: tuple[str, ...], host: str, port: int, **options: Any
) -> None:
    """Serve a model with LLaMA-Factory's OpenAI-style API, until Ctrl-C.

    The variable API_KEY, when it is set, is the key that every request must bring. Without it anybody who reaches a
    public --host can use the model.

    \b
    Example:
      lfc launch api configs/infer.yaml --port 8000
    """
    from launch.machine.network import choose_port, format_address, is_public

    env = {"API_HOST": host, "API_PORT": str(port)}

    def announce() -> None:
        choose_port(host, port)
        if is_public(host) and not os.environ.get("API_KEY"):
            echo(f"Warning: --host {host} without API_KEY: everybody who reaches this machine can use it", err=True)
            echo("  Try: API_KEY=SECRET before the command, or leave --host out", err=True)
        if not options["dry_run"]:
            echo(f"API: {format_address(host, port)}v1, once LLaMA-Factory has loaded the model", err=True)

    run_in_terminal(ctx, "api", config_path, pairs, env, announce, **options)


@click.command("attach")
@click.argument("name")
def attach(name: str) -> None:
    """Watch a run that goes on in the background; Ctrl-C ends the watching, not the run.

    \b
    Example:
      lfc launch attach medical
    """
    from launch.runs.folder import find_run
    from launch.runs.run import raise_failure, watch_run

    run = find_run(name)
    try:
        with show_training(run.trainer_log, since=0) as on_poll:
            watch_run(run.folder, on_poll)
    except KeyboardInterrupt:
        echo(f"\n{run.name} goes on: lfc launch stop {run.name} would stop it", err=True)
        return
    ended = find_run(name)
    raise_failure(ended)
    print_trained(ended, as_json=False)


@click.command("logs")
@click.argument("name")
@click.option("-n", "--lines", type=click.IntRange(1), help="The last lines alone.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
def logs(name: str, lines: int | None, follow: bool) -> None:
    """Print what LLaMA-Factory printed in a run.

    \b
    Examples:
      lfc launch logs medical -n 50
      lfc launch logs medical --follow
    """
    from launch.configs.private import read_known_secrets
    from launch.runs.folder import find_run
    from launch.runs.run import follow_log

    run = find_run(name).folder
    secrets = read_known_secrets(run.config)
    for block in join_lines(follow_log(run, lines=lines, follow=follow)):
        echo(mask_text(neutralise_log(block), secrets), nl=False)


def join_lines(blocks: Iterable[str]) -> Iterator[str]:
    """Yield blocks that end where a line ends: what stands across two of them is seen whole."""
    rest = ""
    for block in blocks:
        rest += block
        end = max(rest.rfind("\n"), rest.rfind("\r")) + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


@click.command("stop")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def stop(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Stop runs as Ctrl-C would, and wait until nothing of them is left.

    A batch's name stops its queue and all of its runs; `lfc launch batch --continue NAME` takes them up again.
    What had ended already is told, and is no fault; what cannot be stopped is, when all others were tried.

    \b
    Example:
      lfc launch stop medical overnight
    """
    exit_code = 0
    for name in names:
        try:
            echo(f"{name}: {stop_one(name)}")
        except UserError as error:
            exit_code = error.exit_code
            echo(f"Error: {error}", err=True)
            if error.hint:
                echo(f"  Try: {error.hint}", err=True)
    ctx.exit(exit_code)


def stop_one(name: str) -> str:
    """Stop a run or a batch and return in words what became of it; raises UserError when that cannot be done."""
    from launch.batches.batch import is_at_work, stop_batch
    from launch.runs.batch_plan import is_batch, read_batch
    from launch.runs.folder import find_run
    from launch.runs.run import stop_run

    if is_batch(name):
        plan = read_batch(name)
        if not is_at_work(plan):
            return "had ended already"
        stop_batch(plan)
        return "stopped"
    run = find_run(name)
    if run.state is not RunState.RUNNING:
        stop_run(run.folder)
        return f"had ended already: {run.state}" if run.state is not RunState.QUEUED else "had not started"
    stop_run(run.folder)
    ended = read_run(run.path)
    # It may have ended by itself before the request reached it.
    return str(ended.state) if ended.state is not RunState.LOST else "stopped"


def launch_action(
    ctx: click.Context,
    action: str,
    config_path: Path,
    pairs: tuple[str, ...],
    *,
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Run an action other than training to its end, with its progress bar; only a config of its kind is taken."""
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import read_run_config
    from launch.runs.run import run_llamafactory

    config = read_run_config(config_path, pairs)
    refuse_other_purpose(action, config_path, config.values)
    cli = find_cli(given_cli)
    if not no_check:
        refuse_faults(ctx, config_path, config, action=action)
    theirs = "train" if action == "predict" else action
    folder = choose_run_folder(name, config_path)
    if dry_run:
        if (folder / "run.json").is_file():
            raise OutputError(f"run folder {folder} exists already", hint="--name ANOTHER_NAME")
        print_dry_run(cli, theirs, config_path, pairs, config)
        return
    with show_prediction(action, folder / "log.txt") as on_poll:
        seconds = run_llamafactory(cli, theirs, config, folder, on_poll)
    made = str(config.values.get("export_dir") or config.values.get("output_dir"))
    print_result(
        {"run": folder.as_posix(), "made": made, "seconds": seconds},
        [("made", made), ("whole log", str(folder / "log.txt")), ("seconds", f"{seconds:.0f}")],
        as_json=as_json,
        title=f"{config_path} done",
    )


def run_in_terminal(
    ctx: click.Context,
    action: str,
    config_path: Path,
    pairs: tuple[str, ...],
    env: Mapping[str, str] | None = None,
    announce: Callable[[], None] = lambda: None,
    *,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Run an action that talks to the user or serves until Ctrl-C; its exit code becomes ours.

    `announce` is called when all has been checked, and may raise a last fault.
    """
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import parse_overrides, read_run_config
    from launch.configs.private import private_config
    from launch.machine.command import build_llamafactory_command
    from launch.machine.gpus import read_gpus
    from launch.runs.process import run_interactive
    from prep.secrets import holds_secret

    config = read_run_config(config_path, pairs)
    refuse_other_purpose(action, config_path, config.values)
    cli = find_cli(given_cli)
    if not no_check:
        refuse_faults(ctx, config_path, config, env, action)
    announce()
    if dry_run:
        print_dry_run(cli, action, config_path, pairs, config, env)
        return
    gpus = read_gpus().gpus or ()
    if not holds_secret(parse_overrides(pairs)):
        command = build_llamafactory_command(cli, action, config_path, config.values, os.environ, gpus)
        ctx.exit(run_interactive(command.with_env(env or {}).with_arguments(pairs)))
    # All users of a machine can see a process's arguments.
    with private_config(config.values) as private:
        command = build_llamafactory_command(cli, action, private, config.values, os.environ, gpus)
        exit_code = run_interactive(command.with_env(env or {}))
    ctx.exit(exit_code)


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
    from launch.machine.gpus import read_gpus

    gpus = read_gpus().gpus or ()
    environ = {**os.environ, **(env or {})}
    command = build_llamafactory_command(cli, action, path, config.values, environ, gpus)
    if is_boosted(action, config.values, environ):
        command = boost_command(command)
    echo(command.with_env(env or {}).with_arguments(pairs).format())


def print_detached(run: RunFolder, *, as_json: bool) -> None:
    """Say how to get back to a run that goes on in the background."""
    name = run.path.relative_to(RUNS).as_posix()
    print_result(
        {"run": run.path.as_posix()},
        [
            ("watch", f"lfc launch attach {name}"),
            ("log", f"lfc launch logs {name}"),
            ("stop", f"lfc launch stop {name}"),
        ],
        as_json=as_json,
        title=f"{run.path} runs in the background",
    )


def print_trained(run: Run, *, as_json: bool) -> None:
    """Print what a finished training run made, and what its own log says of the loss."""
    from launch.results.summary import summarise_runs

    losses = [loss for _, loss in summarise_runs([run])[0].losses]
    first, last = (losses[0], losses[-1]) if losses else (None, None)
    rows = [
        ("loss", f"{first:.3f} → {last:.3f}, {len(losses)} log steps" if losses else "none was logged"),
        ("read from", str(run.trainer_log)),
        ("trained", str(run.output_dir)),
        ("whole log", str(run.folder.log)),
        ("seconds", f"{run.seconds or 0:.0f}"),
        *(("flag", flag) for flag in run.flags),
    ]
    result = {
        "run": run.path.as_posix(),
        "state": run.state.value,
        "output_dir": run.output_dir.as_posix(),
        "seconds": run.seconds,
        "first_loss": first,
        "last_loss": last,
        "flags": run.flags,
    }
    print_result(result, rows, as_json=as_json, title=f"{run.path} {run.state.value}")
