"""The root `lfc` command, its two halves, and how a fault ends."""

from importlib import import_module
from typing import Any

import click

from prep import __version__
from prep.cli import prep
from prep.cli.output import echo
from prep.errors import UserError

_LAUNCH_MODULES = ("batch", "config", "evaluate", "recipe", "results", "runs", "train", "webui")


class RootGroup(click.Group):
    """Ends a user's fault in one message and its exit code; a bug keeps its traceback.

    All commands but `lfc prep`, whose start counts, are imported when one is asked for.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, None when there is none."""
        if cmd_name not in self.commands:
            _load_launch()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        _load_launch()
        return super().list_commands(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; UserError becomes one message, Ctrl-C exit code 130."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            echo(f"Error: {error}", err=True)
            if error.hint:
                echo(f"  Try: {error.hint}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            echo("Interrupted: nothing half-written was left behind.", err=True)
            ctx.exit(130)


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lfc")
def lfc() -> None:
    """Prepare data for LLaMA-Factory, and launch it: from a hub to a compared adapter.

    \b
    Examples:
      lfc quickstart
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc launch train configs/medical.yaml
    """


@click.group("launch")
def launch() -> None:
    """Write configs, train, and compare.

    \b
    Example:
      lfc launch train configs/medical.yaml
    """


def _load_launch() -> None:
    """Import the modules that add commands to `launch` and `lfc`."""
    for name in _LAUNCH_MODULES:
        import_module(f"launch.cli.{name}")
    lfc.add_command(launch)


lfc.add_command(prep)
