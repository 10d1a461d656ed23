"""The `lfc prep download` command and its bars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prep.cli.completion import complete_public_set
from prep.cli.options import FOLDER, json_option
from prep.cli.output import open_console, print_json, print_table
from prep.terminal import neutralise_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from prep.hub.client import ProgressView
    from prep.hub.download import DownloadResult

_DOWNLOAD_STATES = {
    "downloaded": "downloaded and verified",
    "updated": "updated and verified",
    "verified": "nothing to do: every file has the recorded sha256",
}


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_public_set)
@click.option("--model", "is_model", is_flag=True, help="The names are models, not datasets.")
@click.option(
    "--to", "folder", type=FOLDER, help="Each repository becomes a folder in it.  [default: data/raw, or models]"
)
@click.option("--include", multiple=True, metavar="GLOB", help="Take only these files; * also stands for /.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these files out.")
@click.option(
    "--split", default="", metavar="NAME", help="Of the data files, take those of one split: train, test, …"
)
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
    split: str,
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
      lfc prep download hf:openai/gsm8k --include "main/*" --split train
      lfc prep download myteam/private-set --token-env MODELSCOPE_API_TOKEN
    """
    from prep.hub import download as downloads
    from prep.hub.catalog import resolve_names
    from prep.hub.client import DownloadOptions
    from prep.hub.endpoint import read_token
    from prep.inputs.splits import name_split

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
        split=split,
        find_split=partial(name_split, wanted=split),
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
    if as_json:
        print_json({"repositories": repositories, "free_bytes": free_bytes})
    else:
        print_table(rows, title="would be downloaded" if dry_run else "downloads")


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
