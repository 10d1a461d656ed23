"""The folder in which steps run: made ready, cleared of what a step made before, what others made set aside.

A file is deleted only where `steps.json` lists it as made by a step, and it still has the hash that is recorded.
Anything else in the way is renamed to `<name>.old-1`; nothing outside the folder is touched.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from launch.recipes.steps import SCRIPT_FILE, STATE_FILE, WORK_FOLDER, Step, StepRecord, locate, read_entries
from launch.runs.folder import RUNS, RunFolder, is_alive
from prep.errors import OutputError, UserError
from prep.storage.atomic import write_json, write_text
from prep.storage.fingerprints import hash_file
from prep.storage.locks import lock_file
from prep.storage.os_errors import describe_os_error, explain_os_error
from prep.storage.outputs import NOTE_SUFFIX
from prep.storage.paths import move_aside, require_writable
from prep.terminal import neutralise_line
from prep.wording import in_shell

_SET_ASIDE = re.compile(r"\.old-\d+$")
Renamed = list[tuple[Path, Path]]


def check_folder(folder: Path, steps: Sequence[Step]) -> None:
    """Raise OutputError when steps cannot run in a folder; writes nothing.

    So it is when it cannot be written or holds what no steps made, when a link in it leads out of it, when a source
    lies where a step writes, or when a run in it is still alive.
    """
    require_writable(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder", hint="--to ANOTHER_FOLDER")
    with explain_os_error(folder):
        names = {path.name for path in folder.iterdir()}
    if names - {WORK_FOLDER} and STATE_FILE not in names:
        raise OutputError(f"{folder} holds other files", hint="--to ANOTHER_FOLDER")
    StepRecord(folder)
    locate(folder, STATE_FILE)
    for step in steps:
        for place in (*step.outputs, *step.may_make):
            locate(folder, place)
    refuse_live_runs(folder)


def refuse_own_sources(folder: Path, steps: Sequence[Step]) -> None:
    """Raise UserError when a step would write over a source or a model that is only to be read."""
    root = folder.resolve()
    made = [root / place.partition("#")[0] for step in steps for place in (*step.outputs, *step.may_make)]
    for step in steps:
        for place in step.inputs:
            source = Path(place).resolve() if place.startswith("/") or Path(place).is_absolute() else None
            if source is None:
                continue
            if root.is_relative_to(source):
                raise UserError(f"{source}, which step {step.name} reads, holds the folder that it writes to")
            if any(source.is_relative_to(path) or path.is_relative_to(source) for path in made):
                raise UserError(
                    f"{source}, which step {step.name} reads, is where a step writes", hint="--to ANOTHER_FOLDER"
                )


def refuse_live_runs(folder: Path) -> None:
    """Raise OutputError that names a run of this folder that is still alive."""
    for parent, folders, names in os.walk(folder / RUNS):
        if "run.json" in names and is_alive(RunFolder(Path(parent))):
            name = Path(parent).relative_to(folder / RUNS).as_posix()
            raise OutputError(
                f"run {name} in {folder} is still alive, and its files are in use",
                hint=f"in {folder}: lfc launch attach {in_shell(name)}, or lfc launch stop {in_shell(name)}",
            )
        if "run.json" in names:
            folders.clear()


@contextmanager
def open_folder(
    folder: Path, steps: Sequence[Step], command: str, *, fresh: bool, renamed: Renamed
) -> Iterator["StepFolder"]:
    """Make the folder of steps and hold it, so that no other process runs steps there; write their script.

    With `fresh` nothing is done yet: what steps made is deleted, anything else set aside and added to `renamed`.
    Raises: OutputError as `check_folder` does, or when another process holds it.
    """
    check_folder(folder, steps)
    refuse_own_sources(folder, steps)
    with explain_os_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not (folder / STATE_FILE).exists():
        write_json(folder / STATE_FILE, {})
    with lock_file(folder / STATE_FILE, timeout_s=0):
        # Relative names from here on, where the steps themselves run.
        opened = StepFolder(folder.resolve())
        if fresh:
            renamed += opened.start_over(steps)
        renamed += opened.write_script(steps, command)
        yield opened


class StepFolder:
    """A folder of steps that this process holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = StepRecord(path)

    def make_room(self, step: Step) -> Renamed:
        """Take away what an earlier run of a step made, so that its command finds the place free.

        Returns: what was in the way and is not the step's own, with its new name.
        """
        refuse_live_runs(self.path)
        recorded = self.record.state["steps"].get(step.name, {}).get("places", {})
        self.record.forget(step)
        renamed: Renamed = []
        goes_on = step.resumes or (step.end and not os.path.lexists(locate(self.path, step.end)))
        for place in () if goes_on else (*step.outputs, *step.may_make):
            path = locate(self.path, place)
            if "#" in place:
                self._unregister(place, recorded.get(place))
            elif os.path.lexists(path):
                if _is_as_recorded(path, recorded.get(place)):
                    _delete(path, recorded[place])
                if os.path.lexists(path):
                    renamed.append((path, move_aside(path)))
        return renamed

    def start_over(self, steps: Sequence[Step]) -> Renamed:
        """Delete what the recorded steps made and is as they left it; set aside all else but the sources."""
        for done in self.record.state["steps"].values():
            for place in done.get("made", []):
                self._delete_made(place, done["places"].get(place))
        self.record.state.update({"steps": {}, "hashes": {}})
        self.record.save()
        sources = [Path(place).resolve() for step in steps for place in step.inputs if Path(place).is_absolute()]
        renamed: Renamed = []
        with explain_os_error(self.path):
            left = sorted(self.path.iterdir())
        for path in left:
            if path.name in (STATE_FILE, SCRIPT_FILE, WORK_FOLDER) or _SET_ASIDE.search(path.name):
                continue
            _remove_empty(path)
            if os.path.lexists(path) and not any(source.is_relative_to(path) for source in sources):
                renamed.append((path, move_aside(path)))
        return renamed

    def write_script(self, steps: Sequence[Step], command: str) -> Renamed:
        """Write the commands of all steps as a script; one that somebody changed is set aside."""
        opening = f"#!/bin/sh\n# What {_quote_comment(command)} runs, in order, in this folder.\n"
        opening += 'set -e\ncd "$(dirname "$0")"\n'
        lines = [f"\n# {_quote_comment(step.title)}\n{step.format()}\n" for step in steps]
        text = opening + "".join(lines)
        path, digest = self.path / SCRIPT_FILE, hashlib.sha256(text.encode()).hexdigest()
        renamed: Renamed = []
        known = (self.record.state.get("script"), digest)
        if os.path.lexists(path) and not (_is_regular(path) and hash_file(path) in known):
            renamed.append((path, move_aside(path)))
        write_text(path, text)
        self.record.state["script"] = digest
        self.record.save()
        return renamed

    def _delete_made(self, place: str, identity: Any) -> None:
        """Delete a recorded place of this folder; the record may come from somebody else."""
        parts = PurePosixPath(place.partition("#")[0]).parts
        if not parts or ".." in parts or parts[0] == "/" or PurePosixPath(place).is_absolute():
            return
        try:
            path = locate(self.path, place)
        except OutputError:
            return
        if "#" in place:
            self._unregister(place, identity)
        elif os.path.lexists(path):
            _delete(path, identity)

    def _unregister(self, place: str, identity: Any) -> None:
        """Take a recorded entry out of its JSON document, and the document away when nothing else is in it."""
        from prep.registry.dataset_info import FILE_NAME, remove_dataset

        path, entry = self.path / place.partition("#")[0], place.partition("#")[2]
        entries = read_entries(path)
        if identity is None or entries.get(entry) != identity or path.name != FILE_NAME:
            return
        remove_dataset(entry, path.parent)
        if set(entries) == {entry}:
            # The backup is of this very removal.
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.bak").unlink(missing_ok=True)


def _is_as_recorded(path: Path, identity: Any) -> bool:
    """Tell whether all that stands at a path is recorded, with the hash that it has now."""
    if isinstance(identity, str):
        return _is_regular(path) and hash_file(path) == identity
    if not isinstance(identity, dict) or path.is_symlink() or not path.is_dir():
        return False
    return all(_is_ours(file, path, identity) or _is_work_file(file) for file in _walk_all(path))


def _delete(path: Path, identity: Any) -> None:
    """Delete the files at a path that have their recorded hash, and the folders that are empty then."""
    if isinstance(identity, str):
        if _is_regular(path) and hash_file(path) == identity:
            with explain_os_error(path):
                path.unlink()
    elif isinstance(identity, dict) and path.is_dir() and not path.is_symlink():
        for file in list(_walk_all(path)):
            if _is_ours(file, path, identity):
                with explain_os_error(file):
                    file.unlink()
        _remove_empty(path)


def _is_ours(file: Path, folder: Path, identity: dict[str, Any]) -> bool:
    recorded = identity.get(file.relative_to(folder).as_posix())
    return recorded is not None and _is_regular(file) and hash_file(file) == recorded


def _is_work_file(path: Path) -> bool:
    """Tell an empty file by which our commands keep each other out, or a note of what they made."""
    if path.parent.name != WORK_FOLDER or not _is_regular(path):
        return False
    is_lock = path.suffix == ".lock" and path.stat().st_size == 0
    return is_lock or path.name.endswith(NOTE_SUFFIX)


def _remove_empty(folder: Path) -> None:
    """Remove a folder in which nothing lies but folders, our locks and our notes."""
    if folder.is_symlink() or not folder.is_dir() or not all(_is_work_file(file) for file in _walk_all(folder)):
        return
    with explain_os_error(folder):
        for parent, folders, names in os.walk(folder, topdown=False):
            for name in names:
                (Path(parent) / name).unlink()
            for name in folders:
                (Path(parent) / name).rmdir()
        folder.rmdir()


def _walk_all(folder: Path) -> Iterator[Path]:
    """Yield everything in a folder that is no folder itself; links are not followed."""

    def refuse(error: OSError) -> None:
        raise OutputError(f"{error.filename} cannot be read: {describe_os_error(error)}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent) / name for name in names)
        yield from (Path(parent) / name for name in folders if (Path(parent) / name).is_symlink())


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _quote_comment(text: str) -> str:
    """Return text for a comment of a script: one line, whatever it holds."""
    return neutralise_line(text).replace("\r", " ")
