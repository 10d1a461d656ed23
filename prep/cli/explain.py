"""The `lfc prep explain` command."""

from pathlib import Path

import click

from prep.cli.options import dataset_dir_option, json_option
from prep.cli.output import print_json, print_table


@click.command()
@click.argument("target", metavar="FILE|NAME:ROW")
@dataset_dir_option
@json_option
def explain(target: str, dataset_dir: Path, as_json: bool) -> None:
    """Tell from which file and row a row of a made file came, and what was done to it.

    \b
    Example:
      lfc prep explain data/mixed_train.jsonl:1234
      lfc prep explain mixed_train:1234 --dataset-dir data
    """
    from prep.combine.explain import explain_row
    from prep.errors import InputError
    from prep.registry.dataset import find_dataset
    from prep.storage.paths import is_file

    name, colon, row = target.rpartition(":")
    if not colon or not name or not row.isdecimal():
        raise click.UsageError(f"FILE:ROW is needed, such as data/mixed.jsonl:12, not '{target}'")
    paths = (Path(name),) if is_file(Path(name)) else find_dataset(name, dataset_dir).paths
    if len(paths) != 1:
        raise InputError(f"{name} is {len(paths)} files", hint=f"name one of them: {paths[0]}:{row}")
    result = explain_row(paths[0], int(row))
    rows = [("origin", str(result.record.get("origin", "none")))]
    if result.origin and result.source_path:
        answer = f", answer {result.origin.answer}" if result.origin.answer else ""
        rows.append(("came from", f"{result.source_path} row {result.origin.row}{answer}"))
    if result.state:
        rows.append(("source file", result.state))
    rows += [(f"step {number}", step) for number, step in enumerate(result.steps, 1)]
    if as_json:
        print_json(
            {
                "record": result.record,
                "origin": result.origin._asdict() if result.origin else None,
                "source_path": result.source_path,
                "state": result.state,
                "steps": result.steps,
                "source_row": result.source_row,
            }
        )
    else:
        print_table(rows, title=target)
