"""The `lfc prep` commands: parse, call, print. The only click in prep/."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prep.cli.output import echo, open_console, print_findings, print_result, show_progress
from prep.rows.line_blocks import MAX_LINE_BYTES, MIN_LINE_BYTES
from prep.terminal import neutralise_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from prep.hub.client import ProgressView
    from prep.hub.download import DownloadResult
    from prep.quality.stats import DatasetStats

_DOWNLOAD_STATES = {
    "downloaded": "downloaded and verified",
    "updated": "updated and verified",
    "verified": "nothing to do: every file has the recorded sha256",
}

INPUT_FILE = click.Path(path_type=Path)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class SizeType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Rows, a share below 1, or a percentage; the value is rows or a share."""

    name = "rows or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return 500 for 500, 0.1 for 0.1 and for 10%."""
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            self.fail(f"'{value}' is neither rows, such as 500, nor a share, such as 0.1 or 10%", param, ctx)
        if text.endswith("%") and not 0 <= number < 100:
            self.fail(f"'{value}' is not from 0% to below 100%", param, ctx)
        return number / 100 if text.endswith("%") else number


SIZE = SizeType()

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON to stdout.")
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
seed_option = click.option("--seed", default=42, show_default=True, help="Same seed, same bytes on any machine.")
dedup_option = click.option(
    "--dedup",
    type=click.Choice(["exact", "question", "near"]),
    help="Drop copies of earlier rows. exact: equal in all. question: the same normalised question, system prompt, "
    "tools, history and images. near: four in five of their pieces of five characters are equal, in the same "
    "context and with the same numbers, units and negations.",
)


@click.group("prep")
def prep() -> None:
    """Prepare datasets: convert, mix, split and register.

    \b
    Example:
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
    """


@prep.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--model", "is_model", is_flag=True, help="The names are models, not datasets.")
@click.option(
    "--to", "folder", type=FOLDER, help="Each repository becomes a folder in it.  [default: data/raw, or models]"
)
@click.option("--include", multiple=True, metavar="GLOB", help="Take only these files; * also stands for /.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these files out.")
@click.option("--revision", help="A branch, tag or commit.  [default: master; main for hf:]")
@click.option("--endpoint", metavar="URL", help="Another hub than the public one, with http:// or https://.")
@click.option("--token-env", metavar="NAME", help="The environment variable that holds the token for this hub.")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Files fetched at once.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="The longest that a whole listing may take, and that files may stand still.",
)
@click.option("--dry-run", is_flag=True, help="Only list files, sizes and free disk.")
@click.option("--offline", is_flag=True, help="Use no network: verify what was downloaded against its manifest.")
@click.option("--allow-unhashed", is_flag=True, help="Take files without a sha256 on their size alone.")
@click.option("--force", is_flag=True, help="Set files of yours in the way aside, as NAME.set-aside, and go on.")
@json_option
def download(
    names: tuple[str, ...],
    is_model: bool,
    folder: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    revision: str | None,
    endpoint: str | None,
    token_env: str | None,
    jobs: int,
    timeout: float,
    dry_run: bool,
    offline: bool,
    allow_unhashed: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Download datasets or models from ModelScope or Hugging Face, verified file by file.

    NAME is OWNER/NAME (ModelScope; also ms:OWNER/NAME), hf:OWNER/NAME (Hugging Face) or a set of
    `lfc prep sources`. Each becomes the folder TO/NAME, without the owner,
    with a manifest (.lfc-download.json) of commit, sizes and sha256. The folder changes in one step, from its
    old state to the new one; your own files in it stay. Interrupted, the same command goes on where it
    stopped; run again, it verifies and fetches what has changed.

    \b
    Examples:
      lfc prep download medical-cot finetome --to data/raw
      lfc prep download krisfu/delicate_medical_r1_data --dry-run
      lfc prep download --model Qwen/Qwen3-4B --to models
      lfc prep download hf:openai/gsm8k --include "main/*.parquet"
      lfc prep download myteam/private-set --token-env MODELSCOPE_API_TOKEN
    """
    from prep.hub import download as downloads
    from prep.hub.catalog import resolve_names
    from prep.hub.client import DownloadOptions
    from prep.hub.endpoint import read_token

    if dry_run and offline:
        raise click.UsageError("--dry-run asks the hub, --offline does not: use one of them")
    options = DownloadOptions(
        repo_type="model" if is_model else "dataset",
        revision=revision,
        include=include,
        exclude=exclude,
        endpoint=endpoint,
        token=read_token(token_env),
        jobs=jobs,
        force=force,
        allow_unhashed=allow_unhashed,
        timeout_s=timeout,
    )
    folder = folder or Path("models" if is_model else "data/raw")
    requests = resolve_names(names, options.repo_type)
    if dry_run:
        results = downloads.plan_downloads(requests, folder, options)
    else:
        work = downloads.verify_downloads if offline else downloads.download_repositories
        with show_downloads() as view:
            results = work(requests, folder, options, view)
    print_downloads(results, downloads.measure_free_disk(folder), dry_run=dry_run, as_json=as_json)


@prep.command("sources")
@json_option
def list_sources(as_json: bool) -> None:
    """List the named sets that `lfc prep download` knows.

    Each with its repository, convert's format, its size and a licence note: read the set's card yourself
    before you publish what you trained on it.

    \b
    Example:
      lfc prep sources
    """
    from prep.hub.catalog import read_catalog

    catalog = read_catalog()
    print_result(
        {name: entry._asdict() for name, entry in catalog.items()},
        [(name, entry.repository, entry.format, entry.size, entry.licence) for name, entry in catalog.items()],
        as_json=as_json,
        title="named sets: name, repository, format, size, licence",
    )


@prep.command()
@click.option("--to", "folder", type=FOLDER, required=True, help="Folder to write the sample files into.")
@force_option
@json_option
def sample(folder: Path, force: bool, as_json: bool) -> None:
    """Write the bundled sample datasets, as if they had been downloaded.

    Our own few hundred rows in the shapes of the real sets: medical chain of thought (JSONL, Chinese) and
    FineTome (ShareGPT parquet).

    \b
    Example:
      lfc prep sample --to data/raw
    """
    from prep.hub.samples import copy_samples

    paths = copy_samples(folder, force=force)
    print_result(
        {"files": [path.as_posix() for path in paths]},
        [(path.name, f"{path.stat().st_size:,} bytes") for path in paths],
        as_json=as_json,
        title=f"sample files in {folder}",
    )


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


@prep.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The Alpaca JSONL to write.")
@click.option(
    "--format",
    "format_name",
    help="The format: alpaca, medical-cot, messages, openmath, preference, sharegpt, text or xlam; recognised from "
    "the columns if not given.",
)
@click.option(
    "--think-policy",
    type=click.Choice(["tagged", "masked", "strip"]),
    default="tagged",
    show_default=True,
    help="tagged: every output begins with a think block. masked: rows without a thought carry none. "
    "strip: thoughts are removed.",
)
@click.option(
    "--turns",
    type=click.Choice(["expand", "all", "first", "last"]),
    default="expand",
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
    type=click.Choice(["needed", "missing"]),
    default="needed",
    show_default=True,
    help="missing: a closing tag without its opening one ends a thought that begins where the answer does.",
)
@click.option(
    "--map",
    "column_map",
    multiple=True,
    metavar="OURS=THEIRS",
    help='Use another column, or a text of several: question="{question} {options}".',
)
@click.option(
    "--drop", multiple=True, metavar="COLUMN", help="Leave out a column that is not used, and may carry meaning."
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
    type=click.Choice(["images", "videos", "audios"]),
    help="Rows after the first may have them; found in the first rows if not given.",
)
@click.option(
    "--media-dir", type=FOLDER, help="Holds images, videos and audio.  [default: the folder of the input]"
)
@click.option(
    "--missing-media",
    type=click.Choice(["reject", "keep"]),
    default="reject",
    show_default=True,
    help="reject: a row whose file is not there cannot be used. keep: its path is written as it stands.",
)
@click.option("--system", default="", metavar="TEXT", help="The system prompt of rows that have none.")
@click.option("--where", multiple=True, metavar="CONDITION", help='Take rows such as "score>=4.5" alone.')
@click.option("--limit", type=click.IntRange(min=1), help="Take this many rows, from the first on.")
@click.option("--sample", type=click.IntRange(min=1), help="Draw this many rows; they keep their order.")
@seed_option
@dedup_option
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="The most tokens of a row through LLaMA-Factory's qwen3 template; needs --model.",
)
@click.option("--model", type=INPUT_FILE, help="A model's folder or its tokenizer.json, for --max-tokens.")
@click.option(
    "--on-long",
    type=click.Choice(["drop", "reject", "keep"]),
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
@click.option(
    "--encoding",
    default="",
    metavar="NAME",
    help="Of CSV and text: gb18030, utf-16 …; found out when it is certain.",
)
@click.option(
    "--delimiter", default="", metavar="SIGN", help="Of CSV: comma, semicolon, tab, bar or a sign; found out."
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
    type=click.Choice(["line", "blank-line", "file"]),
    default="line",
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
    sheet: str,
    split: str,
    subset: str,
    split_text: str,
    as_json: bool,
    **rest: Any,
) -> None:
    """Convert files of one format into the rows that LLaMA-Factory trains, with Qwen3 think tags.

    The columns say what rows they are: questions with answers or conversations (stage sft), two answers of which
    one is better (dpo), answers with a label true or false (kto), plain text (pt); images, videos and audio may
    stand beside them.

    INPUTS are parquet, JSONL, JSON, CSV, TSV, Excel, Arrow and .txt files (also packed as .gz or .zst), folders of
    them, globs, or - for JSONL on stdin. How a file is really written is found out from it, and said. Rows that
    cannot be used are counted and written to OUTPUT.rejects.jsonl with file, row and reason.
    Rows that call tools go, in the ShareGPT form that LLaMA-Factory trains on, into OUTPUT's name with _tools.

    \b
    Examples:
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc prep convert raw/finetome/*.parquet -o data/chat.jsonl --think-policy masked
      lfc prep convert raw/finetome -o data/best.jsonl --where "score>=4.5" --dedup question
      lfc prep convert raw/finetome -o data/short.jsonl --max-tokens 4096 --model models/Qwen3-4B --on-long drop
      lfc prep convert company.csv -o data/company.jsonl --map question=问题 --map answer=回答
      lfc prep convert quiz.jsonl -o data/quiz.jsonl --map question="{question}\\n{options}"
      lfc prep convert votes.jsonl -o data/good.jsonl --label-is true
    """
    from prep.convert.convert import convert_files
    from prep.convert.options import ConvertOptions
    from prep.inputs.reader import ReadOptions
    from prep.rows.thinking import ThinkPolicy

    if rest["max_tokens"] is None and (rest["model"] or on_long):
        raise click.UsageError("--model and --on-long go with --max-tokens")
    options = ConvertOptions(
        format=rest.pop("format_name"),
        on_long=on_long or "reject",
        policy=ThinkPolicy(think_policy),
        column_map=parse_pairs(column_map, "--map"),
        reading=ReadOptions(encoding, delimiter, sheet, split, subset, split_text, max_line_bytes),
        fix_turns=_parse_fixes(fix_turns),
        roles=_parse_roles(roles),
        may_lack_open=think_open == "missing",
        **rest,
    )
    with show_progress("converting", "rows") as on_rows:
        result = convert_files(inputs, output, options, on_rows)
    outputs = {
        "output": result.output,
        "tools_output": result.tools_output,
        "rejects": result.rejects,
        "duplicates": result.duplicates,
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
    print_result(
        {
            "format": result.format,
            "kind": result.kind.value,
            "counts": result.counts,
            "unused_columns": result.unused_columns,
            "left_out": [path.as_posix() for path in result.left_out],
            "notes": result.notes,
            **{name: path.as_posix() if path else None for name, path in outputs.items()},
        },
        rows,
        as_json=as_json,
        title=f"{result.output or result.tools_output} from {result.format} rows, think policy {think_policy}",
    )


@prep.command()
@click.argument("parts", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The mixed JSONL to write.")
@click.option("--ratio", metavar="NAME=SHARE,...", help="True shares of the result; every row without it.")
@click.option(
    "--by",
    type=click.Choice(["rows", "characters", "tokens"]),
    default="rows",
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
@seed_option
@force_option
@json_option
def mix(parts: tuple[str, ...], output: Path, ratio: str | None, as_json: bool, **rest: Any) -> None:
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
    options = MixOptions(ratio=parse_shares(ratio) if ratio else None, **rest)
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
    if result.duplicates:
        rows.append(("duplicates", f"{result.duplicates:,} rows dropped"))
    print_result(
        {
            "taken": result.taken,
            "available": result.available,
            "rows": result.rows,
            "by": result.by,
            "sizes": result.sizes,
            "duplicates": result.duplicates,
            "output": output.as_posix(),
        },
        rows,
        as_json=as_json,
        title=f"{output}: {result.rows:,} rows",
    )


@prep.command()
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
def split(path: Path, prefix: Path, test: float, val: float, as_json: bool, **rest: Any) -> None:
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

    with show_progress("splitting", "rows") as on_rows:
        result = split_file(path, prefix, SplitOptions(SplitSizes(test, val), **rest), on_rows)
    rows: list[tuple[str, ...]] = [
        (side, f"{result.rows[side]:,} rows", str(target)) for side, target in result.outputs.items()
    ]
    if result.dropped:
        rows.append(("dropped", f"{result.dropped:,} rows", "a registered test set asks them too"))
    if result.checked_against:
        rows.append(("apart from", ", ".join(result.checked_against), "registered test sets"))
    print_result(
        {
            "rows": result.rows,
            "outputs": {side: target.as_posix() for side, target in result.outputs.items()},
            "dropped": result.dropped,
            "checked_against": result.checked_against,
        },
        rows,
        as_json=as_json,
        title=f"{path} split",
    )


@prep.command()
@click.argument("target", metavar="FILE:ROW")
@json_option
def explain(target: str, as_json: bool) -> None:
    """Tell from which file and row a row of a made file came, and what was done to it.

    \b
    Example:
      lfc prep explain data/mixed_train.jsonl:1234
    """
    from prep.combine.explain import explain_row

    name, colon, row = target.rpartition(":")
    if not colon or not name or not row.isdecimal():
        raise click.UsageError(f"FILE:ROW is needed, such as data/mixed.jsonl:12, not '{target}'")
    result = explain_row(Path(name), int(row))
    rows = [("origin", str(result.record.get("origin", "none")))]
    if result.origin and result.source_path:
        answer = f", answer {result.origin.answer}" if result.origin.answer else ""
        rows.append(("came from", f"{result.source_path} row {result.origin.row}{answer}"))
    if result.state:
        rows.append(("source file", result.state))
    rows += [(f"step {number}", step) for number, step in enumerate(result.steps, 1)]
    print_result(
        {
            "record": result.record,
            "origin": result.origin._asdict() if result.origin else None,
            "source_path": result.source_path,
            "state": result.state,
            "steps": result.steps,
            "source_row": result.source_row,
        },
        rows,
        as_json=as_json,
        title=target,
    )


@prep.command()
@click.argument("path", metavar="[FILE]", type=INPUT_FILE, required=False)
@click.option("--name", help="The dataset's name in LLaMA-Factory.")
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--replace", is_flag=True, help="Replace an entry of this name that says something else.")
@click.option("--remove", metavar="NAME", help="Take this entry out instead; its data file stays.")
@json_option
def register(
    path: Path | None, name: str | None, dataset_dir: Path, replace: bool, remove: str | None, as_json: bool
) -> None:
    """Register a converted file in LLaMA-Factory's dataset_info.json.

    The entry names every column, the other entries keep their bytes, and what was there before is kept in
    dataset_info.json.bak. The file's first rows and its manifest are checked first.

    \b
    Examples:
      lfc prep register data/medical_train.jsonl --name medical_train --dataset-dir data
      lfc prep register --remove medical_train --dataset-dir data
    """
    from prep.registry.dataset_info import register_dataset, remove_dataset

    if remove is not None:
        if path or name or replace:
            raise click.UsageError("--remove NAME stands alone, with --dataset-dir")
        result = remove_dataset(remove, dataset_dir)
        verb = "removed from"
    else:
        if path is None or name is None:
            raise click.UsageError("register takes FILE --name NAME, or --remove NAME")
        result = register_dataset(path, name, dataset_dir, replace=replace)
        verb = "registered in" if result.changed else "was registered already in"
    rows = [("name", result.name), ("file", str(result.entry.get("file_name", "")))]
    rows += [("formatting", str(result.entry["formatting"]))] if "formatting" in result.entry else []
    rows += [("backup", str(result.backup))] if result.backup else []
    print_result(
        {
            "name": result.name,
            "entry": result.entry,
            "changed": result.changed,
            "backup": result.backup.as_posix() if result.backup else None,
        },
        rows,
        as_json=as_json,
        title=f"{verb} {result.registry}",
    )


@prep.command()
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


@prep.command()
@click.argument("target", metavar="FILE|NAME")
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--model", type=INPUT_FILE, help="A model's folder or its tokenizer.json; characters without it.")
@click.option("--template", help="LLaMA-Factory's template; qwen3 if not given.")
@click.option(
    "--enable-thinking",
    type=click.Choice(["true", "false", "null"]),
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
    from prep.tokens.templates import DEFAULT_TEMPLATE
    from prep.tokens.turns import TemplateOptions

    template = template or DEFAULT_TEMPLATE
    dataset = find_dataset(target, dataset_dir)
    thinks = {
        "true": True,
        "false": False,
        "null": None,
        None: dataset.policy.enable_thinking if dataset.policy else True,
    }
    options = StatsOptions(
        model=model,
        template=TemplateOptions(template, thinks[enable_thinking], mask_history),
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
        f"tokens under template {template}, enable_thinking {json.dumps(thinks[enable_thinking])}, "
        f"mask_history {json.dumps(mask_history)}"
        if model
        else "characters, because no --model was given: tokens differ"
    )
    if page:
        from prep.quality.stats_page import render_page

        write_text(page, render_page(result, target, f"Measured in {measure}."))
    if as_json:
        print_result({**result.as_dict(), "measure": measure}, [], as_json=True, title="")
    else:
        _print_stats(result, target, measure)
    if page:
        echo(f"page written to {page}", err=True)


def _print_stats(result: "DatasetStats", target: str, measure: str) -> None:
    kinds = [(kind, f"{count:,}", f"{count / result.rows:.1%}") for kind, count in result.kinds.items()]
    print_result({}, kinds, as_json=False, title=f"{target}: {result.rows:,} rows")
    lengths = [(name, f"{value:,}") for name, value in result.lengths.items()]
    print_result({}, lengths, as_json=False, title=f"length in {measure}")
    highest = max(bar.rows for bar in result.histogram)
    bars = [(f"{bar.low:,}", f"{bar.rows:,}", "█" * round(40 * bar.rows / highest)) for bar in result.histogram]
    print_result({}, bars, as_json=False, title=f"rows by length, from … {result.unit}")
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
    print_result(
        {}, [head, *rows], as_json=False, title="rows that a cutoff_len cuts, and how many lose the end of what"
    )
    if result.advice:
        advice = [
            ("cuts no row", f"{result.advice.lossless:,}"),
            ("cuts at most 1 %", f"{result.advice.one_percent:,}"),
        ]
        print_result({}, advice, as_json=False, title="the smallest cutoff_len that")
    if result.cut_lines:
        lines = ", ".join(str(line) for line in result.cut_lines[:20])
        echo(f"lines cut: {lines}{' …' if len(result.cut_lines) > 20 else ''}")
    if any(replay.packing for replay in result.replays):
        echo("packing drops no row: LLaMA-Factory cuts each at cutoff_len - 1 and packs the rest")


def parse_pairs(pairs: tuple[str, ...], what: str) -> dict[str, str]:
    """Parse NAME=VALUE arguments; a wrong one is a wrong call (exit code 2)."""
    parsed = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or not value:
            raise click.UsageError(f"{what} takes NAME=VALUE, not '{pair}'")
        if name in parsed:
            raise click.UsageError(f"{what} names '{name}' twice")
        parsed[name] = value
    return parsed


def parse_shares(text: str) -> dict[str, float]:
    """Parse `chat=0.7,reasoning=0.3`."""
    try:
        return {name: float(share) for name, share in parse_pairs(tuple(text.split(",")), "--ratio").items()}
    except ValueError:
        raise click.UsageError(f"--ratio takes NAME=NUMBER,NAME=NUMBER, not '{text}'") from None


def print_downloads(results: Sequence["DownloadResult"], free_bytes: int, *, dry_run: bool, as_json: bool) -> None:
    """Print what was downloaded or, in a dry run, every file that would be, and the free disk."""
    repositories = [
        {
            "repository": result.repository,
            "folder": result.folder.as_posix(),
            "revision": result.revision,
            "commit": result.commit,
            "state": result.state,
            "fetched_bytes": result.fetched_bytes,
            "files": {file.path: {"bytes": file.size, "sha256": file.sha256} for file in result.files},
            "removed": list(result.removed),
            "set_aside": list(result.set_aside),
            "unhashed": list(result.unhashed),
        }
        for result in results
    ]
    rows: list[tuple[str, ...]] = []
    for result in results:
        size = sum(file.size for file in result.files)
        plural = "file" if len(result.files) == 1 else "files"
        commit = f"commit {result.commit[:12]}" if result.commit else f"revision {result.revision}"
        if dry_run:
            rows += [(str(result.folder / file.path), f"{file.size:,} bytes") for file in result.files]
            state = f"{result.fetched_bytes:,} bytes to fetch"
        else:
            state = _DOWNLOAD_STATES[result.state]
        rows.append((str(result.folder), f"{len(result.files):,} {plural}, {size:,} bytes", commit, state))
        if result.removed:
            rows.append(("", "", "", f"removed, as no longer in the repository: {', '.join(result.removed)}"))
        if result.set_aside:
            rows.append(("", "", "", f"set aside, as yours: {', '.join(result.set_aside)}"))
        if result.unhashed:
            rows.append(("", "", "", f"known by size alone: {', '.join(result.unhashed)}"))
    if dry_run:
        rows.append(("free disk", f"{free_bytes:,} bytes"))
    print_result(
        {"repositories": repositories, "free_bytes": free_bytes},
        rows,
        as_json=as_json,
        title="would be downloaded" if dry_run else "downloads",
    )


@contextmanager
def show_downloads() -> Iterator["ProgressView | None"]:
    """Show a bar for each file under way and one for all, on stderr; none when stderr is not a terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = open_console(err=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield DownloadBars(progress)


class DownloadBars:
    """Rich bars for a download: the first is the total, and each file has its own while it is under way."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._total: TaskID | None = None
        self._bars: dict[str, TaskID] = {}

    def start(self, title: str, total_bytes: int | None) -> None:
        """Replace the total's bar by one for the next stage."""
        if self._total is not None:
            self._progress.remove_task(self._total)
        self._total = self._progress.add_task(neutralise_line(title), total=total_bytes)

    def advance(self, path: str, size: int, byte_count: int) -> None:
        """Move a file's bar and the total's."""
        if path not in self._bars:
            # A file that failed is taken back from the total, and its own bar begins at nothing.
            self._bars[path] = self._progress.add_task(
                f"  {neutralise_line(path)}", total=size, completed=max(0, -byte_count)
            )
        self._progress.advance(self._bars[path], byte_count)
        if self._total is not None:
            self._progress.advance(self._total, byte_count)

    def finish(self, path: str) -> None:
        """Take a file's bar away."""
        bar = self._bars.pop(path, None)
        if bar is not None:
            self._progress.remove_task(bar)
