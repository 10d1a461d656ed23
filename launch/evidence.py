"""What a run leaves behind besides its result: the versions it ran on, and signs that it was not as meant."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from launch.rules import read_dataset_manifest, split_names
from prep.errors import UserError

_RECORDED = (
    "llamafactory", "unsloth", "unsloth_zoo", "torch", "transformers", "datasets", "accelerate", "peft", "trl",
    "torchao", "bitsandbytes", "xformers", "tokenizers", "deepspeed", "liger-kernel",
)  # fmt: skip
_UNSLOTH_OFF = re.compile(r"Unsloth does not support model type (\S+)\.")
_DROPPED = {
    "rows longer than cutoff_len were dropped": "Dropped lengthy example",
    "invalid rows were dropped": "Dropped invalid example",
    "rows that LLaMA-Factory calls abnormal were skipped": "Skipping this abnormal example",
}
_EXAMPLES = re.compile(r"Num examples = ([\d,]+)")


def read_versions(cli: Path) -> dict[str, str]:
    """Return the versions of the training stack beside a llamafactory-cli, without starting anything."""
    root = cli.resolve().parent.parent
    folders = [*root.glob("lib/python3*/site-packages"), root / "Lib" / "site-packages", root]
    found = {
        str(item.metadata["Name"]).lower().replace("-", "_"): item.version
        for item in distributions(path=[str(folder) for folder in folders if folder.is_dir()])
    }
    names = {name: name.lower().replace("-", "_") for name in _RECORDED}
    return {name: found[key] for name, key in names.items() if key in found}


def read_dataset_manifests(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {dataset name: its manifest, or None} for what a config trains and evaluates on."""
    folder = Path(str(values.get("dataset_dir") or "data"))
    manifests: dict[str, Any] = {}
    for name in split_names(values.get("dataset")) + split_names(values.get("eval_dataset")):
        try:
            manifest = read_dataset_manifest(name, folder)
        except UserError:
            # The check before the start, or LLaMA-Factory itself, says what is wrong with it.
            manifest = None
        manifests[name] = manifest.__dict__ if manifest else None
    return manifests


def find_flags(log: str, values: Mapping[str, Any], manifests: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each sign in a run's log that it did less than its config says."""
    return [*_find_fallback(log), *_find_dropped(log), *_find_other_count(log, values, manifests)]


def _find_fallback(log: str) -> Iterator[str]:
    found = _UNSLOTH_OFF.search(log)
    if found:
        yield f"Unsloth does not know {found[1]} and was not used"


def _find_dropped(log: str) -> Iterator[str]:
    for what, sign in _DROPPED.items():
        count = log.count(sign)
        if count:
            yield f"{count:,} {what}"


def _find_other_count(log: str, values: Mapping[str, Any], manifests: Mapping[str, Any]) -> Iterator[str]:
    """Compare the trainer's own count with the manifests', where nothing in the config lets them differ."""
    found = _EXAMPLES.search(log)
    trained = [manifests.get(name) for name in split_names(values.get("dataset"))]
    changes = ("packing", "neat_packing", "streaming", "val_size", "mix_strategy", "tokenized_path")
    if not found or not all(trained) or any(values.get(key) not in (None, False, 0, "concat") for key in changes):
        return
    limit = values.get("max_samples")
    counts = [int(manifest["counts"]["records"]) for manifest in trained if manifest]
    expected = sum(min(count, int(limit)) if limit else count for count in counts)
    seen = int(found[1].replace(",", ""))
    if values.get("do_train") and seen != expected:
        yield f"trained on {seen:,} rows; the data holds {expected:,}"
