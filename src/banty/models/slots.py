"""What live sequences have computed so far, kept in numbered slots, and the mixer that goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from banty.models.forward import delta_rule
from banty.models.loading import LanguageModel

LENGTH_BUCKET = 64
"""Attention reads keys in multiples of this, so that few shapes occur: the CPU library builds a kernel for each."""


@dataclass
class _Kept:
    """One layer's tensors, the slot first: keys and values, or a convolution window and a recurrent matrix."""

    first: Tensor
    second: Tensor


class Slots:
    """Room for a number of sequences. Attention layers keep keys and values up to a capacity that grows as needed;
    recurrent layers keep the state after a slot's last token, and only that: such a slot cannot be cut short.

    Beside the slots there is `scratch`, a place that rows without tokens can stand for to fill a batch up. It moves
    when slots are reserved.
    """

    def __init__(self, model: LanguageModel, num_slots: int = 1, capacity: int = LENGTH_BUCKET) -> None:
        self._model = model
        self.num_slots = num_slots
        self.capacity = capacity
        self.lengths = [0] * (num_slots + 1)
        self._kept = [self._empty(index, num_slots, capacity) for index in range(len(model.layers))]

    def reserve(self, num_slots: int, capacity: int) -> None:
        """Make room for so many slots and tokens; what is kept stays."""
        capacity = max(self.capacity, -(-capacity // LENGTH_BUCKET) * LENGTH_BUCKET)
        num_slots = max(self.num_slots, num_slots)
        if (num_slots, capacity) == (self.num_slots, self.capacity):
            return
        for index, old in enumerate(self._kept):
            new = self._empty(index, num_slots, capacity)
            attends = self._model.layers[index].kind == "attention"
            for source, target in ((old.first, new.first), (old.second, new.second)):
                place = target[: self.num_slots, :, : self.capacity] if attends else target[: self.num_slots]
                place.copy_(source[: self.num_slots])  # all but the scratch place
            self._kept[index] = new
        self.lengths += [0] * (num_slots - self.num_slots)  # the scratch place never has a length
        self.num_slots, self.capacity = num_slots, capacity

    @property
    def scratch(self) -> int:
        return self.num_slots

    def clear(self, slot: int) -> None:
        """Begin a new sequence in `slot`."""
        self.lengths[slot] = 0
        for index, kept in enumerate(self._kept):
            if self._model.layers[index].kind == "recurrent":
                kept.first[slot].zero_()
                kept.second[slot].zero_()

    def cut(self, slot: int, length: int) -> bool:
        """Forget all but the first `length` tokens; False, and nothing done, where a recurrent state has moved on."""
        if self._model.is_recurrent and length != self.lengths[slot]:
            return False
        self.lengths[slot] = min(length, self.lengths[slot])
        return True

    def copy(self, source: Slots, from_slot: int, to_slot: int) -> None:
        """Take over a whole slot, of this or of another `Slots` of the same model."""
        length = source.lengths[from_slot]
        self.reserve(to_slot + 1, length)
        self.lengths[to_slot] = length
        for index, (theirs, ours) in enumerate(zip(source._kept, self._kept, strict=True)):
            attends = self._model.layers[index].kind == "attention"
            for old, new in ((theirs.first, ours.first), (theirs.second, ours.second)):
                if attends:
                    new[to_slot, :, :length] = old[from_slot, :, :length]
                else:
                    new[to_slot] = old[from_slot]

    def swap(self, one: int, other: int) -> None:
        """Exchange two slots."""
        pair, reverse = [one, other], [other, one]
        for kept in self._kept:
            kept.first[pair] = kept.first[reverse]
            kept.second[pair] = kept.second[reverse]
        self.lengths[one], self.lengths[other] = self.lengths[other], self.lengths[one]

    def kept(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's tensors: keys and values [slots, heads, capacity, dim], or window and state."""
        return self._kept[layer].first, self._kept[layer].second

    def set_recurrent(self, layer: int, slots: Sequence[int], window: Tensor, state: Tensor) -> None:
        self._kept[layer].first[slots] = window
        self._kept[layer].second[slots] = state

    def _empty(self, index: int, num_slots: int, capacity: int) -> _Kept:
        layer: Any = self._model.layers[index].module
        num_slots += 1
        like = self._model.head
        if self._model.layers[index].kind == "attention":
            heads = self._model.config.num_key_value_heads
            shape = (num_slots, heads, capacity, layer.self_attn.head_dim)
            return _Kept(like.new_zeros(shape), like.new_zeros(shape))
        net = layer.linear_attn
        window = like.new_zeros(num_slots, net.conv_dim, net.conv_kernel_size - 1)
        state = like.new_zeros(num_slots, net.num_v_heads, net.head_k_dim, net.head_v_dim, dtype=torch.float32)
        return _Kept(window, state)


class Grid:
    """A mixer over `rows` slots of `width` tokens each, which come after what the slots hold.

    Row r is slot `rows[r]`, for which there is room, and has `counts[r]` tokens, then padding; a row with none is left
    as it is. Where the rows
    are the first slots in order, keys are read in place; otherwise they are gathered. `advance` the slots afterwards.
    """

    def __init__(self, slots: Slots, rows: Sequence[int], counts: Sequence[int], width: int) -> None:
        device = slots.kept(0)[0].device
        self._slots, self._rows, self._width = slots, list(rows), width
        self._list_counts = list(counts)
        real_rows = [row for row in rows if row != slots.scratch]
        assert len(real_rows) == len(set(real_rows)), "two rows of a grid would write over each other"
        starts = [slots.lengths[row] for row in rows]
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        slots.reserve(0, longest)
        self._num_keys = min(-(-max(longest, 1) // LENGTH_BUCKET) * LENGTH_BUCKET, slots.capacity)
        self._counts = torch.tensor(counts, device=device)
        places = torch.arange(width, device=device)
        grid = torch.tensor(starts, device=device)[:, None] + places
        self.positions = grid.reshape(-1)
        real = places < self._counts[:, None]
        self._write_rows = torch.tensor(rows, device=device)[:, None].expand(-1, width)[real]
        self._write_places = grid[real]
        self._real = real.reshape(-1)
        keys = torch.arange(self._num_keys, device=device)
        visible = (keys <= grid[..., None]) | (keys == 0)  # padding must see something, or its softmax is not a number
        self._mask = torch.zeros(visible.shape, device=device, dtype=slots.kept(0)[0].dtype)
        self._mask.masked_fill_(~visible, float("-inf"))
        self._in_place = self._rows == list(range(len(self._rows)))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        keys, values = self._slots.kept(layer)
        keys[self._write_rows, :, self._write_places] = key[self._real]
        values[self._write_rows, :, self._write_places] = value[self._real]
        if self._in_place:
            keys, values = keys[: len(self._rows), :, : self._num_keys], values[: len(self._rows), :, : self._num_keys]
        else:
            keys, values = keys[self._rows, :, : self._num_keys], values[self._rows, :, : self._num_keys]
        num_tokens, num_heads, dim = query.shape
        num_shared = key.shape[1]
        group = num_heads // num_shared
        # The query heads that share a key head become more queries of that head: one wide product instead of a copy.
        folded = query.view(-1, self._width, num_shared, group, dim).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(-1, num_shared, group * self._width, dim)
        mask = self._mask[:, None].expand(-1, group, -1, -1).reshape(-1, 1, group * self._width, self._num_keys)
        output = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
        output = output.view(-1, num_shared, group, self._width, dim).permute(0, 3, 1, 2, 4)
        return output.reshape(num_tokens, num_heads, dim)

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        windows, states = self._slots.kept(layer)
        shape = (len(self._rows), self._width, -1)
        output, window, state = delta_rule(
            module,
            mixed.view(shape),
            write.view(shape),
            decay.view(shape),
            self._counts,
            windows[self._rows],
            states[self._rows],
        )
        self._slots.set_recurrent(layer, self._rows, window, state)
        return output.reshape(-1, *output.shape[2:])

    def advance(self) -> None:
        """Count the tokens just computed as kept."""
        for row, count in zip(self._rows, self._list_counts, strict=True):
            self._slots.lengths[row] += count
