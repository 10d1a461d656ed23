"""Several files that belong together: all of them appear, or none does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prep.files import (
    AtomicFile,
    Manifest,
    encode_json,
    explain_os_error,
    lock_file,
    manifest_path,
    read_manifest,
    refuse_existing,
    stage_file,
)


class OutputSet:
    """Files under way in one step, of which the main one appears last: where it stands, all do."""

    def __init__(self, main: Path, stack: ExitStack) -> None:
        self._main = main
        self._stack = stack
        self._staged: dict[Path, AtomicFile] = {}

    def stage(self, path: Path) -> AtomicFile:
        """Open one more file of the set; it is nowhere to be seen until `publish`."""
        self._staged[path] = self._stack.enter_context(stage_file(path))
        return self._staged[path]

    def publish(self, manifests: Mapping[Path, Manifest], *, without: Sequence[Path] = ()) -> None:
        """Let all staged files appear with their manifests, and what `without` names of an earlier run go.

        The main file goes first and comes last: a process that dies here leaves a set without it, which
        the next run replaces; an old file never stands beside a new one.
        """
        for path, manifest in manifests.items():
            self.stage(manifest_path(path)).write(encode_json({"manifest_version": 1, **manifest.__dict__}))
        others = [path for path in self._staged if path != self._main and path not in without]
        for path in others:
            self._staged[path].flush()
        if self._main not in without:
            self._staged[self._main].flush()
        for path in (self._main, *without):
            with explain_os_error(path):
                path.unlink(missing_ok=True)
        for path in others:
            self._staged[path].publish()
        if self._main not in without:
            self._staged[self._main].publish()

    def publish_one(self, path: Path) -> None:
        """Let one file appear, and no other."""
        self._staged[path].publish()


@contextmanager
def open_outputs(main: Path, others: Sequence[Path] = (), *, step: str, force: bool) -> Iterator[OutputSet]:
    """Open a step's set of outputs; nothing appears but by its `publish`.

    Raises: OutputError when one stands already and may not be replaced, or is being written.
    """
    with lock_file(main, timeout_s=0), ExitStack() as stack:
        refuse_existing(main, force=force)
        for path in others:
            if not force and path.exists() and not _is_left_over(path, step):
                refuse_existing(path, force=force)
        yield OutputSet(main, stack)


def describe_output(file: AtomicFile, formatting: str) -> dict[str, Any]:
    """Return a manifest's entry of an output; `formatting` is LLaMA-Factory's, by which it is registered."""
    entry: dict[str, Any] = {"path": file.path.name, "bytes": file.bytes_written, "sha256": file.sha256}
    return entry if formatting == "alpaca" else {**entry, "formatting": formatting}


def _is_left_over(path: Path, step: str) -> bool:
    """Whether a file is of a set that this step made, and died before it made the main one."""
    manifest = read_manifest(path)
    return manifest is not None and manifest.step == step
