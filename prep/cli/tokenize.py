"""The `lfc prep tokenize` command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.cli.options import (
    FOLDER,
    INPUT_FILE,
    address_option,
    choose_cluster,
    engine_option,
    force_option,
    json_option,
)
from prep.cli.output import print_json, print_table, show_progress
from prep.wording import count_of

if TYPE_CHECKING:
    from prep.tokenized.make import MadeTokens


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--config", "config_path", type=INPUT_FILE, required=True, help="The training YAML.")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    help="The folder to write; the config's tokenized_path, else one that all configs of the same tokens share.",
)
@engine_option
@address_option
@force_option
@json_option
def tokenize(
    name: str | None,
    config_path: Path,
    output: Path | None,
    engine: str,
    address: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make the tokens of a training config once, as LLaMA-Factory itself would make them for each run.

    The folder is LLaMA-Factory's own tokenized_path: ids, attention masks and labels of every row, packed where
    the config packs, with the validation rows beside them. What it was made from (rows, tokenizer, template,
    cutoff_len and all other keys that change a token) is noted in it, and `lfc launch config check` refuses it for
    a config that it does not fit. Tokens that fit already are taken as they are; after a kill it goes on.
    NAME is the registered dataset to take in place of the config's own.

    \b
    Examples:
      lfc prep tokenize --config configs/medical.yaml
      lfc prep tokenize medical_train --config configs/medical.yaml -o data/medical_tokens
      lfc prep tokenize --config configs/medical.yaml --engine ray --address 10.0.0.1:6379
    """
    from prep.storage.bounded_yaml import load_config
    from prep.tokenized.make import make_tokens
    from prep.tokenized.settings import read_settings

    cluster = choose_cluster(engine, address)
    values = load_config(config_path)
    settings = read_settings(values, name)
    given = values.get("tokenized_path")
    target = output or (Path(str(given)) if given else None)
    with show_progress("tokenizing", "rows") as on_rows:
        made = make_tokens(settings, target, force=force, cluster=cluster, on_rows=on_rows)
    if as_json:
        print_json(made.as_dict())
        return
    rows = [
        (split, count_of(told["rows"], "row"), count_of(told["tokens"], "token"), f"{told['bytes'] / 1e6:,.1f} MB")
        for split, told in made.note.splits.items()
    ]
    told = "tokens that were there already, and fit" if made.was_there else "tokens made"
    print_table([*rows, ("train with", describe_key(made))], title=f"{config_path}: {told}")


def describe_key(made: "MadeTokens") -> str:
    """Return the line of a config that trains on a folder of tokens."""
    return f"tokenized_path: {made.path.as_posix()}"
