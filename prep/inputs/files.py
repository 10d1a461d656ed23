"""Files, folders and globs → the input files that they name, each once and under a label of its own."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from prep.errors import InputError
from prep.inputs.formats import FORMATS, find_suffix, is_seldom_data, require_format
from prep.inputs.reader import InputFile, ReadOptions
from prep.inputs.splits import choose_files, read_card_places
from prep.storage.manifests import read_json_object
from prep.storage.os_errors import explain_read_error

# What hubs, `datasets` and this tool write beside data; a folder's data files are all the others.
_NOT_DATA = (
    *("dataset_info.json", "dataset_infos.json", "configuration.json", "config.json"),
    *("state.json", "dataset_dict.json", "requirements.txt", "license.txt", "readme.txt"),
)
_NOT_DATA_ENDS = (
    *(".manifest.json", ".index", ".rejects.jsonl", ".duplicates.jsonl", ".too-long.jsonl"),
    ".contaminated.jsonl",
)
# Of a data set that `datasets` saved: which files belong to it, and which are its cache.
_STATE = "state.json"


@dataclass
class FoundInputs:
    """The files to read, what folders hold beside them, and what was chosen, in words."""

    files: list[InputFile] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_inputs(arguments: Sequence[Path], options: ReadOptions | None = None) -> FoundInputs:
    """Return the input files that files, folders and globs name, and what was left out of folders.

    Raises: InputError when one names nothing, names a file twice, or a type that cannot be read.
    """
    options = options or ReadOptions()
    found = FoundInputs()
    paths: list[Path] = []
    for argument in arguments:
        with explain_read_error(argument):
            paths += _find_files(argument, options, found)
    for path in paths:
        require_format(path)
    real_paths = _refuse_one_twice(paths)
    found.files = [
        InputFile(path, label, path.as_posix(), options.max_line_bytes)
        for path, label in zip(paths, _label_paths(real_paths), strict=True)
    ]
    return found


def _refuse_one_twice(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without links; raises InputError when two are one file, by a link of either sort too."""
    real_paths: list[Path] = []
    seen: dict[object, Path] = {}
    for path in paths:
        with explain_read_error(path):
            # Path.resolve raises RuntimeError at a link that leads to itself.
            real_paths.append(Path(os.path.realpath(path)))
            state = path.stat()
        # Some file systems count no inodes.
        key = (state.st_dev, state.st_ino) if state.st_ino else real_paths[-1]
        if key in seen:
            other = seen[key]
            named = f"{path} is named twice" if real_paths[-1] == other else f"{path} and {other} are one file"
            raise InputError(named, hint="its rows would count double: name it once")
        seen[key] = real_paths[-1]
    return real_paths


def _find_files(argument: Path, options: ReadOptions, found: FoundInputs) -> list[Path]:
    """Return the data files that one argument names; what is left out of a folder goes to `found`."""
    if argument.is_dir():
        return _look_through(argument, options, found)
    if any(mark in str(argument) for mark in "*?[") and not argument.exists():
        return _expand_glob(argument)
    return [argument]


def _look_through(folder: Path, options: ReadOptions, found: FoundInputs) -> list[Path]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder)]
    named = [path for path in files if _is_data(path)]
    data = [path for path in named if not is_seldom_data(path)] or named
    data = _drop_caches(data)
    if not data:
        raise InputError(f"{folder} holds no data files; allowed are {', '.join(FORMATS)}")
    places: list[PurePath] = [path.relative_to(folder) for path in data]
    card = read_card_places(folder)
    choice = choose_files(folder.as_posix(), places, split=options.split, subset=options.subset, card=card)
    chosen = [folder / place for place in choice.chosen]
    found.left_out += [path for path in files if path not in chosen]
    found.notes += choice.notes
    return chosen


def _drop_caches(data: Sequence[Path]) -> list[Path]:
    """Leave out what `datasets` keeps beside a data set that it saved: results of earlier maps and filters."""
    states = {folder: read_json_object(folder / _STATE) for folder in {path.parent for path in data}}
    kept = []
    for path in data:
        state = states[path.parent]
        entries = state.get("_data_files") if state else None
        if (
            not isinstance(entries, list)
            or path.suffix != ".arrow"
            or path.name in [entry.get("filename") for entry in entries if isinstance(entry, dict)]
        ):
            kept.append(path)
    return kept


def _expand_glob(pattern: Path) -> list[Path]:
    parts = pattern.parts
    fixed = next(place for place, part in enumerate(parts) if any(mark in part for mark in "*?["))
    found = sorted(path for path in Path(*parts[:fixed]).glob("/".join(parts[fixed:])) if path.is_file())
    if not found:
        raise InputError(f"{pattern} matches no file")
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_data(path: Path) -> bool:
    name = path.name.lower()
    return find_suffix(path) is not None and name not in _NOT_DATA and not name.endswith(_NOT_DATA_ENDS)


def _label_paths(paths: Sequence[Path]) -> list[str]:
    """Name each resolved path by its last part, or by as many as tell it from the others."""
    parts = [path.parts for path in paths]
    depths = [1] * len(paths)
    while True:
        labels = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        shared = {label for label, count in Counter(labels).items() if count > 1}
        if not shared:
            return labels
        depths = [depth + (label in shared) for label, depth in zip(labels, depths, strict=True)]
