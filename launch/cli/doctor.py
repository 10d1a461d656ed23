"""`lfc doctor`."""

import click

from prep.cli.options import json_option
from prep.cli.output import echo, print_findings, print_json


@click.command("doctor")
@click.option("--llamafactory-cli", "given_cli", envvar="LFC_LLAMAFACTORY_CLI", help="The one to look into.")
@click.option("--quick", is_flag=True, help="Leave out the imports, which take most of a minute.")
@json_option
def doctor(given_cli: str | None, quick: bool, as_json: bool) -> None:
    """Find out whether training can work here, and say what fixes it.

    Looks at Python, GPU and driver, disk, ports, proxies and caches; at the installed versions against the
    tested set and against what llamafactory and unsloth declare; at pairs known to break; and really imports
    each package in a child process. Exit code 1 when training cannot work.

    \b
    Examples:
      lfc doctor
      lfc doctor --quick --json
    """
    from launch.machine.doctor import examine

    def say(step: str) -> None:
        echo(f"looking at {step}", err=True)

    findings = examine(given_cli, quick=quick, on_step=say)
    broken = any(finding.is_error for finding in findings)
    if as_json:
        result = {"can_train": not broken, "findings": [finding.as_dict() for finding in findings]}
        print_json(result)
    else:
        print_findings(findings)
        echo("training cannot work here yet" if broken else "training can work here")
    if broken:
        click.get_current_context().exit(1)
