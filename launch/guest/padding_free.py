"""Batches without padding: the rows of a batch as one sequence, in which no row sees another.

LLaMA-Factory pads the rows of a batch to the longest one; of a batch of eight random rows about 43 % is padding,
which costs as much as text. Here the same rows stand one after another in one sequence of shape [1, tokens],
position ids begin anew in each row, and attention stops at the boundaries. boost.py loads this file, which needs
torch and transformers alone.

Source: transformers 5.6.0, modeling_utils.AttentionInterface, masking_utils.AttentionMaskInterface and
modeling_flash_attention_utils (the names cu_seq_lens_q and max_length_q that models pass on to their attention);
torch 2.11 to 2.14, torch.nn.attention.varlen; Unsloth 2026.10.7, utils/packing.py and utils/attention_dispatch.py.
"""

import functools
import importlib
import inspect
import itertools
from collections.abc import Callable
from typing import Any

ATTENTION_NAME = "lfc_varlen"
_IGNORED_LABEL = -100
_TEXT_KEYS = {"input_ids", "attention_mask", "labels"}


class PaddingFreeCollator:
    """LLaMA-Factory's own collator, whose padded batch is then laid out in one sequence."""

    def __init__(self, collate: Callable[[list[Any]], Any], *, for_unsloth: bool):
        self.collate = collate
        self.for_unsloth = for_unsloth

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """Return the batch of these rows without padding."""
        return flatten(dict(self.collate(rows)), for_unsloth=self.for_unsloth)


def flatten(batch: dict[str, Any], *, for_unsloth: bool) -> dict[str, Any]:
    """Lay the rows of a padded batch one after another; labels stay as they are, so that they are counted alike.

    Shape: input_ids, attention_mask, labels of [rows, longest] in; input_ids, labels, position_ids of [1, tokens]
    out, with where each row ends, in Unsloth's words or in transformers'.
    Raises: ValueError when the batch holds more than text.
    """
    torch = importlib.import_module("torch")
    if others := sorted(set(batch) - _TEXT_KEYS):
        raise ValueError(f"a batch of text alone can go without padding; this one has {', '.join(others)}")
    kept = batch["attention_mask"].bool()
    lengths = kept.sum(dim=1)
    flat = {
        "input_ids": batch["input_ids"][kept].unsqueeze(0),
        "labels": batch["labels"][kept].unsqueeze(0),
        "position_ids": torch.cat([torch.arange(length) for length in lengths.tolist()]).unsqueeze(0),
    }
    if for_unsloth:
        return {**flat, "packed_seq_lengths": lengths.to(torch.int32)}
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    longest = int(lengths.max())
    return {
        **flat,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def ignore_first_labels(inputs: dict[str, Any]) -> dict[str, Any]:
    """Take the first label of each row out of the loss: it is no target of the row before.

    A padded row's first label is never predicted either. It is taken out here, after the trainer has counted the
    batch's labels, so that the loss is divided by the same number. Unsloth does this by itself.
    """
    starts = inputs.get("cu_seq_lens_q")
    if starts is None:
        return inputs
    return {**inputs, "labels": inputs["labels"].index_fill(1, starts[:-1].long(), _IGNORED_LABEL)}


def install_attention(model: Any) -> None:
    """Let a transformers model attend within the rows of a batch without padding; padded batches go on as before.

    Source: transformers 5.6.0, masking_utils.py (create_causal_mask and sdpa_mask).
    """
    utils = importlib.import_module("transformers.modeling_utils")
    masking = importlib.import_module("transformers.masking_utils")

    def build_mask(*args: Any, **kwargs: Any) -> Any:
        # Without a mask of its own a batch is whole rows: causal attention, cut where rows end.
        return None if kwargs.get("attention_mask") is None else masking.sdpa_mask(*args, **kwargs)

    utils.AttentionInterface.register(ATTENTION_NAME, build_attention())
    masking.AttentionMaskInterface.register(ATTENTION_NAME, build_mask)
    model.config._attn_implementation = ATTENTION_NAME


def build_attention() -> Callable[..., tuple[Any, None]]:
    """Return causal attention for transformers: within each row where `cu_seq_lens_q` tells the rows, else sdpa.

    Shape: query [1, heads, tokens, dim], key and value [1, key heads, tokens, dim] in; [1, tokens, heads, dim] out.
    Source: transformers 5.6.0, integrations/sdpa_attention.py.
    """
    # Looked up here and not in each call: torch.compile does not follow imports.
    sdpa = importlib.import_module("transformers.integrations.sdpa_attention").sdpa_attention_forward
    varlen, attend_row_by_row = find_varlen(), _build_row_by_row()

    def attend(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
    ) -> tuple[Any, None]:
        ends = kwargs.pop("cu_seq_lens_q", None)
        if ends is None:
            return sdpa(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
        # With float32 weights and autocast, norms give float32 beside bf16; sdpa's autocast takes them all as bf16.
        states = (query.to(value.dtype), key.to(value.dtype), value)
        if not value.is_cuda or value.element_size() != 2:
            return attend_row_by_row(states, ends, kwargs["scaling"]), None
        longest = kwargs["max_length_q"]
        rows = [state[0].transpose(0, 1).contiguous() for state in states]
        attended = varlen(*rows, ends, ends, longest, longest, scale=kwargs["scaling"], window_size=(-1, 0))
        return attended.unsqueeze(0), None

    return attend


def _build_row_by_row() -> Callable[[tuple[Any, Any, Any], Any, float], Any]:
    """Return the same attention without a kernel of its own: exact in float32, slow on a GPU."""
    torch = importlib.import_module("torch")
    attend = torch.nn.functional.scaled_dot_product_attention

    def attend_row_by_row(states: tuple[Any, Any, Any], ends: Any, scaling: float) -> Any:
        places = ends.tolist()
        attended = [
            attend(*(state[:, :, start:end] for state in states), is_causal=True, scale=scaling, enable_gqa=True)
            for start, end in itertools.pairwise(places)
        ]
        return torch.cat(attended, dim=2).transpose(1, 2)

    return attend_row_by_row


def find_varlen() -> Callable[..., Any]:
    """Return torch's attention over rows of unequal length, which takes fewer key heads than query heads.

    Source: torch 2.11 takes them unasked, from 2.12 on it wants enable_gqa.
    """
    varlen: Callable[..., Any] = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    if "enable_gqa" not in inspect.signature(varlen).parameters:
        return varlen
    return functools.partial(varlen, enable_gqa=True)


def give_unsloth_varlen() -> None:
    """Let Unsloth use torch's varlen attention on torch 2.11 too; from 2.12 on it does by itself.

    Source: Unsloth 2026.10.7, utils/attention_dispatch.py: _load_torch_varlen_attn wants enable_gqa.
    """
    dispatch: Any = importlib.import_module("unsloth.utils.attention_dispatch")
    if dispatch._TORCH_VARLEN_ATTN is not None:
        return
    varlen = find_varlen()

    def attend_rows(*args: Any, enable_gqa: bool = False, **kwargs: Any) -> Any:
        del enable_gqa  # torch 2.11 has no such argument
        return varlen(*args, **kwargs)

    dispatch._TORCH_VARLEN_ATTN = attend_rows
    dispatch._NATIVE_BEATS_XFORMERS = dispatch._native_beats_xformers(dispatch._visible_capabilities(), True)


def compile_layers(model: Any) -> int:
    """Compile each decoder layer for batches without padding, and return how many there are.

    One graph serves all layers and all lengths. Evaluation and generation have padded batches and stay as they are.
    """
    torch = importlib.import_module("torch")
    layers = find_layers(model)
    for layer in layers:
        layer.forward = _choose_by_batch(torch.compile(layer.forward, dynamic=True), layer.forward)
    return len(layers)


def find_layers(model: Any) -> list[Any]:
    """Return the decoder layers of a transformers model, in order."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _choose_by_batch(compiled: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if "cu_seq_lens_q" in kwargs else plain)(*args, **kwargs)

    return forward
