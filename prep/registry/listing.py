"""What is registered in a dataset_info.json, entry by entry, with what is wrong with those that cannot be read."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prep.errors import UserError
from prep.registry.dataset import read_entry
from prep.registry.dataset_info import read_registry
from prep.rows.json_rows import iter_json_rows
from prep.storage.os_errors import explain_read_error

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RegisteredDataset:
    """One entry: `rows` is None and `problem` says why where its files cannot be read here."""

    name: str
    kind: str
    formatting: str
    rows: int | None
    files: tuple[str, ...]
    think_policy: str | None
    problem: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON takes it."""
        return asdict(self)


def list_datasets(dataset_dir: Path) -> list[RegisteredDataset]:
    """Return every registered dataset in the file's order; raises RegistryError when the registry is broken."""
    return [_describe(name, entry, dataset_dir) for name, entry in read_registry(dataset_dir).items()]


def _describe(name: str, entry: dict[str, Any], dataset_dir: Path) -> RegisteredDataset:
    formatting = str(entry.get("formatting", "alpaca"))
    try:
        dataset = read_entry(name, entry, dataset_dir)
        rows = count_rows(dataset.paths)
    except UserError as error:
        file_name = str(entry.get("file_name", ""))
        return RegisteredDataset(name, "", formatting, None, (file_name,) if file_name else (), None, str(error))
    files = tuple(path.as_posix() for path in dataset.paths)
    policy = dataset.policy.value if dataset.policy else None
    return RegisteredDataset(name, dataset.kind.value, formatting, rows, files, policy, None)


def count_rows(paths: Iterable[Path]) -> int | None:
    """Return the rows of JSON and JSONL files, None when there is a file of another type.

    Raises: InputError when one cannot be read, or a .json holds no list of rows.
    """
    total = 0
    for path in paths:
        if path.suffix == ".jsonl":
            total += _count_lines(path)
        elif path.suffix == ".json":
            total += sum(1 for _ in iter_json_rows(path))
        else:
            return None
    return total


def _count_lines(path: Path) -> int:
    lines, last = 0, b"\n"
    with explain_read_error(path), path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")
