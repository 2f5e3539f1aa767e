"""Sequences packed one after another into a stream, for training: each sees itself, and a beginning all may share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from banty.models.forward import delta_rule

QUERY_BLOCK = 1024
"""Queries behind a shared beginning are taken in blocks of so many, each with the keys up to its end and a mask."""
_BAND = 0.75
"""Sequences down to this share of the longest one's length are padded to it."""


@dataclass(frozen=True)
class _Band:
    """Sequences of similar lengths as rows: where in the stream their tokens lie [rows, width], padding reading the
    row's first token again; which of [rows * width] are real, and where in the stream those belong."""

    places: Tensor
    real: Tensor
    targets: Tensor


class Packed:
    """A mixer over a stream: `num_shared` tokens that every sequence begins with, the rest of each, `lengths` long, in
    order, and `num_padding` tokens of no sequence.

    Attention runs over rows of similar lengths; a recurrent layer takes each sequence as a row of its own that begins
    with the state after the shared tokens, or an empty one. Nothing leaks from one into the next.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, num_shared: int = 0, num_padding: int = 0) -> None:
        self.lengths = list(lengths)
        self.num_shared, self.num_padding = num_shared, num_padding
        shared, padding = torch.arange(num_shared, device=device), torch.zeros(num_padding, device=device).long()
        own = (num_shared + torch.arange(one, device=device) for one in self.lengths)
        self.positions = torch.cat([shared, *own, padding])
        counts = torch.tensor(self.lengths, device=device)
        self._starts, self._counts = num_shared + counts.cumsum(0) - counts, counts
        self._bands = [self._rows(band) for band in _bands(self.lengths)]
        targets = torch.cat([band.targets for band in self._bands])
        # The bands' real tokens lie one behind another; this puts them where they belong.
        self._order = torch.empty_like(targets).scatter_(0, targets - num_shared, torch.arange(len(targets)).to(device))
        self._masks: dict[tuple[int, int, int], Tensor] = {}

    @functools.cached_property
    def _all(self) -> _Band:
        """Every sequence as a row, for recurrent layers."""
        return self._rows(range(len(self.lengths)))

    def _rows(self, members: Sequence[int]) -> _Band:
        device = self._counts.device
        chosen = torch.tensor(members, device=device)
        counts, starts = self._counts[chosen], self._starts[chosen]
        columns = torch.arange(int(counts.max()), device=device)
        inside = columns < counts[:, None]
        places = torch.where(inside, starts[:, None] + columns, starts[:, None])
        return _Band(places, inside.flatten().nonzero()[:, 0], places[inside])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        outputs = []
        shared = slice(0, self.num_shared)
        for band in self._bands:
            rows = [_gather(tensor, band.places) for tensor in (query, key, value)]
            mixed = self._attend_rows(rows, (key[shared], value[shared]), scale)
            outputs.append(mixed.transpose(1, 2).flatten(0, 1).index_select(0, band.real))
        parts = [torch.cat(outputs).index_select(0, self._order), query.new_zeros(self.num_padding, *query.shape[1:])]
        if self.num_shared:
            pieces = [tensor[shared].transpose(0, 1)[None] for tensor in (query, key, value)]
            parts.insert(0, _causal(pieces, scale)[0].transpose(0, 1))
        return torch.cat(parts)

    def _attend_rows(self, rows: Sequence[Tensor], shared: tuple[Tensor, Tensor], scale: float) -> Tensor:
        """[rows, heads, width, dim] from queries, keys and values of that shape; each row sees the shared tokens and
        its own up to itself."""
        num_shared = self.num_shared
        if not num_shared:
            return _causal(rows, scale)
        query, key, value = rows
        num_rows, num_heads, width, dim = query.shape
        key, value = (
            torch.cat((one.transpose(0, 1)[None].expand(num_rows, -1, -1, -1), own), dim=2)
            for one, own in zip(shared, (key, value), strict=True)
        )
        # Query heads that share a key head become more queries of that head, which is several times faster on a CPU.
        group = num_heads // key.shape[1]
        grouped = query.view(num_rows, -1, group, width, dim)
        outputs = []
        for start in range(0, width, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, width)
            block = F.scaled_dot_product_attention(
                grouped[:, :, :, start:stop].flatten(2, 3),
                key[:, :, : num_shared + stop],
                value[:, :, : num_shared + stop],
                attn_mask=self._mask(start, stop, group, query),
                scale=scale,
            )
            outputs.append(block.view(num_rows, -1, group, stop - start, dim).flatten(1, 2))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)

    def _mask(self, start: int, stop: int, group: int, like: Tensor) -> Tensor:
        """What the queries from `start` to `stop` of a row may not see; one tensor for all layers and bands, since what
        attention needs again for its gradient is kept."""
        place = (start, stop, group)
        if place not in self._masks:
            columns = torch.arange(self.num_shared + stop, device=like.device)
            hidden = columns > self.num_shared + torch.arange(start, stop, device=like.device)[:, None]
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            self._masks[place] = mask.masked_fill_(hidden, float("-inf")).repeat(group, 1)
        return self._masks[place]

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        window: Tensor | None = None
        state: Tensor | None = None
        if self.num_shared:
            count = torch.tensor([self.num_shared], device=mixed.device)
            pieces = [tensor[None, : self.num_shared] for tensor in (mixed, write, decay)]
            output, window, state = delta_rule(module, pieces[0], pieces[1], pieces[2], count)
            num_rows = len(self.lengths)
            window, state = window.expand(num_rows, -1, -1), state.expand(num_rows, -1, -1, -1)
            outputs.append(output[0])
        places = self._all.places
        output, _, _ = delta_rule(module, mixed[places], write[places], decay[places], self._counts, window, state)
        outputs.append(output.flatten(0, 1)[self._all.real])
        return torch.cat((*outputs, output.new_zeros(self.num_padding, *output.shape[2:])))


def _gather(tensor: Tensor, places: Tensor) -> Tensor:
    """[rows, heads, width, dim] of a stream's [N, heads, dim]."""
    return tensor.index_select(0, places.flatten()).view(*places.shape, *tensor.shape[1:]).transpose(1, 2)


def _causal(rows: Sequence[Tensor], scale: float) -> Tensor:
    query, key, value = rows
    grouped = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)


def _bands(lengths: Sequence[int]) -> list[list[int]]:
    """Places in `lengths`, those of similar length together, longest first."""
    bands: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not bands or lengths[place] < _BAND * longest:
            bands.append([])
            longest = lengths[place]
        bands[-1].append(place)
    return bands
