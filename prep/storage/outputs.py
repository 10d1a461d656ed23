"""Several files that belong together: each of them is the old or the new one, whatever happens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from prep.errors import InputError, OutputError
from prep.storage.atomic import AtomicFile, refuse_existing, refuse_no_file, stage_file, write_json
from prep.storage.fingerprints import hash_file
from prep.storage.locks import lock_file, working_folder
from prep.storage.manifests import (
    Manifest,
    find_owner,
    manifest_path,
    read_json_object,
    read_manifest,
    stage_manifest,
)
from prep.storage.os_errors import explain_os_error
from prep.storage.row_index import index_path

_REMEMBERED = 2

# What a command notes of the files that it made, in `.lfc` beside them.
NOTE_SUFFIX = ".made.json"


class OutputSet:
    """Files under way in one step, beside a main one.

    What is published is noted first, with its sha256, in `.lfc`: by that a later run knows what it may take away.
    """

    def __init__(self, main: Path, stack: ExitStack, *, force: bool) -> None:
        self._main = main
        self._stack = stack
        self._force = force
        self._staged: dict[Path, AtomicFile] = {}
        self._indexes: dict[Path, AtomicFile] = {}

    def stage(self, path: Path) -> AtomicFile:
        """Open one more file of the set; it is nowhere to be seen until it is published.

        Raises: OutputError when a file stands there that may not be replaced.
        """
        refuse_taken(path, force=self._force)
        self._staged[path] = self._stack.enter_context(stage_file(path))
        return self._staged[path]

    def stage_index(self, path: Path) -> AtomicFile:
        """Open the row index of a file of the set; it appears right after that file, and before its manifest.

        Raises: OutputError when a file that is no index of ours stands where it will be.
        """
        index = index_path(path)
        if not self._force and not _is_own(index):
            refuse_existing(index, force=False)
        self._indexes[path] = self._stack.enter_context(stage_file(index))
        return self._indexes[path]

    def publish(self, manifests: Mapping[Path, Manifest], *, without: Sequence[Path] = ()) -> None:
        """Let all staged files appear with their manifests; what `without` names and a run of ours left, goes.

        Nothing old is removed before all that is new stands. A process that dies here leaves some files new and
        some old; each manifest follows its file, so that none is taken for another's (see `read_manifest`).
        """
        made = [path for path in self._staged if path not in without and path != self._main]
        made += [self._main] if self._main in self._staged and self._main not in without else []
        for path in made:
            self._staged[path].flush()
            if path in self._indexes:
                self._indexes[path].flush()
        staged = {
            path: self._stack.enter_context(stage_manifest(self._staged[path], manifests[path]))
            for path in manifests
        }
        for path in made:
            self.publish_one(path)
            if path in self._indexes:
                _publish(self._indexes[path])
            if path in staged:
                staged[path].publish()
        for path in without:
            _remove_own(path)

    def publish_one(self, path: Path) -> None:
        """Let one file appear, and no other."""
        _publish(self._staged[path])


@contextmanager
def open_outputs(main: Path, others: Sequence[Path] = (), *, step: str, force: bool) -> Iterator[OutputSet]:
    """Open a step's set of outputs; nothing appears but by its `publish`.

    Raises: OutputError when one stands already and may not be replaced, or is being written.
    """
    refuse_no_file(main)
    with lock_file(main, timeout_s=0), ExitStack() as stack:
        refuse_existing(main, force=force)
        for path in (main, *others):
            refuse_taken(path, force=force)
        yield OutputSet(main, stack, force=force)


def refuse_taken(path: Path, *, force: bool) -> None:
    """Raise OutputError when a file, or the path of its manifest, is somebody else's."""
    if not force and not _is_own(path):
        refuse_existing(path, force=force)
    manifest = manifest_path(path)
    owner = find_owner(manifest)
    other = path.parent / Path(str(owner)).name
    with explain_os_error(manifest):
        # Of a pair that was renamed the manifest still has the old name: it takes nothing from a new file of that.
        is_others = owner not in (None, path.name) and other.is_file() and manifest_path(other) == manifest
        is_unknown = owner is None and manifest.exists()
    if is_others:
        raise OutputError(
            f"{manifest} is the manifest of {owner}, and would be of {path.name} too",
            hint=f"another -o than {path.name}: one whose name differs before the last dot",
        )
    if is_unknown and not force:
        raise OutputError(
            f"{manifest} exists already, and is no manifest", hint="--force to replace it, or another -o"
        )


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError when an output would replace a file that is read."""
    read = list(inputs)
    for output in outputs:
        for path in read:
            with explain_os_error(output):
                is_same = output.exists() and path.exists() and output.samefile(path)
            if is_same:
                raise OutputError(f"{output} is an input too, and would be replaced", hint="another -o")


def describe_output(file: AtomicFile, formatting: str, index: AtomicFile | None = None) -> dict[str, Any]:
    """Return a manifest's entry of an output; `formatting` is LLaMA-Factory's, by which it is registered."""
    entry: dict[str, Any] = {"path": file.path.name, "bytes": file.bytes_written, "sha256": file.sha256}
    if index is not None:
        entry["index_sha256"] = index.sha256
    return entry if formatting == "alpaca" else {**entry, "formatting": formatting}


def _remove_own(path: Path) -> None:
    """Take away what an earlier run made and nobody changed since, with its manifest; all else stays."""
    if not _is_own(path):
        return
    manifest = manifest_path(path)
    with explain_os_error(path):
        # The manifest first: by the note the file is known to be ours still, if this process dies here.
        if find_owner(manifest) == path.name:
            manifest.unlink(missing_ok=True)
        if _is_own(index_path(path)):
            index_path(path).unlink(missing_ok=True)
            _note_path(index_path(path)).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        _note_path(path).unlink(missing_ok=True)


def _is_own(path: Path) -> bool:
    """Whether a file is just what a run of ours published there."""
    with explain_os_error(path):
        if path.is_symlink() or not path.is_file():
            return False
    known = _read_notes(path)
    with suppress(InputError):
        manifest = read_manifest(path)
        if manifest is not None and manifest.output["path"] == path.name:
            known.append(manifest.output.get("sha256", ""))
    return bool(known) and hash_file(path) in known


def _publish(file: AtomicFile) -> None:
    _note(file.path, file.sha256)
    file.publish()


def _note(path: Path, sha256: str) -> None:
    """Note what is about to stand at a path; what stands there now may stay, if this process dies."""
    notes = [*(known for known in _read_notes(path) if known != sha256), sha256]
    write_json(_note_path(path), {"sha256": notes[-_REMEMBERED:]})


def _read_notes(path: Path) -> list[str]:
    try:
        content = read_json_object(_note_path(path)) or {}
    except InputError:
        return []
    notes = content.get("sha256")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _note_path(path: Path) -> Path:
    return working_folder(path) / f"{path.name}{NOTE_SUFFIX}"
