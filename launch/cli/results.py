"""What came of runs: `lfc launch runs`, `compare`, `report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launch.cli.completion import complete_run, complete_run_or_batch
from launch.cli.show import format_setting
from prep.cli.options import OUTPUT_FILE, json_option
from prep.cli.output import print_json, print_table
from prep.errors import InputError
from prep.wording import count_of, in_shell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launch.results.summary import RunSummary


@click.command("runs")
@json_option
def runs_table(as_json: bool) -> None:
    """List all runs, the newest first: state, losses, score, time, data and flags.

    They are those of the terminal in runs/, and those that were started in the WebUI in saves/.

    The best loss is that on validation rows where there are any. The score is that of the newest evaluation; a
    star means that the 95 % interval of its change from the base excludes 0.

    \b
    Example:
      lfc launch runs
    """
    from launch.results.summary import summarise_all

    summaries = summarise_all()
    rows = [describe_run(summary) for summary in summaries]
    if as_json:
        print_json({"runs": [summary.as_dict() for summary in summaries]})
    else:
        print_table(
            [
                (
                    "run",
                    "kind",
                    "state",
                    "cause",
                    "best loss",
                    "last loss",
                    "score",
                    "time",
                    "tokens/s",
                    "data",
                    "flags",
                ),
                *rows,
            ]
            if rows
            else [("no run yet",)],
            title=describe_count([summary.run.name for summary in summaries]),
        )


def describe_count(names: "Sequence[str]") -> str:
    """Return how many runs there are, and how many attempts they took: `a.2` is the second one of `a`."""
    known = set(names)
    again = [name for name in names if name.rpartition(".")[2].isdecimal() and name.rpartition(".")[0] in known]
    runs = len(names) - len(again)
    text = count_of(runs, "run")
    return f"{text}, {count_of(len(names), 'attempt')}" if again else text


def describe_run(summary: "RunSummary") -> tuple[str, ...]:
    """Return a run as one line of the table."""
    from launch.results.summary import format_seconds

    return (
        summary.run.name,
        summary.kind,
        str(summary.run.state),
        str(summary.cause or ""),
        format_loss(summary.best_loss),
        format_loss(summary.last_loss),
        summary.score.format() if summary.score else "",
        format_seconds(summary.run.seconds),
        f"{summary.speed.tokens_per_s:,.0f}" if summary.speed.tokens_per_s else "",
        ", ".join(source for data in summary.data for source in data.sources or (data.name,)),
        "; ".join([*summary.flags, *summary.tracking]),
    )


def format_loss(loss: float | None) -> str:
    """Return a loss to four digits, nothing when none was logged."""
    return "" if loss is None else f"{loss:.4g}"


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=complete_run)
@click.argument("second", metavar="B", shell_complete=complete_run)
@json_option
def compare(first: str, second: str, as_json: bool) -> None:
    """Compare two runs: losses and scores side by side, and the config keys on which they differ.

    \b
    Example:
      lfc launch compare medical medical-slow
    """
    from launch.configs.config import diff_values
    from launch.results.summary import list_figures, summarise_runs
    from launch.runs.folder import find_run

    for name in (first, second):
        refuse_batch(name)
    pair = summarise_runs([find_run(first), find_run(second)])
    differing = diff_values(pair[0].run.values, pair[1].run.values)
    names = (
        *("run", "kind", "state", "cause", "best loss", "last loss", "score", "time", "tokens/s", "data", "flags"),
    )
    told = list(zip(names, *map(describe_run, pair), strict=True))
    figures = list_figures(summary.score.side for summary in pair if summary.score)
    rows = [
        ("", *told[0][1:]),
        *(row for row in told[1:] if any(row[1:])),
        *((figure, *(format_figure(summary, figure) for summary in pair)) for figure in figures),
        *(
            (key, *("(not set)" if side is ... else format_setting(side) for side in sides))
            for key, sides in differing.items()
        ),
    ]
    settings = {key: [None if side is ... else side for side in sides] for key, sides in differing.items()}
    if as_json:
        print_json({"a": pair[0].as_dict(), "b": pair[1].as_dict(), "config": settings})
    else:
        print_table(rows, title=f"{first} and {second}: {len(differing)} config keys differ")


def refuse_batch(name: str) -> None:
    """Raise InputError that names a batch's runs, when the name is a batch's."""
    from launch.runs.batch_plan import is_batch, read_batch

    if is_batch(name):
        runs = ", ".join(f"{name}/{run.name}" for run in read_batch(name).runs)
        raise InputError(
            f"'{name}' is a batch; compare takes two runs, such as of {runs}",
            hint=f"lfc launch report {in_shell(name)} compares all of them",
        )


def format_figure(summary: "RunSummary", name: str) -> str:
    """Return one figure of a run's evaluation with its change from the base."""
    if summary.score is None or name not in summary.score.side.figures:
        return ""
    change = summary.score.side.changes.get(name)
    return f"{summary.score.side.figures[name]:.2f}" + (f"  {change.format()}" if change else "")


@click.command("report")
@click.argument("name", shell_complete=complete_run_or_batch)
@click.option("-o", "--output", type=OUTPUT_FILE, help="The page to write; runs/NAME.html if not given.")
@json_option
def report(name: str, output: Path | None, as_json: bool) -> None:
    """Write one HTML page of a run or a batch, to read offline and to pass on.

    Loss curves, scores with their intervals, what the config sets otherwise than its preset, where the data came
    from, answers side by side, and what was flagged. The page loads nothing and runs no script.

    \b
    Example:
      lfc launch report medical -o medical.html
    """
    from launch.results.report import write_report

    path = write_report(name, output)
    if as_json:
        print_json({"report": path.as_posix(), "bytes": path.stat().st_size})
    else:
        print_table(
            [("open", path.absolute().as_uri()), ("bytes", f"{path.stat().st_size:,}")], title=f"report of {name}"
        )
