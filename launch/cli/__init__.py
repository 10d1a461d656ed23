"""The `lfc` command: parse, call, print. With prep/cli the only code that imports click and prints."""

import os
import sys
from types import TracebackType

import prep
from launch.cli.root import lfc
from prep.cli.output import PIPE_CLOSED, echo_error
from prep.process import end_process

__all__ = ["lfc", "main"]


def main() -> None:
    """Run `lfc`: the console script's entry."""
    prep.is_own_process = True
    # Every Python that this process starts, and each that those start, leaves out the working folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.excepthook = show_bug
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks is spelled out: `\u4e2d`.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        lfc(prog_name="lfc")
    except SystemExit as end:
        if isinstance(end.code, str):
            echo_error(end.code)
        end_process(end.code if isinstance(end.code, int) else int(end.code is not None), flush)


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug; its message may hold what a row or a file held."""
    import traceback

    echo_error("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def flush(code: int) -> int:
    """Write what was printed; return the exit code, which is another when it cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # So it is when a shell closed it: `>&-`.
                stream.flush()
        except BrokenPipeError:
            code = code or (PIPE_CLOSED if stream is sys.stdout else 0)
        except (OSError, ValueError):
            # The disk is full, or the stream was closed; a message alone is no result.
            code = code or int(stream is sys.stdout)
    return code
