"""What a training takes of a GPU's memory, told from its config without a GPU.

The bytes a token were fitted to runs of 0.6B and 4B shapes on one H100 (benchmarks/results/train_speed.json): they
are right within a sixth there. A rehearsal (`--rehearse`) measures instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.tune.model_shape import ModelShape, read_model_shape

GIB = 1 << 30
# Of a GPU's memory a training may be told to take so much; the rest is the driver's, and holes.
USABLE_SHARE = 0.92
# CUDA's own context, and what kernels reserve.
_CONTEXT_BYTES = int(0.7 * GIB)
# A token's activations in one of Unsloth's layers are 2 × (5.6 hidden + 1 attention + 2.2 inner) bytes.
_HIDDEN_PARTS, _ATTENTION_PARTS, _INNER_PARTS = 5.6, 1.0, 2.2
# Layers of transformers keep float32 copies of each adapter's input too.
_PLAIN_FACTOR = 2.2
# Compiled layers compute some of it anew.
_COMPILED_FACTOR = 1.45
# A token's logits, for each word of the vocabulary: in half, in float32 for the loss, and their gradients. A
# preference keeps those of both models and their logarithms (DPO took 32.5 GiB and KTO 20.8 on a 0.6B shape).
_LOGIT_BYTES = {"sft": 10, "pt": 10, "dpo": 48, "kto": 30}
_HALF, _FLOAT = 2, 4
_4BIT = 0.55
# A trained weight in float32 with its gradient and Adam's two numbers.
_TRAINED_BYTES = 16
_TRAINED_BYTES_8BIT = 10


@dataclass(frozen=True)
class Batch:
    """One batch as it goes through the model: rows, tokens with padding, and the longest row."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Estimate:
    """What a training takes, in bytes: its weights, what is trained of them, and the activations of its batch."""

    weights: int
    trained: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, with what CUDA takes for itself."""
        return self.weights + self.trained + self.activations + _CONTEXT_BYTES

    @property
    def total_gib(self) -> float:
        """All of it in GiB."""
        return self.total / GIB

    @property
    def card_gb(self) -> int:
        """The smallest usual card that it fits on, in GB; 0 for none."""
        needed = self.total / USABLE_SHARE
        return next((size for size in (8, 12, 16, 24, 32, 40, 48, 80, 96, 141) if needed <= size * 1e9), 0)


@dataclass(frozen=True)
class Rows:
    """How long a training's rows are, in tokens: the mean and the longest, both cut at cutoff_len."""

    mean: float
    longest: int

    def largest_batch(self, rows: int, *, padded: bool) -> Batch:
        """Return the largest batch that a training of many will meet."""
        if padded:
            return Batch(rows, rows * self.longest)
        # The largest of some hundred batches: the mean, and three times what a mean of so many rows is off by.
        spread = 3 * (self.longest - self.mean) / 3 / rows**0.5
        return Batch(rows, int(min(rows * self.longest, rows * (self.mean + spread))))


def estimate_memory(
    values: Mapping[str, Any], rows: Rows | None = None, *, boosted: str = "", compiled: bool = False
) -> Estimate | None:
    """Return what a training config takes on one GPU; None where its model or its method is not known here.

    Shape: without `rows` every row is taken for cutoff_len tokens. `boosted` is "", "keep" or "off": batches
    without padding, with gradient checkpointing kept or off; `compiled`: with compiled layers.
    """
    shape = read_model_shape(values.get("model_name_or_path"))
    method = values.get("finetuning_type", "lora")
    stage = values.get("stage", "sft")
    spread = any(values.get(key) for key in ("deepspeed", "fsdp", "fsdp_config"))
    if shape is None or method not in ("lora", "full") or spread or stage not in _LOGIT_BYTES:
        return None
    cutoff = int(values.get("cutoff_len") or 2048)
    lengths = rows or Rows(cutoff, cutoff)
    size = int(values.get("per_device_train_batch_size") or 8) * _ROWS_OF_A_ROW.get(stage, 1)
    batch = lengths.largest_batch(size, padded=not boosted)
    weights = _count_weights(shape, values)
    trained = (
        shape.weights
        if method == "full"
        else shape.count_lora(int(values.get("lora_rank") or 8), values.get("lora_target"))
    )
    bytes_each = _TRAINED_BYTES_8BIT if "8bit" in str(values.get("optim")) else _TRAINED_BYTES
    if method == "full":
        # The weights themselves are those that are trained.
        weights = 0
    factor = 1.0 if values.get("use_unsloth") else _COMPILED_FACTOR if compiled else _PLAIN_FACTOR
    activations = _count_activations(shape, {**values, "stage": stage}, batch, boosted, factor)
    return Estimate(weights, trained * bytes_each, int(activations))


# A preference row is two rows at once.
_ROWS_OF_A_ROW = {"dpo": 2, "kto": 2}


def _count_weights(shape: ModelShape, values: Mapping[str, Any]) -> int:
    if values.get("quantization_bit") == 4:
        return int(shape.layer_weights * _4BIT) + shape.embedding_weights * _HALF
    if values.get("quantization_bit") == 8:
        return shape.layer_weights + shape.embedding_weights * _HALF
    return shape.weights * (
        _HALF if values.get("bf16") or values.get("fp16") or values.get("pure_bf16") else _FLOAT
    )


def _count_activations(
    shape: ModelShape, values: Mapping[str, Any], batch: Batch, boosted: str, factor: float
) -> float:
    unsloth = bool(values.get("use_unsloth"))
    layer = _HALF * (
        _HIDDEN_PARTS * shape.hidden
        + _ATTENTION_PARTS * 2 * (shape.attention_width + shape.key_width)
        + _INNER_PARTS * shape.inner
    )
    layer *= factor
    # Unsloth computes the loss piece by piece, so do Liger, and the boost where the output layer is not trained.
    boosts_loss = bool(boosted) and values.get("finetuning_type", "lora") != "full"
    in_pieces = unsloth or bool(values.get("enable_liger_kernel")) or boosts_loss
    is_chunked = values["stage"] in ("sft", "pt") and in_pieces
    logits = 0 if is_chunked else _LOGIT_BYTES[values["stage"]] * shape.vocabulary
    off = boosted == "off" or (values.get("disable_gradient_checkpointing") and not unsloth)
    if off:
        return batch.tokens * (shape.layers * layer + logits)
    # What is kept of each layer is its input; Unsloth keeps even that on the host.
    kept = 0 if unsloth or values.get("use_unsloth_gc") else shape.layers * shape.hidden * _HALF
    return batch.tokens * (kept + layer + 8 * shape.hidden * _HALF + logits)


def describe_memory(values: Mapping[str, Any]) -> str:
    """Return what a training takes at most, in words, and the card that it needs; "" where that is not known.

    >>> describe_memory({"model_name_or_path": "Qwen/Qwen3-4B", "use_unsloth": True, "cutoff_len": 4096, "fp16": 1})
    'at most 12.5 GiB on one GPU, told from the config (every row as long as cutoff_len): a card of 16 GB'
    """
    try:
        estimate = estimate_memory(values)
    except (ValueError, TypeError, OverflowError):
        # A number that is none: the check says so.
        return ""
    if estimate is None:
        return ""
    card = f"a card of {estimate.card_gb} GB" if estimate.card_gb else "more than any one card has"
    most = f"at most {estimate.total_gib:.1f} GiB on one GPU"
    return f"{most}, told from the config (every row as long as cutoff_len): {card}"
