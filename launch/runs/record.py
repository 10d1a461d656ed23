"""What a run leaves behind besides its result: the versions it ran on, and signs that it was not as meant."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from launch.configs.rules import read_dataset_manifest, split_names
from launch.runs.folder import RunFolder
from prep.errors import UserError
from prep.wording import count_of

_RECORDED = (
    "llamafactory", "unsloth", "unsloth_zoo", "torch", "transformers", "datasets", "accelerate", "peft", "trl",
    "torchao", "bitsandbytes", "xformers", "tokenizers", "deepspeed", "liger-kernel", "swanlab", "wandb",
)  # fmt: skip
_UNSLOTH_OFF = re.compile(r"Unsloth does not support model type (\S{1,80})\.")
_DROPPED = {
    "dropped, longer than cutoff_len": "Dropped lengthy example",
    "dropped as invalid": "Dropped invalid example",
    "skipped, which LLaMA-Factory calls abnormal": "Skipping this abnormal example",
}
_MAX_BOOST_BYTES = 1 << 20
_SHOWN_REASON = 300
_EXAMPLES = re.compile(r"Num examples = (\d[\d,]{0,20})")


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


def find_flags(log: Iterable[str], values: Mapping[str, Any], manifests: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each sign in a log, given in blocks, of a run that did less than its config says."""
    dropped = dict.fromkeys(_DROPPED, 0)
    fallback = examples = None
    for block in log:
        fallback = fallback or _UNSLOTH_OFF.search(block)
        examples = examples or _EXAMPLES.search(block)
        for what, sign in _DROPPED.items():
            dropped[what] += block.count(sign)
    flags = [f"Unsloth does not know {fallback[1]} and was not used"] if fallback else []
    flags += [f"{count_of(count, 'row')} {what}" for what, count in dropped.items() if count]
    return [*flags, *_find_other_count(int(examples[1].replace(",", "")) if examples else None, values, manifests)]


def find_boost_flags(run: RunFolder) -> list[str]:
    """Return one sentence when a run was to be boosted and was not; nothing for one that was, or was not to be."""
    try:
        if run.boost.stat().st_size > _MAX_BOOST_BYTES:
            return [f"{run.boost} is too large to be read"]
        told = json.loads(run.boost.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        return [f"{run.boost} cannot be read: {error}"]
    if not isinstance(told, dict) or told.get("active") is True:
        return []
    return [f"it was not boosted: {str(told.get('reason'))[:_SHOWN_REASON]}"]


def _find_other_count(seen: int | None, values: Mapping[str, Any], manifests: Mapping[str, Any]) -> Iterator[str]:
    """Compare the trainer's own count with the manifests', where nothing in the config lets them differ."""
    trained = [manifests.get(name) for name in split_names(values.get("dataset"))]
    changes = ("packing", "neat_packing", "streaming", "val_size", "mix_strategy", "tokenized_path")
    if seen is None or any(values.get(key) not in (None, False, 0, "concat") for key in changes):
        return
    counts = [_count_records(manifest) for manifest in trained]
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return
    limit = values.get("max_samples")
    expected = sum(min(count, limit) if isinstance(limit, int) and limit else count for count in known)
    if values.get("do_train") and seen != expected:
        yield f"trained on {count_of(seen, 'row')}; the data holds {expected:,}"


def _count_records(manifest: object) -> int | None:
    counts = manifest.get("counts") if isinstance(manifest, Mapping) else None
    records = counts.get("records") if isinstance(counts, Mapping) else None
    return records if isinstance(records, int) and not isinstance(records, bool) else None
