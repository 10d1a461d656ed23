"""The `lfc prep lint` command."""

from pathlib import Path

import click

from prep.cli.completion import complete_dataset_or_file, complete_lint_rule
from prep.cli.options import dataset_dir_option, json_option, moved_option
from prep.cli.output import echo, print_findings, print_json, print_table, show_progress
from prep.wording import count_of


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="FILE|NAME...", shell_complete=complete_dataset_or_file)
@dataset_dir_option
@click.option(
    "--ignore",
    multiple=True,
    metavar="RULE",
    shell_complete=complete_lint_rule,
    help="Leave out findings of this rule; repeatable.",
)
@click.option("--show", "most_shown", default=50, show_default=True, help="Findings to print; all are counted.")
@moved_option("--fix", to="lfc prep repair FILE -o NEW", is_flag=True)
@moved_option("-o", "--output", to="lfc prep repair FILE -o NEW")
@json_option
def lint(
    targets: tuple[str, ...],
    dataset_dir: Path,
    ignore: tuple[str, ...],
    most_shown: int,
    as_json: bool,
) -> None:
    """Check training rows, or dataset_info.json, for what LLaMA-Factory would trip over or train wrongly.

    Rows are checked against the record schema, the think grammar, the think policy they were made with, and
    for chat markup; each finding has its file, line, rule and fix. Exit code 1 when there is one.
    `lfc prep repair` writes rows that a script spoiled anew.

    \b
    Examples:
      lfc prep lint data/medical.jsonl
      lfc prep lint medical_train data/dataset_info.json --dataset-dir data
    """
    from prep.quality.findings import LintRule

    rules = [rule.value for rule in LintRule]
    for rule in ignore:
        if rule not in rules:
            raise click.UsageError(f"--ignore {rule}: the rules are {', '.join(rules)}")
    _report_findings(targets, dataset_dir, set(ignore), most_shown, as_json)


def _report_findings(
    targets: tuple[str, ...], dataset_dir: Path, ignore: set[str], most_shown: int, as_json: bool
) -> None:
    from collections import Counter

    from prep.quality.findings import Finding
    from prep.quality.lint import lint_dataset
    from prep.quality.lint_registry import lint_registry
    from prep.registry.dataset import find_dataset
    from prep.registry.dataset_info import FILE_NAME

    shown: list[Finding] = []
    counts: Counter[str] = Counter()
    rows = 0

    def take(finding: Finding) -> None:
        counts[finding.rule] += 1
        if counts.total() > most_shown:
            return
        if as_json:
            shown.append(finding)
        else:
            print_findings([finding])

    with show_progress("checking", "rows") as on_rows:
        for target in targets:
            if Path(target).name == FILE_NAME:
                for finding in lint_registry(Path(target)):
                    if finding.rule not in ignore:
                        take(finding)
            else:
                dataset = find_dataset(target, dataset_dir)
                rows += lint_dataset(dataset, take, ignore=ignore, on_rows=on_rows).rows
    if counts.total() > most_shown and not as_json:
        echo(f"… and {counts.total() - most_shown:,} more; --show {counts.total()} prints all")
    if as_json:
        print_json(
            {
                "rows": rows,
                "total": counts.total(),
                "counts": dict(sorted(counts.items())),
                "findings": [finding.as_dict() for finding in shown],
            }
        )
    else:
        print_table(
            [("rows read", f"{rows:,}"), *((kind, f"{count:,}") for kind, count in sorted(counts.items()))],
            title=count_of(counts.total(), "finding") if counts else "no fault found",
        )
    if counts:
        click.get_current_context().exit(1)
