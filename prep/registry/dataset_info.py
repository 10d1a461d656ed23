"""LLaMA-Factory's dataset_info.json: merge one entry, remove one, read what is registered.

A change is spliced into the text that stands there: every other entry keeps its bytes and its position.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prep.errors import RegistryError
from prep.rows.json_rows import check_json_suffix, describe_bad_row, holds_lines_as_json, iter_json_rows
from prep.rows.kinds import FORMS, MEDIA, Form, find_form, take_chosen
from prep.storage.atomic import stage_file
from prep.storage.locks import lock_file
from prep.storage.manifests import find_owner, manifest_path, read_manifest
from prep.storage.os_errors import describe_os_error, explain_os_error
from prep.storage.paths import is_file, require_file
from prep.wording import in_shell

FILE_NAME = "dataset_info.json"
SHAREGPT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_FORMATTINGS = {form.formatting for form in FORMS}
_PAIR = ("chosen", "rejected")
_LOCK_TIMEOUT_S = 60
_CHECKED_ROWS = 20
_WHITE_SPACE = " \t\r\n"
_MOST_BYTES = 16 << 20


class Member(NamedTuple):
    """One entry's position in the text: its key begins at `start`, its value ends before `end`."""

    name: str
    start: int
    end: int


class _Wanted(NamedTuple):
    type: type
    name: str


_TEXT, _FILES = _Wanted(str, "a string"), _Wanted(list, "a list")
_TYPES = {
    **dict.fromkeys(("instruction", "input", "output", "system", "text", *_PAIR), _TEXT),
    "kto_tag": _Wanted(bool, "true or false"),
    **dict.fromkeys(MEDIA, _FILES),
}


@dataclass(frozen=True)
class Registration:
    """What `register_dataset` did; `changed` is False when the very entry stood there already."""

    name: str
    entry: dict[str, Any]
    registry: Path
    changed: bool
    backup: Path | None


def register_dataset(
    path: Path, name: str, dataset_dir: Path, *, replace: bool = False, chosen: bool = False
) -> Registration:
    """Merge one file of training rows into `<dataset_dir>/dataset_info.json`; `chosen` as describe_entry.

    The other entries and their order stay byte for byte; several processes at once lose nothing.
    Raises: RegistryError when the name is taken by other content or cannot be used, or the file's rows are
    not what the entry would say; InputError when the file cannot be read.
    """
    check_dataset_name(name)
    entry = describe_entry(path, dataset_dir, chosen=chosen)
    with explain_os_error(dataset_dir):
        dataset_dir.mkdir(parents=True, exist_ok=True)
    with _change_registry(dataset_dir) as (registry, text):
        entries = parse_registry(text, registry) if text else {}
        if entries.get(name, entry) != entry and not replace:
            taken_by = entries[name].get("file_name", "another source")
            raise RegistryError(
                f"{registry}: '{name}' is registered already, for {taken_by}",
                hint="--replace, or another --name",
            )
        if entries.get(name) == entry:
            return Registration(name, entry, registry, changed=False, backup=None)
        after = _splice_entry(text or "{}\n", name, entry)
        backup = _write_registry(registry, text, after, {**entries, name: entry})
    return Registration(name, entry, registry, changed=True, backup=backup)


def remove_dataset(name: str, dataset_dir: Path) -> Registration:
    """Take one entry out of dataset_info.json; its data file stays.

    Raises: RegistryError when the name is not registered.
    """
    if not (dataset_dir / FILE_NAME).exists():
        read_registry(dataset_dir)
    with _change_registry(dataset_dir) as (registry, text):
        entries = parse_registry(text, registry)
        if name not in entries:
            raise unknown_name(name, entries, registry)
        entry = entries.pop(name)
        backup = _write_registry(registry, text, _cut_entry(text, name), entries)
    return Registration(name, entry, registry, changed=True, backup=backup)


def read_registry(dataset_dir: Path, *, missing_ok: bool = False) -> dict[str, dict[str, Any]]:
    """Return the entries of a dataset folder's dataset_info.json, in order.

    Raises: RegistryError with line and column when it is broken, or when it is missing.
    """
    path = dataset_dir / FILE_NAME
    text = _read_text(path)
    if text is None:
        if missing_ok:
            return {}
        raise RegistryError(f"{path} does not exist", hint="lfc prep register FILE --name NAME --dataset-dir DIR")
    return parse_registry(text, path)


def parse_registry(text: str, path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries in a registry's text; raises RegistryError with line and column when it is broken."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise RegistryError(
            f"{path} line {error.lineno} column {error.colno}: {error.msg}",
            hint=f"lfc prep lint {in_shell(path)} tells all, or restore {in_shell(path.name)}.bak",
        ) from error
    except RecursionError as error:
        raise RegistryError(f"{path} is nested too deeply") from error
    except ValueError as error:
        # A number of more than 4,300 digits.
        raise RegistryError(f"{path} holds a number that cannot be read: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise RegistryError(f"{path} must be one JSON object whose values are objects")
    return entries


def scan_members(text: str) -> list[Member]:
    """Return the position of each entry in the text of a valid JSON object, in order."""
    decoder = json.JSONDecoder()
    members = []
    offset = _skip_white_space(text, text.index("{") + 1)
    while text[offset] != "}":
        start = offset
        name, offset = decoder.raw_decode(text, offset)
        offset = _skip_white_space(text, offset)
        _, offset = decoder.raw_decode(text, _skip_white_space(text, offset + 1))
        members.append(Member(name, start, offset))
        offset = _skip_white_space(text, offset)
        if text[offset] == ",":
            offset = _skip_white_space(text, offset + 1)
    return members


def find_dataset_file(name: str, dataset_dir: Path) -> Path:
    """Return the data file of a registered dataset; raises RegistryError when it is unknown or missing."""
    entries = read_registry(dataset_dir)
    if name not in entries:
        raise unknown_name(name, entries, dataset_dir / FILE_NAME)
    path = dataset_dir / str(entries[name].get("file_name", ""))
    if not is_file(path):
        raise RegistryError(f"dataset '{name}': its file {path} does not exist")
    return path


def check_dataset_name(name: str) -> None:
    """Raise RegistryError when LLaMA-Factory or its WebUI could not use the name."""
    fault = find_name_fault(name)
    if fault:
        raise RegistryError(
            f"'{name}' cannot be a dataset's name: {fault}", hint="letters, digits, '_' and '-' always work"
        )


def find_name_fault(name: str) -> str | None:
    """Return why a name cannot be used, or None."""
    if not name or name != name.strip() or not name.isprintable() or any(sign in name for sign in ',/\\"'):
        return "commas, slashes, quotes, control characters and outer spaces break it"
    return None


def describe_entry(path: Path, dataset_dir: Path, *, chosen: bool = False) -> dict[str, Any]:
    """Return the registry entry of a file, after a look at its manifest and first rows.

    `chosen` takes the preferred answers of pairs as usual rows, to compare a model's answers with.
    Raises: InputError or RegistryError when LLaMA-Factory could not read the file as the entry says.
    """
    manifest = read_manifest(path) if is_file(path) else None
    first_rows = _read_first_rows(path)
    if manifest is None and manifest_path(path).exists() and find_owner(manifest_path(path)) in (None, path.name):
        raise RegistryError(
            f"{path} was changed after its manifest {manifest_path(path).name} was written",
            hint="make the file again, or delete the manifest if the change was meant",
        )
    form = find_form(first_rows[0])
    formatting = str(manifest.output.get("formatting", "alpaca")) if manifest else form.formatting
    if formatting not in _FORMATTINGS:
        raise RegistryError(f"{path}: formatting '{formatting}' is not one that can be registered here")
    if formatting != form.formatting:
        form = next(other for other in FORMS if other.kind is form.kind and other.formatting == formatting)
    _check_first_rows(path, first_rows, form)
    # A partial map would set every column that it does not list to None, and so drop it in silence.
    if chosen:
        form = take_chosen(form, path.as_posix())
    entry = {"file_name": _relative_name(path, dataset_dir), **form.describe_entry(first_rows[0].keys())}
    if formatting == "sharegpt":
        entry["tags"] = dict(SHAREGPT_TAGS)
    return entry


@contextmanager
def _change_registry(dataset_dir: Path) -> Iterator[tuple[Path, str]]:
    # A link is followed: the file it leads to is replaced, not the link.
    registry = dataset_dir / FILE_NAME
    with explain_os_error(registry):
        # Path.resolve raises RuntimeError at a link that leads to itself.
        if registry.is_symlink():
            link, registry = registry, Path(os.path.realpath(registry))
            if not registry.exists():
                raise RegistryError(
                    f"{link} is a link to {registry}, which does not exist",
                    hint="take the link away, or make the file that it leads to",
                )
    with lock_file(registry, timeout_s=_LOCK_TIMEOUT_S):
        yield registry, _read_text(registry) or ""


def _read_text(path: Path) -> str | None:
    try:
        return read_registry_bytes(path).decode("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise RegistryError(
            f"{path} is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}",
            hint="save it as UTF-8 without a BOM",
        ) from error


def read_registry_bytes(path: Path) -> bytes:
    """Return the bytes of a dataset_info.json.

    Raises: RegistryError when it is no file, or so large that nobody wrote it by hand; OSError as reading does.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RegistryError(f"{path} is not a file", hint="take it away, or name another --dataset-dir")
    if status.st_size > _MOST_BYTES:
        raise RegistryError(
            f"{path} has {status.st_size:,} bytes; {_MOST_BYTES:,} are the most that are read",
            hint="take out entries that nobody uses",
        )
    return path.read_bytes()


def _write_registry(registry: Path, before: str, after: str, expected: dict[str, Any]) -> Path | None:
    """Write the backup, then the registry; returns the backup's path, None when there was nothing before."""
    written = parse_registry(after, registry)
    if list(written.items()) != list(expected.items()):
        raise RegistryError(
            f"{registry} cannot be changed without touching its other entries", hint="edit it by hand"
        )
    backup = registry.with_name(f"{registry.name}.bak") if before else None
    if backup:
        with stage_file(backup) as out:
            out.write(before.encode())
            out.publish()
    with stage_file(registry) as out:
        out.write(after.encode())
        out.publish()
    return backup


def _splice_entry(text: str, name: str, entry: dict[str, Any]) -> str:
    members = _scan_once(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    indent = _read_indent(text, members)
    # ASCII-escaped, because LLaMA-Factory opens the file in the locale's encoding.
    body = json.dumps(entry, indent=indent or None).replace("\n", f"\n{indent}").replace("\n", line_end)
    member = f"{json.dumps(name)}: {body}"
    for known in members:
        if known.name == name:
            return text[: known.start] + member + text[known.end :]
    if not members:
        opening = text.index("{")
        return f"{text[:opening]}{{{line_end}{indent}{member}{line_end}{text[text.rindex('}') :]}"
    gap = f"{line_end}{indent}" if indent else " "
    return f"{text[: members[-1].end]},{gap}{member}{text[members[-1].end :]}"


def _cut_entry(text: str, name: str) -> str:
    members = _scan_once(text)
    offset = [member.name for member in members].index(name)
    if offset + 1 < len(members):
        return text[: members[offset].start] + text[members[offset + 1].start :]
    if offset:
        return text[: members[offset - 1].end] + text[members[offset].end :]
    return text[: text.index("{") + 1] + text[text.rindex("}") :]


def _scan_once(text: str) -> list[Member]:
    members = scan_members(text)
    names = [member.name for member in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RegistryError(f"dataset_info.json names '{twice[0]}' twice", hint="take one of the two out by hand")
    return members


def _read_indent(text: str, members: list[Member]) -> str:
    if not members:
        return "  "
    before = text[: members[0].start]
    return before.rpartition("\n")[2] if "\n" in before else ""


def _skip_white_space(text: str, offset: int) -> int:
    while text[offset] in _WHITE_SPACE:
        offset += 1
    return offset


def _read_first_rows(path: Path) -> list[dict[str, Any]]:
    require_file(path)
    check_json_suffix(path)
    if holds_lines_as_json(path):
        raise RegistryError(
            f"{path} holds one object a line: the WebUI cannot preview it under this name",
            hint=f"rename it to {path.with_suffix('.jsonl').name}",
        )
    rows = list(islice(iter_json_rows(path), _CHECKED_ROWS))
    if not rows:
        raise RegistryError(f"{path} has no rows")
    for line, row in rows:
        if not isinstance(row, dict):
            raise RegistryError(
                f"{path} line {line}: {describe_bad_row(row)}", hint=f"lfc prep lint {in_shell(path)} tells all"
            )
    return [row for _, row in rows]


def _check_first_rows(path: Path, rows: list[dict[str, Any]], form: Form) -> None:
    for number, row in enumerate(rows, 1):
        missing = [column for column in _list_required(form) if column not in row]
        if missing:
            columns = ", ".join(f"'{known}'" for known in row)
            raise RegistryError(
                f"{path} row {number}: column '{missing[0]}' not found; columns are {columns}",
                hint=f"lfc prep convert {in_shell(path)} -o OUTPUT.jsonl makes rows that can be registered",
            )
        if row.keys() != rows[0].keys():
            raise RegistryError(
                f"{path} row {number}: its columns are not those of row 1",
                hint=f"lfc prep lint {in_shell(path)} tells all",
            )
        for column, value in row.items():
            wanted = _TYPES.get(column)
            if wanted is not None and column in form.all_columns.values() and not isinstance(value, wanted.type):
                if column in _PAIR and form.formatting == "sharegpt":
                    continue
                raise RegistryError(
                    f"{path} row {number}: column '{column}' is {type(value).__name__}, not {wanted.name}",
                    hint=f"lfc prep lint {in_shell(path)} tells all",
                )


def _list_required(form: Form) -> list[str]:
    """Return the columns without which LLaMA-Factory has nothing to train on in such a row."""
    needed = ("prompt", "response", "messages", "chosen", "rejected", "kto_tag")
    return [theirs for ours, theirs in form.columns.items() if ours in needed]


def unknown_name(name: str, entries: dict[str, Any], registry: Path) -> RegistryError:
    """Return the error for a name that is not registered."""
    known = ", ".join(entries) or "none"
    return RegistryError(f"dataset '{name}' is not in {registry}; registered are {known}")


def _relative_name(path: Path, dataset_dir: Path) -> str:
    path, folder = path.absolute(), dataset_dir.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
