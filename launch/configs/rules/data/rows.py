"""The rows and steps behind a config: counted where that is cheap, from manifests where there are any."""

from pathlib import Path
from typing import Any

from launch.configs.rules.base import Setting
from prep.errors import UserError
from prep.registry.dataset_info import find_dataset_file, read_registry
from prep.storage.manifests import Manifest, read_manifest

# Counting the rows of a larger file would take longer than the rest of a check.
_MAX_COUNTED_BYTES = 200 << 20


def count_rows(name: str, dataset_dir: Path) -> int | None:
    """Return a registered dataset's rows: from its manifest, else by its lines; None when not cheap to know."""
    try:
        if not is_file_dataset(name, dataset_dir):
            return None
        path = find_dataset_file(name, dataset_dir)
        manifest = read_manifest(path)
        if manifest and isinstance(manifest.counts.get("records"), int):
            return int(manifest.counts["records"])
        if path.suffix != ".jsonl" or path.stat().st_size > _MAX_COUNTED_BYTES:
            return None
        with path.open("rb") as stream:
            return sum(1 for line in stream if line.strip())
    except (UserError, OSError):
        return None


def reads_datasets(setting: Setting) -> bool:
    """Whether a training reads its datasets: rows that were tokenized before are taken as they are."""
    if not setting.trains:
        return False
    tokenized = setting["tokenized_path"]
    folder = Path(str(tokenized)) if tokenized else None
    return folder is None or not (folder.is_dir() and any(folder.iterdir()))


def count_all_rows(setting: Setting) -> int | None:
    """Return the rows of all datasets of a training, before any is held out; None when they cannot be counted."""
    if setting["streaming"] or setting["mix_strategy"] != "concat" or not reads_datasets(setting):
        return None
    limit, total = setting["max_samples"], 0
    for name in setting.names("dataset"):
        rows = count_rows(name, setting.dataset_dir)
        if rows is None or "num_samples" in read_entry(name, setting.dataset_dir):
            return None
        total += rows if limit is None else min(rows, limit)
    return total


def read_entry(name: str, dataset_dir: Path) -> dict[str, Any]:
    """Return a dataset's entry in dataset_info.json, {} where there is none."""
    if str(dataset_dir) == "ONLINE" or str(dataset_dir).startswith("REMOTE:"):
        return {}
    try:
        entry = read_registry(dataset_dir).get(name)
    except (UserError, OSError):
        return {}
    return entry if isinstance(entry, dict) else {}


def count_steps(setting: Setting) -> int | None:
    """Return the optimizer steps of a training, None when its rows cannot be counted."""
    if setting["max_steps"] > 0:
        return int(setting["max_steps"])
    if setting["streaming"] or setting.packs or setting["stage"] == "pt":
        return None
    counts = [count_rows(name, setting.dataset_dir) for name in setting.names("dataset")]
    if not counts or None in counts or setting["mix_strategy"] != "concat":
        return None
    limit = setting["max_samples"]
    rows = float(sum(min(count or 0, limit or count or 0) for count in counts))
    held_out = setting["val_size"]
    rows -= held_out * rows if held_out < 1 else held_out
    return int(max(rows, 0) * setting["num_train_epochs"] / max(count_batch(setting), 1))


def count_batch(setting: Setting) -> int:
    """Return how many rows one optimizer step takes, over all processes."""
    processes = max(len(setting.machine.gpus or ()), 1)
    return int(setting["per_device_train_batch_size"] * setting["gradient_accumulation_steps"] * processes)


def read_manifests(setting: Setting, key: str) -> dict[str, Manifest]:
    """Return the manifests of the datasets that `dataset` or `eval_dataset` names, of those that have one."""
    manifests = {}
    for name in setting.names(key):
        try:
            found = read_dataset_manifest(name, setting.dataset_dir)
        except UserError:
            continue
        if found is not None:
            manifests[name] = found
    return manifests


def read_dataset_manifest(name: str, dataset_dir: Path) -> Manifest | None:
    """Return the manifest of a registered dataset's file, None when it has none or is not a file here.

    Raises: RegistryError when the dataset is unknown or its file is missing.
    """
    return read_manifest(find_dataset_file(name, dataset_dir)) if is_file_dataset(name, dataset_dir) else None


def is_file_dataset(name: str, dataset_dir: Path) -> bool:
    """Whether a name's entry is one data file: hubs, scripts and folders are LLaMA-Factory's own matter."""
    if str(dataset_dir) == "ONLINE" or str(dataset_dir).startswith("REMOTE:"):
        return False
    entry = read_registry(dataset_dir).get(name)
    if entry is None:
        return True
    return "file_name" in entry and not (dataset_dir / str(entry["file_name"])).is_dir()
