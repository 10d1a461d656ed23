"""The `lfc` command: parse, call, print. With prep/cli.py the only code that imports click and prints."""

from launch.cli import batch, config, evaluate, recipe, results, runs, webui
from launch.cli.root import launch, lfc
from prep.cli import prep

__all__ = ["batch", "config", "evaluate", "launch", "lfc", "main", "recipe", "results", "runs", "webui"]

lfc.add_command(prep)
lfc.add_command(launch)


def main() -> None:
    """Run `lfc`: the console script's entry."""
    lfc(prog_name="lfc")
