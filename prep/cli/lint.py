"""The `lfc prep lint` command."""

from pathlib import Path

import click

from prep.cli.options import FOLDER, OUTPUT_FILE, force_option, json_option
from prep.cli.output import echo, print_findings, print_result, show_progress


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="FILE|NAME...")
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave out findings of this rule; repeatable.")
@click.option("--show", "most_shown", default=50, show_default=True, help="Findings to print; all are counted.")
@click.option("--fix", is_flag=True, help="Write the repaired rows of one file to -o NEW instead.")
@click.option("-o", "--output", type=OUTPUT_FILE, help="With --fix: the JSONL to write.")
@click.option(
    "--think-policy",
    type=click.Choice(["tagged", "masked", "strip"]),
    help="With --fix: how to write thoughts; the manifest's policy, or tagged, if not given.",
)
@click.option("--max-rejects", default=0, show_default=True, help="With --fix: rows that may be beyond repair.")
@force_option
@json_option
def lint(
    targets: tuple[str, ...],
    dataset_dir: Path,
    ignore: tuple[str, ...],
    most_shown: int,
    fix: bool,
    output: Path | None,
    think_policy: str | None,
    max_rejects: int,
    force: bool,
    as_json: bool,
) -> None:
    """Check training rows, or dataset_info.json, for what LLaMA-Factory would trip over or train wrongly.

    Rows are checked against the record schema, the think grammar, the think policy they were made with, and
    for chat markup; each finding has its file, line, rule and fix. Exit code 1 when there is one. With
    --fix, rows that a script spoiled (chat markup inside the fields, broken think blocks) are written anew,
    as convert would have written them; rows beyond repair go to NEW.rejects.jsonl.

    \b
    Examples:
      lfc prep lint data/medical.jsonl
      lfc prep lint medical_train data/dataset_info.json --dataset-dir data
      lfc prep lint --fix spoiled.jsonl -o data/medical.jsonl
    """
    from prep.quality.findings import LintRule

    if not fix:
        if output or think_policy or max_rejects or force:
            raise click.UsageError("-o, --think-policy, --max-rejects and --force go with --fix")
        rules = [rule.value for rule in LintRule]
        for rule in ignore:
            if rule not in rules:
                raise click.UsageError(f"--ignore {rule}: the rules are {', '.join(rules)}")
        _report_findings(targets, dataset_dir, set(ignore), most_shown, as_json)
        return
    if len(targets) != 1 or output is None or ignore:
        raise click.UsageError("--fix takes one FILE and -o NEW")
    from prep.quality.repair import RepairOptions, repair_file
    from prep.rows.thinking import ThinkPolicy

    policy = ThinkPolicy(think_policy) if think_policy else None
    with show_progress("repairing", "rows") as on_rows:
        result = repair_file(Path(targets[0]), output, RepairOptions(policy, max_rejects, force), on_rows)
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in result.counts.items()]
    if result.unused_columns:
        rows.append(("columns not used", ", ".join(result.unused_columns)))
    print_result(
        {
            "think_policy": result.policy.value,
            "counts": result.counts,
            "unused_columns": result.unused_columns,
            "output": result.output.as_posix(),
            "rejects": result.rejects.as_posix() if result.rejects else None,
        },
        rows,
        as_json=as_json,
        title=f"{output} repaired from {targets[0]}, think policy {result.policy.value}",
    )


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
    print_result(
        {
            "rows": rows,
            "total": counts.total(),
            "counts": dict(sorted(counts.items())),
            "findings": [finding.as_dict() for finding in shown],
        },
        [("rows read", f"{rows:,}"), *((kind, f"{count:,}") for kind, count in sorted(counts.items()))],
        as_json=as_json,
        title=f"{counts.total():,} findings" if counts else "no fault found",
    )
    if counts:
        click.get_current_context().exit(1)
