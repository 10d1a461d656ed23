"""The losses of held-out rows: each dataset's by itself, and the rows ranked by theirs, traced to their source."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.evaluation.held_out_rows import HeldOutRow
from prep.storage.atomic import write_text

ROW_LOSSES = "row_losses.jsonl"
_MAX_LINE_BYTES = 1 << 16
# (mean loss over the wanted answer's tokens, how many these are); None for a row that has no loss.
RowLoss = tuple[float, int] | None


def read_row_losses(folder: Path, count: int) -> list[RowLoss] | None:
    """Return each row's loss as a prediction wrote it, None when there is none for these rows."""
    found: list[RowLoss] = []
    try:
        with (folder / ROW_LOSSES).open("rb") as stream:
            while line := stream.readline(_MAX_LINE_BYTES):
                value = json.loads(line)
                loss, tokens = value["loss"], value["tokens"]
                found.append(None if loss is None else (float(loss), int(tokens)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if len(found) == count else None


def average_losses(
    losses: Mapping[str, Sequence[RowLoss]], rows: Sequence[HeldOutRow] | None, eval_dataset: str
) -> dict[str, dict[str, float]]:
    """Return each dataset's mean loss a token of the wanted answers, by side.

    Where it is not known which row is of which dataset, all count as one.
    """
    count = max(map(len, losses.values()), default=0)
    names = [row.dataset for row in rows] if rows else [eval_dataset] * count
    means: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(names):
        for side, values in losses.items():
            own = [value for value, of in zip(values, names, strict=True) if value and of == name]
            tokens = sum(number for _, number in own)
            if tokens:
                mean = sum(loss * number for loss, number in own) / tokens
                means.setdefault(name, {})[side] = round(mean, 4)
    return means


def rank_rows(losses: Mapping[str, Sequence[RowLoss]], rows: Sequence[HeldOutRow] | None) -> list[dict[str, Any]]:
    """Return the rows, the one with the highest loss of the last side first.

    Shape: {row, losses: {side: mean a token}, tokens, and where known dataset, file, file_row, origin}.
    """
    ranked = []
    for number, values in enumerate(zip(*losses.values(), strict=True)):
        known = {side: value for side, value in zip(losses, values, strict=True) if value}
        if known:
            entry = {
                "row": number + 1,
                "losses": {side: round(loss, 4) for side, (loss, _) in known.items()},
                "tokens": next(iter(known.values()))[1],
            }
            ranked.append({**entry, **(rows[number].place if rows else {})})
    last = list(losses)[-1] if losses else ""
    return sorted(ranked, key=lambda entry: -entry["losses"].get(last, 0.0))


def write_ranked_rows(folder: Path, ranked: Sequence[Mapping[str, Any]]) -> None:
    """Write `row_losses.jsonl` into an evaluation's folder."""
    write_text(folder / ROW_LOSSES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ranked))
