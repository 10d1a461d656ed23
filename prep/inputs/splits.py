"""Splits and subsets of a hub's data set, told by its README.md's `configs:`, or the names of its files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from prep.errors import ConfigError, InputError

ALL = "all"
_SPLIT_HINT = "--split NAME, or --split all"
_TRAIN = "train"
_CARD = "README.md"
_FENCE = "---"
_MOST_BYTES = 1 << 20
_MOST_PATTERNS = 1000
_DEFAULT = "default"
# The words by which hubs tell splits from names of files.
_WORDS: Mapping[str, tuple[str, ...]] = {
    _TRAIN: ("train", "training", "训练", "训练集"),
    "validation": ("validation", "valid", "val", "dev", "验证", "验证集"),
    "test": ("test", "testing", "eval", "evaluation", "测试", "测试集"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_WORD = re.compile(r"[^\W\d_]+")
# Folders that say nothing of what is in them.
_NEUTRAL = {"data", "default", "parquet", "json", "main"}


class Place(NamedTuple):
    """What a file's path in its folder says: its subset and its split, "" where it says none."""

    subset: str
    split: str


class CardPlace(NamedTuple):
    """A file's subset and split, as a card names them; `is_default` is that of the subset to take."""

    subset: str
    split: str
    is_default: bool


class Choice(NamedTuple):
    """The files to read, those that were left out, and why, in words."""

    chosen: list[PurePath]
    left_out: list[PurePath]
    notes: list[str]


def find_split(name: str) -> str:
    """Return the split that a name says it is of: train, validation, test, or ""."""
    found = {_SPLIT_OF[word] for word in _WORD.findall(name.casefold()) if word in _SPLIT_OF}
    return found.pop() if len(found) == 1 else ""


def name_split(path: str, wanted: str = "") -> str:
    """Return the split that a file's path in its repository says: a usual one, or the wanted one by its own name.

    >>> name_split("data/train_sft-00000-of-00002.parquet"), name_split("data/x/hard.jsonl", "hard")
    ('train', 'hard')
    """
    return find_place(PurePath(path), wanted).split


def _begins_with(path: PurePath, wanted: str) -> bool:
    name = path.name.casefold()
    rest = name.removeprefix(wanted)
    return (name != rest and rest[:1] in ("", ".", "-")) or wanted in [part.casefold() for part in path.parts[:-1]]


def choose_split(where: str, splits: Sequence[str], wanted: str) -> str:
    """Return the split to take: the wanted one, or train; raises InputError when there is none such."""
    listed = ", ".join(sorted(split for split in splits if split))
    if wanted:
        if wanted not in splits:
            raise InputError(f"{where} has no split '{wanted}'; it has {listed or 'none'}", hint=_SPLIT_HINT)
        return wanted
    if _TRAIN in splits:
        return _TRAIN
    if "" in splits:
        # data.jsonl beside test.jsonl
        return ""
    raise InputError(f"{where} has the splits {listed}, and no train", hint=_SPLIT_HINT)


def choose_files(
    where: str,
    paths: Sequence[PurePath],
    *,
    split: str,
    subset: str,
    card: Mapping[PurePath, CardPlace] | None = None,
) -> Choice:
    """Choose among a folder's files, given by their paths in it.

    Without names of splits all are taken. With some, train is, or what `split` and `subset` say ("all" for all).
    What the folder's card says of its files goes before their names, and a file that it does not name is left out.
    Raises: InputError when there is none such, or several subsets of which none is asked for.
    """
    places, notes = _find_places(where, paths, card or {}, split)
    default = None if subset else _find_default(places, card or {})
    if default is not None:
        left = sorted({place.subset for place in places.values()} - {default})
        told = ", ".join(name or "(none)" for name in left)
        notes.append(f"{where}: subset {default or '(none)'} is read, its README.md's own choice, and not {told}")
        places = {path: place for path, place in places.items() if place.subset == default}
    splits = list(dict.fromkeys(place.split for place in places.values()))
    has_splits = any(splits)
    if split in splits and split and not subset:
        # What the other splits lie in is no choice to make.
        places = {path: place for path, place in places.items() if place.split == split}
    if (subset and subset != ALL) or (has_splits and subset != ALL):
        places = _keep_subset(where, places, subset)
        splits = list(dict.fromkeys(place.split for place in places.values())) if subset else splits
    chosen = list(places)
    if (split and split != ALL) or (len(splits) > 1 and split != ALL):
        taken = choose_split(where, splits, split)
        chosen = [path for path, place in places.items() if place.split == taken]
        others = ", ".join(sorted(name or "no split's" for name in splits if name != taken))
        if others:
            what = f"split {taken}" if taken else "what names no split"
            notes.append(f"{where}: {what} is read, and not {others} (--split NAME, --split all)")
    return Choice(chosen, [path for path in paths if path not in chosen], notes)


def _find_places(
    where: str, paths: Sequence[PurePath], card: Mapping[PurePath, CardPlace], split: str
) -> tuple[dict[PurePath, Place], list[str]]:
    named = {path: Place(card[path].subset, card[path].split) for path in paths if path in card}
    if not named:
        return {path: find_place(path, split) for path in paths}, []
    return named, [f"{where}: its README.md says which files are of which split"]


def _find_default(places: Mapping[PurePath, Place], card: Mapping[PurePath, CardPlace]) -> str | None:
    """Return the subset that a card takes by itself where it has several, None when it says of none."""
    subsets = {place.subset for place in places.values()}
    defaults = {card[path].subset for path in places if path in card and card[path].is_default}
    return defaults.pop() if len(subsets) > 1 and len(defaults) == 1 else None


def find_place(path: PurePath, wanted: str = "") -> Place:
    """Return what a file's path in its folder says; `wanted` is a split that may be known by its own name alone."""
    folders = [part for part in path.parts[:-1] if part.casefold() not in _NEUTRAL]
    if wanted and _begins_with(path, wanted.casefold()):
        return Place("/".join(part for part in folders if part.casefold() != wanted.casefold()), wanted)
    split = find_split(path.name)
    if not split and folders and (split := _whole_split(folders[-1])):
        folders.pop()
    return Place("/".join(folders), split)


def _whole_split(name: str) -> str:
    return _SPLIT_OF.get(name.casefold(), "")


def _keep_subset(where: str, places: Mapping[PurePath, Place], wanted: str) -> dict[PurePath, Place]:
    subsets = sorted({place.subset for place in places.values()})
    listed = ", ".join(name or "(none)" for name in subsets)
    if not wanted and len(subsets) > 1:
        raise InputError(
            f"{where} has several subsets: {listed}",
            hint=f"--subset {next(name for name in subsets if name)}, or --subset all",
        )
    if wanted and wanted not in subsets:
        raise InputError(f"{where} has no subset '{wanted}'; it has {listed}", hint="--subset NAME")
    return {path: place for path, place in places.items() if not wanted or place.subset == wanted}


def read_card_places(folder: Path) -> dict[PurePath, CardPlace]:
    """Return the place of every file that the card of a folder names, by its path in the folder.

    Empty without a card, or with one that names none: then the files' own names tell.
    """
    places: dict[PurePath, CardPlace] = {}
    patterns = 0
    for config in _read_configs(folder):
        name = config.get("config_name")
        subset = name if isinstance(name, str) and name != _DEFAULT else ""
        is_default = config.get("default") is True or name in (None, _DEFAULT)
        for split, pattern in _list_patterns(config.get("data_files")):
            patterns += 1
            if patterns > _MOST_PATTERNS:
                return places
            for path in _find_files(folder, pattern):
                places.setdefault(path, CardPlace(subset, split, is_default))
    return places


def _read_configs(folder: Path) -> list[dict[str, Any]]:
    try:
        with (folder / _CARD).open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return []
    opening, _, rest = text.removeprefix("\ufeff").partition("\n")
    head, closed, _ = rest.partition(f"\n{_FENCE}")
    if opening.strip() != _FENCE or not closed:
        return []
    from prep.storage.bounded_yaml import load_plain

    try:
        told = load_plain(head, _CARD)
    except ConfigError:
        # A card is read by people; its data are there without it.
        return []
    configs = told.get("configs") if isinstance(told, dict) else None
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def _list_patterns(data_files: object) -> Iterator[tuple[str, str]]:
    """Yield (split, pattern) of every way in which a card may name files."""
    if isinstance(data_files, Mapping):
        for split, patterns in data_files.items():
            yield from ((str(split), pattern) for pattern in _as_texts(patterns))
    elif isinstance(data_files, list) and any(isinstance(entry, dict) for entry in data_files):
        for entry in data_files:
            if isinstance(entry, dict):
                yield from ((str(entry.get("split", _TRAIN)), pattern) for pattern in _as_texts(entry.get("path")))
    else:
        yield from ((_TRAIN, pattern) for pattern in _as_texts(data_files))


def _as_texts(value: object) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [text for text in listed if isinstance(text, str) and text]


def _find_files(folder: Path, pattern: str) -> list[PurePath]:
    """Return the files inside a folder that a pattern names; none of one that leads out of it."""
    parts = PurePath(pattern.replace("\\", "/")).parts
    if not parts or PurePath(pattern).is_absolute() or ".." in parts:
        return []
    try:
        found = sorted(folder.glob("/".join(parts)))
        return [path.relative_to(folder) for path in found if path.is_file()]
    except (OSError, ValueError, IndexError, NotImplementedError):
        return []
