"""Whether the rows of an evaluation can be answered and scored: they are there, and nobody was trained on them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.configs.rules import count_rows, split_names
from prep.errors import ConfigError, UserError
from prep.registry.dataset_info import find_dataset_file, read_registry
from prep.wording import in_shell

_CHUNK = 1 << 20


def check_held_out(configs: Mapping[str, Mapping[str, Any]], eval_dataset: str) -> None:
    """Raise when held-out rows are missing, cannot be answered, or were trained on.

    Shape: `configs` are training configs by name; `eval_dataset` may name several datasets, commas between.
    Raises: RegistryError for a dataset that is unknown or whose file is missing, else ConfigError.
    """
    first = next(iter(configs.values()))
    folder = Path(str(first.get("dataset_dir") or "data"))
    names = [name for name in split_names(eval_dataset) if name]
    if not names:
        raise ConfigError("no held-out dataset is named", hint="--eval-dataset NAME")
    for name in names:
        path = find_dataset_file(name, folder)
        _check_layout(name, folder)
        if count_rows(name, folder) == 0 or (path.is_file() and not path.stat().st_size):
            raise ConfigError(f"dataset '{name}' has no rows to answer", hint="lfc prep split FILE --test 100")
        for config, training in configs.items():
            _check_not_trained(name, path, config, training)


def _check_layout(name: str, folder: Path) -> None:
    entry = read_registry(folder).get(name)
    columns = entry.get("columns") if isinstance(entry, dict) else None
    if isinstance(entry, dict) and entry.get("ranking"):
        raise ConfigError(
            f"dataset '{name}' holds preference pairs, and a comparison of answers needs one answer a row",
            hint="lfc prep register FILE --name ANOTHER_NAME --chosen takes the chosen answers",
        )
    if isinstance(columns, dict) and columns.get("kto_tag"):
        raise ConfigError(
            f"dataset '{name}' holds good and bad answers (kto_tag), and a comparison needs one right answer a row",
            hint="lfc prep register its good rows under another name",
        )


def _check_not_trained(name: str, path: Path, config: str, training: Mapping[str, Any]) -> None:
    folder = Path(str(training.get("dataset_dir") or "data"))
    for trained in split_names(training.get("dataset")):
        try:
            other = find_dataset_file(trained, folder)
        except UserError:
            # What was trained on need not be there any more.
            continue
        if path.is_file() and other.is_file() and _is_same_file(path, other):
            raise ConfigError(
                f"{config} was trained on '{trained}', whose rows are those of '{name}': nothing is held out",
                hint=f"lfc prep split {in_shell(other)} --test 100, and train on the rest",
            )


def _is_same_file(first: Path, second: Path) -> bool:
    if first.samefile(second):
        return True
    return first.stat().st_size == second.stat().st_size and hash_file(first) == hash_file(second)


def hash_file(path: Path) -> str:
    """Return a file's sha256 as hex digits."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
