"""Sequences merged into a tree of tokens, for training: each sees itself alone, and what several begin with is computed
once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from banty.models.forward import delta_rule
from banty.models.tree import TokenTree
from banty.models.treeattention import Triangles, layout, rows, tree_attention


@dataclass(frozen=True)
class _Level:
    """The nodes that are equally many branches from the beginning, as rows; `parents` are their rows a level above."""

    rows: Triangles
    counts: Tensor
    parents: Tensor


class Packed:
    """A mixer over the stream of a `TokenTree` and `num_padding` tokens of no sequence behind it.

    Attention is computed for the pairs that may see each other, in parts on a CPU and by FlexAttention on a GPU. A
    recurrent layer takes each node as a row that begins with the state its parent ended with. Nothing leaks from one
    sequence into another.
    """

    def __init__(self, tree: TokenTree, device: torch.device, num_padding: int = 0) -> None:
        self._tree, self._device, self.num_padding = tree, device, num_padding
        self._num_tokens = len(tree.ids) + num_padding
        padding = torch.zeros(num_padding, device=device, dtype=torch.int64)
        self.positions = torch.cat((torch.as_tensor(tree.positions, device=device), padding))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if query.device.type == "cpu":
            return tree_attention(query, key, value, self._layout, scale)
        return self.flex(_compiled_flex(), query, key, value, scale)

    def flex(self, attend: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The same by FlexAttention's `attend`, under a block mask that all layers share."""
        heads = [tensor.transpose(0, 1)[None] for tensor in (query, key, value)]
        grouped = query.shape[1] != key.shape[1]
        mixed: Tensor = attend(*heads, block_mask=self._block_mask, scale=scale, enable_gqa=grouped)
        return mixed[0].transpose(0, 1)

    def recur(self, layer: int, module: Any, mixed: Tensor, write: Tensor, decay: Tensor) -> Tensor:
        outputs, targets = [], []
        window: Tensor | None = None
        state: Tensor | None = None
        for level in self._levels:
            if window is not None and state is not None:
                window, state = window[level.parents], state[level.parents]
            places = level.rows.places.clamp(max=self._num_tokens - 1)  # padding, which `counts` leaves out
            pieces = [tensor[places] for tensor in (mixed, write, decay)]
            output, window, state = delta_rule(module, pieces[0], pieces[1], pieces[2], level.counts, window, state)
            outputs.append(output.flatten(0, 1)[level.rows.real])
            targets.append(level.rows.targets)
        # The levels' real tokens lie one behind another; this puts them where they belong.
        where = torch.cat(targets)
        order = torch.empty_like(where).scatter_(0, where, torch.arange(len(where), device=self._device))
        whole = torch.cat(outputs)[order]
        return torch.cat((whole, whole.new_zeros(self.num_padding, *whole.shape[1:])))

    @functools.cached_property
    def _layout(self) -> Any:
        return layout(self._tree.nodes, self._num_tokens, self._device)

    @functools.cached_property
    def _block_mask(self) -> Any:
        own = torch.arange(len(self._tree.ids), self._num_tokens) + 1  # padding sees itself: a softmax of something
        untils = torch.cat((torch.as_tensor(self._tree.untils), own)).to(self._device)

        def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (key <= query) & (query < untils[key])

        size = self._num_tokens
        return create_block_mask(visible, None, None, size, size, device=str(self._device))

    @functools.cached_property
    def _levels(self) -> list[_Level]:
        depths: list[int] = []
        for node in self._tree.nodes:
            depths.append(depths[node.parent] + 1 if node.parent >= 0 else 0)
        levels, above = [], {-1: 0}
        for depth in range(max(depths) + 1):
            members = [place for place, one in enumerate(depths) if one == depth]
            nodes = [self._tree.nodes[place] for place in members]
            levels.append(
                _Level(
                    rows(nodes, self._num_tokens, self._device),
                    torch.tensor([node.length for node in nodes], device=self._device),
                    torch.tensor([above[node.parent] for node in nodes], device=self._device),
                )
            )
            above = {place: row for row, place in enumerate(members)}
        return levels


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    """FlexAttention as a kernel; compiled once for each of the few shapes that streams are padded to."""
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False)
    return compiled
