"""The user's own YAML with the keys that won, each with a comment of what it brought."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.configs.config import format_config
from launch.configs.document import format_value, load_document, parse_document
from prep.errors import ConfigError

_HEAD = "# Tuned: "


def write_tuned_text(path: Path, changes: Mapping[str, Any], comments: Mapping[str, str], head: list[str]) -> str:
    """Return the text of the config at `path` with some keys changed; None takes a key out.

    Shape: `comments` stand behind the changed keys; `head` are lines that open the file as comments. All other
    lines stay as the user wrote them, where the result then reads as it must.
    """
    document = load_document(path)
    wanted = {
        key: value
        for key, value in {**document.values, **changes}.items()
        if value is not None or key not in changes
    }
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    added = []
    # From the end, so that the places of those before stay right.
    for key in sorted(changes, key=lambda key: -document.places[key].line if key in document.places else 0):
        line = f"{key}: {format_value(changes[key])}  # {comments[key]}"
        if key not in document.places:
            added += [line] if changes[key] is not None else []
        elif changes[key] is None:
            lines[document.places[key].line - 1] = f"# {key}: taken out; {comments[key]}"
        else:
            lines[document.places[key].line - 1] = line
    lines = [line for line in lines if not line.startswith(_HEAD)]
    # What tells an editor the schema stays the first line.
    first = 1 if lines and lines[0].startswith("# yaml-language-server") else 0
    lines[first:first] = [f"{_HEAD}{line}" for line in head]
    text = "\n".join([*lines, *(["", "# schedule", *added] if added else [])]) + "\n"
    try:
        if parse_document(text, path.name).values == wanted:
            return text
    except ConfigError:
        pass
    # A layout of its own, such as one mapping in braces: the values matter more.
    return "".join(f"{_HEAD}{line}\n" for line in head) + format_config(wanted, header=f"From {path.name}")
