"""What live sequences have computed so far, kept in numbered slots, and the mixer that goes on from there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from banty.models.forward import delta_rule, hidden_states
from banty.models.loading import LanguageModel
from banty.models.native.attention import Attend, decode_attention
from banty.models.native.compiled import compiled
from banty.models.native.decoder import Decoder, decoder_library, decoder_of

_PAGE = 4096
LENGTH_BUCKET = 64
"""Attention reads keys in multiples of this, so that few shapes occur: the CPU library builds a kernel for each."""


@dataclass
class _Kept:
    """One layer's tensors, the slot first: keys and values, or a convolution window and a recurrent matrix."""

    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class _Copied:
    """That a slot's first `length` tokens are those of another `Slots`' slot, as it was when it was filled."""

    source: Slots
    slot: int
    filling: int
    length: int


class Kernels:
    """The compiled kernels for a model: attention, and a whole pass. None where there is none."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.attend = _kernel(model)

    @functools.cached_property
    def decoder(self) -> Decoder | None:
        """Has a copy of the weights as they are when it is first asked for."""
        return decoder_of(self._model) if self.attend is not None else None

    @property
    def names(self) -> list[str]:
        """Which of the package's kernels compute something for this model, here and now."""
        model = self._model
        there = {
            "attention": self.attend is not None,
            "decoder": self.attend is not None and decoder_library(model) is not None,
            **{name: compiled(name, model.head.dtype, model.device) is not None for name in ("draws", "layers")},
        }
        return [name for name, is_there in there.items() if is_there]


class Slots:
    """Room for a number of sequences. Attention layers keep keys and values up to a capacity that grows as needed;
    recurrent layers keep the state after a slot's last token, and only that: such a slot cannot be cut short.

    Beside the slots there is `scratch`, a place that rows without tokens can stand for to fill a batch up. It moves
    when slots are reserved. `kernel` computes what a `Stream` needs, and `decoder` a whole pass; None where there is
    none. They are those of `kernels`, which several `Slots` of one model may share.
    """

    def __init__(
        self,
        model: LanguageModel,
        num_slots: int = 1,
        capacity: int = LENGTH_BUCKET,
        kernels: Kernels | None = None,
    ) -> None:
        self.model = model
        self.num_slots = num_slots
        self.capacity = capacity
        self.lengths = [0] * (num_slots + 1)
        self._fillings = [0] * (num_slots + 1)  # how often each slot was begun anew
        self._copied: dict[int, _Copied] = {}
        self._kept = [self._empty(index, num_slots, capacity) for index in range(len(model.layers))]
        self.kernels = kernels or Kernels(model)

    def reserve(self, num_slots: int, capacity: int) -> None:
        """Make room for so many slots and tokens; what is kept stays."""
        if capacity > self.capacity:  # by a half at least: growing copies everything
            capacity = -(-max(capacity, self.capacity * 3 // 2) // LENGTH_BUCKET) * LENGTH_BUCKET
        capacity = max(capacity, self.capacity)
        num_slots = max(self.num_slots, num_slots)
        if (num_slots, capacity) == (self.num_slots, self.capacity):
            return
        used = max(self.lengths)
        for index, old in enumerate(self._kept):
            new = self._empty(index, num_slots, capacity)
            attends = self.model.layers[index].kind == "attention"
            for source, target in ((old.first, new.first), (old.second, new.second)):
                here = (slice(self.num_slots), slice(None), slice(used)) if attends else slice(self.num_slots)
                target[here] = source[here]  # all but the scratch place
            self._kept[index] = new
        more = [0] * (num_slots - self.num_slots)
        self.lengths += more  # the scratch place never has a length
        self._fillings += more
        self.num_slots, self.capacity = num_slots, capacity

    @property
    def kernel(self) -> Attend | None:
        return self.kernels.attend

    @property
    def decoder(self) -> Decoder | None:
        return self.kernels.decoder

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def scratch(self) -> int:
        return self.num_slots

    def clear(self, slot: int) -> None:
        """Begin a new sequence in `slot`."""
        self.lengths[slot] = 0
        self._fillings[slot] += 1
        self._copied.pop(slot, None)
        for index, kept in enumerate(self._kept):
            if self.model.layers[index].kind == "recurrent":
                kept.first[slot].zero_()
                kept.second[slot].zero_()

    def cut(self, slot: int, length: int) -> bool:
        """Forget all but the first `length` tokens; False, and nothing done, where a recurrent state has moved on."""
        if self.model.is_recurrent and length != self.lengths[slot]:
            return False
        self.lengths[slot] = min(length, self.lengths[slot])
        self._fillings[slot] += 1  # who copied it must not read what comes next
        if slot in self._copied and self._copied[slot].length > length:
            self._copied[slot] = dataclasses.replace(self._copied[slot], length=length)
        return True

    def copy(self, source: Slots, from_slot: int, to_slot: int) -> None:
        """Take over a whole slot, of this or of another `Slots` of the same model."""
        length = source.lengths[from_slot]
        self.reserve(to_slot + 1, length)
        self.clear(to_slot)
        self.lengths[to_slot] = length
        if source is not self:
            self._copied[to_slot] = _Copied(source, from_slot, source._fillings[from_slot], length)
        for index, (theirs, ours) in enumerate(zip(source._kept, self._kept, strict=True)):
            attends = self.model.layers[index].kind == "attention"
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
        for slot, copied in ((one, self._copied.pop(other, None)), (other, self._copied.pop(one, None))):
            self._fillings[slot] += 1
            if copied is not None:
                self._copied[slot] = copied

    def prefixes(self, slots: Sequence[int]) -> tuple[Slots, list[int], list[int]]:
        """Where the beginnings of `slots` can be read as well, one place for all that were copied from it: the `Slots`
        and the slot there, and how many tokens, 0 for none. What was begun anew since is not."""
        found = [self._copied.get(slot) for slot in slots]
        source = next((one.source for one in found if one is not None), self)
        usable = [
            one if one is not None and one.source is source and source._fillings[one.slot] == one.filling else None
            for one in found
        ]
        return source, [one.slot if one else 0 for one in usable], [one.length if one else 0 for one in usable]

    def kept(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's tensors: keys and values [slots, heads, capacity, dim], or window and state."""
        return self._kept[layer].first, self._kept[layer].second

    def kept_by_layer(self) -> list[tuple[Tensor, Tensor]]:
        return [(one.first, one.second) for one in self._kept]

    def set_recurrent(self, layer: int, slots: Sequence[int], window: Tensor, state: Tensor) -> None:
        self._kept[layer].first[slots] = window
        self._kept[layer].second[slots] = state

    def _empty(self, index: int, num_slots: int, capacity: int) -> _Kept:
        layer: Any = self.model.layers[index].module
        num_slots += 1
        like = self.model.head
        if self.model.layers[index].kind == "attention":
            heads = self.model.config.num_key_value_heads
            shape = (num_slots, heads, capacity, layer.self_attn.head_dim)
            return _Kept(_zeros(like, shape), _zeros(like, shape))
        net = layer.linear_attn
        window = like.new_zeros(num_slots, net.conv_dim, net.conv_kernel_size - 1)
        state = like.new_zeros(num_slots, net.num_v_heads, net.head_k_dim, net.head_v_dim, dtype=torch.float32)
        return _Kept(window, state)


def _zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros of the kind of `like`. On a CPU they are pages that the system clears when they are first touched, and
    large ones where it has them: torch would write all of them now."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    count = math.prod(shape) * like.element_size()
    pages = np.zeros(count + _PAGE, dtype=np.uint8)
    begin = -pages.ctypes.data % _PAGE  # else every row lies across cache lines
    return torch.from_numpy(pages[begin : begin + count]).view(like.dtype).view(*shape)


@dataclass(frozen=True)
class _View:
    """Which of a layer's tensors a grid reads and writes: `rows` of keys up to `num_keys`, `mask` [rows, width,
    num_keys]; the `real` tokens of the stream are kept at `write_places` of `write_rows`."""

    rows: slice | Tensor
    write_rows: Tensor
    write_places: Tensor
    real: Tensor
    num_keys: int
    mask: Tensor


def _kernel(model: LanguageModel) -> Attend | None:
    """The compiled kernel, if there is one for this model's attention layers."""
    layers: list[Any] = [layer.module for layer in model.layers if layer.kind == "attention"]
    config = model.config
    group = config.num_attention_heads // config.num_key_value_heads
    return decode_attention(model.head.dtype, model.device, layers[0].self_attn.head_dim, group) if layers else None


class _Pass:
    """What a pass over `jobs`, slots with so many new tokens each, reads and writes."""

    def __init__(self, slots: Slots, jobs: Sequence[tuple[int, int]]) -> None:
        self._slots, self._jobs = slots, list(jobs)
        used = [slot for slot, _ in jobs if slot != slots.scratch]
        assert len(used) == len(set(used)), "two jobs of a pass would write over each other"
        self._device = slots.device
        self._starts = [slots.lengths[slot] for slot, _ in jobs]
        self._longest = max(start + count for start, (_, count) in zip(self._starts, jobs, strict=True))
        slots.reserve(0, self._longest)
        self._source, self._prefix_slots, self._prefix_lengths = slots.prefixes([slot for slot, _ in jobs])

    @property
    def num_jobs(self) -> int:
        return sum(count > 0 for _, count in self._jobs)

    @property
    def num_tokens(self) -> int:
        return sum(count for _, count in self._jobs)

    @property
    def num_pairs(self) -> int:
        """How many pairs of tokens see each other in this pass."""
        counted = zip(self._starts, self._jobs, strict=True)
        return sum(count * start + count * (count + 1) // 2 for start, (_, count) in counted)

    @property
    def num_kept(self) -> int:
        """How many earlier tokens' keys the pass has to read; those of a shared prefix once."""
        computed = [place for place, (_, count) in enumerate(self._jobs) if count]
        shared = [(self._prefix_slots[place], self._prefix_lengths[place]) for place in computed]
        own = sum(self._starts[place] - self._prefix_lengths[place] for place in computed)
        return own + sum(length for _, length in set(shared))

    def advance(self) -> None:
        """Count the tokens just computed as kept."""
        for slot, count in self._jobs:
            self._slots.lengths[slot] += count

    def _recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor, counts: Tensor) -> Tensor:
        """A gated delta rule over rows [jobs, width], one a job."""
        rows = [slot for slot, _ in self._jobs]
        windows, states = self._slots.kept(layer)
        output, window, state = delta_rule(module, mixed, write, decay, counts, windows[rows], states[rows])
        self._slots.set_recurrent(layer, rows, window, state)
        return output


class Stream(_Pass):
    """A mixer over the tokens of `jobs` one behind another, filled up to `size`, by the compiled kernel.

    Models with recurrent layers take one token a job. `advance` the slots afterwards.
    """

    def __init__(self, slots: Slots, jobs: Sequence[tuple[int, int]], size: int) -> None:
        super().__init__(slots, jobs)
        rows: list[list[int]] = []
        for place, (slot, count) in enumerate(self._jobs):
            prefix = [self._prefix_slots[place], self._prefix_lengths[place]]
            rows += [[slot, self._starts[place] + step, *prefix] for step in range(count)]
        rows += [[0, -1, 0, 0]] * (size - len(rows))
        columns = torch.tensor(rows, dtype=torch.int64).T.contiguous()
        self._places = (columns[0], columns[1], columns[2], columns[3])
        self.positions = columns[1].clamp(min=0)

    def hidden_states(self, ids: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """What `hidden_states` gives, in one call where there is a kernel for all of it and no layer is asked for."""
        decoder = None if layers else self._slots.decoder
        if decoder is None:
            return hidden_states(self._slots.model, ids, self, layers=layers)
        kept, prefixes = self._slots.kept_by_layer(), self._source.kept_by_layer()
        return decoder.hidden_states(ids, self._places, kept, prefixes), []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        kernel = self._slots.kernel
        assert kernel is not None, "a stream is for where there is one"
        kept, prefixes = self._slots.kept(layer), self._source.kept(layer)
        return kernel(query, key, value, kept, prefixes, self._places, scale)

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        count = len(self._jobs)
        assert self.num_tokens == count, "a recurrent layer's jobs have one token each"
        pieces = [tensor[:count, None] for tensor in (mixed, write, decay)]
        counts = torch.ones(count, dtype=torch.int64, device=self._device)
        output = self._recur(layer, module, pieces[0], pieces[1], pieces[2], counts)[:, 0]
        return torch.cat((output, output.new_zeros(len(mixed) - count, *output.shape[1:])))


class Grid(_Pass):
    """A mixer over rows of `width` tokens each, which come after what their slots hold, by torch's own attention.

    Row r is slot `rows[r]`, for which there is room, and has `counts[r]` tokens, then padding; a row with none is left
    as it is. Where the rows are the first slots in order, keys are read in place; otherwise they are gathered.
    `advance` the slots afterwards.
    """

    def __init__(self, slots: Slots, rows: Sequence[int], counts: Sequence[int], width: int) -> None:
        super().__init__(slots, list(zip(rows, counts, strict=True)))
        self._rows, self._width = list(rows), width
        self._counts = torch.tensor(counts, device=self._device)
        places = torch.arange(width, device=self._device)
        self._places = torch.tensor(self._starts, device=self._device)[:, None] + places
        self.positions = self._places.reshape(-1)

    def hidden_states(self, ids: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        return hidden_states(self._slots.model, ids, self, layers=layers)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        view = self._view
        keys, values = self._slots.kept(layer)
        keys[view.write_rows, :, view.write_places] = key[view.real]
        values[view.write_rows, :, view.write_places] = value[view.real]
        keys, values = keys[view.rows, :, : view.num_keys], values[view.rows, :, : view.num_keys]
        num_tokens, num_heads, dim = query.shape
        num_shared = key.shape[1]
        group = num_heads // num_shared
        # The query heads that share a key head become more queries of that head: one wide product instead of a copy.
        folded = query.view(-1, self._width, num_shared, group, dim).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(-1, num_shared, group * self._width, dim)
        mask = view.mask[:, None].expand(-1, group, -1, -1).reshape(-1, 1, group * self._width, view.num_keys)
        output = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
        output = output.view(-1, num_shared, group, self._width, dim).permute(0, 3, 1, 2, 4)
        return output.reshape(num_tokens, num_heads, dim)

    @functools.cached_property
    def _view(self) -> _View:
        """What torch's attention needs to know, once for all layers."""
        num_keys = min(-(-max(self._longest, 1) // LENGTH_BUCKET) * LENGTH_BUCKET, self._slots.capacity)
        real = torch.arange(self._width, device=self._device) < self._counts[:, None]
        keys = torch.arange(num_keys, device=self._device)
        # Padding must see something, or its softmax is not a number.
        visible = (keys <= self._places[..., None]) | (keys == 0)
        mask = torch.zeros(visible.shape, device=self._device, dtype=self._slots.kept(0)[0].dtype)
        rows = torch.tensor(self._rows, device=self._device)
        in_place = self._rows == list(range(len(self._rows)))
        return _View(
            rows=slice(len(self._rows)) if in_place else rows,
            write_rows=rows[:, None].expand(-1, self._width)[real],
            write_places=self._places[real],
            real=real.reshape(-1),
            num_keys=num_keys,
            mask=mask.masked_fill_(~visible, float("-inf")),
        )

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        pieces = [tensor.view(len(self._rows), self._width, -1) for tensor in (mixed, write, decay)]
        output = self._recur(layer, module, pieces[0], pieces[1], pieces[2], self._counts)
        return output.reshape(-1, *output.shape[2:])
