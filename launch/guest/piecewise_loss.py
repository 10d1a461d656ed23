"""The loss of a batch without padding, piece by piece: its logits never stand in memory whole.

A batch of 8,000 tokens has 1.2 billion logits with Qwen3's vocabulary: 5 GB for each copy in float32, of which
transformers' loss holds several. Here the output layer and the cross entropy take some tokens at a time, and what
each piece gives to the gradient of the hidden states is kept; nothing is computed twice. That needs an output layer
that is not trained itself. boost.py loads this file, which needs torch and transformers alone.

Source: transformers 5.6.0, loss/loss_utils.py (ForCausalLMLoss) and the forward of its causal language models.
"""

import functools
import importlib
from typing import Any

_IGNORED_LABEL = -100
# Bytes of one piece's logits in float32: enough tokens to keep the card busy, and few beside its memory.
_PIECE_BYTES = 1 << 30


def install(model: Any) -> bool:
    """Give a transformers model the loss in pieces for batches without padding; False where it has to stay."""
    torch = importlib.import_module("torch")
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None or head.weight.requires_grad:
        return False
    forward, whole_loss, whole_head = model.forward, model.loss_function, head.forward
    piecewise = build_loss()

    def loss_function(
        logits: Any, labels: Any, vocab_size: int, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        if head.forward is not _let_through:
            return whole_loss(
                logits=logits, labels=labels, vocab_size=vocab_size, num_items_in_batch=num_items_in_batch, **kwargs
            )
        # What the output layer let through are the hidden states.
        targets = torch.nn.functional.pad(labels, (0, 1), value=_IGNORED_LABEL)[..., 1:].reshape(-1)
        return piecewise(logits.reshape(-1, logits.shape[-1]), head.weight, targets) / num_items_in_batch

    @functools.wraps(forward)
    def forward_in_pieces(*args: Any, **kwargs: Any) -> Any:
        is_training = "cu_seq_lens_q" in kwargs and kwargs.get("num_items_in_batch") is not None
        if not is_training or kwargs.get("labels") is None:
            return forward(*args, **kwargs)
        head.forward = _let_through
        try:
            return forward(*args, **kwargs)
        finally:
            head.forward = whole_head

    model.loss_function = loss_function
    model.forward = forward_in_pieces
    return True


def _let_through(hidden: Any) -> Any:
    return hidden


def build_loss() -> Any:
    """Return the summed cross entropy of a linear layer's outputs, as a function of (hidden, weight, targets).

    Shape: hidden [tokens, width], weight [vocabulary, width], targets [tokens], -100 where none is wanted; one
    float32 out. Only the hidden states get a gradient.
    """
    torch = importlib.import_module("torch")

    def take_piece(hidden: Any, weight: Any, targets: Any) -> tuple[Any, Any]:
        """Return the summed loss of a piece, and its gradient by the hidden states."""
        logits = (hidden @ weight.t()).float()
        wanted = targets != _IGNORED_LABEL
        places = targets.clamp_min(0).unsqueeze(1)
        sums = logits.logsumexp(dim=1, keepdim=True)
        loss = ((sums - logits.gather(1, places)).squeeze(1) * wanted).sum()
        shares = logits.sub_(sums).exp_()
        shares.scatter_add_(1, places, torch.full_like(places, -1, dtype=shares.dtype))
        shares.mul_(wanted.unsqueeze(1))
        return loss, shares.to(weight.dtype) @ weight

    class PiecewiseLoss(torch.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
            size = max(1, _PIECE_BYTES // (4 * weight.shape[0]))
            losses, gradients = [], []
            for start in range(0, hidden.shape[0], size):
                piece = slice(start, start + size)
                loss, gradient = take_piece(hidden[piece].to(weight.dtype), weight, targets[piece])
                losses.append(loss)
                gradients.append(gradient)
            ctx.save_for_backward(torch.cat(gradients).to(hidden.dtype))
            return torch.stack(losses).sum()

        @staticmethod
        def backward(ctx: Any, grown: Any) -> tuple[Any, None, None]:
            (gradient,) = ctx.saved_tensors
            return gradient * grown.to(gradient.dtype), None, None

    return PiecewiseLoss.apply
