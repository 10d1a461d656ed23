"""One run that is there: `lfc launch attach`, `logs` and `stop`."""

from collections.abc import Iterable, Iterator

import click

from launch.cli.completion import complete_run, complete_run_or_batch
from launch.cli.notify import StallTeller, describe_run_end, notify_option, open_notifier, send
from launch.cli.show import print_trained, show_training
from launch.runs.folder import RunState, read_run
from prep.cli.output import echo, echo_error
from prep.errors import UserError
from prep.secrets import mask_text
from prep.terminal import neutralise_log
from prep.wording import in_shell


@click.command("attach")
@click.argument("name", shell_complete=complete_run)
@notify_option
def attach(name: str, addresses: tuple[str, ...]) -> None:
    """Watch a run that goes on in the background; Ctrl-C ends the watching, not the run.

    \b
    Examples:
      lfc launch attach medical
      LFC_NOTIFY=feishu://TOKEN nohup lfc launch attach medical &
    """
    from launch.runs.folder import find_run
    from launch.runs.run import raise_failure, watch_run

    run = find_run(name)
    notifier = open_notifier(addresses)
    stall = StallTeller(notifier)
    try:
        with show_training(run.trainer_log, since=0) as show:

            def on_poll() -> None:
                show()
                stall.look(run.name, run.folder.log)

            watch_run(run.folder, on_poll)
        if notifier is not None:
            send(notifier, *describe_run_end(run.path))
    except KeyboardInterrupt:
        echo(f"\n{run.name} goes on: lfc launch stop {in_shell(run.name)} would stop it", err=True)
        return
    ended = find_run(name)
    raise_failure(ended)
    print_trained(ended, as_json=False)


@click.command("logs")
@click.argument("name", shell_complete=complete_run)
@click.option("-n", "--lines", type=click.IntRange(1), help="The last lines alone.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
def logs(name: str, lines: int | None, follow: bool) -> None:
    """Print what LLaMA-Factory printed in a run.

    \b
    Examples:
      lfc launch logs medical -n 50
      lfc launch logs medical --follow
    """
    from launch.configs.private import read_known_secrets
    from launch.runs.folder import find_run
    from launch.runs.run import follow_log

    run = find_run(name).folder
    secrets = read_known_secrets(run.config)
    for block in join_lines(follow_log(run, lines=lines, follow=follow)):
        echo(mask_text(neutralise_log(block), secrets), nl=False)


def join_lines(blocks: Iterable[str]) -> Iterator[str]:
    """Yield blocks that end where a line ends: what stands across two of them is seen whole."""
    rest = ""
    for block in blocks:
        rest += block
        end = max(rest.rfind("\n"), rest.rfind("\r")) + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


@click.command("stop")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_run_or_batch)
@click.pass_context
def stop(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Stop runs as Ctrl-C would, and wait until nothing of them is left.

    A batch's name stops its queue and all of its runs; `lfc launch batch --continue NAME` takes them up again.
    What had ended already is told, and is no fault; what cannot be stopped is, when all others were tried.

    \b
    Example:
      lfc launch stop medical overnight
    """
    exit_code = 0
    for name in names:
        try:
            echo(f"{name}: {stop_one(name)}")
        except UserError as error:
            exit_code = error.exit_code
            echo_error(f"Error: {error}", error.hint)
    ctx.exit(exit_code)


def stop_one(name: str) -> str:
    """Stop a run or a batch and return in words what became of it; raises UserError when that cannot be done."""
    from launch.batches.batch import is_at_work, stop_batch
    from launch.runs.batch_plan import is_batch, read_batch
    from launch.runs.folder import find_run
    from launch.runs.run import stop_run

    if is_batch(name):
        plan = read_batch(name)
        if not is_at_work(plan):
            return "had ended already"
        stop_batch(plan)
        return "stopped"
    run = find_run(name)
    if run.state is not RunState.RUNNING:
        stop_run(run.folder)
        return f"had ended already: {run.state}" if run.state is not RunState.QUEUED else "had not started"
    stop_run(run.folder)
    ended = read_run(run.path)
    # It may have ended by itself before the request reached it.
    return str(ended.state) if ended.state is not RunState.LOST else "stopped"
