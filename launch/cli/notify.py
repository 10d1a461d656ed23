"""`--notify`: who is told of a run's or a batch's end, and of a run that stands still."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.cli.output import echo
from prep.errors import UserError

if TYPE_CHECKING:
    from launch.batches.batch import QueuedRun
    from launch.notify.notifier import Notifier
    from launch.notify.stall import StallWatch

notify_option = click.option(
    "--notify",
    "addresses",
    multiple=True,
    envvar="LFC_NOTIFY",
    show_envvar=True,
    metavar="URL",
    help="Tell mail, DingTalk, Lark, WeCom, Slack … of the end, by an address of apprise; may repeat. In the "
    "variable no other user of this machine sees it.",
)


class StallTeller:
    """Watches the steps of runs, and says on stderr and to who is to be told when one stands still."""

    def __init__(self, notifier: "Notifier | None") -> None:
        self._notifier = notifier
        self._watches: dict[str, StallWatch] = {}

    def look(self, name: str, log: Path) -> None:
        """Look at a run's progress bar once."""
        from launch.notify.stall import StallWatch
        from launch.runs.progress import read_bar

        bar = read_bar(log)
        said = self._watches.setdefault(name, StallWatch()).see(bar[0] if bar else None, time.monotonic())
        if said:
            echo(f"Warning: {name}: {said}", err=True)
            send(self._notifier, f"{name} stands still", said)

    def look_at_queue(self, batch: str, queue: "Sequence[QueuedRun]") -> None:
        """Look at each run of a batch that runs now."""
        from launch.runs.folder import RunState

        for run in queue:
            if run.last is not None and run.last.state is RunState.RUNNING:
                self.look(f"{batch}/{run.last.path.name}", run.last.folder.log)


def open_notifier(addresses: Sequence[str]) -> "Notifier | None":
    """Return who is to be told; raises ConfigError or StackError before anything starts."""
    if not addresses:
        return None
    from launch.notify.notifier import open_notifier as open_addresses

    return open_addresses(addresses)


def send(notifier: "Notifier | None", title: str, body: str) -> None:
    """Tell who is to be told; say on stderr when that could not be done."""
    if notifier is None:
        return
    fault = notifier.tell(title, body)
    if fault:
        echo(f"Warning: {fault}", err=True)


@contextlib.contextmanager
def tell_end(notifier: "Notifier | None", describe: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Send what `describe` returns, title and text, when the block ends, however it ends."""
    try:
        yield
    finally:
        if notifier is not None:
            try:
                told = describe()
            except (UserError, OSError) as error:
                # How the run itself ended must not be lost by it.
                told = ("a run has ended", f"how it ended cannot be told: {error}")
            send(notifier, *told)


def describe_run_end(folder: Path) -> tuple[str, str]:
    """Return how a run ended, as a message's title and text."""
    from launch.results.summary import format_seconds, summarise_runs
    from launch.runs.folder import read_run

    summary = summarise_runs([read_run(folder)])[0]
    run = summary.run
    cause = f" ({summary.cause})" if summary.cause and summary.cause.value != run.state.value else ""
    lines = [f"state: {run.state}{cause}", f"time: {format_seconds(run.seconds)}"]
    if summary.losses:
        lines.append(f"loss: {summary.losses[0][1]:.4g} → {summary.losses[-1][1]:.4g}")
    if summary.eval_losses:
        lines.append(f"lowest validation loss: {min(loss for _, loss in summary.eval_losses):.4g}")
    lines += [f"trained: {run.output_dir.as_posix()}", *summary.tracking, *summary.flags]
    return f"{run.name} {run.state}{cause}", "\n".join(lines)


def describe_batch_end(batch: str, rows: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """Return how a batch ended, as a message's title and text: its table, a line a run."""
    ended = sum(row[1].startswith("finished") for row in rows)
    return f"{batch}: {ended} of {len(rows)} finished", "\n".join(" | ".join(filter(None, row)) for row in rows)
