"""The `lfc prep ls` command."""

from pathlib import Path

import click

from prep.cli.options import dataset_dir_option, json_option
from prep.cli.output import print_json, print_table


@click.command("ls")
@dataset_dir_option
@json_option
def list_registered(dataset_dir: Path, as_json: bool) -> None:
    """List the registered datasets: what their rows are for, how many there are, and their files.

    \b
    Example:
      lfc prep ls --dataset-dir data
    """
    from prep.registry.dataset_info import FILE_NAME
    from prep.registry.listing import list_datasets

    datasets = list_datasets(dataset_dir)
    head = ("name", "kind", "formatting", "rows", "think policy", "files")
    rows = [
        (
            dataset.name,
            dataset.kind,
            dataset.formatting,
            "" if dataset.rows is None else f"{dataset.rows:,}",
            dataset.think_policy or "",
            ", ".join(dataset.files) if dataset.problem is None else f"cannot be used: {dataset.problem}",
        )
        for dataset in datasets
    ]
    if as_json:
        print_json({"datasets": [dataset.as_dict() for dataset in datasets]})
    else:
        print_table(
            [head, *rows] if rows else [("none yet: lfc prep register FILE --name NAME",)],
            title=f"{len(rows)} registered in {dataset_dir / FILE_NAME}",
        )
