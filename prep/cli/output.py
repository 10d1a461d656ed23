"""All that is printed goes through here: stdout and stderr, texts, tables and JSON, made safe for a terminal."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from prep.terminal import neutralise, neutralise_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def echo(text: object = "", *, err: bool = False, nl: bool = True, bold: bool = False) -> None:
    """Print one text to stdout, or stderr; its control characters are spelled out."""
    click.secho(neutralise(str(text)), err=err, nl=nl, bold=bold or None)


def open_console(*, err: bool = False) -> "Console":
    """Return rich's console for stdout or stderr; texts given to it go through `neutralise` first."""
    from rich.console import Console

    return Console(stderr=err)


def print_result(result: dict[str, Any], rows: Sequence[tuple[str, ...]], *, as_json: bool, title: str) -> None:
    """Print a command's result to stdout: JSON for scripts, a table for people."""
    if as_json:
        echo(json.dumps(result, ensure_ascii=False, indent=2))
    elif sys.stdout.isatty():
        open_console().print(build_table(rows, title), soft_wrap=True)
    else:
        # A pipe has no width to fit cells into; rich would take longer to load than a small dataset to convert.
        echo("\n".join([title, *align_rows(rows)]))


def align_rows(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines whose cells stand below each other."""
    rows = [tuple(map(neutralise_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def build_table(rows: Sequence[tuple[str, ...]], title: str) -> "Table":
    """Return a borderless table whose cells are plain text, never markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(neutralise_line(title), style="bold"), title_justify="left", show_header=False, box=None
    )
    for _ in range(max(map(len, rows), default=0)):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(neutralise_line(cell)) for cell in row))
    return table


@contextmanager
def show_progress(verb: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr while a long step runs; nothing when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = open_console(err=True)
    columns = (SpinnerColumn(), TextColumn(f"{verb}: {{task.completed:,}} {unit}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda count: progress.advance(task, count)
