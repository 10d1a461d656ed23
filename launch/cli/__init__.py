"""The `lfc` command: parse, call, print. With prep/cli.py the only code that imports click and prints."""

import atexit
import gc
import os
import sys
from typing import NoReturn

import prep
from launch.cli.root import lfc

__all__ = ["lfc", "main"]


def main() -> None:
    """Run `lfc`: the console script's entry."""
    # Imports make many objects and no garbage; by default they are looked through for it again and again.
    gc.set_threshold(20_000)
    prep.is_own_process = True
    try:
        lfc(prog_name="lfc")
    except SystemExit as end:
        _leave(end)


def _leave(end: SystemExit) -> NoReturn:
    """End the process without taking the interpreter apart, which takes longer than to convert a small dataset."""
    if not isinstance(end.code, int):
        raise end
    try:
        # What else happens at the end: exit functions, and what was printed on its way.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        raise end from None
    os._exit(end.code)
