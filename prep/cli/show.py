"""The `lfc prep show` command."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.choices import DEFAULT_TEMPLATE, Thinking
from prep.cli.options import INPUT_FILE, choice_of, dataset_dir_option, seed_option
from prep.cli.output import format_json, print_json, print_pages
from prep.wording import in_shell

if TYPE_CHECKING:
    from prep.quality.shown_rows import ShownRow, TokenRow

Line = list[tuple[str, str]]
_MARK = {True: "trained", False: "read"}
_STYLES = {True: "green", False: "bright_black"}
# Neighbours are told apart by a second shade.
_TOKEN_STYLES = {True: ("black on green", "black on bright_green"), False: ("bright_black", "white")}
_MOST_CHARACTERS = 4000


@click.command()
@click.argument("target", metavar="FILE|NAME")
@click.argument("rows", metavar="[ROWS]", default="")
@dataset_dir_option
@click.option("--random", "by_chance", type=click.IntRange(1, 10_000), help="So many rows by chance, of all.")
@seed_option
@click.option("--model", type=INPUT_FILE, help="A model's folder or its tokenizer.json: show the very tokens.")
@click.option("--template", help="LLaMA-Factory's template; qwen3 if not given.")
@click.option(
    "--llamafactory-version",
    "version",
    default="",
    help="Show as this version reads; as the installed if not given.",
)
@click.option(
    "--enable-thinking",
    type=choice_of(Thinking),
    help="As in the YAML; what the file's think policy needs if not given.",
)
@click.option("--mask-history", is_flag=True, help="As in the YAML: the last answer alone is trained on.")
@click.option("--cutoff-len", type=click.IntRange(1), help="As in the YAML: show what it leaves; with --model.")
@click.option("--whole", is_flag=True, help=f"Show texts above {_MOST_CHARACTERS:,} characters whole, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON to stdout.")
def show(
    target: str,
    rows: str,
    dataset_dir: Path,
    by_chance: int | None,
    seed: int,
    model: Path | None,
    template: str | None,
    version: str,
    enable_thinking: str | None,
    mask_history: bool,
    cutoff_len: int | None,
    whole: bool,
    as_json: bool,
) -> None:
    """Show rows as a person reads them, and which parts are trained on.

    ROWS count from 1: 3, 3-7, 1,5,9 or 20-; the first three if not given. A bar at the left, and colour on a
    terminal, mark what is trained on. With --model you see the tokens that LLaMA-Factory makes of the row, template
    included, coloured by its loss mask.

    \b
    Examples:
      lfc prep show data/medical.jsonl 1-5
      lfc prep show medical_train 12 --dataset-dir data --model models/Qwen3-4B --mask-history
    """
    from prep.quality.shown_rows import RowChoice, ShowOptions, parse_ranges, show_rows
    from prep.registry.dataset import find_dataset
    from prep.tokens.masks import NO_CUTOFF
    from prep.tokens.turns import TemplateOptions

    if rows and by_chance:
        raise click.UsageError("ROWS and --random both choose rows: give one of them")
    if cutoff_len and not model:
        raise click.UsageError("--cutoff-len counts tokens: give --model too")
    try:
        choice = RowChoice(parse_ranges(rows or "1-3"), by_chance or 0, seed)
    except ValueError as error:
        raise click.UsageError(f"ROWS {error}") from error
    dataset = find_dataset(target, dataset_dir)
    thinks = dataset.policy.enable_thinking if dataset.policy else True
    options = TemplateOptions(
        template or DEFAULT_TEMPLATE,
        Thinking(enable_thinking).value_in_yaml if enable_thinking else thinks,
        mask_history,
        version=version,
        stage=dataset.kind.stages[0],
    )
    shown = show_rows(dataset, choice, ShowOptions(options, model, cutoff_len or NO_CUTOFF))
    if as_json:
        print_json({"target": target, "kind": dataset.kind.value, "rows": [row.as_dict() for row in shown]})
    else:
        print_pages(line for row in shown for line in _write_row(row, whole=whole))


def _write_row(row: "ShownRow", *, whole: bool) -> Iterator[Line]:
    yield [(f"row {row.number}", "bold"), (f"  {row.path}, line {row.line}", "bright_black")]
    for name, value in row.about.items():
        yield [(f"{name}: {format_json(value) if isinstance(value, bool | list) else value}", "bright_black")]
    if row.fault:
        yield [(f"LLaMA-Factory cannot read it: {row.fault}", "red")]
        yield [
            (
                f"  Try: lfc prep convert {in_shell(row.path)} -o NEW.jsonl, or lfc prep lint {in_shell(row.path)}",
                "red",
            )
        ]
    if row.sequences:
        for sequence in row.sequences:
            yield from _write_tokens(sequence)
    else:
        for part in row.parts:
            note = "" if row.fault else f" ({_MARK[part.is_trained]})"
            yield [(f"  {part.who}{note}", "bold")]
            yield from _write_text(part.text, is_trained=part.is_trained, whole=whole)
    yield [("", "")]


def _write_text(text: str, *, is_trained: bool, whole: bool) -> Iterator[Line]:
    bar = "  | " if is_trained else "    "
    left_out = len(text) - _MOST_CHARACTERS
    if left_out > 0 and not whole:
        half = _MOST_CHARACTERS // 2
        text = f"{text[:half]}\n… {left_out:,} characters, --whole shows them …\n{text[-half:]}"
    for line in text.split("\n"):
        yield [(f"{bar}{line}", _STYLES[is_trained])]


def _write_tokens(sequence: "TokenRow") -> Iterator[Line]:
    """Write runs of tokens that are trained on, or are not, each under a line that says so."""
    name = f"{sequence.answer}: " if sequence.answer else ""
    cut = f", and {sequence.cut:,} more are cut off" if sequence.cut else ""
    total = sum(len(token.ids) for token in sequence.tokens)
    yield [(f"  {name}{total:,} tokens, {sequence.trained:,} of them trained{cut}", "bold")]
    for is_trained, run in groupby(sequence.tokens, key=lambda token: token.is_trained):
        tokens = list(run)
        yield [(f"  {_MARK[is_trained]}, {sum(len(token.ids) for token in tokens):,} tokens", "bold")]
        bar = "  | " if is_trained else "    "
        line: Line = [(bar, "")]
        for place, token in enumerate(tokens):
            style = _TOKEN_STYLES[is_trained][place % 2]
            first, *others = token.text.split("\n")
            line.append((first, style))
            for other in others:
                line.append(("↵", style))
                yield line
                line = [(bar, ""), (other, style)]
        if any(text for text, _ in line[1:]):
            yield line
