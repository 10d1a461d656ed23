"""The types and options that several commands take, and how their values are read."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from prep.choices import Dedup, Engine

_Command = TypeVar("_Command", bound=Callable[..., Any])

INPUT_FILE = click.Path(path_type=Path)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class SizeType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Rows, a share below 1, or a percentage; the value is rows or a share."""

    name = "rows or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return 500 for 500, 0.1 for 0.1 and for 10%."""
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            self.fail(f"'{value}' is neither rows, such as 500, nor a share, such as 0.1 or 10%", param, ctx)
        if text.endswith("%") and not 0 <= number < 100:
            self.fail(f"'{value}' is not from 0% to below 100%", param, ctx)
        return number / 100 if text.endswith("%") else number


SIZE = SizeType()


def choice_of(members: type[StrEnum]) -> click.Choice:  # type: ignore[type-arg,unused-ignore]
    """Return the type of an option that is one of an enum's values, as text: click would show their names."""
    return click.Choice([member.value for member in members])


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON to stdout.")
dataset_dir_option = click.option(
    "--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json."
)
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
seed_option = click.option("--seed", default=42, show_default=True, help="Same seed, same bytes on any machine.")
dedup_option = click.option(
    "--dedup",
    type=choice_of(Dedup),
    help="Drop copies of earlier rows. exact: equal in all. question: the same normalised question, system prompt, "
    "tools, history and images. near: four in five of their pieces of five characters are equal, in the same "
    "context and with the same numbers, units and negations.",
)

engine_option = click.option(
    "--engine",
    type=choice_of(Engine),
    default=Engine.LOCAL.value,
    show_default=True,
    help="ray: a Ray cluster works on JSONL files, to the same bytes; inputs and output lie on storage that all of "
    "its machines share.",
)
address_option = click.option(
    "--address", metavar="HOST:PORT", help="The head of the Ray cluster; the one here if not given."
)


def choose_cluster(engine: str, address: str | None) -> str | None:
    """Return the address of the cluster to work on, "" for the one of this machine, None for none."""
    if address is not None and engine != Engine.RAY:
        raise click.UsageError("--address goes with --engine ray")
    return (address or "") if engine == Engine.RAY else None


def parse_pairs(pairs: tuple[str, ...], what: str) -> dict[str, str]:
    """Parse NAME=VALUE arguments; a wrong one is a wrong call (exit code 2)."""
    parsed = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or not value:
            raise click.UsageError(f"{what} takes NAME=VALUE, not '{pair}'")
        if name in parsed:
            raise click.UsageError(f"{what} names '{name}' twice")
        parsed[name] = value
    return parsed


decontaminate_option = click.option(
    "--decontaminate",
    type=INPUT_FILE,
    multiple=True,
    metavar="FILE",
    help="Drop rows that stand in this benchmark too: they ask one of its questions, or share 13 words in a row "
    "with it (13 characters of Chinese). Any file that convert reads; repeatable.",
)


def moved_option(*flags: str, to: str, is_flag: bool = False) -> Callable[[_Command], _Command]:
    """Return a hidden option that is no more: whoever still gives it is told the command that does its work."""

    def refuse(_: click.Context, option: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{flags[0]} has moved to a command of its own: {to}")

    return click.option(
        *flags, is_flag=is_flag, hidden=True, is_eager=True, expose_value=False, callback=refuse, help=f"Now {to}."
    )
