"""The `lfc prep mix` command."""

from pathlib import Path

import click

from prep.choices import ShareOf
from prep.cli.options import (
    OUTPUT_FILE,
    choice_of,
    decontaminate_option,
    dedup_option,
    force_option,
    json_option,
    parse_pairs,
    seed_option,
)
from prep.cli.output import print_json, print_table, show_progress
from prep.wording import count_of


@click.command()
@click.argument("parts", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The mixed JSONL to write.")
@click.option("--ratio", metavar="NAME=SHARE,...", help="True shares of the result; every row without it.")
@click.option(
    "--by",
    type=choice_of(ShareOf),
    default=ShareOf.ROWS.value,
    show_default=True,
    help="What the shares are of.",
)
@click.option("--model", type=click.Path(path_type=Path), help="A model whose tokenizer counts for --by tokens.")
@click.option("--oversample", is_flag=True, help="Repeat rows of small parts instead of leaving out rows.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    help="Percentage points that a share may be off, as rows are whole; half a row is always allowed.",
)
@dedup_option
@decontaminate_option
@seed_option
@force_option
@json_option
def mix(
    parts: tuple[str, ...],
    output: Path,
    ratio: str | None,
    by: str,
    model: Path | None,
    oversample: bool,
    tolerance: float,
    dedup: str | None,
    decontaminate: tuple[Path, ...],
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Mix converted files in a true ratio, without repeating a row, and shuffle.

    Shares need not add up to 1. The largest mix whose shares are right is made; where whole rows cannot make
    them, the nearest, unless that is further off than --tolerance.

    \b
    Examples:
      lfc prep mix reasoning=data/medical.jsonl chat=data/chat.jsonl \\
          --ratio reasoning=0.75,chat=0.25 -o data/mixed.jsonl
      lfc prep mix a=data/a.jsonl b=data/b.jsonl --ratio a=1,b=1 --by tokens --model Qwen3-4B -o data/ab.jsonl
    """
    from prep.combine.mix import MixOptions, mix_files

    files = {name: Path(path) for name, path in parse_pairs(parts, "NAME=FILE").items()}
    options = MixOptions(
        ratio=parse_shares(ratio) if ratio else None,
        by=by,
        model=model,
        oversample=oversample,
        tolerance=tolerance,
        dedup=dedup,
        decontaminate=decontaminate,
        seed=seed,
        force=force,
    )
    with show_progress("mixing", "rows") as on_rows:
        result = mix_files(files, output, options, on_rows)
    total = max(sum(result.sizes.values()), 1)
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{count:,} of {result.available[name]:,} rows",
            f"{result.sizes[name] / total:.1%}" + ("" if result.by == "rows" else f" of the {result.by}"),
        )
        for name, count in result.taken.items()
    ]
    for what, count in (("contaminated", result.contaminated), ("duplicates", result.duplicates)):
        if count:
            rows.append((what, f"{count_of(count, 'row')} dropped"))
    if as_json:
        print_json(
            {
                "taken": result.taken,
                "available": result.available,
                "rows": result.rows,
                "by": result.by,
                "sizes": result.sizes,
                "duplicates": result.duplicates,
                "contaminated": result.contaminated,
                "output": output.as_posix(),
            }
        )
    else:
        print_table(rows, title=f"{output}: {count_of(result.rows, 'row')}")


def parse_shares(text: str) -> dict[str, float]:
    """Parse `chat=0.7,reasoning=0.3`."""
    try:
        return {name: float(share) for name, share in parse_pairs(tuple(text.split(",")), "--ratio").items()}
    except ValueError:
        raise click.UsageError(f"--ratio takes NAME=NUMBER,NAME=NUMBER, not '{text}'") from None
