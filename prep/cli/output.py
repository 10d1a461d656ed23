"""All that is printed goes through here: stdout and stderr, texts, tables and JSON, made safe for a terminal."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TextIO

import click

from prep.progress import Progress
from prep.terminal import escape_json, neutralise, neutralise_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from prep.quality.findings import Finding

# What a shell reports of a program that wrote into a closed pipe: 128 + SIGPIPE.
PIPE_CLOSED = 141
# The time that is left is no guess before.
_FIRST_GUESS_S = 3


def echo(text: object = "", *, err: bool = False, nl: bool = True, bold: bool = False) -> None:
    """Print one text to stdout, or stderr; its control characters are spelled out.

    A message that stderr does not take is lost: it stops no training, and hides no exit code.
    Raises: click's Exit when whoever read stdout has gone, as `head` does when it has its lines.
    """
    try:
        click.secho(neutralise(str(text)), err=err, nl=nl, bold=bold or None)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not err:
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        if not err:
            raise


def echo_error(message: str, hint: str | None = None) -> None:
    """Print a fault and the next step to stderr, without the secrets of the call and of the environment."""
    # Its patterns take longer to make than the rest of this module to load.
    from prep.secrets import list_secrets, mask_text

    secrets = set(list_secrets(dict(os.environ)))
    echo(mask_text(message, secrets), err=True)
    if hint:
        echo(f"  Try: {mask_text(hint, secrets)}", err=True)


def print_findings(findings: "Iterable[Finding]", *, err: bool = False) -> None:
    """Print findings to stdout, or stderr, each with its place, severity, rule and fix."""
    from prep.quality.findings import format_finding

    for finding in findings:
        echo(format_finding(finding), err=err)


def open_console(*, err: bool = False) -> "Console":
    """Return rich's console for stdout or stderr; texts given to it go through `neutralise` first."""
    from rich.console import Console

    return Console(stderr=err)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal; one that the shell closed is None, and is not."""
    return stream is not None and stream.isatty()


def is_reader_gone() -> bool:
    """Tell whether stdout is a pipe whose reader has ended, as `head` does; never on Windows, which has no poll."""
    import select

    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        poll.register(sys.stdout, select.POLLOUT)
    except (AttributeError, OSError, TypeError, ValueError):
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def print_json(result: Any) -> None:
    """Print a command's result to stdout as JSON, for scripts."""
    echo(format_json(result))


def print_table(rows: Sequence[tuple[str, ...]], *, title: str) -> None:
    """Print a command's result to stdout as a title and lines of cells, for people."""
    if is_terminal(sys.stdout):
        open_console().print(build_table(rows, title), soft_wrap=True)
    else:
        # A pipe has no width to fit cells into; rich would take longer to load than a small dataset to convert.
        echo("\n".join([title, *align_rows(rows)]))


def print_pages(lines: Iterable[Sequence[tuple[str, str]]]) -> None:
    """Print lines of (text, style) pieces to stdout; on a terminal in colour, and page by page when they are many.

    Styles are rich's names; a pipe gets the texts alone, so what a style says must stand in the text too.
    """
    if not is_terminal(sys.stdout):
        for line in lines:
            echo("".join(text for text, _ in line))
        return
    from rich.text import Text

    console = open_console()
    with console.capture() as captured:
        for line in lines:
            text = Text.assemble(*((neutralise(piece), style) for piece, style in line))
            text.expand_tabs(8)
            indent = len(text.plain) - len(text.plain.lstrip(" "))
            wrapped = text[indent:].wrap(console, max(console.width - indent, 20)) if text.plain.strip() else [text]
            for part in wrapped:
                console.print(Text(" " * indent) + part if part.plain.strip() else part, soft_wrap=True)
    shown = captured.get()
    if shown.count("\n") >= console.height:
        click.echo_via_pager(shown, color=True)
    else:
        click.echo(shown, nl=False, color=True)


def format_json(value: Any) -> str:
    """Return a value as indented JSON that every parser and terminal takes.

    Numbers that are not finite are null. Letters stand as they are where stdout can show them; control
    characters, and what turns the direction of text, are written as escapes.
    """
    document = json.dumps(_keep_finite(value), ensure_ascii=False, indent=2, allow_nan=False)
    try:
        document.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        document = json.dumps(_keep_finite(value), indent=2, allow_nan=False)
    return escape_json(document)


def _keep_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key) if isinstance(key, float) else key: _keep_finite(inner) for key, inner in value.items()}
    return [_keep_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def align_rows(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines whose cells stand below each other, Chinese ones too, which are two columns wide a letter."""
    rows = [tuple(map(neutralise_line, row)) for row in rows]
    widths = [max(map(measure_width, column)) for column in zip_longest(*rows, fillvalue="")]
    return ["  ".join(map(_pad, row, widths)).rstrip() for row in rows]


def _pad(cell: str, width: int) -> str:
    return cell + " " * (width - measure_width(cell))


def measure_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


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


def describe_progress(progress: "ShownProgress", verb: str, unit: str) -> str:
    """Return in one line how far a step is: rows, share of the input, rows a second, and the time that is left."""
    parts = [f"{verb}: {progress.rows:,} {unit}"]
    share = progress.share
    if share is not None:
        parts[0] += f", {share:.0%}"
    if progress.seconds >= 1 and progress.rows:
        parts.append(f"{progress.rows / progress.seconds:,.0f} {unit}/s")
    if share and share < 1 and progress.seconds >= _FIRST_GUESS_S:
        left = progress.seconds * (1 - share) / share
        parts.append(f"{int(left) // 60}:{int(left) % 60:02} left")
    return " · ".join(parts)


class ShownProgress(Progress):
    """Counts what a step tells; `share` is None as long as nothing says how much there is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self._clock, self._start = clock, clock()
        self._expected = 0
        self._share: float | None = None

    def __call__(self, rows: int) -> None:
        """Take note of rows that are done."""
        self.rows += rows

    def expect(self, rows: int) -> None:
        """Take note of how many rows there are in all."""
        self._expected = rows

    def reach(self, share: float) -> None:
        """Take note of the share of the input that is done."""
        self._share = share

    @property
    def share(self) -> float | None:
        """The share of the input that is done, None when it is not known."""
        share = self.rows / self._expected if self._expected else self._share
        return None if share is None else min(share, 1.0)

    @property
    def seconds(self) -> float:
        """The seconds since the step began."""
        return self._clock() - self._start


@contextmanager
def show_progress(verb: str, unit: str) -> Iterator[Progress]:
    """Show on stderr how far a long step is; nothing when stderr is not a terminal."""
    if not is_terminal(sys.stderr):
        yield Progress()
        return
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, SpinnerColumn, Task
    from rich.text import Text

    told = ShownProgress()

    class Told(ProgressColumn):
        """Asked ten times a second, from a thread of rich's."""

        def render(self, task: Task) -> Text:
            return Text(neutralise_line(describe_progress(told, verb, unit)))

    with Bars(SpinnerColumn(), Told(), console=open_console(err=True), transient=True) as bars:
        bars.add_task("", total=None)
        yield told
