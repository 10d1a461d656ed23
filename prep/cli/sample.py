"""The `lfc prep sample` command."""

from pathlib import Path

import click

from prep.cli.options import FOLDER, force_option, json_option
from prep.cli.output import print_json, print_table


@click.command()
@click.option("--to", "folder", type=FOLDER, required=True, help="Folder to write the sample files into.")
@force_option
@json_option
def sample(folder: Path, force: bool, as_json: bool) -> None:
    """Write the bundled sample datasets, as if they had been downloaded.

    Our own few hundred rows in the shapes of the real sets: medical chain of thought (JSONL, Chinese) and
    FineTome (ShareGPT parquet).

    \b
    Example:
      lfc prep sample --to data/raw
    """
    from prep.hub.samples import copy_samples

    paths = copy_samples(folder, force=force)
    if as_json:
        print_json({"files": [path.as_posix() for path in paths]})
    else:
        print_table(
            [(path.name, f"{path.stat().st_size:,} bytes") for path in paths], title=f"sample files in {folder}"
        )
