"""Every command explains itself."""

import re
import shlex
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


def read_examples(command: click.Command) -> list[str]:
    """Return the lines of a command's help that call lfc."""
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", command.help or "").splitlines()]
    return [line for line in lines if line.startswith("lfc ")]


@pytest.mark.parametrize(
    "line",
    sorted({line for _, command in COMMANDS for line in read_examples(command)}),
)
def test_an_example_is_a_call_that_its_command_takes(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    command: click.Command = lfc
    context = click.Context(lfc, info_name="lfc")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, name
        command = found
        if not isinstance(command, click.Group):
            command.make_context(name, list(words), parent=context)
        else:
            context = click.Context(command, parent=context, info_name=name)
