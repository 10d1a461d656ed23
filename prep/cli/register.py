"""The `lfc prep register` command."""

from pathlib import Path

import click

from prep.cli.options import FOLDER, INPUT_FILE, json_option
from prep.cli.output import print_result


@click.command()
@click.argument("path", metavar="[FILE]", type=INPUT_FILE, required=False)
@click.option("--name", help="The dataset's name in LLaMA-Factory.")
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--replace", is_flag=True, help="Replace an entry of this name that says something else.")
@click.option("--remove", metavar="NAME", help="Take this entry out instead; its data file stays.")
@json_option
def register(
    path: Path | None, name: str | None, dataset_dir: Path, replace: bool, remove: str | None, as_json: bool
) -> None:
    """Register a converted file in LLaMA-Factory's dataset_info.json.

    The entry names every column, the other entries keep their bytes, and what was there before is kept in
    dataset_info.json.bak. The file's first rows and its manifest are checked first.

    \b
    Examples:
      lfc prep register data/medical_train.jsonl --name medical_train --dataset-dir data
      lfc prep register --remove medical_train --dataset-dir data
    """
    from prep.registry.dataset_info import register_dataset, remove_dataset

    if remove is not None:
        if path or name or replace:
            raise click.UsageError("--remove NAME stands alone, with --dataset-dir")
        result = remove_dataset(remove, dataset_dir)
        verb = "removed from"
    else:
        if path is None or name is None:
            raise click.UsageError("register takes FILE --name NAME, or --remove NAME")
        result = register_dataset(path, name, dataset_dir, replace=replace)
        verb = "registered in" if result.changed else "was registered already in"
    rows = [("name", result.name), ("file", str(result.entry.get("file_name", "")))]
    rows += [("formatting", str(result.entry["formatting"]))] if "formatting" in result.entry else []
    rows += [("backup", str(result.backup))] if result.backup else []
    print_result(
        {
            "name": result.name,
            "entry": result.entry,
            "changed": result.changed,
            "backup": result.backup.as_posix() if result.backup else None,
        },
        rows,
        as_json=as_json,
        title=f"{verb} {result.registry}",
    )
