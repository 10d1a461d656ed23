"""The `lfc` command: parse, call, print. With prep/cli.py the only code that imports click and prints."""

import atexit
import gc
import os
import sys
from typing import NoReturn

import prep as prep_package
from launch.cli import batch, config, evaluate, recipe, results, runs, webui
from launch.cli.root import launch, lfc
from prep.cli import prep

__all__ = ["batch", "config", "evaluate", "launch", "lfc", "main", "recipe", "results", "runs", "webui"]

lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    # Imports make many objects and no garbage; by default they are looked through for it again and again.
    gc.set_threshold(20_000)
    prep_package.is_own_process = True
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
