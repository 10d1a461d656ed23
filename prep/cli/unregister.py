"""The `lfc prep unregister` command."""

from pathlib import Path

import click

from prep.cli.completion import complete_dataset
from prep.cli.options import dataset_dir_option, json_option
from prep.cli.register import print_registration


@click.command()
@click.argument("name", shell_complete=complete_dataset)
@dataset_dir_option
@json_option
def unregister(name: str, dataset_dir: Path, as_json: bool) -> None:
    """Take a dataset out of dataset_info.json; its data file stays.

    The other entries keep their bytes, and what was there before is kept in dataset_info.json.bak.

    \b
    Example:
      lfc prep unregister medical_train --dataset-dir data
    """
    from prep.registry.dataset_info import remove_dataset

    print_registration(remove_dataset(name, dataset_dir), "removed from", as_json=as_json)
