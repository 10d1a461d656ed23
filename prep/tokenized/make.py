"""Rows → the folder that LLaMA-Factory takes as `tokenized_path`: in several processes, whole or not at all.

While it is made it lies in `.lfc` beside its place; a process that is killed leaves there what it finished, and the
next one with the same origin goes on from that.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from prep import __version__
from prep.errors import InputError, OutputError
from prep.frames import make_frame
from prep.names import find_name_fault
from prep.parallel.processes import WorkerPool, count_workers
from prep.progress import SILENT, Progress
from prep.storage.atomic import write_json
from prep.storage.locks import lock_file, working_folder
from prep.storage.manifests import read_json_object
from prep.storage.os_errors import explain_os_error
from prep.tokenized.arrow_folder import name_data_file, write_split, write_splits
from prep.tokenized.note import NOTE_FILE, TokenNote, describe_origin, find_fingerprint, read_note, write_note
from prep.tokenized.order import OrderedRows, cut_batches, join_rows, split_rows
from prep.tokenized.settings import TokenSettings, UnsupportedError, refuse_unknown_tokenizer
from prep.tokenized.shard import RowFile, Shard, ShardResult, choose_columns, make_shard_writer
from prep.tokenized.sources import TokenSource, locate_rows

if TYPE_CHECKING:
    import pandas as pd

# Text of one data file: enough for its process to be busy, little enough to be lost by a kill.
_SHARD_BYTES = 24 << 20
# Below this, starting processes takes longer than they save.
_PARALLEL_BYTES = 8 << 20
# How long one that wants the same tokens waits for who makes them.
_PATIENCE_S = 24 * 3600.0
_PLAN_FILE = "plan.json"
_DONE_FILE = "done.json"


@dataclass(frozen=True)
class MadeTokens:
    """A folder of tokens, and whether it stood there already."""

    path: Path
    note: TokenNote
    was_there: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "tokenized_path": self.path.as_posix(),
            "fingerprint": self.note.fingerprint,
            "was_there": self.was_there,
            "splits": {
                name: {key: split[key] for key in ("rows", "tokens", "bytes", "rows_read")}
                for name, split in self.note.splits.items()
            },
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a split: rows, tokens, bytes, and rows read."""
        return make_frame({"split": name, **told} for name, told in self.as_dict()["splits"].items())


def find_shared_folder(settings: TokenSettings, fingerprint: str) -> Path:
    """Return where tokens of an origin lie that every config with the same origin trains on."""
    return settings.dataset_dir / ".lfc" / "tokens" / fingerprint[:20]


def make_tokens(
    settings: TokenSettings,
    output: Path | None = None,
    *,
    force: bool = False,
    cluster: str | None = None,
    on_rows: Progress = SILENT,
) -> MadeTokens:
    """Make the tokens of a config once: in `output`, or in the folder that configs of the same origin share.

    `cluster` is the address of a Ray cluster that does the work, "" for the one of this machine.
    What stands there already and fits is taken as it is; of several that want it, one makes it.
    Raises: UnsupportedError when LLaMA-Factory must make them itself; OutputError when something else stands in
    `output` and `force` is not given; InputError at a row that cannot be read.
    """
    refuse_unknown_tokenizer(settings)
    made_from, sources, held_out = describe_origin(settings)
    fingerprint = find_fingerprint(made_from)
    target = output or find_shared_folder(settings, fingerprint)
    with explain_os_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(target, timeout_s=_PATIENCE_S):
        found = _find_fitting(target, fingerprint)
        if found is not None:
            return MadeTokens(target, found, was_there=True)
        # The shared folder is named by what it must hold: one that does not was torn.
        refuse_other_folder(target, force=force or output is None)
        partial = _open_partial(working_folder(target) / f"{target.name}.partial", fingerprint)
        maker = _Maker(settings, sources, held_out, partial, fingerprint, cluster)
        splits = _make_splits(maker, partial, on_rows)
        # The rows may have been written anew while they were read.
        if find_fingerprint(describe_origin(settings)[0]) != fingerprint:
            raise InputError("the rows changed while they were read", hint="run again when nothing writes to them")
        note = TokenNote(made_from, splits)
        write_note(partial, note)
        _publish(partial, target)
    return MadeTokens(target, note, was_there=False)


def _make_splits(maker: "_Maker", partial: Path, on_rows: Progress) -> dict[str, dict[str, Any]]:
    try:
        return maker.make(on_rows)
    except OutputError:
        # A full disk: what was made so far takes what the training needs.
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _find_fitting(target: Path, fingerprint: str) -> TokenNote | None:
    try:
        note = read_note(target)
    except InputError:
        return None
    return note if note is not None and note.fingerprint == fingerprint else None


def refuse_other_folder(target: Path, *, force: bool) -> None:
    """Raise OutputError when something stands at `target` that is not replaced: what is not of ours never is."""
    with explain_os_error(target):
        if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
            return
        is_ours = target.is_dir() and not target.is_symlink() and (target / NOTE_FILE).is_file()
    if not is_ours:
        raise OutputError(
            f"{target} stands there, and lfc did not make it", hint=f"another -o, or move it away: {target}"
        )
    if not force:
        raise OutputError(f"{target} holds the tokens of other rows or keys", hint="--force to replace them")


def _open_partial(partial: Path, fingerprint: str) -> Path:
    """Return the folder in which tokens are made: with what an earlier process finished of the same origin."""
    with explain_os_error(partial):
        plan = read_json_object(partial / _PLAN_FILE) if partial.is_dir() else None
        wanted = {"fingerprint": fingerprint, "tool": __version__}
        if plan != wanted:
            # Our own, by its place and name.
            if os.path.lexists(partial):
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            write_json(partial / _PLAN_FILE, wanted)
    return partial


def _publish(partial: Path, target: Path) -> None:
    """Let the folder appear under its name; an older one goes once the new one stands beside it."""
    with explain_os_error(target):
        for name in (_PLAN_FILE, _DONE_FILE):
            (partial / name).unlink(missing_ok=True)
        shutil.rmtree(partial / "rows", ignore_errors=True)
        # What a worker that was killed had begun.
        for begun in partial.glob("*/.*.partial"):
            begun.unlink(missing_ok=True)
        old = partial.with_name(f"{target.name}.old")
        if old.is_dir():
            shutil.rmtree(old)
        if target.is_dir():
            target.rename(old)
        partial.rename(target)
        shutil.rmtree(old, ignore_errors=True)


class _Maker:
    def __init__(
        self,
        settings: TokenSettings,
        sources: Sequence[TokenSource],
        held_out: Sequence[TokenSource],
        partial: Path,
        fingerprint: str,
        cluster: str | None,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._partial = partial
        self._fingerprint = fingerprint
        self._files: list[RowFile] = []
        self._splits = self._order(sources, held_out)

    def make(self, on_rows: Progress) -> dict[str, dict[str, Any]]:
        """Make the data files that are not there yet; return what the splits hold."""
        shards = {rows.name: self._cut(rows) for rows in self._splits}
        done = self._read_done()
        waiting = [shard for cut in shards.values() for shard in cut if self._key(shard.path) not in done]
        on_rows.expect(sum(len(rows) for rows in self._splits))
        on_rows(sum(result.taken for result in done.values()))
        for shard, result in zip(waiting, self._write(waiting), strict=True):
            done[self._key(shard.path)] = result
            write_json(self._partial / _DONE_FILE, {key: list(value) for key, value in done.items()})
            on_rows(result.taken)
        made = {name: [done[self._key(shard.path)] for shard in cut] for name, cut in shards.items()}
        told = {name: self._finish(name, results) for name, results in made.items()}
        write_splits(self._partial, list(told))
        return told

    def _order(self, sources: Sequence[TokenSource], held_out: Sequence[TokenSource]) -> list[OrderedRows]:
        settings = self._settings
        joined = self._join("train", sources)
        splits = split_rows(joined, settings.val_size, settings.seed)
        if settings.eval_on_each_dataset:
            for source in held_out:
                if fault := find_name_fault(source.name):
                    raise UnsupportedError(f"dataset '{source.name}' is no name of a folder: it {fault}")
            return splits + [self._join(f"validation_{source.name}", [source]) for source in held_out]
        return splits + ([self._join("validation", held_out)] if held_out else [])

    def _join(self, name: str, sources: Sequence[TokenSource]) -> OrderedRows:
        first = len(self._files)
        located = []
        for source in sources:
            places = locate_rows(source.dataset, self._partial / "rows" / str(len(self._files)))
            self._files += [RowFile(place.path, source.dataset, place.is_judged) for place in places]
            located.append(places)
        rows = join_rows(name, located, first, self._settings.max_samples)
        if not len(rows):
            raise InputError(f"no rows in {', '.join(source.name for source in sources)}")
        return rows

    def _cut(self, rows: OrderedRows) -> list[Shard]:
        groups: list[list[OrderedRows]] = [[]]
        size = 0
        for place in cut_batches(len(rows), self._settings):
            batch = rows.take(rows.name, place)
            if groups[-1] and size >= _SHARD_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(batch)
            size += int(batch.sizes.sum())
        folder = self._partial / rows.name
        with explain_os_error(folder):
            folder.mkdir(exist_ok=True)
        return [Shard(folder / name_data_file(place, len(groups)), group) for place, group in enumerate(groups)]

    def _write(self, shards: Sequence[Shard]) -> Iterator[ShardResult]:
        if self._cluster is not None and shards:
            yield from self._write_far(self._cluster, shards)
            return
        size = sum(int(batch.sizes.sum()) for shard in shards for batch in shard.batches)
        workers = min(count_workers(), len(shards)) if size >= _PARALLEL_BYTES else 1
        if workers <= 1:
            yield from map(make_shard_writer(self._settings, self._files), shards)
            return
        with WorkerPool[Shard, ShardResult](workers, make_shard_writer, self._settings, self._files) as pool:
            yield from pool.map(shards)

    def _write_far(self, address: str, shards: Sequence[Shard]) -> Iterator[ShardResult]:
        from prep.parallel.cluster import ClusterPool

        room = self._partial.with_name(f"{self._partial.name}.{token_hex(4)}.room")
        with ClusterPool[Shard, ShardResult](address, room, make_shard_writer, self._settings, self._files) as pool:
            yield from pool.map(shards)

    def _finish(self, name: str, results: Sequence[ShardResult]) -> dict[str, Any]:
        # An empty file has no rows to load, and `datasets` needs one file at least.
        files = [result for result in results if result.rows]
        if not files:
            raise InputError(
                f"no row of {name} is left: each is longer than cutoff_len, or the texts fill no block",
                hint="a larger cutoff_len, or packing: false",
            )
        names = [result.name for result in files]
        fingerprint = f"{self._fingerprint[:16]}{name}"
        write_split(self._partial / name, name, choose_columns(self._settings), names, fingerprint)
        return {
            "files": {result.name: result.bytes for result in files},
            "rows": sum(result.rows for result in files),
            "tokens": sum(result.tokens for result in files),
            "bytes": sum(result.bytes for result in files),
            "rows_read": sum(result.taken for result in results),
        }

    def _key(self, path: Path) -> str:
        return path.relative_to(self._partial).as_posix()

    def _read_done(self) -> dict[str, ShardResult]:
        """Return the data files that an earlier process finished and that are as it left them."""
        try:
            content = read_json_object(self._partial / _DONE_FILE) or {}
            done = {key: ShardResult(*value) for key, value in content.items()}
        except (InputError, TypeError):
            return {}
        sizes = {key: self._partial / key for key in done}
        return {
            key: result
            for key, result in done.items()
            if sizes[key].is_file() and sizes[key].stat().st_size == result.bytes
        }
