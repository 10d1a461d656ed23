"""The `lfc prep repair` command."""

from pathlib import Path

import click

from prep.choices import ThinkPolicy
from prep.cli.options import INPUT_FILE, OUTPUT_FILE, choice_of, force_option, json_option
from prep.cli.output import print_json, print_table, show_progress


@click.command()
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The JSONL to write.")
@click.option(
    "--think-policy",
    type=choice_of(ThinkPolicy),
    help="How to write thoughts; the manifest's policy, or tagged, if not given.",
)
@click.option("--max-rejects", default=0, show_default=True, help="Rows that may be beyond repair.")
@force_option
@json_option
def repair(
    path: Path, output: Path, think_policy: str | None, max_rejects: int, force: bool, as_json: bool
) -> None:
    """Write rows that a script spoiled anew, as convert would have written them.

    Chat markup inside the fields goes, broken think blocks are made whole, columns with null get their empty
    value. Rows beyond repair go to OUTPUT.rejects.jsonl. FILE stays as it is.

    \b
    Example:
      lfc prep repair spoiled.jsonl -o data/medical.jsonl
    """
    from prep.quality.repair import RepairOptions, repair_file

    policy = ThinkPolicy(think_policy) if think_policy else None
    with show_progress("repairing", "rows") as on_rows:
        result = repair_file(path, output, RepairOptions(policy, max_rejects, force), on_rows)
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in result.counts.items()]
    if result.unused_columns:
        rows.append(("columns not used", ", ".join(result.unused_columns)))
    if as_json:
        print_json(
            {
                "think_policy": result.policy.value,
                "counts": result.counts,
                "unused_columns": result.unused_columns,
                "output": result.output.as_posix(),
                "rejects": result.rejects.as_posix() if result.rejects else None,
            }
        )
    else:
        print_table(rows, title=f"{output} repaired from {path}, think policy {result.policy.value}")
