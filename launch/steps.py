"""Steps that are `lfc` commands: which are done, and what must be done again. Runs nothing itself."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.command import mask_word
from prep import __version__
from prep.errors import OutputError, UserError
from prep.files import hash_file, write_json, write_text

STATE_FILE = "steps.json"
SCRIPT_FILE = "commands.sh"


@dataclass(frozen=True)
class Step:
    """One `lfc` command and the places that it reads and makes, relative to the folder that it runs in.

    Shape: a place is a file, a folder, or `FILE.json#KEY` for one entry of a JSON document.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def format(self) -> str:
        """Return the line that a user types; secrets in it are masked."""
        import shlex

        return shlex.join(("lfc", *map(mask_word, self.argv)))


class StepFolder:
    """The folder in which steps run, and what `steps.json` in it remembers of those that are done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = self._read()

    def is_current(self, step: Step) -> bool:
        """Tell whether a step was done with the same command and inputs, and its outputs are as it left them."""
        done = self._state["steps"].get(step.name)
        return done is not None and done == self._describe(step)

    def clear_outputs(self, step: Step) -> None:
        """Remove what an earlier run of a step made, so that its command finds the place free."""
        for output in step.outputs:
            path = self.path / output
            if "#" in output:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._state["steps"].pop(step.name, None)
        self._write()

    def mark_done(self, step: Step) -> None:
        """Remember a step's command, inputs and outputs as they are now."""
        self._state["steps"][step.name] = self._describe(step)
        self._write()

    def _describe(self, step: Step) -> Mapping[str, Any]:
        places = {place: self._identify(place) for place in (*step.inputs, *step.outputs)}
        return {"command": step.format(), "version": __version__, "places": places}

    def _identify(self, place: str) -> Any:
        """Return what tells a place from another version of it."""
        name, _, entry = place.partition("#")
        path = self.path / name
        if not path.exists():
            return None
        if entry:
            return json.loads(path.read_text(encoding="utf-8")).get(entry)
        if path.is_dir():
            return {file.relative_to(path).as_posix(): self._hash(file) for file in _walk_files(path)}
        return self._hash(path)

    def _hash(self, path: Path) -> str:
        """Return a file's sha256: taken again only when its size or its time of change is another."""
        stat = path.stat()
        known: dict[str, list[Any]] = self._state["hashes"]
        name = path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.as_posix()
        seen = [stat.st_size, stat.st_mtime_ns]
        if known.get(name, [])[:2] != seen:
            known[name] = [*seen, hash_file(path)]
        return str(known[name][2])

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.path / STATE_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            state = {}
        return {"steps": state.get("steps", {}), "hashes": state.get("hashes", {})}

    def _write(self) -> None:
        write_json(self.path / STATE_FILE, self._state)


def prepare_folder(folder: Path, steps: Sequence[Step], command: str, *, fresh: bool) -> None:
    """Make the folder of steps, with the script of their commands; empty it first when `fresh` is asked for.

    Raises: OutputError when the folder holds something that no steps made.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / STATE_FILE).is_file():
        raise OutputError(f"{folder} holds other files", hint="--to ANOTHER_FOLDER")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / STATE_FILE).exists():
        write_json(folder / STATE_FILE, {})
    opening = f'#!/bin/sh\n# What `{command}` runs, in order, in this folder.\nset -e\ncd "$(dirname "$0")"\n'
    lines = [f"\n# {step.title}\n{step.format()}\n" for step in steps]
    write_text(folder / SCRIPT_FILE, opening + "".join(lines))


def choose_steps(steps: Sequence[Step], *, only: Sequence[str] = (), start: str | None = None) -> list[Step]:
    """Return the steps called `only`, or those from `start` on; raises UserError when a name is unknown."""
    names = [step.name for step in steps]
    for name in (*only, *([start] if start else [])):
        if name not in names:
            raise UserError(f"no step is called '{name}'; the steps are {', '.join(names)}")
    if only:
        return [step for step in steps if step.name in only]
    return list(steps[names.index(start) :]) if start else list(steps)


def _walk_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".lfc")
        yield from (Path(parent) / name for name in sorted(names))
