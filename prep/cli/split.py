"""The `lfc prep split` command."""

from pathlib import Path

import click

from prep.cli.options import FOLDER, INPUT_FILE, OUTPUT_FILE, SIZE, force_option, json_option, seed_option
from prep.cli.output import print_json, print_table, show_progress
from prep.wording import count_of


@click.command()
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option("-o", "--output", "prefix", type=OUTPUT_FILE, required=True, help="PREFIX_train.jsonl and so on.")
@click.option(
    "--test", type=SIZE, default=0.0, help="Rows, or a share such as 0.1 or 10%, to hold out for the test."
)
@click.option(
    "--val", type=SIZE, default=0.0, help="Rows, or a share such as 0.1 or 10%, to hold out for validation."
)
@click.option(
    "--dataset-dir", type=FOLDER, help="Holds the registered test sets to stay clear of; PREFIX's folder."
)
@click.option("--drop-overlap", is_flag=True, help="Leave out rows that a registered test set asks too.")
@seed_option
@force_option
@json_option
def split(
    path: Path,
    prefix: Path,
    test: float,
    val: float,
    dataset_dir: Path | None,
    drop_overlap: bool,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Split a converted file so that no question stands on two sides.

    Questions are compared without case, width, white space and punctuation; the answers of one conversation stay
    together; each side holds the sources in the proportion of the whole. A size that such groups do not make
    exactly is met as nearly as they can, at most one row or a tenth off; else it is refused with those that can.

    \b
    Examples:
      lfc prep split data/mixed.jsonl --test 500 --val 0.05 -o data/mixed
      lfc prep split data/mixed.jsonl --test 10% -o data/mixed
    """
    from prep.combine.split import SplitOptions, SplitSizes, split_file

    options = SplitOptions(
        SplitSizes(test, val), seed=seed, dataset_dir=dataset_dir, drop_overlap=drop_overlap, force=force
    )
    with show_progress("splitting", "rows") as on_rows:
        result = split_file(path, prefix, options, on_rows)
    rows: list[tuple[str, ...]] = [
        (side, count_of(result.rows[side], "row"), str(target)) for side, target in result.outputs.items()
    ]
    if result.dropped:
        rows.append(("dropped", count_of(result.dropped, "row"), "a registered test set asks them too"))
    if result.checked_against:
        rows.append(("apart from", ", ".join(result.checked_against), "registered test sets"))
    if as_json:
        print_json(
            {
                "rows": result.rows,
                "outputs": {side: target.as_posix() for side, target in result.outputs.items()},
                "dropped": result.dropped,
                "checked_against": result.checked_against,
            }
        )
    else:
        print_table(rows, title=f"{path} split")
