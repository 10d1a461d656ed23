"""What several commands take, and the checks that they share."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.completion import complete_version
from prep.cli.output import echo, echo_error, print_findings
from prep.errors import UserError
from prep.llamafactory import BASE_VERSION, VERSION_VARIABLE, find_unknown_release, find_version_facts
from prep.names import check_name

if TYPE_CHECKING:
    from launch.configs.config import RunConfig
    from launch.configs.rules import Machine


cli_option = click.option(
    "--llamafactory-cli",
    "given_cli",
    envvar="LFC_LLAMAFACTORY_CLI",
    show_envvar=True,
    metavar="PROGRAM",
    help="The llamafactory-cli of another environment or checkout.",
)


def take_version(context: click.Context, _: click.Parameter, version: str | None) -> None:
    """Judge by a version for as long as the command runs, in the processes that it starts too."""
    if version:
        find_version_facts(version)
        before = os.environ.get(VERSION_VARIABLE)
        os.environ[VERSION_VARIABLE] = version
        context.call_on_close(lambda: _set_version(before))
    else:
        learn_installed()


def learn_installed() -> None:
    """Ask the installed LLaMA-Factory for what it knows, where that is not known and no other is asked for."""
    if not os.environ.get(VERSION_VARIABLE) and (release := find_unknown_release()):
        learn_version(release)


def _set_version(version: str | None) -> None:
    if version is None:
        os.environ.pop(VERSION_VARIABLE, None)
    else:
        os.environ[VERSION_VARIABLE] = version


def learn_version(release: str) -> None:
    """Ask an installed LLaMA-Factory that is not known here, once; say so, and when it does not tell."""
    from launch.configs.schema import keep_version

    echo(f"LLaMA-Factory {release} is not known here: asking it once, which takes some seconds", err=True)
    try:
        keep_version(Path(sys.executable))
    except (UserError, OSError) as error:
        echo(f"Note: it does not tell: {error}; judged is by {BASE_VERSION}", err=True)


version_option = click.option(
    "--llamafactory-version",
    shell_complete=complete_version,
    metavar="VERSION",
    is_eager=True,
    expose_value=False,
    callback=take_version,
    help="Judge by this version of LLaMA-Factory; by the installed one if not given.",
)


def judge_name(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Return the name that was given for a run, a batch or an evaluation; raises ConfigError when it is none."""
    return name if name is None else check_name(name, f"--{option.name}")


name_option = click.option(
    "--name", callback=judge_name, help="The run's folder under runs/; from the config's name if not given."
)


no_check_option = click.option(
    "--no-check", is_flag=True, help="Start even if the check finds faults, or another run has a GPU."
)


dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would run, check it, and start nothing.")


boost_option = click.option(
    "--boost",
    is_flag=True,
    help="Train the same, faster: batches without padding, no gradient checkpointing where memory allows, compiled "
    "layers where that pays; checked against the plain losses first. LFC_BOOST=1 does so for every training.",
)


rehearse_option = click.option(
    "--rehearse",
    is_flag=True,
    envvar="LFC_REHEARSE",
    show_envvar=True,
    help="Do the two largest steps first: tell their memory, and start with the largest batch that fits at the "
    "same global batch, or stop with what would fit.",
)


fresh_option = click.option(
    "--fresh", is_flag=True, help="Start over: what steps made there is deleted, anything else renamed to *.old-1."
)


def read_gpu_option(text: str | None, *, any_number: bool = False) -> tuple[str, ...]:
    """Return the GPUs that `--gpus` names, none without it; `any_number` takes those that are not there, too.

    Raises: ConfigError when it is no list of GPUs.
    """
    from launch.machine.gpus import read_gpus
    from launch.runs.claims import parse_gpus

    if text is None:
        return ()
    gpus = None if any_number else read_gpus(env={}).gpus
    return parse_gpus(text, None if gpus is None else len(gpus))


def read_boost_option(boost: bool) -> dict[str, str]:
    """Return the variables that `--boost` gives to a training, none without it."""
    from launch.machine.command import BOOST_VARIABLE

    return {BOOST_VARIABLE: "1"} if boost else {}


def find_cli(given: str | None) -> Path:
    """Return the llamafactory-cli to run; raises StackError when there is none."""
    from launch.machine.command import find_llamafactory_cli

    return find_llamafactory_cli(given)


def refuse_faults(
    ctx: click.Context,
    path: Path,
    config: "RunConfig",
    env: Mapping[str, str] | None = None,
    action: str = "train",
    machine: "Machine | None" = None,
) -> None:
    """Print what is wrong with a config to stderr, and end with exit code 1 when it cannot work.

    `env` is what the run will have beside this process's variables; `machine` is another one that it will run on.
    Raises: ConfigError when it is a config for something else than the action.
    """
    from launch.configs.actions import refuse_other_purpose
    from launch.configs.config import check_values
    from launch.configs.rules import read_machine
    from launch.configs.schema import guess_kind

    learn_installed()
    refuse_other_purpose(action, path, config.values)
    machine = machine or read_machine(env={**os.environ, **(env or {})})
    faults = check_values(config.values, guess_kind(config.values), machine, path)
    print_findings(faults, err=True)
    if any(fault.is_error for fault in faults):
        echo_error(f"Error: {path} cannot work as it stands; nothing was started")
        ctx.exit(1)
