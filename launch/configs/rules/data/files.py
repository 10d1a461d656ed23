"""The datasets of a config whose files are on this machine: their entries, and their first rows."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from launch.configs.rules.base import Setting
from launch.configs.rules.data.rows import read_entry, reads_datasets
from prep.registry.dataset import list_entry_files

DATASET_KEYS = ("dataset", "eval_dataset")
# Source: LLaMA-Factory 0.9.5, extras/constants.py, FILEEXT2TYPE.
FILE_TYPES = {"arrow": "arrow", "csv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet", "txt": "text"}
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_LOOKED_AT_ROWS = 100


@dataclass(frozen=True)
class NamedDataset:
    """A dataset of this machine that a config names: under which key, its entry and its files."""

    key: str
    name: str
    entry: dict[str, Any]
    files: tuple[Path, ...]


def list_named(setting: Setting) -> Iterator[NamedDataset]:
    """Yield each dataset with an entry whose files are, or should be, on this machine."""
    if not reads_datasets(setting):
        return
    for key in DATASET_KEYS:
        for name in setting.names(key):
            entry = read_entry(name, setting.dataset_dir)
            if entry and not any(remote in entry for remote in _REMOTE):
                yield NamedDataset(key, name, entry, list_entry_files(entry, setting.dataset_dir))


def read_first_rows(file: Path) -> list[dict[str, Any]] | None:
    """Return the first rows of a file as LLaMA-Factory reads it, None where that cannot be told at once.

    Shape: several rules ask for them: they are read once, and not to be changed.
    Raises: UserError or ValueError when the file is not of its type.
    """
    told = file.stat()
    return _read_once(file.absolute(), told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_once(file: Path, _size: int, _changed_at: int) -> list[dict[str, Any]] | None:
    kind = FILE_TYPES.get(file.suffix.lstrip("."))
    if kind == "json":
        from prep.rows.json_rows import describe_bad_row, iter_json_rows

        rows = []
        for number, row in islice(iter_json_rows(file), _LOOKED_AT_ROWS):
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {describe_bad_row(row)}")
            rows.append(row)
        return rows
    if kind == "csv":
        with file.open(encoding="utf-8", newline="") as lines:
            return list(islice(csv.DictReader(lines), _LOOKED_AT_ROWS))
    if kind == "text":
        with file.open(encoding="utf-8") as lines:
            return [{"text": line} for line in islice(lines, _LOOKED_AT_ROWS)]
    return None
