"""How many rows a model can answer at once: what a row takes of memory, told from the model's config.

answers.py loads this file, which needs torch alone.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_AT_ONCE, _MOST_ON_CPU = 512, 64
# Of what is free; the rest is for kernels' own buffers and for copies while the cache grows.
_USABLE_ON_GPU, _USABLE_ON_CPU = 0.8, 0.4


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is for want of memory, of a GPU or of the machine."""
    said = str(error).lower()
    kinds = ("OutOfMemoryError", "MemoryError")
    return type(error).__name__ in kinds or any(
        words in said
        for words in ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate")
    )


@dataclass(frozen=True)
class Memory:
    """What a row takes while it is answered: bytes for each token, and how many tokens are new."""

    torch: Any
    is_gpu: bool
    cache_bytes: int
    prompt_bytes: int
    row_bytes: int
    new_tokens: int

    @classmethod
    def of(cls, trainer: Any, gen_kwargs: dict[str, Any]) -> "Memory":
        """Return what the model's config tells."""
        torch = importlib.import_module("torch")
        config = trainer.model.config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        heads = getattr(config, "num_attention_heads", 1)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        size = getattr(trainer.model, "dtype", torch.float32).itemsize
        keys = getattr(config, "num_key_value_heads", None) or heads
        cache = 2 * config.num_hidden_layers * keys * width * size
        inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
        beams = int(gen_kwargs.get("num_beams") or 1)
        return cls(
            torch,
            trainer.args.device.type == "cuda",
            # While it grows, one layer's cache stands there twice.
            int(cache * (1 + 2 / config.num_hidden_layers)) * beams,
            (4 * inner + 8 * config.hidden_size) * size,
            # The sampler sorts the chances of the next token.
            config.vocab_size * 24 * beams,
            int(gen_kwargs.get("max_new_tokens") or gen_kwargs.get("max_length") or 1024),
        )

    def count_rows(self, rows: Sequence[dict[str, Any]]) -> int:
        """Return how many of some rows, the longest first, are asked at once."""
        longest = max(len(row["input_ids"]) for row in rows)
        taken = self.cache_bytes * (longest + self.new_tokens) + self.prompt_bytes * longest + self.row_bytes
        most = MOST_AT_ONCE if self.is_gpu else _MOST_ON_CPU
        fitting = max(1, min(most, self._measure_free() // taken))
        # As many batches of one size, and not a last one of few rows.
        return -(-len(rows) // -(-len(rows) // fitting))

    def _measure_free(self) -> int:
        if self.is_gpu:
            free, _ = self.torch.cuda.mem_get_info()
            held = self.torch.cuda.memory_reserved() - self.torch.cuda.memory_allocated()
            return int((free + held) * _USABLE_ON_GPU)
        try:
            return int(importlib.import_module("psutil").virtual_memory().available * _USABLE_ON_CPU)
        except ImportError:
            return 1 << 30

    def read_peak(self) -> int:
        """Return the most bytes that the GPU held, 0 without one."""
        return int(self.torch.cuda.max_memory_allocated()) if self.is_gpu else 0
