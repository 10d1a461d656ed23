"""Rules of what the first rows of a dataset hold: types that agree, turns, tools, and what a template can show."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.configs.rules.base import Setting, local_path, train_rule
from launch.configs.rules.data.files import FILE_TYPES, NamedDataset, list_named, read_first_rows
from prep.errors import UserError
from prep.llamafactory import find_version_facts
from prep.quality.findings import Finding, at_key
from prep.registry.dataset import DEFAULT_COLUMNS
from prep.rows.kinds import MEDIA

_TURNS = ("sharegpt", "openai")
_LINT = "lfc prep lint FILE tells all"
_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool,), "true or false"),
    ((int, float), "a number"),
    ((str,), "a text"),
    ((list,), "a list"),
    ((dict,), "a mapping"),
)


@train_rule
def rows_are_of_one_type(setting: Setting) -> Iterator[Finding]:
    """Run: `An error occurred while generating the dataset`: Arrow has one type for a column of JSON."""
    for named, rows in _read_all(setting):
        if FILE_TYPES.get(named.files[0].suffix.lstrip(".")) == "json" and (clash := find_clash(rows)):
            yield at_key(named.key, f"'{named.name}': {clash}", _LINT)


def find_clash(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say where a row holds another type than one before it, "" where all agree; null goes with everything."""
    seen: dict[str, tuple[str, int]] = {}
    for number, row in enumerate(rows, 1):
        for place, kind in _list_kinds(row, ""):
            first, where = seen.setdefault(place, (kind, number))
            if first != kind:
                return f"{place} is {first} in row {where}, and {kind} in row {number}"
    return ""


def _list_kinds(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the place and type of a value, and of all within it; the items of a list share one place."""
    kind = next((name for types, name in _KINDS if isinstance(value, types)), "")
    if kind and place:
        yield place, kind
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _list_kinds(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _list_kinds(inner, f"{place}[]")


@train_rule
def turns_have_their_tags(setting: Setting) -> Iterator[Finding]:
    """Run: `KeyError: 'from'` in data/converter.py: turns of role and content need tags in dataset_info.json."""
    for named, rows in _read_all(setting):
        if named.entry.get("formatting") not in _TURNS:
            continue
        columns, tags = _mapping(named.entry, "columns"), _mapping(named.entry, "tags")
        turns = [turn for row in rows for turn in _list_turns(row, str(columns.get("messages", "conversations")))]
        for tag, usual in (("role_tag", "from"), ("content_tag", "value")):
            name = tags.get(tag, usual)
            missing = next((turn for turn in turns if name not in turn), None)
            if missing is not None:
                message = f"the turns of '{named.name}' have no '{name}': they have {', '.join(map(str, missing))}"
                yield at_key(named.key, message, "lfc prep register FILE --name NAME --replace writes the tags")
                break


def _list_turns(row: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    turns = row.get(column)
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


@train_rule
def tools_are_json(setting: Setting) -> Iterator[Finding]:
    """Source: data/formatter.py: `Invalid JSON format in tool description`."""
    if setting["stage"] == "pt":
        return
    for named, rows in _read_all(setting):
        column = _mapping(named.entry, "columns").get("tools")
        for number, row in enumerate(rows, 1):
            text = row.get(column) if column else None
            if isinstance(text, str) and text and not _is_json(text):
                yield at_key(named.key, f"'{named.name}' row {number}: its tools are not JSON", _LINT)
                break


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@train_rule
def media_can_be_shown(setting: Setting) -> Iterator[Finding]:
    """Source: data/mm_plugin.py: `This model does not support image input`; a file that is missing ends the run."""
    templates = find_version_facts().templates
    told = templates.get(str(setting["template"]))
    if told is None or setting["stage"] == "pt":
        return
    folder = local_path(setting["media_dir"] or setting.dataset_dir)
    for named, rows in _read_all(setting):
        columns = _mapping(named.entry, "columns")
        files = [(number, path) for number, row in enumerate(rows, 1) for path in _list_media(row, columns)]
        missing = next(((number, path) for number, path in files if not _is_there(path, folder)), None)
        if files and not told["multimodal"]:
            message = (
                f"'{named.name}' holds pictures, films or sounds, and template {setting['template']} shows none"
            )
            yield at_key(named.key, message, "a model and template that take them, or a dataset without")
        elif missing is not None and setting.machine.is_here:
            message = f"'{named.name}' row {missing[0]}: {missing[1]} is not in {folder}"
            yield at_key(named.key, message, "media_dir: the folder that holds them")


def _list_media(row: Mapping[str, Any], columns: Mapping[str, Any]) -> list[str]:
    """Return the files of a row that have names: what stands in the rows itself is left out."""
    paths: list[str] = []
    for name in MEDIA:
        held = row.get(columns[name]) if name in columns else None
        paths += [path for path in (held if isinstance(held, list) else [held]) if isinstance(path, str) and path]
    return paths


def _is_there(path: str, folder: Path) -> bool:
    try:
        return path.startswith(("http://", "https://", "data:")) or (folder / path).is_file()
    except (OSError, ValueError):
        return False


@train_rule
def entries_say_how_much_is_read(setting: Setting) -> Iterator[Finding]:
    """Run: `Unknown split`, `Sample num mismatched`, an empty StopIteration, `slice indices must be integers`."""
    for named in list_named(setting):
        split, count = named.entry.get("split", "train"), named.entry.get("num_samples")
        if named.files and split != "train":
            message = f"the entry of '{named.name}' asks for split {split!r}, and a file is one split, train"
            yield at_key(named.key, message, "take `split` out of its entry in dataset_info.json")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            message = f"the entry of '{named.name}' has num_samples {count!r}, allowed is 1 or more"
            yield at_key(named.key, message, "take `num_samples` out of its entry in dataset_info.json")


def _read_all(setting: Setting) -> Iterator[tuple[NamedDataset, list[dict[str, Any]]]]:
    """Yield each dataset of this machine with its first rows; of one that cannot be read another rule tells."""
    for named in list_named(setting):
        try:
            rows = read_first_rows(named.files[0]) if named.files else None
        except (UserError, ValueError, OSError):
            continue
        if rows:
            yield named, rows


def _mapping(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = entry.get(key, DEFAULT_COLUMNS if key == "columns" else {})
    return value if isinstance(value, dict) else {}
