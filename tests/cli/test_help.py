"""Every command explains itself."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from launch.cli import lfc


def walk_commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk_commands(child, (*path, name))


COMMANDS = list(walk_commands(lfc))


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    result = CliRunner().invoke(lfc, [*path, "--help"], prog_name="lfc")
    assert result.exit_code == 0
    assert "Example" in result.output
    example = result.output.split("Example", 1)[1]
    assert " ".join(("lfc", *path)) in example


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_every_option_has_help(path: tuple[str, ...], command: click.Command) -> None:
    without = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert without == []
