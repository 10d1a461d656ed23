"""`lfc launch prove`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launch.cli.options import version_option
from launch.cli.show import format_setting
from prep.cli.completion import complete_dataset, complete_template
from prep.cli.options import FOLDER, INPUT_FILE, json_option
from prep.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from launch.configs.prove import Answer
    from launch.prove.proof import Difference, Verdict
    from launch.prove.served import Served

_SHOWN_ROWS = 20


@click.command("prove")
@click.argument("model")
@click.option("--config", "config_path", type=INPUT_FILE, help="A training YAML: its template, keys and datasets.")
@click.option(
    "--template", help="LLaMA-Factory's template; that of the model if not given.", shell_complete=complete_template
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    help="Compare these registered rows, too. May be repeated.",
    shell_complete=complete_dataset,
)
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--rows", "most_rows", type=click.IntRange(1), default=200, show_default=True, help="Rows of each.")
@version_option
@json_option
def prove(
    model: str,
    config_path: Path | None,
    template: str | None,
    datasets: tuple[str, ...],
    dataset_dir: Path,
    most_rows: int,
    as_json: bool,
) -> None:
    """Compare LLaMA-Factory's template with the model's own chat template, token by token.

    MODEL is a folder with a tokenizer, or a hub's name whose tokenizer is on this machine. Compared is every mix
    of system prompt, history, thought and tools, images, and your own rows with --dataset or --config. What
    differs is shown from the first byte that does, with the setting that makes it equal where there is one. Then
    the prompts that will be served, in each mode of thinking and from Ollama.

    Exit code 1 when rows of the datasets differ under the config's keys; without a dataset, when a question and its
    answer do, whatever is set.

    \b
    Examples:
      lfc launch prove models/Qwen3-4B
      lfc launch prove models/Qwen3-4B --config configs/medical.yaml
      lfc launch prove models/Qwen3-4B --template qwen3_nothink --dataset medical_train --json
    """
    from launch.configs.prove import Asked, answer

    asked = Asked(model, template, config_path, datasets, dataset_dir, most_rows)
    result = answer(asked)
    if as_json:
        print_json(describe_answer(result))
    else:
        print_answer(result)
    if result.refused:
        click.get_current_context().exit(1)


def describe_answer(result: "Answer") -> dict[str, Any]:
    """Return a proof as JSON: every verdict, and what is served."""
    return {
        "model": result.folder.as_posix(),
        "template": result.proof.template,
        "llamafactory": result.proof.version,
        "tokens": result.by_tokens,
        "refused": result.refused,
        "cases": [describe_verdict(verdict) for verdict in result.proof.cases],
        "rows": [describe_verdict(verdict) for verdict in result.proof.rows],
        "served": [asdict(served) for served in result.served],
        "notes": result.notes,
    }


def describe_verdict(verdict: "Verdict") -> dict[str, Any]:
    """Return one case's verdict as JSON."""
    return {
        "case": verdict.case.name,
        "equal": verdict.difference is None,
        "difference": asdict(verdict.difference) if verdict.difference else None,
        "settings": verdict.settings,
    }


def print_answer(result: "Answer") -> None:
    """Print a proof as tables and the differences as texts."""
    proof = result.proof
    for note in result.notes:
        echo(f"Note: {note}", err=True)
    unit = "token by token" if result.by_tokens else "by text"
    title = f"template {proof.template} of LLaMA-Factory {proof.version} and the model's own, {unit}"
    equal = sum(verdict.difference is None for verdict in proof.cases)
    rows = [("conversation", "trained and served", "to make it equal"), *map(format_verdict, proof.cases)]
    print_table(rows, title=f"{title}: {equal} of {len(proof.cases)} equal")
    if proof.rows:
        differing = proof.differing_rows
        shown = [format_verdict(verdict) for verdict in differing[:_SHOWN_ROWS]]
        told = f"your rows: {len(proof.rows) - len(differing)} of {len(proof.rows)} equal"
        echo()
        print_table(shown, title=told) if shown else echo(told)
    print_differences([*proof.rows, *proof.cases])
    echo()
    print_table(format_served(result.served), title="the prompts that will be served")


def format_verdict(verdict: "Verdict") -> tuple[str, str, str]:
    """Return a verdict as a line of the table."""
    if verdict.difference is None:
        return verdict.case.name, "equal", ""
    if verdict.settings is None:
        return verdict.case.name, "different", "no setting does"
    return (
        verdict.case.name,
        "different",
        ", ".join(f"{key}: {format_setting(value)}" for key, value in verdict.settings.items()),
    )


def print_differences(verdicts: "list[Verdict]") -> None:
    """Print each difference once, with the conversation in which it was met first and how many have it."""
    kinds: dict[tuple[object, ...], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.difference:
            kinds.setdefault(name_kind(verdict.difference), []).append(verdict)
    for same in kinds.values():
        others = f", and {len(same) - 1} more" if len(same) > 1 else ""
        difference = same[0].difference
        if difference is None:
            continue
        echo()
        echo(f"{same[0].case.name}{others}: {difference.describe_place()}")
        if difference.trained or difference.served:
            echo(f"  trained {difference.trained!r}\n  model's {difference.served!r}")


def name_kind(difference: "Difference") -> tuple[object, ...]:
    """Return what two differences have in common that are one: what stands on each side from where they part."""
    length = next(
        (
            place
            for place, (one, two) in enumerate(zip(difference.trained, difference.served, strict=False))
            if one != two
        ),
        0,
    )
    around = 12
    sides = (difference.trained[length : length + around], difference.served[length : length + around])
    return (difference.error, difference.tokens_only, *sides)


def format_served(served: "list[Served]") -> list[tuple[str, ...]]:
    """Return the table of served prompts."""
    rows: list[tuple[str, ...]] = [("asked with", "the prompt ends", "rows with a thought", "rows without")]
    return rows + [
        (each.way, f"refused: {each.error}", "", "")
        if each.error
        else (each.way, repr(each.end), each.with_thought or "none in this template", each.plain)
        for each in served
    ]
