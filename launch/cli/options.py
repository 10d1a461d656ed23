"""What several commands take, and the checks that they share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.cli.output import echo

if TYPE_CHECKING:
    from launch.config import RunConfig


cli_option = click.option(
    "--llamafactory-cli",
    "given_cli",
    envvar="LFC_LLAMAFACTORY_CLI",
    show_envvar=True,
    metavar="PROGRAM",
    help="The llamafactory-cli of another environment or checkout.",
)


name_option = click.option("--name", help="The run's folder under runs/; from the config's name if not given.")


no_check_option = click.option("--no-check", is_flag=True, help="Start even if the check finds faults.")


dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would run, check it, and start nothing.")


fresh_option = click.option(
    "--fresh", is_flag=True, help="Start over: what steps made there is deleted, anything else renamed to *.old-1."
)


def find_cli(given: str | None) -> Path:
    """Return the llamafactory-cli to run; raises StackError when there is none."""
    from launch.command import find_llamafactory_cli

    return find_llamafactory_cli(given)


def refuse_faults(
    ctx: click.Context, path: Path, config: "RunConfig", env: Mapping[str, str] | None = None
) -> None:
    """Print what is wrong with a config to stderr, and end with exit code 1 when it cannot work.

    `env` is what the run will have beside this process's variables.
    """
    from launch.config import check_values, guess_kind
    from launch.rules import read_machine

    machine = read_machine(env={**os.environ, **(env or {})})
    faults = check_values(config.values, guess_kind(config.values), machine, path)
    for fault in faults:
        what = "error" if fault.fatal else "warning"
        echo(f"{path}: {what}: {f'`{fault.key}` ' if fault.key else ''}{fault.message}", err=True)
        echo(f"  Try: {fault.mend}", err=True)
    if any(fault.fatal for fault in faults):
        echo(f"Error: {path} cannot work as it stands; nothing was started", err=True)
        ctx.exit(1)
