"""LLaMA-Factory's dataset_info.json: merge one entry, remove one, read what is registered."""

import json
from pathlib import Path
from typing import Any

from prep.errors import InputError, RegistryError
from prep.files import encode_json, lock_file, stage_file

FILE_NAME = "dataset_info.json"
# A partial map would set every column that it does not list to None, and so drop it in silence.
ALPACA_COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}
_LOCK_TIMEOUT_S = 30


def register_dataset(path: Path, name: str, dataset_dir: Path, *, replace: bool = False) -> dict[str, Any]:
    """Merge one Alpaca file into `<dataset_dir>/dataset_info.json` and return its entry.

    The other entries and their order stay; several processes at once lose nothing.
    Raises: RegistryError when the name is taken by other content, or cannot be used as a name.
    """
    check_dataset_name(name)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    entry = {"file_name": _relative_name(path, dataset_dir), "formatting": "alpaca", "columns": ALPACA_COLUMNS}
    registry = dataset_dir / FILE_NAME
    dataset_dir.mkdir(parents=True, exist_ok=True)
    with lock_file(registry, timeout_s=_LOCK_TIMEOUT_S):
        entries = read_registry(dataset_dir, missing_ok=True)
        if entries.get(name, entry) != entry and not replace:
            taken_by = entries[name].get("file_name", "another source")
            raise RegistryError(
                f"{registry}: '{name}' is registered already, for {taken_by}",
                hint="--replace, or another --name",
            )
        if entries.get(name) != entry:
            # ASCII-escaped, because LLaMA-Factory opens it in the locale's encoding.
            with stage_file(registry) as out:
                out.write(encode_json({**entries, name: entry}))
                out.publish()
    return entry


def read_registry(dataset_dir: Path, *, missing_ok: bool = False) -> dict[str, dict[str, Any]]:
    """Return the entries of a dataset folder's dataset_info.json, in order.

    Raises: RegistryError with line and column when it is broken, or when it is missing.
    """
    path = dataset_dir / FILE_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise RegistryError(
            f"{path} does not exist", hint="lfc prep register FILE --name NAME --dataset-dir DIR"
        ) from None
    except json.JSONDecodeError as error:
        raise RegistryError(f"{path} line {error.lineno} column {error.colno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise RegistryError(f"{path} must be one JSON object whose values are objects")
    return entries


def find_dataset_file(name: str, dataset_dir: Path) -> Path:
    """Return the data file of a registered dataset; raises RegistryError when it is unknown or missing."""
    entries = read_registry(dataset_dir)
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise RegistryError(f"dataset '{name}' is not in {dataset_dir / FILE_NAME}; registered are {known}")
    path = dataset_dir / str(entries[name].get("file_name", ""))
    if not path.is_file():
        raise RegistryError(f"dataset '{name}': its file {path} does not exist")
    return path


def check_dataset_name(name: str) -> None:
    """Raise RegistryError when LLaMA-Factory or its WebUI could not use the name."""
    if not name or name != name.strip() or any(character in name for character in ',/\\"'):
        raise RegistryError(
            f"'{name}' cannot be a dataset's name: commas, slashes, quotes and outer spaces break it",
            hint="letters, digits, '_' and '-' always work",
        )


def _relative_name(path: Path, dataset_dir: Path) -> str:
    path, folder = path.absolute(), dataset_dir.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
