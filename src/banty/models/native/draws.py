"""Drawing a token for each row in one pass over its logits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from banty.models.native.compiled import compiled

_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long


def drawn(logits: Tensor, temperatures: Sequence[float], uniforms: Sequence[float]) -> tuple[Tensor, Tensor] | None:
    """Tokens and logprobs of the rows of `logits` [B, vocabulary] at temperatures above 0; None without a kernel.

    The inverse of each row's cumulative distribution at its uniform number. Where a row has no distribution its logprob
    is not finite.
    """
    library = compiled("draws", logits.dtype, logits.device)
    if library is None:
        return None
    library.draw.argtypes = [*[_POINTER] * 5, _LONG, _LONG]
    logits = logits.contiguous()
    points = torch.tensor(uniforms, dtype=torch.float64)
    heat = torch.tensor(temperatures, dtype=torch.float32)
    tokens, logprobs = torch.empty(len(logits), dtype=torch.int64), torch.empty(len(logits), dtype=torch.float32)
    tensors = (logits, heat, points, tokens, logprobs)
    library.draw(*(one.data_ptr() for one in tensors), len(logits), logits.shape[1])
    return tokens, logprobs
