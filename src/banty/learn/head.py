"""From hidden states to the logprobs of given tokens, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""How many logits are made at once, at most, held two or three times over in float32: on a CPU so few that they stay in
its caches."""


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor, *, chunk_logits: int | None = None
) -> tuple[Tensor, Tensor]:
    """Natural-log probabilities of `targets` [N] under hidden states [N, hidden] at their temperatures, float32 or
    wider, and the entropies of those distributions [N], without gradient.

    Logits are made chunk by chunk and made again for the gradient, which sums over chunks in float32 or wider.
    """
    chunk_logits = chunk_logits or CHUNK_LOGITS.get(hidden.device.type, CHUNK_LOGITS["cuda"])
    found: tuple[Tensor, Tensor] = _TokenLogprobs.apply(
        hidden, weight, targets, temperatures, max(chunk_logits // len(weight), 1)
    )
    return found


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, targets, temperatures)
        ctx.chunk = chunk
        pieces = []
        for rows in zip(*(torch.split(tensor, chunk) for tensor in (hidden, targets, temperatures)), strict=True):
            logprobs = _all_logprobs(rows[0], weight, rows[2])
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            pieces.append((logprobs.gather(1, rows[1][:, None])[:, 0], entropy))
        taken, entropies = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        ctx.mark_non_differentiable(entropies)
        return taken, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, temperatures = ctx.saved_tensors
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        wide = _wide(weight)
        of_hidden = torch.empty_like(hidden) if wants_hidden else None
        of_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else None
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            # The derivative of a token's logprob by its logits: one for the token, less everybody's probability.
            by_logits = _all_logprobs(hidden[rows], weight, temperatures[rows]).exp_()
            scale = gradients[0][rows] / temperatures[rows]
            by_logits.mul_(-scale[:, None])
            by_logits.scatter_add_(1, targets[rows][:, None], scale[:, None])
            narrow = by_logits.to(weight.dtype)
            if of_hidden is not None:
                torch.mm(narrow, weight, out=of_hidden[rows])
            if of_weight is not None:
                of_weight += narrow.T @ hidden[rows]
        return of_hidden, None if of_weight is None else of_weight.to(weight.dtype), None, None, None


def _all_logprobs(hidden: Tensor, weight: Tensor, temperatures: Tensor) -> Tensor:
    logits = F.linear(hidden, weight)
    return (logits.to(_wide(logits)) / temperatures[:, None]).log_softmax(-1)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
