"""Steps that are `lfc` commands: which are done, and what must be done again. Runs nothing itself."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from launch.machine.command import mask_word
from launch.recipes.made_files import is_named_so
from prep import __version__
from prep.errors import InputError, OutputError, UserError
from prep.storage.atomic import write_json
from prep.storage.bounded import read_bounded
from prep.storage.fingerprints import hash_file
from prep.storage.os_errors import explain_os_error

STATE_FILE = "steps.json"
SCRIPT_FILE = "commands.sh"
WORK_FOLDER = ".lfc"
_MAX_STATE_BYTES = 256 << 20
_NO_FILE = "no regular file"


@dataclass(frozen=True)
class Step:
    """One `lfc` command and the places that it reads and makes, relative to the folder that it runs in.

    Shape: a place is a file, a folder, or `FILE.json#KEY` for one entry of a JSON document. An input `FOLDER/`,
    with a slash, is what the folder held when the step was done: what came beside that later does not count.
    `may_make` are outputs that need not come; a command that `resumes` goes on with what it finds, as a download,
    and one with an `end` goes on with outputs in which that file is missing. Of its output folders a step with
    `makes` owns the files of these names alone, and one with `needs` is done only with one of those among them.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    may_make: tuple[str, ...] = ()
    resumes: bool = False
    end: str = ""
    makes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def format(self) -> str:
        """Return the line that a user types; secrets in it are masked."""
        import shlex

        return shlex.join(("lfc", *map(mask_word, self.argv)))


class StepRecord:
    """What `steps.json` in a folder remembers: of each step its command, and every file's hash when it was done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = _read_state(path / STATE_FILE)

    def is_current(self, step: Step) -> bool:
        """Tell whether a step was done with the same command and inputs, and its outputs are as it left them."""
        done = self.state["steps"].get(step.name)
        if done is None or done["command"] != step.format():
            return False
        places = done["places"]
        for place in (*step.inputs, *step.outputs):
            name = place.rstrip("/")
            if name not in places or places[name] is None:
                return False
            grown = place in step.outputs or place.endswith("/")
            if not _fits(places[name], self._identify(name), grown=grown):
                return False
        return True

    def mark_done(self, step: Step) -> None:
        """Remember a step's command, inputs and outputs as they are now.

        Raises: OutputError when it made less than it should have.
        """
        for place in step.outputs:
            if self._identify(place) is None:
                raise OutputError(
                    f"step {step.name} ended well and did not make {place}",
                    hint=f"see what this printed: {step.format()}",
                )
        made = [*step.outputs, *step.may_make]
        places = {place: self._identify_own(place, step) for place in made}
        if step.needs and not any(is_named_so(name, step.needs) for name in list_names(places.values())):
            raise OutputError(
                f"step {step.name} ended well and left no weights in {step.outputs[0]}",
                hint=f"see what this printed: {step.format()}",
            )
        places |= {place.rstrip("/"): self._identify(place.rstrip("/")) for place in step.inputs}
        self.state["steps"][step.name] = {
            "command": step.format(),
            "version": __version__,
            "places": places,
            "made": [place for place in made if places[place] is not None],
        }
        self.save()

    def forget(self, step: Step) -> None:
        """Remember a step as not done."""
        self.state["steps"].pop(step.name, None)
        self.save()

    def save(self) -> None:
        """Write `steps.json`."""
        write_json(self.path / STATE_FILE, self.state)

    def _identify_own(self, place: str, step: Step) -> Any:
        """Return what tells a step's output, of a folder the files that such a step makes."""
        seen = self._identify(place)
        if not step.makes or not isinstance(seen, dict):
            return seen
        return {name: digest for name, digest in seen.items() if is_named_so(name, step.makes)}

    def _identify(self, place: str) -> Any:
        """Return what tells a place from another version of it, None when it is not there."""
        name, _, entry = place.partition("#")
        path = self.path / name
        if entry:
            return read_entries(path).get(entry)
        if path.is_dir():
            return {file.relative_to(path).as_posix(): self._hash(file) for file in _walk_files(path)}
        return self._hash(path) if os.path.lexists(path) else None

    def _hash(self, path: Path) -> str:
        """Return a file's sha256: taken again only when its size or its time of change is another."""
        if not path.is_file():
            return _NO_FILE
        with explain_os_error(path):
            stat = path.stat()
        known: dict[str, list[Any]] = self.state["hashes"]
        name = path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.as_posix()
        seen = [stat.st_size, stat.st_mtime_ns]
        if known.get(name, [])[:2] != seen:
            known[name] = [*seen, hash_file(path)]
        return str(known[name][2])


def list_names(identities: Iterable[Any]) -> list[str]:
    """Return the files of all folders among identified places."""
    return [name for identity in identities if isinstance(identity, dict) for name in identity]


def read_entries(path: Path) -> dict[str, Any]:
    """Return the entries of a JSON document, none when it is not there; raises InputError when it is broken."""
    try:
        content = json.loads(read_bounded(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="fix it, or move it away") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must be one JSON object", hint="fix it, or move it away")
    return content


def locate(folder: Path, place: str) -> Path:
    """Return the path of a place in the folder of steps, which no link may lead out of it.

    Raises: OutputError when one does, or when a file stands where a folder is needed.
    """
    name = place.partition("#")[0]
    path = folder / name
    parts = PurePosixPath(name).parts
    for parent in [folder.joinpath(*parts[:length]) for length in range(1, len(parts))]:
        if os.path.lexists(parent) and not parent.is_dir():
            raise OutputError(f"{parent} is a file, and a folder is needed", hint=f"rename {parent}")
    for inner in (path, path.parent / WORK_FOLDER):
        try:
            target = inner.resolve()
            if target.is_relative_to(folder.resolve()):
                continue
        except (OSError, RuntimeError, ValueError) as error:  # A loop of links, or no name at all.
            raise OutputError(f"{inner} cannot be followed: {error}", hint=f"remove {inner}") from error
        raise OutputError(
            f"{inner} leads to {target}, outside {folder.resolve()}", hint="a folder in the place of the link"
        )
    return path


def choose_steps(steps: Sequence[Step], *, only: Sequence[str] = (), start: str | None = None) -> list[Step]:
    """Return the steps called `only`, or those from `start` on; raises UserError when a name is unknown."""
    names = [step.name for step in steps]
    for name in (*only, *([start] if start else [])):
        if name not in names:
            raise UserError(f"no step is called '{name}'; the steps are {', '.join(names)}")
    if only:
        return [step for step in steps if step.name in only]
    return list(steps[names.index(start) :]) if start else list(steps)


def _fits(recorded: Any, seen: Any, *, grown: bool) -> bool:
    """Tell whether a place is as it was recorded; one that may have `grown` can hold more."""
    if grown and isinstance(recorded, dict) and isinstance(seen, dict):
        return recorded.items() <= seen.items()
    return bool(recorded == seen)


def _walk_files(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder, but our working files; a linked folder is one entry."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name != WORK_FOLDER and name not in links)
        yield from (Path(parent) / name for name in sorted([*names, *links]))


def _read_state(path: Path) -> dict[str, Any]:
    """Return what a state file says, its shape checked; raises OutputError when it is not one of ours."""
    try:
        if path.stat().st_size > _MAX_STATE_BYTES:
            raise ValueError(f"it is larger than {_MAX_STATE_BYTES >> 20} MiB")
        state = json.loads(path.read_text(encoding="utf-8"))
        if not _is_state(state):
            raise ValueError("its shape is another")
    except FileNotFoundError:
        state = {}
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{path} is no record of steps that can be read: {error}", hint="--to ANOTHER_FOLDER"
        ) from error
    return {"steps": {}, "hashes": {}, **state}


def _is_state(state: Any) -> bool:
    if not isinstance(state, dict) or not isinstance(state.get("script", ""), str):
        return False
    steps, hashes = state.get("steps", {}), state.get("hashes", {})
    return (
        isinstance(steps, dict)
        and all(_is_done(done) for done in steps.values())
        and isinstance(hashes, dict)
        and all(isinstance(known, list) and len(known) == 3 for known in hashes.values())
    )


def _is_done(done: Any) -> bool:
    return (
        isinstance(done, dict)
        and isinstance(done.get("command"), str)
        and isinstance(done.get("places"), dict)
        and isinstance(done.get("made", []), list)
        and all(isinstance(place, str) for place in done.get("made", []))
    )
