"""What a training's largest batch takes of a GPU's memory, measured before the first step.

The training's own order of rows is known beforehand, and so is its largest batch. It goes forward and backward
once; nothing is learnt from it, and what it draws at random does not change what the training draws. boost.py loads
this file, which needs torch alone.

Source: accelerate 1.11, data_loader.SeedableRandomSampler: an epoch's order follows from the seed and its number.
"""

import copy
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# What is left to the driver, to kernels' own buffers and to memory that cannot be used in one piece.
USABLE_SHARE = 0.92
# Adam keeps two numbers for each trained weight.
_MOMENTS = 2
_BYTES_FLOAT32 = 4
# Beyond this, looking at every batch takes minutes.
_MAX_ROWS_SEEN = 20_000_000


class TooLargeError(Exception):
    """The largest batch does not fit into the GPU's memory."""


@dataclass(frozen=True)
class Rehearsal:
    """What the largest batch took: `peak_bytes` with weights and gradients, before the optimizer's own state.

    `budget_bytes` is what of the GPU this process can have, other processes' memory left out.
    """

    rows: int
    tokens: int
    peak_bytes: int
    optimizer_bytes: int
    budget_bytes: int

    @property
    def fits(self) -> bool:
        """Whether a training with such batches leaves some of the memory free."""
        return self.peak_bytes + self.optimizer_bytes <= USABLE_SHARE * self.budget_bytes


def rehearse(trainer: Any, collate: Any, loader: Any) -> Rehearsal | None:
    """Measure the largest batch of a trainer's loader on its GPU; None without a GPU.

    Raises: TooLargeError when the GPU's memory does not suffice.
    """
    torch = importlib.import_module("torch")
    if trainer.args.device.type != "cuda":
        return None
    rows = find_largest_batch(trainer, loader)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    budget = measure_budget(torch)
    trainer.model.train()
    try:
        with torch.random.fork_rng():
            tokens = _go_forward_and_back(trainer, collate([dict(row) for row in rows]))
    except torch.OutOfMemoryError as error:
        raise TooLargeError(f"the largest batch, of {len(rows)} rows, does not fit: {error}") from error
    finally:
        trainer.model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    peak = int(torch.cuda.max_memory_allocated())
    return Rehearsal(len(rows), tokens, peak, estimate_optimizer(trainer), budget)


def find_largest_batch(trainer: Any, loader: Any) -> list[Any]:
    """Return the rows of the batch with the most tokens; where the order is not known, the longest rows.

    Shape: rows have input_ids; a batch has per_device_train_batch_size of them.
    """
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    size = trainer.args.per_device_train_batch_size
    batches = (
        order[start : start + size]
        for order in _list_orders(trainer, loader, len(lengths))
        for start in range(0, len(order), size)
    )
    longest = sorted(range(len(lengths)), key=lambda place: -lengths[place])[:size]
    places = max(batches, key=lambda batch: sum(lengths[place] for place in batch), default=longest)
    return [trainer.train_dataset[place] for place in places]


def _list_orders(trainer: Any, loader: Any, rows: int) -> Iterator[list[int]]:
    """Yield the order of rows in each epoch; nothing where it cannot be told beforehand."""
    sampler: Any = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    kind = type(sampler).__name__
    epochs = count_epochs(trainer, rows)
    if kind not in ("SeedableRandomSampler", "SequentialSampler") or epochs * rows > _MAX_ROWS_SEEN:
        return
    for epoch in range(1 if kind == "SequentialSampler" else epochs):
        own = copy.copy(sampler)
        if kind == "SeedableRandomSampler":
            # The loader's own generator stays as it is.
            own.generator = importlib.import_module("torch").Generator()
            own.set_epoch(epoch)
        yield list(own)


def count_epochs(trainer: Any, rows: int) -> int:
    """Return how many times a training begins with the first of its rows."""
    args = trainer.args
    if args.max_steps > 0:
        seen = args.max_steps * args.gradient_accumulation_steps * args.per_device_train_batch_size
        return int(-(-seen // max(rows, 1)))
    return int(-(-args.num_train_epochs // 1))


def measure_budget(torch: Any) -> int:
    """Return the bytes of the GPU that this process holds or can get."""
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved())


def estimate_optimizer(trainer: Any) -> int:
    """Return the bytes that Adam will keep beside the trained weights, for the optimizer that a config names."""
    trained = sum(item.numel() for item in trainer.model.parameters() if item.requires_grad)
    size = 1 if "8bit" in str(trainer.args.optim) else _BYTES_FLOAT32
    return int(trained * _MOMENTS * size)


def _go_forward_and_back(trainer: Any, batch: Any) -> int:
    """Compute one batch's gradients and return its number of tokens."""
    (batch,), count = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    inputs = trainer._prepare_inputs(batch)
    tokens = int(inputs["input_ids"].numel())
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count)
    loss.backward()
    return tokens
