"""Tokens once, as the commands that train say it and do it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from prep.cli.output import echo, show_progress

if TYPE_CHECKING:
    from launch.configs.config import RunConfig

tokenize_option = click.option(
    "--tokenize/--no-tokenize",
    default=True,
    help="Make the tokens once, beside the data, for all trainings of the same rows and keys; on by itself. "
    "Without it LLaMA-Factory makes them in each run.",
)


def tell_tokens(configs: Iterable[Mapping[str, Any]], *, wanted: bool, machines: int = 1) -> None:
    """Say on stderr what becomes of the tokens of trainings that are to come, each sentence once."""
    from launch.runs.tokens import plan_tokens

    if not wanted:
        echo("tokens: made by LLaMA-Factory when it trains, because tokenize is false", err=True)
        return
    for sentence in dict.fromkeys(plan_tokens(values, machines=machines).describe() for values in configs):
        echo(sentence, err=True)


def make_once(config: "RunConfig", *, wanted: bool, machines: int = 1) -> "RunConfig":
    """Return a config that trains on tokens made once, and say so; as it is when they cannot be."""
    from launch.runs.tokens import use_tokens

    if not wanted:
        return config
    with show_progress("tokenizing", "rows") as on_rows:
        config, plan = use_tokens(config, machines=machines, on_rows=on_rows)
    echo(plan.describe(), err=True)
    return config
