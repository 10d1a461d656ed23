"""The loss of each held-out row's wanted answer, in batches whose logits fit into memory.

answers.py loads this file, which needs torch alone.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_MOST_LOGIT_BYTES = 4 << 30


def add_losses(
    trainer: Any, rows: list[dict[str, Any]], places: Sequence[int], keep: Callable[[int, float, int], None]
) -> None:
    """Give `keep` the place, mean loss and number of wanted tokens of each row; rows with pictures have none."""
    chosen = [
        place
        for place in places
        if rows[place]["labels"] and not any(rows[place].get(name) for name in ("images", "videos", "audios"))
    ]
    chosen.sort(key=lambda place: -(len(rows[place]["input_ids"]) + len(rows[place]["labels"])))
    for batch in split_by_logits(chosen, rows, trainer.model.config):
        found = compute_or_halve(trainer, [rows[place] for place in batch])
        for place, (loss, tokens) in zip(batch, found, strict=True):
            keep(place, loss, tokens)


def split_by_logits(places: Sequence[int], rows: list[dict[str, Any]], config: Any) -> Iterator[list[int]]:
    """Yield the places of rows in batches whose logits take a bounded memory."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    batch: list[int] = []
    widest = 0
    for place in places:
        widest = max(widest, len(rows[place]["labels"]) + 1)
        if batch and (len(batch) + 1) * widest * config.vocab_size * 6 > _MOST_LOGIT_BYTES:
            yield batch
            batch, widest = [], len(rows[place]["labels"]) + 1
        batch.append(place)
    if batch:
        yield batch


def compute_or_halve(trainer: Any, rows: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """Return each row's (loss, tokens); a batch that does not fit is halved."""
    try:
        return compute_losses(trainer, rows)
    except (RuntimeError, MemoryError) as error:
        if len(rows) < 2 or "memory" not in str(error).lower():
            raise
    middle = len(rows) // 2
    return [*compute_or_halve(trainer, rows[:middle]), *compute_or_halve(trainer, rows[middle:])]


def compute_losses(trainer: Any, rows: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """Return each row's mean loss over its wanted answer's tokens, and their number; prompts count nothing."""
    torch = importlib.import_module("torch")
    device = trainer.args.device
    length = max(len(row["input_ids"]) + len(row["labels"]) for row in rows)
    ids = torch.full((len(rows), length), trainer.processing_class.pad_token_id or 0, device=device)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        tokens = torch.tensor([*row["input_ids"], *row["labels"]], device=device)
        # Padded on the left: so all answers end together, and only their logits are computed.
        ids[number, length - len(tokens) :], mask[number, length - len(tokens) :] = tokens, 1
    widest = max(len(row["labels"]) for row in rows) + 1
    model = trainer.model
    model.eval()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    keeps = "logits_to_keep" in inspect.signature(base.forward).parameters
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    with torch.no_grad(), trainer.compute_loss_context_manager():
        logits = model(**inputs, **({"logits_to_keep": widest} if keeps else {}), use_cache=False).logits
    found = []
    for number, row in enumerate(rows):
        count = len(row["labels"])
        wanted = ids[number, length - count :]
        losses = torch.nn.functional.cross_entropy(logits[number, -count - 1 : -1].float(), wanted)
        found.append((round(float(losses), 6), count))
    return found
