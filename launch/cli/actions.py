"""`lfc launch predict`, `export`, `chat` and `api`: what is done with a model that is there."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.completion import complete_pairs
from launch.cli.options import (
    cli_option,
    dry_run_option,
    find_cli,
    name_option,
    no_check_option,
    refuse_faults,
)
from launch.cli.show import print_dry_run, show_prediction
from launch.runs.folder import choose_run_folder
from prep.cli.options import OUTPUT_FILE, json_option
from prep.cli.output import echo, print_json, print_table
from prep.errors import OutputError, UserError

if TYPE_CHECKING:
    from launch.serving.servers import Server


@click.command("predict")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs())
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def predict(
    ctx: click.Context,
    config_path: Path,
    pairs: tuple[str, ...],
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Answer the rows of a dataset with a prediction config, as one run.

    The answers are written to generated_predictions.jsonl in its output_dir.

    \b
    Example:
      lfc launch predict configs/medical-predict.yaml eval_dataset=medical_test
    """
    launch_action(
        ctx,
        "predict",
        config_path,
        pairs,
        name=name,
        no_check=no_check,
        dry_run=dry_run,
        given_cli=given_cli,
        as_json=as_json,
    )


@click.command("export")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs("infer"))
@name_option
@no_check_option
@dry_run_option
@cli_option
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    config_path: Path,
    pairs: tuple[str, ...],
    name: str | None,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
    as_json: bool,
) -> None:
    """Merge an adapter into its model and write the whole to export_dir, as one run.

    Its Modelfile is written anew with the prompts of the training, tools and the switch for thinking included, and
    compared with them in every kind of conversation. The command lines of Ollama and vLLM are printed, and stand on
    the report page.

    \b
    Example:
      lfc launch export configs/medical-export.yaml export_dir=models/medical
    """
    launch_action(
        ctx,
        "export",
        config_path,
        pairs,
        name=name,
        no_check=no_check,
        dry_run=dry_run,
        given_cli=given_cli,
        as_json=as_json,
    )


@click.command("chat")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs("infer"))
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def chat(
    ctx: click.Context,
    config_path: Path,
    pairs: tuple[str, ...],
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
) -> None:
    """Talk to a model in this terminal.

    \b
    Example:
      lfc launch chat configs/infer.yaml adapter_name_or_path=saves/Qwen3-4B/lora/medical
    """
    run_in_terminal(ctx, "chat", config_path, pairs, no_check=no_check, dry_run=dry_run, given_cli=given_cli)


@click.command("api")
@click.argument("config_path", metavar="CONFIG", type=OUTPUT_FILE)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs("infer"))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens the API to the network.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8000, show_default=True, help="Where it listens.")
@no_check_option
@dry_run_option
@cli_option
@click.pass_context
def api(
    ctx: click.Context,
    config_path: Path,
    pairs: tuple[str, ...],
    host: str,
    port: int,
    no_check: bool,
    dry_run: bool,
    given_cli: str | None,
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
        if not dry_run:
            echo(f"API: {format_address(host, port)}v1, once LLaMA-Factory has loaded the model", err=True)

    run_in_terminal(
        ctx, "api", config_path, pairs, env, announce, no_check=no_check, dry_run=dry_run, given_cli=given_cli
    )


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
    from launch.runs.claims import share_gpus
    from launch.runs.run import check_start, run_llamafactory

    config = read_run_config(config_path, pairs)
    refuse_other_purpose(action, config_path, config.values)
    cli = find_cli(given_cli)
    if not no_check:
        refuse_faults(ctx, config_path, config, action=action)
    theirs = "train" if action == "predict" else action
    env = share_gpus(no_check)
    folder = choose_run_folder(name, config_path)
    if dry_run:
        if (folder / "run.json").is_file():
            raise OutputError(f"run folder {folder} exists already", hint="--name ANOTHER_NAME")
        check_start(cli, theirs, config.values, folder, env)
        print_dry_run(cli, theirs, config_path, pairs, config)
        return
    with show_prediction(action, folder / "log.txt") as on_poll:
        seconds = run_llamafactory(cli, theirs, config, folder, on_poll, env)
    made = str(config.values.get("export_dir") or config.values.get("output_dir"))
    servers = tell_serving(folder) if action == "export" else []
    if as_json:
        served = {"served": [asdict(server) for server in servers]} if action == "export" else {}
        print_json({"run": folder.as_posix(), "made": made, "seconds": seconds, **served})
    else:
        print_table(
            [("made", made), ("whole log", str(folder / "log.txt")), ("seconds", f"{seconds:.0f}")],
            title=f"{config_path} done",
        )
        print_serving(servers)


def tell_serving(folder: Path) -> "list[Server]":
    """Note how an exported model is served, and return it; what hinders that is told and hurts nothing."""
    from launch.serving.exports import note_serving

    try:
        return note_serving(folder)
    except (UserError, OSError) as error:
        echo(f"Note: how it is served cannot be told: {error}", err=True)
        return []


def print_serving(servers: "list[Server]") -> None:
    """Print the command lines that serve a model, each with what is known of its prompts."""
    for server in servers:
        echo()
        echo(server.name)
        for line in (*server.commands, server.prompts):
            echo(f"  {line}")


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
