"""What a folder of tokens was made from, in a file of ours in it: by that it fits a config, or does not."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.storage.atomic import write_json
from prep.storage.fingerprints import hash_unchanged_file
from prep.storage.manifests import read_json_object
from prep.storage.paths import is_file
from prep.tokenized.settings import TokenSettings
from prep.tokenized.sources import TokenSource, find_sources

NOTE_FILE = "lfc-tokens.json"
_VERSION = 2
# Which of them are there differs; each that is there may change the tokens.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SPLIT_FILES = ("state.json", "dataset_info.json")
_SHOWN = 60


@dataclass(frozen=True)
class TokenNote:
    """What tokens were made from, and what came of it.

    Shape: `made_from` is plain JSON; `splits` tell of each split its data files' names and bytes, rows, tokens.
    """

    made_from: dict[str, Any]
    splits: dict[str, dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """The sha256 of what they were made from."""
        return find_fingerprint(self.made_from)


def describe_origin(settings: TokenSettings) -> tuple[dict[str, Any], list[TokenSource], list[TokenSource]]:
    """Return what a config's tokens are made from, its datasets, and those that it evaluates on.

    Raises: as `find_sources`; InputError when a file cannot be read.
    """
    sources = find_sources(settings, settings.datasets)
    held_out = find_sources(settings, settings.eval_datasets)
    made_from = {
        **settings.describe(),
        "tokenizer": {name: hash_unchanged_file(path) for name, path in _list_tokenizer_files(settings.model)},
        "dataset": [source.describe() for source in sources],
        "eval_dataset": [source.describe() for source in held_out],
    }
    has_tools = any("tools" in source.dataset.columns for source in (*sources, *held_out))
    if has_tools and settings.template is not None and settings.template.rules.writes_the_day:
        # LLaMA-Factory writes the day on which it runs into every such row.
        made_from["date"] = datetime.now().astimezone().strftime("%d %b %Y")
    return made_from, sources, held_out


def find_fingerprint(made_from: Mapping[str, Any]) -> str:
    """Return the sha256 of what tokens are made from."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _list_tokenizer_files(model: Path) -> Iterator[tuple[str, Path]]:
    for name in _TOKENIZER_FILES:
        if is_file(model / name):
            yield name, model / name


def write_note(folder: Path, note: TokenNote) -> None:
    """Write what a folder of tokens was made from; it is whole only with this."""
    held = {"version": _VERSION, "fingerprint": note.fingerprint, "sha256": _hash_files(folder, note.splits)}
    write_json(folder / NOTE_FILE, {**held, **note.__dict__})


def _hash_files(folder: Path, splits: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of each file that a training reads of a folder, by its path in it."""
    names = [f"{split}/{file}" for split, told in splits.items() for file in (*told["files"], *_SPLIT_FILES)]
    return {name: hash_unchanged_file(folder / name) for name in sorted(names)}


def read_note(folder: Path) -> TokenNote | None:
    """Return what a folder's tokens were made from, None when nothing of ours says it.

    Raises: InputError when the note is broken, or a data file is not as it tells.
    """
    path = folder / NOTE_FILE
    content = read_json_object(path)
    if content is None:
        return None
    made_from, splits = content.get("made_from"), content.get("splits")
    told = content.get("fingerprint") if content.get("version") == _VERSION else None
    is_whole = isinstance(made_from, dict) and told == find_fingerprint(made_from)
    if not isinstance(made_from, dict) or not isinstance(splits, dict) or not is_whole:
        raise InputError(f"{path} is not a note of this version", hint=f"delete the folder {folder}")
    for name, split in splits.items():
        _check_files(folder / name, split)
    if content.get("sha256") != _hash_files(folder, splits):
        raise InputError(f"{folder} holds other tokens than were made", hint=f"delete the folder {folder}")
    return TokenNote(made_from, splits)


def _check_files(folder: Path, split: Any) -> None:
    files = split.get("files") if isinstance(split, dict) else None
    if not isinstance(files, dict):
        raise InputError(f"{folder.parent / NOTE_FILE} names no files of {folder.name}")
    for name, size in files.items():
        path = folder / name
        if not is_file(path) or path.stat().st_size != size:
            raise InputError(f"{path} is missing or torn", hint=f"delete the folder {folder.parent}")


def compare_origins(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return in which keys two origins differ, each with both values where these are short."""
    differing = []
    for key in dict.fromkeys([*wanted, *found]):
        ours, theirs = found.get(key), wanted.get(key)
        if ours == theirs:
            continue
        shown = f"{_show(ours)}, not {_show(theirs)}"
        differing.append(f"{key} is {shown}" if len(shown) <= _SHOWN else _name_change(key, ours, theirs))
    return differing


def _name_change(key: str, ours: object, theirs: object) -> str:
    if key in ("dataset", "eval_dataset") and isinstance(ours, Sequence) and isinstance(theirs, Sequence):
        return f"the rows of {key} changed" if len(ours) == len(theirs) else f"{key} names other datasets"
    return f"{key} changed"


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
