"""A group of commands that are imported one by one, when they are asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class CommandEntry(NamedTuple):
    """Where a command is, as `module:attribute`, and its help in one line."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group made of a table: its help and its completion import no command, a call imports only its own."""

    def __init__(self, *args: Any, table: Mapping[str, CommandEntry], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.table = dict(table)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the table's order, which is that of the work."""
        return [*self.table, *(name for name in self.commands if name not in self.table)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command by its name, None when there is none."""
        if cmd_name in self.commands or cmd_name not in self.table:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.table[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands, and the options, that begin like what was typed."""
        names = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.table.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)
