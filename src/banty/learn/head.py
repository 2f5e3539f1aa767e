"""From hidden states to the logprobs of given tokens, without ever holding all logits at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 1 << 25
"""How many float32 logits are held at once, at most: 128 MiB of them, and as much again for their gradient."""


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor, *, chunk_logits: int = CHUNK_LOGITS
) -> tuple[Tensor, Tensor]:
    """Natural-log probabilities of `targets` [N] under hidden states [N, hidden] at their temperatures, float32 or
    wider, and the entropies of those distributions [N], without gradient.

    Over more than one chunk, logits are computed again for the gradient instead of being kept.
    """
    chunk = max(chunk_logits // len(weight), 1)
    if len(hidden) <= chunk:
        logprobs, entropy = _chunk(hidden, weight, targets, temperatures)
        return logprobs, entropy.detach()
    pieces = []
    for rows in zip(*(torch.split(tensor, chunk) for tensor in (hidden, targets, temperatures)), strict=True):
        piece = (rows[0], weight, rows[1], rows[2])
        if torch.is_grad_enabled():
            pieces.append(checkpoint(_chunk, *piece, use_reentrant=False))
        else:
            pieces.append(_chunk(*piece))
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces]).detach()


def _chunk(hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(hidden, weight)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperatures[:, None]
    logprobs = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], entropy
