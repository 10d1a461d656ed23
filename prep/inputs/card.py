"""Which files of a hub's folder are of which subset and split, as its README's `configs:` says."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from prep.errors import ConfigError
from prep.storage.bounded_yaml import load_plain

_CARD = "README.md"
_FENCE = "---"
_MOST_BYTES = 1 << 20
_MOST_PATTERNS = 1000
_TRAIN, _DEFAULT = "train", "default"


class CardPlace(NamedTuple):
    """A file's subset and split, as a card names them; `is_default` is that of the subset to take."""

    subset: str
    split: str
    is_default: bool


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
