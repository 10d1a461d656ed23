"""The `lfc prep convert` command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.choices import (
    DEFAULT_TEMPLATE,
    MissingMedia,
    OnLong,
    StdinFormat,
    TextRow,
    ThinkOpen,
    ThinkPolicy,
    Turns,
)
from prep.cli.completion import complete_format, complete_template
from prep.cli.options import (
    FOLDER,
    INPUT_FILE,
    OUTPUT_FILE,
    address_option,
    choice_of,
    choose_cluster,
    decontaminate_option,
    dedup_option,
    engine_option,
    force_option,
    json_option,
    parse_pairs,
    seed_option,
)
from prep.cli.output import print_json, print_table, show_progress
from prep.rows.kinds import MEDIA
from prep.rows.line_blocks import MAX_LINE_BYTES, MIN_LINE_BYTES

if TYPE_CHECKING:
    from prep.convert.options import ConvertOptions, ConvertResult


def _parse_fixes(text: str | None) -> tuple[str, ...]:
    from prep.formats.reading import TURN_FIXES

    fixes = tuple(word.strip() for word in (text or "").split(",") if word.strip())
    for word in fixes:
        if word not in TURN_FIXES:
            raise click.BadParameter(f"'{word}' is none of {', '.join(TURN_FIXES)}", param_hint="--fix-turns")
    return fixes


def _parse_roles(pairs: tuple[str, ...]) -> dict[str, str]:
    from prep.formats.reading import ROLES

    roles = parse_pairs(pairs, "--role")
    for name, ours in roles.items():
        if ours not in ROLES:
            raise click.BadParameter(
                f"'{name}={ours}': ours are user, assistant, system, tool, function_call",
                param_hint="--role",
            )
    return roles


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The Alpaca JSONL to write.")
@click.option(
    "--format",
    "format_name",
    shell_complete=complete_format,
    help="The format: alpaca, glaive, input-output, medical-cot, messages, openmath, preference, sharegpt, "
    "text or xlam; recognised from the columns if not given.",
)
@click.option(
    "--think-policy",
    type=choice_of(ThinkPolicy),
    default=ThinkPolicy.TAGGED.value,
    show_default=True,
    help="tagged: every output begins with a think block. masked: rows without a thought carry none. "
    "strip: thoughts are removed.",
)
@click.option(
    "--turns",
    type=choice_of(Turns),
    default=Turns.EXPAND.value,
    show_default=True,
    help="expand: one row for each answer, the turns before it as history. all: one row a conversation, its "
    "last answer trained. first, last: that exchange alone.",
)
@click.option(
    "--fix-turns",
    "fix_turns",
    metavar="FIX,...",
    help="Repair conversations that are no question and answer in turn. join: what one side says in two turns is "
    "one. drop-tail: questions at the end that nobody answers go. greeting: answers before the first question go. "
    "system: a later system turn goes in front of the next question.",
)
@click.option(
    "--role", "roles", multiple=True, metavar="NAME=OURS", help="A role of the file: user, assistant, system, tool."
)
@click.option(
    "--think-open",
    type=choice_of(ThinkOpen),
    default=ThinkOpen.NEEDED.value,
    show_default=True,
    help="missing: a closing tag without its opening one ends a thought that begins where the answer does.",
)
@click.option(
    "--map",
    "column_map",
    multiple=True,
    metavar="OURS=THEIRS",
    help='Use another column, or a text of several: question="{question} {options}". Of turns: role, content and '
    "thinking name their fields.",
)
@click.option(
    "--drop",
    multiple=True,
    metavar="COLUMN",
    help="Leave out a column, or a field of turns, that is not used and may carry meaning.",
)
@click.option(
    "--label-is",
    type=click.BOOL,
    metavar="true|false",
    help="Of rows with a KTO label take those with this one alone, as SFT rows.",
)
@click.option(
    "--media",
    multiple=True,
    type=click.Choice(MEDIA),
    help="Rows after the first may have them; found in the first rows if not given.",
)
@click.option(
    "--media-dir", type=FOLDER, help="Holds images, videos and audio.  [default: the folder of the input]"
)
@click.option(
    "--missing-media",
    type=choice_of(MissingMedia),
    default=MissingMedia.REJECT.value,
    show_default=True,
    help="reject: a row whose file is not there cannot be used. keep: its path is written as it stands.",
)
@click.option("--system", default="", metavar="TEXT", help="The system prompt of rows that have none.")
@click.option("--where", multiple=True, metavar="CONDITION", help='Take rows such as "score>=4.5" alone.')
@click.option("--limit", type=click.IntRange(min=1), help="Take this many rows, from the first on.")
@click.option("--sample", type=click.IntRange(min=1), help="Draw this many rows; they keep their order.")
@seed_option
@dedup_option
@decontaminate_option
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="The most tokens of a row as LLaMA-Factory's template writes it; needs --model.",
)
@click.option(
    "--template",
    help="LLaMA-Factory's template for --max-tokens; the model's own if not given.",
    shell_complete=complete_template,
)
@click.option("--model", type=INPUT_FILE, help="A model's folder or its tokenizer.json, for --max-tokens.")
@click.option(
    "--on-long",
    type=choice_of(OnLong),
    help="What becomes of a row above --max-tokens: drop writes it to OUTPUT.too-long.jsonl, reject (the default) "
    "counts it among the rejects, keep only counts it.",
)
@click.option("--max-rejects", default=0, show_default=True, help="Rows that may be unusable.")
@click.option(
    "--max-line-bytes",
    type=click.IntRange(min=MIN_LINE_BYTES),
    default=MAX_LINE_BYTES,
    show_default=True,
    help="The most bytes of one row; it bounds the memory that an input can take.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes for a large JSONL; by default one a CPU.")
@engine_option
@address_option
@click.option(
    "--encoding",
    default="",
    metavar="NAME",
    help="Of CSV and text: gb18030, utf-16 …; found out when it is certain.",
)
@click.option(
    "--delimiter", default="", metavar="SIGN", help="Of CSV: comma, semicolon, tab, bar or a sign; found out."
)
@click.option(
    "--stdin-format",
    type=choice_of(StdinFormat),
    default=None,
    help="What - holds; JSON, in lines or as a list, if not given.",
)
@click.option("--sheet", default="", metavar="NAME", help="Of an Excel file; the first one without it.")
@click.option(
    "--split", default="", metavar="NAME", help="Of a hub's folder: train without it; all takes every file."
)
@click.option(
    "--subset", default="", metavar="NAME", help="Of a hub's folder that has several; all takes every one."
)
@click.option(
    "--split-text",
    type=choice_of(TextRow),
    default=TextRow.LINE.value,
    show_default=True,
    help="What a row of a .txt is; LLaMA-Factory takes each line for one.",
)
@force_option
@json_option
def convert(
    inputs: tuple[Path, ...],
    output: Path,
    think_policy: str,
    column_map: tuple[str, ...],
    fix_turns: str | None,
    roles: tuple[str, ...],
    think_open: str,
    on_long: str | None,
    max_line_bytes: int,
    encoding: str,
    delimiter: str,
    stdin_format: str | None,
    sheet: str,
    split: str,
    subset: str,
    split_text: str,
    template: str | None,
    format_name: str | None,
    turns: str,
    system: str,
    drop: tuple[str, ...],
    label_is: bool | None,
    media: tuple[str, ...],
    media_dir: Path | None,
    missing_media: str,
    where: tuple[str, ...],
    limit: int | None,
    sample: int | None,
    seed: int,
    dedup: str | None,
    decontaminate: tuple[Path, ...],
    max_tokens: int | None,
    model: Path | None,
    max_rejects: int,
    workers: int | None,
    engine: str,
    address: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert files of one format into the rows that LLaMA-Factory trains, with Qwen3 think tags.

    The columns say what rows they are: questions with answers or conversations (stage sft), two answers of which
    one is better (dpo), answers with a label true or false (kto), plain text (pt); images, videos and audio may
    stand beside them.

    INPUTS are parquet, JSONL, JSON, CSV, TSV, Excel, Arrow and .txt files (also packed as .gz or .zst), folders of
    them, globs, addresses (s3://, oss://, hf://, https:// …, by fsspec), or - for JSONL on stdin. How a file is
    really written is found out from it, and said. Rows that cannot be used are counted and written to
    OUTPUT.rejects.jsonl with file, row and reason.
    Rows that call tools go, in the ShareGPT form that LLaMA-Factory trains on, into OUTPUT's name with _tools.

    \b
    Examples:
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc prep convert raw/finetome/*.parquet -o data/chat.jsonl --think-policy masked
      lfc prep convert raw/finetome -o data/best.jsonl --where "score>=4.5" --dedup question
      lfc prep convert raw/finetome -o data/short.jsonl --max-tokens 4096 --model models/Qwen3-4B --on-long drop
      lfc prep convert raw/finetome -o data/clean.jsonl --decontaminate raw/gsm8k_test.parquet
      lfc prep convert s3://bucket/rows/*.jsonl -o data/rows.jsonl
      lfc prep convert company.csv -o data/company.jsonl --map question=问题 --map answer=回答
      lfc prep convert quiz.jsonl -o data/quiz.jsonl --map question="{question}\\n{options}"
      lfc prep convert tickets.json -o data/tickets.jsonl --role caller=user --fix-turns join,drop-tail,greeting
      lfc prep convert votes.jsonl -o data/good.jsonl --label-is true
    """
    from prep.convert.convert import convert_files
    from prep.convert.options import ConvertOptions
    from prep.inputs.reader import ReadOptions

    if max_tokens is None and (model or on_long or template):
        raise click.UsageError("--model, --template and --on-long go with --max-tokens")
    if template is None and model is not None:
        from prep.tokens.models import choose_template

        template = choose_template(model, ThinkPolicy(think_policy))
    options = ConvertOptions(
        format=format_name,
        on_long=on_long or "reject",
        template=template or DEFAULT_TEMPLATE,
        policy=ThinkPolicy(think_policy),
        column_map=parse_pairs(column_map, "--map"),
        reading=ReadOptions(
            encoding, delimiter, sheet, split, subset, split_text, max_line_bytes, stdin_format or ""
        ),
        fix_turns=_parse_fixes(fix_turns),
        roles=_parse_roles(roles),
        may_lack_open=think_open == "missing",
        turns=turns,
        system=system,
        drop=drop,
        label_is=label_is,
        media=media,
        media_dir=media_dir,
        missing_media=missing_media,
        where=where,
        limit=limit,
        sample=sample,
        seed=seed,
        dedup=dedup,
        decontaminate=decontaminate,
        max_tokens=max_tokens,
        model=model,
        max_rejects=max_rejects,
        workers=workers,
        cluster=choose_cluster(engine, address),
        force=force,
    )
    with show_progress("converting", "rows") as on_rows:
        result = convert_files(inputs, output, options, on_rows)
    _print_converted(result, options, as_json=as_json)


def _print_converted(result: "ConvertResult", options: "ConvertOptions", *, as_json: bool) -> None:
    outputs = {
        "output": result.output,
        "tools_output": result.tools_output,
        "rejects": result.rejects,
        "duplicates": result.duplicates,
        "contaminated": result.contaminated,
        "too_long": result.too_long,
    }
    rows = [("format", result.format if options.format else f"{result.format} (recognised)")]
    if result.kind != "sft":
        rows.append(("rows are for", f"{result.kind}: stage {' or '.join(result.kind.stages)}"))
    rows += [(name.replace("_", " "), f"{count:,}") for name, count in result.counts.items()]
    if result.unused_columns:
        rows.append(("columns not used", ", ".join(result.unused_columns)))
    rows += [("read", note) for note in result.notes]
    if result.left_out:
        rows.append(("files not used", ", ".join(path.name for path in result.left_out)))
    rows += [
        (f"{name.replace('_', ' ')} in", str(path)) for name, path in outputs.items() if path and name != "output"
    ]
    if result.tools_output:
        rows.append(("register tools as", "formatting sharegpt, beside the Alpaca rows"))
    if as_json:
        print_json(
            {
                "format": result.format,
                "kind": result.kind.value,
                "counts": result.counts,
                "unused_columns": result.unused_columns,
                "left_out": [path.as_posix() for path in result.left_out],
                "notes": result.notes,
                **{name: path.as_posix() if path else None for name, path in outputs.items()},
            }
        )
    else:
        path = result.output or result.tools_output
        print_table(rows, title=f"{path} from {result.format} rows, think policy {options.policy}")
