"""What a comparison says, as `comparison.json` holds it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.results.scores import Change
from prep.errors import InputError
from prep.frames import make_frame
from prep.storage.bounded import read_bounded

if TYPE_CHECKING:
    import pandas as pd

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class Side:
    """One model's figures, from 0 to 100, and how they moved from the base's; the base's own `changes` are none.

    `fingerprint` tells the weights that answered from those that stand in `source` later.
    """

    name: str
    source: str
    figures: Mapping[str, float]
    changes: Mapping[str, Change]
    fingerprint: str = ""


@dataclass(frozen=True)
class Comparison:
    """The base, then each adapter, on the same rows; `folder` holds the runs and the scores row by row.

    Shape: `losses` are each held-out dataset's mean losses a token, by side; {} where none were computed.
    """

    eval_dataset: str
    rows: int
    sides: tuple[Side, ...]
    folder: Path
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what `comparison.json` holds."""
        sides = [
            {**asdict(side), "changes": {name: _describe_change(change) for name, change in side.changes.items()}}
            for side in self.sides
        ]
        return {"eval_dataset": self.eval_dataset, "rows": self.rows, "sides": sides, "losses": self.losses}

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a side: its name and its figures, from 0 to 100."""
        return make_frame({"side": side.name, **side.figures} for side in self.sides)


def is_finished(folder: Path) -> bool:
    """Tell whether an evaluation was scored to its end there."""
    return (folder / COMPARISON_FILE).is_file()


def read_comparison(folder: Path) -> Comparison:
    """Return what an earlier `evaluate` wrote; raises InputError when it is not whole."""
    path = folder / COMPARISON_FILE
    try:
        content = json.loads(read_bounded(path))
        sides = tuple(_read_side(side) for side in content["sides"])
        # An evaluation of an earlier lfc has no losses.
        losses = {
            str(dataset): {str(name): _read_figure(value) for name, value in means.items()}
            for dataset, means in content.get("losses", {}).items()
        }
        return Comparison(str(content["eval_dataset"]), int(content["rows"]), sides, folder, losses)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path} holds no comparison: {error}", hint=f"remove {folder.as_posix()} and evaluate again"
        ) from error


def _describe_change(change: Change) -> dict[str, Any]:
    return {**asdict(change), "is_clear": change.is_clear}


def _read_side(content: Mapping[str, Any]) -> Side:
    figures = {str(name): _read_figure(value) for name, value in content["figures"].items()}
    changes = {str(name): _read_change(change) for name, change in content["changes"].items()}
    # An evaluation of an earlier lfc has none.
    fingerprint = str(content.get("fingerprint", ""))
    return Side(str(content["name"]), str(content["source"]), figures, changes, fingerprint)


def _read_change(content: Mapping[str, Any]) -> Change:
    value, low, high = (_read_figure(content[name]) for name in ("value", "low", "high"))
    return Change(value, low, high, int(content["rows"]))


def _read_figure(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:60]} is no figure")
    return value
