"""The groups import the command that is asked for, and nothing else."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from launch.cli.root import LAUNCH_COMMANDS, LFC_COMMANDS, lfc
from prep.cli import COMMANDS
from prep.cli.lazy import LazyGroup
from tests.support.lfc_process import ROOT

TABLES = {**LFC_COMMANDS, **LAUNCH_COMMANDS, **COMMANDS}
MODULES = {entry.target.partition(":")[0] for entry in TABLES.values()} - {"prep.cli", "launch.cli.root"}


def list_imports(*argv: str) -> set[str]:
    """Return the modules of ours that a command line imports."""
    code = (
        "import json, sys\nfrom launch.cli import lfc\n"
        f"lfc.main({list(argv)!r}, prog_name='lfc', standalone_mode=False)\n"
        "print('\\n' + json.dumps([name for name in sys.modules if name.startswith(('prep.', 'launch.'))]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("argv", [("--help",), ("prep", "--help"), ("launch", "--help")], ids=" ".join)
def test_a_groups_help_imports_no_command(argv: tuple[str, ...]) -> None:
    assert list_imports(*argv) & MODULES == set()


@pytest.mark.parametrize(
    ("argv", "module"),
    [
        (("launch", "runs"), "launch.cli.results"),
        (("launch", "logs"), "launch.cli.runs"),
        (("launch", "config", "ls"), "launch.cli.config"),
        (("prep", "mix"), "prep.cli.mix"),
        (("doctor",), "launch.cli.doctor"),
    ],
    ids=str,
)
def test_a_commands_help_imports_its_own_module_alone(argv: tuple[str, ...], module: str) -> None:
    assert list_imports(*argv, "--help") & MODULES == {module}


def walk_tables(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, LazyGroup, str]]:
    if isinstance(group, LazyGroup):
        for name in group.table:
            yield " ".join((*path, name)), group, name
            child = group.get_command(click.Context(group), name)
            assert child is not None
            yield from walk_tables(child, (*path, name))


@pytest.mark.parametrize(("line", "group", "name"), list(walk_tables(lfc)), ids=lambda value: str(value)[:40])
def test_every_line_of_a_table_is_a_command_of_that_name_with_a_help_that_fits(
    line: str, group: LazyGroup, name: str
) -> None:
    command = group.get_command(click.Context(group), name)
    assert isinstance(command, click.Command), line
    assert command.name == name
    assert group.table[name].help.endswith(".")
    assert len(group.table[name].help) <= 64


@pytest.mark.parametrize(
    ("typed", "offered"), [("pre", ["prep"]), ("l", ["launch"]), ("", list(LFC_COMMANDS)), ("--v", ["--version"])]
)
def test_commands_and_options_are_completed(typed: str, offered: list[str]) -> None:
    assert [item.value for item in lfc.shell_complete(click.Context(lfc), typed)] == offered
