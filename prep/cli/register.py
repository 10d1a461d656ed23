"""The `lfc prep register` command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.cli.options import INPUT_FILE, dataset_dir_option, json_option, moved_option
from prep.cli.output import print_json, print_table

if TYPE_CHECKING:
    from prep.registry.dataset_info import Registration


@click.command()
@moved_option("--remove", to="lfc prep unregister NAME")
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option("--name", required=True, help="The dataset's name in LLaMA-Factory.")
@dataset_dir_option
@click.option(
    "--chosen", is_flag=True, help="Take the chosen answers of pairs as usual rows, to compare answers with."
)
@click.option("--replace", is_flag=True, help="Replace an entry of this name that says something else.")
@json_option
def register(path: Path, name: str, dataset_dir: Path, chosen: bool, replace: bool, as_json: bool) -> None:
    """Register a converted file in LLaMA-Factory's dataset_info.json.

    The entry names every column, the other entries keep their bytes, and what was there before is kept in
    dataset_info.json.bak. The file's first rows and its manifest are checked first.

    \b
    Example:
      lfc prep register data/medical_train.jsonl --name medical_train --dataset-dir data
    """
    from prep.registry.dataset_info import register_dataset

    result = register_dataset(path, name, dataset_dir, replace=replace, chosen=chosen)
    print_registration(result, "registered in" if result.changed else "was registered already in", as_json=as_json)


def print_registration(result: "Registration", verb: str, *, as_json: bool) -> None:
    """Print what a change of dataset_info.json did."""
    from prep.registry.dataset import DEFAULT_COLUMNS, find_entry_kind

    columns = result.entry.get("columns")
    kind = find_entry_kind(result.entry, columns if isinstance(columns, dict) else DEFAULT_COLUMNS)
    rows = [("name", result.name), ("file", str(result.entry.get("file_name", "")))]
    rows += [("kind", f"{kind}, for stage {' or '.join(kind.stages)}")]
    rows += [("formatting", str(result.entry["formatting"]))] if "formatting" in result.entry else []
    rows += [("ranking", "true")] if result.entry.get("ranking") else []
    rows += [("backup", str(result.backup))] if result.backup else []
    if as_json:
        print_json(
            {
                "name": result.name,
                "kind": kind.value,
                "entry": result.entry,
                "changed": result.changed,
                "backup": result.backup.as_posix() if result.backup else None,
            }
        )
    else:
        print_table(rows, title=f"{verb} {result.registry}")
