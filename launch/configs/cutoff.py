"""How long a config's rows are in its model's own tokens, for the cutoff_len that they need."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.configs.rules import split_names
from prep.errors import UserError
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import find_dataset
from prep.tokens.cutoff import CutoffAdvice
from prep.tokens.turns import TemplateOptions
from prep.wording import in_shell

# Some seconds of measuring; what is larger is for `lfc prep stats`, which shows how far it is.
_MAX_MEASURED_BYTES = 64 << 20
# Beyond it a longer cutoff costs more memory than one row in a hundred is worth.
_LARGEST_LOSSLESS = 8192
_ROUND_TO = 64


def measure_datasets(values: Mapping[str, Any], notes: list[str]) -> dict[str, CutoffAdvice]:
    """Measure a config's training datasets with its model's tokenizer; says in `notes` why one was not.

    Only a model folder on this machine has a tokenizer to measure with.
    """
    model = Path(os.path.expanduser(str(values.get("model_name_or_path", ""))))  # noqa: PTH111
    # Stage pt writes no turns: it joins the texts, and cuts that at every cutoff_len tokens.
    if values.get("stage") == "pt" or not (model / "tokenizer.json").is_file():
        return {}
    measured = {}
    for name in split_names(values.get("dataset")):
        try:
            dataset = find_dataset(name, Path(str(values.get("dataset_dir") or "data")))
            if sum(path.stat().st_size for path in dataset.paths) > _MAX_MEASURED_BYTES:
                notes.append(
                    f"dataset '{name}' is too large to measure here: "
                    f"lfc prep stats {in_shell(name)} --model {in_shell(model)}"
                )
                continue
            options = TemplateOptions(
                str(values.get("template", "")),
                values.get("enable_thinking", True),
                bool(values.get("mask_history")),
                values.get("preserve_thinking"),
            )
            advice = collect_stats(dataset, StatsOptions(model=model, template=options)).advice
        except UserError as error:
            notes.append(f"dataset '{name}' was not measured: {error}")
            continue
        if advice is not None:
            measured[name] = advice
    return measured


def choose_cutoff(measured: Mapping[str, CutoffAdvice]) -> int | None:
    """Return the cutoff_len that cuts no row, or at most one in a hundred where that would be above 8,192."""
    if not measured:
        return None
    lossless = max(advice.lossless for advice in measured.values())
    enough = lossless if lossless <= _LARGEST_LOSSLESS else max(advice.one_percent for advice in measured.values())
    return -(-enough // _ROUND_TO) * _ROUND_TO
