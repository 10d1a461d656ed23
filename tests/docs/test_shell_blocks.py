"""The commands that the documentation shows: run, page by page, in the order in which a reader would.

A file that a page shows (a block with a file's name as title) is written down as it stands. A shell block with a
title that names what it needs (GPUs, a hub) is parsed and not run. Trainings use a llamafactory-cli that writes what
the real one writes, but for the tutorial, whose model the real one trains; with `--full` it trains all.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from launch.cli.root import lfc
from tests.support.lfc_process import write_recorder

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "install",
    "tutorial",
    "tutorials",
    "agents",
    *sorted(f"howto/{path.stem}" for path in (DOCS / "howto").glob("*[!zh].md")),
)
TRANSLATED = [page for page in PAGES if page != "agents"]
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def read_blocks(page: str, language: str = "") -> list[Block]:
    text = (DOCS / f"{page}{language}.md").read_text(encoding="utf-8")
    return [Block(found["language"], found["title"] or "", found["text"]) for found in _BLOCK.finditer(text)]


def list_commands(script: str) -> list[list[str]]:
    """The words of each `lfc` command of a script."""
    lines = script.replace("\\\n", " ").splitlines()
    return [words[1:] for words in (shlex.split(line, comments=True) for line in lines) if words[:1] == ["lfc"]]


def write_program(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_end_well(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bin_folder = tmp_path / "tools"
    environ = {
        "PATH": f"{bin_folder}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }
    is_real = page == "tutorial" or request.config.getoption("--full")
    if not is_real:
        recorder = write_recorder(tmp_path)
        environ["LFC_LLAMAFACTORY_CLI"] = str(recorder)
        # The stack of this Python, which a link to it would not find.
        recorder.with_name("python").unlink()
        write_program(recorder.with_name("python"), f"exec '{sys.executable}' \"$@\"")
    bin_folder.mkdir()
    write_program(bin_folder / "lfc", f"exec '{sys.executable}' -P -m launch \"$@\"")
    environ["PYTHONPATH"] = str(DOCS.parent)
    folder = tmp_path / "here"
    folder.mkdir()
    for block in read_blocks(page):
        if block.language != "sh" and block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh" and not block.title:
            script = f"set -e\n{block.text}"
            ended = subprocess.run(
                ["bash", "-c", script],
                cwd=folder,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
            assert ended.returncode == 0, f"{block.text}\n{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_each_command_and_option_that_a_page_names_exists(page: str) -> None:
    for block in read_blocks(page):
        for words in list_commands(block.text) if block.language == "sh" else ():
            context, command, rest = None, lfc, words
            while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
                context = click.Context(command, context, info_name="lfc")
                member = command.get_command(context, rest[0])
                assert member is not None, f"there is no command {' '.join(words)}"
                command, rest = member, rest[1:]  # type: ignore[assignment]
            options = {name for one in command.get_params(click.Context(command)) for name in one.opts}
            named = {word.split("=")[0] for word in rest if word.startswith("--")}
            assert named - options == set(), " ".join(words)


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translated_page_shows_the_same_blocks(page: str) -> None:
    def without_comments(blocks: list[Block]) -> list[tuple[str, str]]:
        titled = [(block.title if block.language != "sh" else "", block.text) for block in blocks]
        return [(title, re.sub(r"\s+# .*", "", text)) for title, text in titled]

    assert without_comments(read_blocks(page, ".zh")) == without_comments(read_blocks(page))
