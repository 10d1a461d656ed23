"""The `lfc prep` commands: parse, call, print. The only click in prep/."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from prep.download import DownloadResult, ProgressView

_PIPE_WIDTH = 10_000
_DOWNLOAD_STATES = {
    "downloaded": "downloaded and verified",
    "updated": "updated and verified",
    "verified": "nothing to do: every file has the recorded sha256",
}

INPUT_FILE = click.Path(path_type=Path)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON to stdout.")
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
seed_option = click.option("--seed", default=42, show_default=True, help="Same seed, same bytes on any machine.")


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
@click.option("--revision", help="A branch, tag or commit.  [default: master]")
@click.option("--endpoint", metavar="URL", help="Another hub than the public one, with http:// or https://.")
@click.option("--token-env", metavar="NAME", help="The environment variable that holds the access token.")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Files fetched at once.")
@click.option("--dry-run", is_flag=True, help="Only list files, sizes and free disk.")
@click.option("--offline", is_flag=True, help="Use no network: verify what was downloaded against its manifest.")
@click.option("--allow-unhashed", is_flag=True, help="Take files without a sha256 on their size alone.")
@click.option("--force", is_flag=True, help="Replace files in the way that no download left so.")
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
    dry_run: bool,
    offline: bool,
    allow_unhashed: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Download datasets or models from ModelScope, verified file by file.

    NAME is OWNER/NAME or a set of `lfc prep sources`. Each becomes the folder TO/NAME, without the owner,
    with a manifest (.lfc-download.json) of commit, sizes and sha256. The folder changes in one step, from its
    old state to the new one; your own files in it stay. Interrupted, the same command goes on where it
    stopped; run again, it verifies and fetches what has changed.

    \b
    Examples:
      lfc prep download medical-cot finetome --to data/raw
      lfc prep download krisfu/delicate_medical_r1_data --dry-run
      lfc prep download --model Qwen/Qwen3-4B --to models
      lfc prep download myteam/private-set --token-env MODELSCOPE_API_TOKEN
    """
    from prep import download as downloads
    from prep.catalog import resolve_names

    if dry_run and offline:
        raise click.UsageError("--dry-run asks the hub, --offline does not: use one of them")
    options = downloads.DownloadOptions(
        repo_type="model" if is_model else "dataset",
        revision=revision,
        include=include,
        exclude=exclude,
        endpoint=endpoint,
        token=downloads.read_token(token_env),
        jobs=jobs,
        force=force,
        allow_unhashed=allow_unhashed,
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
    from prep.catalog import read_catalog

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
    from prep.sample import copy_samples

    paths = copy_samples(folder, force=force)
    print_result(
        {"files": [path.as_posix() for path in paths]},
        [(path.name, f"{path.stat().st_size:,} bytes") for path in paths],
        as_json=as_json,
        title=f"sample files in {folder}",
    )


@prep.command()
@click.argument("inputs", nargs=-1, required=True, type=INPUT_FILE)
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The Alpaca JSONL to write.")
@click.option("--format", "format_name", help="The source's shape; recognised from its columns if not given.")
@click.option(
    "--think-policy",
    type=click.Choice(["tagged", "masked", "strip"]),
    default="tagged",
    show_default=True,
    help="tagged: every output begins with a think block. masked: rows without a thought carry none. "
    "strip: thoughts are removed.",
)
@click.option("--map", "column_map", multiple=True, metavar="OURS=THEIRS", help="Use another column name.")
@click.option("--max-rejects", default=0, show_default=True, help="Rows that may be unusable.")
@force_option
@json_option
def convert(
    inputs: tuple[Path, ...],
    output: Path,
    format_name: str | None,
    think_policy: str,
    column_map: tuple[str, ...],
    max_rejects: int,
    force: bool,
    as_json: bool,
) -> None:
    """Convert source files of one shape into Alpaca JSONL with Qwen3 think tags.

    Rows that cannot be used are counted and written to OUTPUT.rejects.jsonl with file, row and reason.

    \b
    Examples:
      lfc prep convert raw/r1_data_example.jsonl -o data/medical.jsonl
      lfc prep convert raw/finetome/*.parquet -o data/chat.jsonl --think-policy masked
      lfc prep convert company.csv -o data/company.jsonl --map question=问题 --map answer=回答
    """
    from prep.convert import ConvertOptions, convert_files
    from prep.thinking import ThinkPolicy

    options = ConvertOptions(
        format=format_name,
        policy=ThinkPolicy(think_policy),
        column_map=parse_pairs(column_map, "--map"),
        max_rejects=max_rejects,
        force=force,
    )
    with show_progress("converting", "rows") as on_rows:
        result = convert_files(inputs, output, options, on_rows)
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in result.counts.items()]
    if result.unused_columns:
        rows.append(("columns not used", ", ".join(result.unused_columns)))
    print_result(
        {
            "format": result.format,
            "counts": result.counts,
            "unused_columns": result.unused_columns,
            "output": result.output.as_posix(),
            "rejects": result.rejects.as_posix() if result.rejects else None,
        },
        rows,
        as_json=as_json,
        title=f"{output} from {result.format} rows, think policy {think_policy}",
    )


@prep.command()
@click.argument("parts", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("-o", "--output", type=OUTPUT_FILE, required=True, help="The mixed JSONL to write.")
@click.option("--ratio", metavar="NAME=SHARE,...", help="True shares of the result; every row without it.")
@seed_option
@force_option
@json_option
def mix(parts: tuple[str, ...], output: Path, ratio: str | None, seed: int, force: bool, as_json: bool) -> None:
    """Mix converted files in a true ratio, without repeating a row, and shuffle.

    \b
    Example:
      lfc prep mix reasoning=data/medical.jsonl chat=data/chat.jsonl \\
          --ratio reasoning=0.75,chat=0.25 -o data/mixed.jsonl
    """
    from prep.mix import mix_files

    files = {name: Path(path) for name, path in parse_pairs(parts, "NAME=FILE").items()}
    shares = parse_shares(ratio) if ratio else None
    result = mix_files(files, output, ratio=shares, seed=seed, force=force)
    print_result(
        {"taken": result.taken, "available": result.available, "rows": result.rows, "output": output.as_posix()},
        [
            (name, f"{count:,} of {result.available[name]:,} rows", f"{count / max(result.rows, 1):.1%}")
            for name, count in result.taken.items()
        ],
        as_json=as_json,
        title=f"{output}: {result.rows:,} rows",
    )


@prep.command()
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option("-o", "--output", "prefix", type=OUTPUT_FILE, required=True, help="PREFIX_train.jsonl and so on.")
@click.option("--test", type=float, default=0.0, help="Rows, or a share below 1, to hold out for the test.")
@click.option("--val", type=float, default=0.0, help="Rows, or a share below 1, to hold out for validation.")
@seed_option
@force_option
@json_option
def split(path: Path, prefix: Path, test: float, val: float, seed: int, force: bool, as_json: bool) -> None:
    """Split a converted file so that no question stands on two sides.

    \b
    Example:
      lfc prep split data/mixed.jsonl --test 500 --val 0.05 -o data/mixed
    """
    from prep.split import SplitSizes, split_file

    result = split_file(path, prefix, SplitSizes(test, val), seed=seed, force=force)
    print_result(
        {"rows": result.rows, "outputs": {side: target.as_posix() for side, target in result.outputs.items()}},
        [(side, f"{result.rows[side]:,} rows", str(target)) for side, target in result.outputs.items()],
        as_json=as_json,
        title=f"{path} split",
    )


@prep.command()
@click.argument("path", metavar="FILE", type=INPUT_FILE)
@click.option("--name", required=True, help="The dataset's name in LLaMA-Factory.")
@click.option("--dataset-dir", type=FOLDER, default="data", show_default=True, help="Holds dataset_info.json.")
@click.option("--replace", is_flag=True, help="Replace an entry of this name that says something else.")
@json_option
def register(path: Path, name: str, dataset_dir: Path, replace: bool, as_json: bool) -> None:
    """Register a converted file in LLaMA-Factory's dataset_info.json.

    \b
    Example:
      lfc prep register data/medical_train.jsonl --name medical_train --dataset-dir data
    """
    from prep.registry import FILE_NAME, register_dataset

    entry = register_dataset(path, name, dataset_dir, replace=replace)
    print_result(
        {"name": name, "entry": entry},
        [("name", name), ("file", entry["file_name"])],
        as_json=as_json,
        title=f"registered in {dataset_dir / FILE_NAME}",
    )


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


def print_result(result: dict[str, Any], rows: Sequence[tuple[str, ...]], *, as_json: bool, title: str) -> None:
    """Print a command's result to stdout: JSON for scripts, a table for people."""
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=True)
    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False, box=None)
    for _ in range(max(map(len, rows), default=0)):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not console.is_terminal:
        # A pipe has no width: a path broken over lines there would be lost.
        console.width = _PIPE_WIDTH
    console.print(table)


@contextmanager
def show_progress(verb: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr while a long step runs; nothing when stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(f"{verb}: {{task.completed:,}} {unit}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda count: progress.advance(task, count)


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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
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

    def start(self, title: str, total_bytes: int) -> None:
        """Replace the total's bar by one for the next stage."""
        if self._total is not None:
            self._progress.remove_task(self._total)
        self._total = self._progress.add_task(title, total=total_bytes)

    def advance(self, path: str, size: int, byte_count: int) -> None:
        """Move a file's bar and the total's."""
        if path not in self._bars:
            self._bars[path] = self._progress.add_task(f"  {path}", total=size)
        self._progress.advance(self._bars[path], byte_count)
        if self._total is not None:
            self._progress.advance(self._total, byte_count)

    def finish(self, path: str) -> None:
        """Take a file's bar away."""
        bar = self._bars.pop(path, None)
        if bar is not None:
            self._progress.remove_task(bar)
