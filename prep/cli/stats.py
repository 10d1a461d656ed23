"""The `lfc prep stats` command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.choices import DEFAULT_TEMPLATE, Thinking
from prep.cli.completion import complete_dataset_or_file, complete_template
from prep.cli.options import INPUT_FILE, OUTPUT_FILE, choice_of, dataset_dir_option, force_option, json_option
from prep.cli.output import echo, print_json, print_table, show_progress
from prep.wording import count_of

if TYPE_CHECKING:
    from prep.quality.stats import DatasetStats


@click.command()
@click.argument("target", metavar="FILE|NAME", shell_complete=complete_dataset_or_file)
@dataset_dir_option
@click.option("--model", type=INPUT_FILE, help="A model's folder or its tokenizer.json; characters without it.")
@click.option(
    "--template", help="LLaMA-Factory's template; the model's own if not given.", shell_complete=complete_template
)
@click.option(
    "--llamafactory-version", "version", default="", help="Measure as this version; as the installed if not given."
)
@click.option(
    "--enable-thinking",
    type=choice_of(Thinking),
    help="As in the YAML; what the file's think policy needs if not given.",
)
@click.option("--mask-history", is_flag=True, help="As in the YAML: train on the last answer alone.")
@click.option("--packing", is_flag=True, help="As in the YAML: replay the cutoff as packing applies it.")
@click.option(
    "--cutoff-len", "cutoff_lens", type=click.IntRange(1), multiple=True, help="Cutoff to replay; repeatable."
)
@click.option("--html", "page", type=OUTPUT_FILE, help="Write a page with plots here, too.")
@force_option
@json_option
def stats(
    target: str,
    dataset_dir: Path,
    model: Path | None,
    template: str | None,
    version: str,
    enable_thinking: str | None,
    mask_history: bool,
    packing: bool,
    cutoff_lens: tuple[int, ...],
    page: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Count rows by kind, measure them in exact tokens, and replay what a cutoff_len would cut.

    With --model, lengths are what LLaMA-Factory itself would train on, template included; without it they are
    characters. A row longer than cutoff_len loses, with no message, the end of its prompt or of its answer.

    \b
    Examples:
      lfc prep stats data/medical.jsonl
      lfc prep stats medical_train --dataset-dir data --model models/Qwen3-4B --cutoff-len 4096 --html stats.html
    """
    from prep.errors import OutputError
    from prep.quality.stats import StatsOptions, collect_stats
    from prep.registry.dataset import find_dataset
    from prep.storage.atomic import write_text
    from prep.storage.os_errors import explain_os_error
    from prep.tokens.models import choose_template
    from prep.tokens.turns import TemplateOptions

    dataset = find_dataset(target, dataset_dir)
    if template is None:
        # Characters are counted under none.
        template = choose_template(model, dataset.policy) if model else DEFAULT_TEMPLATE
    if enable_thinking is not None:
        thinks = Thinking(enable_thinking).value_in_yaml
    else:
        thinks = dataset.policy.enable_thinking if dataset.policy else True
    options = StatsOptions(
        model=model,
        template=TemplateOptions(template, thinks, mask_history, version=version),
        cutoff_lens=cutoff_lens,
        packing=packing,
    )
    if page:
        with explain_os_error(page):
            if page.exists() and not force:
                raise OutputError(f"{page} exists already", hint="--force to replace it, or another --html")
    with show_progress("measuring", "rows") as on_rows:
        result = collect_stats(dataset, options, on_rows)
    measure = (
        f"tokens under template {template}, enable_thinking {json.dumps(thinks)}, "
        f"mask_history {json.dumps(mask_history)}"
        if model
        else "characters, because no --model was given: tokens differ"
    )
    if page:
        from prep.quality.stats_page import render_page

        write_text(page, render_page(result, target, f"Measured in {measure}."))
    if as_json:
        print_json({**result.as_dict(), "measure": measure})
    else:
        _print_stats(result, target, measure)
    if page:
        echo(f"page written to {page}", err=True)


def _print_stats(result: "DatasetStats", target: str, measure: str) -> None:
    kinds = [(kind, f"{count:,}", f"{count / result.rows:.1%}") for kind, count in result.kinds.items()]
    print_table(kinds, title=f"{target}: {count_of(result.rows, 'row')}")
    lengths = [(name, f"{value:,}") for name, value in result.lengths.items()]
    print_table(lengths, title=f"length in {measure}")
    highest = max(bar.rows for bar in result.histogram)
    bars = [(f"{bar.low:,}", f"{bar.rows:,}", "█" * round(40 * bar.rows / highest)) for bar in result.histogram]
    print_table(bars, title=f"rows by length, from … {result.unit}")
    if result.advice:
        _print_cutoffs(result)


def _print_cutoffs(result: "DatasetStats") -> None:
    titles = {
        "answer": "answer",
        "end_of_turn": "<|im_end|>",
        "close": "</think>",
        "prompt": "prompt",
        "turns": "turn",
    }
    head = ("cutoff_len", "cut", "share", *titles.values())
    rows = [
        (
            f"{replay.cutoff_len:,}",
            f"{len(replay.rows_cut):,}",
            f"{len(replay.rows_cut) / result.rows:.1%}",
            *(f"{replay.losses[name]:,}" for name in titles),
        )
        for replay in result.replays
    ]
    print_table([head, *rows], title="rows that a cutoff_len cuts, and how many lose the end of what")
    if result.advice:
        advice = [
            ("cuts no row", f"{result.advice.lossless:,}"),
            ("cuts at most 1 %", f"{result.advice.one_percent:,}"),
        ]
        print_table(advice, title="the smallest cutoff_len that")
    if result.cut_lines:
        lines = ", ".join(str(line) for line in result.cut_lines[:20])
        echo(f"lines cut: {lines}{' …' if len(result.cut_lines) > 20 else ''}")
    if any(replay.packing for replay in result.replays):
        echo("packing drops no row: LLaMA-Factory cuts each at cutoff_len - 1 and packs the rest")
