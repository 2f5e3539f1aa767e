"""Sequences packed one after another into a stream, for training: each sees itself alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from banty.models.forward import delta_rule


class Packed:
    """A mixer over sequences of the given lengths, in the order they lie in the stream.

    Attention runs sequence by sequence; a recurrent layer takes each sequence as a row of its own with an empty state,
    so nothing leaks from one into the next.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = list(lengths)
        self.positions = torch.cat([torch.arange(length, device=device) for length in self.lengths])
        self._counts = torch.tensor(self.lengths, device=device)
        starts = self._counts.cumsum(0) - self._counts
        rows = torch.arange(max(self.lengths), device=device)
        # Where in the stream each row's tokens lie, [rows, longest]; padding reads the row's first token again.
        self._places = torch.where(rows < self._counts[:, None], starts[:, None] + rows, starts[:, None])
        self._real = rows < self._counts[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        grouped = key.shape[1] != query.shape[1]
        outputs = []
        pieces = (torch.split(tensor.transpose(0, 1)[None], self.lengths, dim=2) for tensor in (query, key, value))
        for one_query, one_key, one_value in zip(*pieces, strict=True):
            mixed = F.scaled_dot_product_attention(
                one_query, one_key, one_value, is_causal=True, scale=scale, enable_gqa=grouped
            )
            outputs.append(mixed[0].transpose(0, 1))
        return torch.cat(outputs)

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        places = self._places
        output, _, _ = delta_rule(module, mixed[places], write[places], decay[places], self._counts)
        return output[self._real]
