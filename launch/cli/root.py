"""The root `lfc` command, its two halves, and how a fault ends."""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from prep import __version__
from prep.cli.lazy import CommandEntry, LazyGroup
from prep.cli.output import PIPE_CLOSED, echo, echo_error, is_reader_gone
from prep.errors import InputError, UserError

LFC_COMMANDS = {
    "quickstart": CommandEntry("launch.cli.recipe:quickstart", "Go the whole way once, on a sample and a CPU."),
    "doctor": CommandEntry("launch.cli.doctor:doctor", "Tell whether training can work here, and what fixes it."),
    "run": CommandEntry("launch.cli.recipe:run_recipe", "Go the whole way that a recipe describes."),
    "prep": CommandEntry("prep.cli:prep", "Prepare datasets: download, convert, mix, split, register."),
    "launch": CommandEntry("launch.cli.root:launch", "Write configs, train, and compare."),
}
LAUNCH_COMMANDS = {
    "config": CommandEntry("launch.cli.config:config", "Write, check and compare YAML configs."),
    "tune": CommandEntry("launch.cli.tune:tune", "Find the fastest schedule of the same training."),
    "train": CommandEntry("launch.cli.train:train", "Train with one config."),
    "batch": CommandEntry("launch.cli.batch:batch", "Train with several configs, or a sweep, one after the other."),
    "attach": CommandEntry("launch.cli.runs:attach", "Watch a run that goes on in the background."),
    "logs": CommandEntry("launch.cli.runs:logs", "Print the log of a run."),
    "stop": CommandEntry("launch.cli.runs:stop", "Stop runs and batches."),
    "runs": CommandEntry("launch.cli.results:runs_table", "List all runs."),
    "compare": CommandEntry("launch.cli.results:compare", "Compare two runs."),
    "eval": CommandEntry("launch.cli.evaluate:evaluate", "Score adapters against their base on held-out rows."),
    "ask": CommandEntry("launch.cli.ask:ask", "Put questions to a base and its adapters, side by side."),
    "report": CommandEntry("launch.cli.results:report", "Write an HTML page of a run or a batch."),
    "predict": CommandEntry("launch.cli.actions:predict", "Answer the rows of a dataset."),
    "export": CommandEntry("launch.cli.actions:export", "Merge an adapter into its model."),
    "publish": CommandEntry("launch.cli.publish:publish", "Publish an adapter, a model or rows with a card."),
    "chat": CommandEntry("launch.cli.actions:chat", "Talk to a model in this terminal."),
    "api": CommandEntry("launch.cli.actions:api", "Serve a model with an OpenAI-style API."),
    "webui": CommandEntry("launch.cli.webui:webui", "Open LLaMA-Factory's WebUI with a config filled in."),
    "prove": CommandEntry("launch.cli.prove:prove", "Compare a template with the model's own, token by token."),
    "tiny-model": CommandEntry("launch.cli.recipe:tiny_model", "Make a tiny model, to try things on a CPU."),
}
_INTERRUPTED = 130
_NO_OUTPUT = "the output cannot be written"
_SHOWN_PATH = 80
# What a shell sets when it asks what could follow.
_COMPLETE = "_LFC_COMPLETE"


class RootGroup(LazyGroup):
    """Ends a user's fault in one message and its exit code; a bug keeps its traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; raise SystemExit with its exit code, or return that when not `standalone_mode`.

        A wrong call is told by us: click would show its arguments as they stand.
        """
        try:
            if _COMPLETE in os.environ:
                from prep.cli.completion import install_completion

                install_completion()
            check_surroundings(sys.argv[1:] if args is None else args)
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except UserError as error:
            echo_error(f"Error: {error}", error.hint)
            code = error.exit_code
        except click.ClickException as error:
            show_click_error(error)
            code = error.exit_code
        except click.Abort:
            code = tell_interrupted()
        except OSError as error:
            if not is_of_the_system(error):
                raise
            from prep.storage.os_errors import describe_os_error

            # Without a name it is stdout that is full: a file of ours would have been named by the command.
            name = str(error.filename or "")
            what = f"{name[:_SHOWN_PATH]}{'…' * (len(name) > _SHOWN_PATH)} cannot be used" if name else _NO_OUTPUT
            echo_error(f"Error: {what}: {describe_os_error(error)}")
            code = 1
        # Commands return nothing: a number is what `ctx.exit` was given.
        code = code if isinstance(code, int) else 0
        if not standalone_mode:
            return code
        sys.exit(code)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments of `lfc` itself, which may be a call for help that nobody reads any more."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            if not is_reader_gone():
                raise
            raise click.exceptions.Exit(PIPE_CLOSED) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; UserError becomes one message, Ctrl-C exit code 130."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click prints a command's help itself.
            if not is_reader_gone():
                raise
            ctx.exit(PIPE_CLOSED)
        except UserError as error:
            echo_error(f"Error: {error}", error.hint)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(tell_interrupted())
        except EOFError as error:
            # click takes it for Ctrl-D; none of our questions lets it through, so that it is a bug.
            raise RuntimeError("something that was read ended early") from error


def is_of_the_system(error: OSError) -> bool:
    """Whether it is no fault of ours: a full or failing disk, or a path that this system or user cannot have."""
    named = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or (
        error.filename is not None and error.errno in named
    )


def check_surroundings(arguments: Sequence[str]) -> None:
    """Raise InputError when the working folder is gone, or an argument is no text."""
    try:
        Path.cwd()
    except OSError as error:
        from prep.storage.os_errors import describe_os_error

        raise InputError(
            f"the working folder cannot be read: {describe_os_error(error)}",
            hint="cd into a folder that exists",
        ) from error
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"argument {number}, '{argument}', holds bytes that are no text in {sys.getfilesystemencoding()}",
                hint="rename the file, or set a locale, such as C.UTF-8, in which its name is text",
            ) from None


def show_click_error(error: click.ClickException) -> None:
    """Print what is wrong with a call, and how to get help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not isinstance(error, NoArgsIsHelpError):
        echo(context.get_usage(), err=True)
        if context.command.get_help_option(context) is not None:
            echo(f"Try '{context.command_path} {context.help_option_names[0]}' for help.\n", err=True)
    if isinstance(error, NoArgsIsHelpError):
        echo(error.format_message(), err=True)
    else:
        echo_error(f"Error: {error.format_message()}")


def tell_interrupted() -> int:
    """Say that Ctrl-C ended the command and return its exit code."""
    echo("Interrupted: nothing half-written was left behind.", err=True)
    return _INTERRUPTED


@click.group(cls=RootGroup, table=LFC_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lfc")
def lfc() -> None:
    """Prepare data for LLaMA-Factory, and launch it: from a hub to a compared adapter.

    \b
    Examples:
      lfc quickstart
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc launch train configs/medical.yaml
    """


@click.group("launch", cls=LazyGroup, table=LAUNCH_COMMANDS)
def launch() -> None:
    """Write configs, train, and compare.

    \b
    Example:
      lfc launch train configs/medical.yaml
    """
