"""Attention over a tree of tokens, in which every pair that may see each other is computed once and no other.

A token sees those before it in its own node, and all of the nodes above. So a node's own tokens make a triangle,
batched over nodes of similar length, and a node with descendants makes a rectangle: all that descends from it lies
behind it in the stream. The softmaxes of the parts are put together by their log sums, as flash attention does between
blocks (Dao et al. 2022). The gradient recomputes probabilities from the whole softmax's log sums, in plain matrix
products, which are several times as fast as the gradient of torch's own attention on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from banty.models.native import tiles
from banty.models.tree import Node

QUERY_BLOCK = 256
"""Queries of a triangle are taken in blocks of so many, each with the keys up to its end."""
MOST_SCORES = 1 << 22
"""Scores that are held at once."""
_BAND = 0.75
"""Nodes down to this share of the longest one's length are padded to it."""


@dataclass(frozen=True)
class Triangles:
    """Nodes of similar length as rows: where in the stream their tokens are, [rows, width], padding being the token
    behind the stream's last; which of [rows * width] are real, and where those are."""

    places: Tensor
    real: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Layout:
    """How the tokens of a stream are divided: triangles, and rectangles as (start, stop, until): those from `stop` to
    `until` see those from `start` to `stop`."""

    triangles: tuple[Triangles, ...]
    rectangles: tuple[tuple[int, int, int], ...]


def layout(nodes: Sequence[Node], num_tokens: int, device: torch.device) -> Layout:
    """The parts of a stream of `num_tokens`, padding behind the nodes included."""
    return Layout(
        tuple(rows([nodes[place] for place in band], num_tokens, device) for band in _bands(nodes)),
        tuple((node.start, node.stop, node.until) for node in nodes if node.until > node.stop),
    )


def rows(members: Sequence[Node], num_tokens: int, device: torch.device) -> Triangles:
    """Nodes as rows of one width."""
    counts = torch.tensor([node.length for node in members], device=device)
    starts = torch.tensor([node.start for node in members], device=device)
    columns = torch.arange(int(counts.max()), device=device)
    inside = columns < counts[:, None]
    places = torch.where(inside, starts[:, None] + columns, num_tokens)
    return Triangles(places, inside.flatten().nonzero()[:, 0], places[inside])


def tree_attention(query: Tensor, key: Tensor, value: Tensor, parts: Layout, scale: float) -> Tensor:
    """[N, heads, dim] from queries [N, heads, dim] and keys and values [N, key heads, dim]; 0 for padding."""
    if torch.is_grad_enabled():
        result: Tensor = _TreeAttention.apply(query, key, value, parts, scale)
        return result
    return _forward(query, key, value, parts, scale)[0]


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Layout, scale: float) -> Tensor:
        output, sums = _forward(query, key, value, parts, scale)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.parts, ctx.scale = parts, scale
        return output

    @staticmethod
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, sums = ctx.saved_tensors
        return *_Gradient(query, key, value, output, sums, towards, ctx.scale).over(ctx.parts), None, None


def _forward(query: Tensor, key: Tensor, value: Tensor, parts: Layout, scale: float) -> tuple[Tensor, Tensor]:
    """The output [N, heads, dim] and the log sums of its softmaxes [N, heads], float32."""
    num_tokens, num_heads, dim = query.shape
    num_shared = key.shape[1]
    group = num_heads // num_shared
    output = query.new_zeros(num_tokens + 1, num_heads, dim)  # the last is for padding
    sums = query.new_zeros(num_tokens + 1, num_heads, dtype=torch.float32)
    for part in parts.triangles:
        known = part.places.clamp(max=num_tokens - 1)  # padding comes last in its row, where nothing real sees it
        each = [_heads(tensor, known, num_heads) for tensor in (query, key, value)]
        mixed, logs = _flash(each[0], each[1], each[2], scale, is_causal=True)
        targets = _indices(part.places, num_heads, num_heads).flatten()
        output.view(-1, dim).index_copy_(0, targets, mixed.reshape(-1, dim))
        sums.view(-1).index_copy_(0, targets, logs.reshape(-1))
    output, sums = output[:num_tokens], sums[:num_tokens]
    for start, stop, until in parts.rectangles:
        asking = query[stop:until].unflatten(1, (num_shared, group)).permute(1, 2, 0, 3).flatten(1, 2)
        seen = [tensor[start:stop].transpose(0, 1)[None] for tensor in (key, value)]
        mixed, logs = _flash(asking[None], seen[0], seen[1], scale, is_causal=False)
        tiles.merge(
            output[stop:until],
            sums[stop:until],
            mixed.view(num_shared, group, until - stop, dim),
            logs.view(num_shared, group, until - stop),
        )
    return output, sums


class _Gradient:
    """The gradient of queries, keys and values, part by part.

    Rows are `widened` by a number that a product with them adds: the log sum is taken off a score, and what the output
    already pulls off the pull on it, before either is rounded. Heads that share a key head are taken together.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        sums: Tensor,
        towards: Tensor,
        scale: float,
    ) -> None:
        self._num_tokens, self._num_heads, self._dim = query.shape
        self._num_shared, self._scale = key.shape[1], scale
        self._asking = tiles.widened(query, sums / -scale)
        self._pulling = tiles.widened(towards, -tiles.row_dots(towards, output))
        self._seen, self._told = tiles.widened_by_one(key), tiles.widened_by_one(value)
        self._found = [query.new_zeros(self._num_tokens + 1, one.shape[1], self._dim) for one in (query, key, value)]

    def over(self, parts: Layout) -> tuple[Tensor, Tensor, Tensor]:
        for part in parts.triangles:
            num_rows, width = part.places.shape
            chunk = max(MOST_SCORES // (self._num_heads * min(width, QUERY_BLOCK) * width), 1)
            for first in range(0, num_rows, chunk):
                self._triangles(part.places[first : first + chunk])
        for start, stop, until in parts.rectangles:  # these add to what triangles have set
            chunk = max(MOST_SCORES // (self._num_heads * (stop - start)), 1)
            for first in range(stop, until, chunk):
                self._rectangle(slice(start, stop), slice(first, min(first + chunk, until)))
        dq, dk, dv = (one[: self._num_tokens] for one in self._found)
        return dq, dk, dv

    def _triangles(self, places: Tensor) -> None:
        dim, width, num_shared = self._dim, places.shape[1], self._num_shared
        query, pull = (
            _heads(one, places, self._num_heads).view(len(places) * num_shared, -1, width, one.shape[-1])
            for one in (self._asking, self._pulling)
        )
        key, value = (_heads(one, places, num_shared).flatten(0, 1) for one in (self._seen, self._told))
        dq = query.new_empty(*query.shape[:3], dim)
        dk, dv = (key.new_empty(*key.shape[:2], dim) for _ in range(2))
        for begin in reversed(range(0, width, QUERY_BLOCK)):
            end = min(begin + QUERY_BLOCK, width)
            q, dy = (one[:, :, begin:end].flatten(1, 2) for one in (query, pull))
            probs, pulls = self._tile(q, dy, key[:, :end], value[:, :end], begin, end - begin)
            for into, weights, of in ((dv, probs, dy), (dk, pulls, q)):
                if end == width:
                    torch.bmm(weights.transpose(1, 2), of[..., :dim], out=into)
                else:
                    into[:, :end] += weights.transpose(1, 2) @ of[..., :dim]
            dq[:, :, begin:end] = (pulls @ key[:, :end, :dim]).view(*query.shape[:2], end - begin, dim)
        for into, heads, rows_of in zip(
            self._found, (self._num_heads, num_shared, num_shared), (dq, dk, dv), strict=True
        ):
            into.view(-1, dim).index_copy_(0, _indices(places, heads, heads).flatten(), rows_of.view(-1, dim))

    def _rectangle(self, above: slice, below: slice) -> None:
        """Of queries `below` on keys `above`."""
        dim = self._dim
        key, value = (one[above].transpose(0, 1) for one in (self._seen, self._told))
        q, dy = (
            one[below].unflatten(1, (self._num_shared, -1)).permute(1, 2, 0, 3).flatten(1, 2)
            for one in (self._asking, self._pulling)
        )
        probs, pulls = self._tile(q, dy, key, value)
        self._found[2][above] += (probs.transpose(1, 2) @ dy[..., :dim]).transpose(0, 1)
        self._found[1][above] += (pulls.transpose(1, 2) @ q[..., :dim]).transpose(0, 1)
        dq = (pulls @ key[..., :dim]).unflatten(1, (-1, below.stop - below.start))
        self._found[0][below] += dq.permute(2, 0, 1, 3).flatten(1, 2)

    def _tile(
        self, query: Tensor, pull: Tensor, key: Tensor, value: Tensor, begin: int = 0, width: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and the gradient of their scores, [B, M, K]. With a `width`, query m sees the keys up to
        begin + m % width."""
        probs, pulls = query @ key.transpose(1, 2), pull @ value.transpose(1, 2)
        tiles.from_scores(probs, pulls, self._scale, begin, width)
        return probs, pulls


def _heads(tensor: Tensor, places: Tensor, heads: int) -> Tensor:
    """[rows, heads, width, size] of a stream's [tokens, its heads, size]; key heads are repeated for their queries."""
    index = _indices(places, heads, tensor.shape[1])
    return tensor.view(-1, tensor.shape[-1]).index_select(0, index.flatten()).view(*index.shape, tensor.shape[-1])


def _indices(places: Tensor, heads: int, stored: int) -> Tensor:
    """[rows, heads, width]: where the heads of tokens at `places` are among `stored` heads of each."""
    head = torch.arange(heads, device=places.device) // (heads // stored)
    return places[:, None] * stored + head[:, None]


def _flash(query: Tensor, key: Tensor, value: Tensor, scale: float, *, is_causal: bool) -> tuple[Tensor, Tensor]:
    """Attention [B, heads, width, dim] and its log sums [B, heads, width]."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mixed, logs = attend(query, key, value, 0.0, is_causal, scale=scale)
    return mixed, logs


def _bands(nodes: Sequence[Node]) -> list[list[int]]:
    """Places among the nodes, those of similar length together, longest first."""
    bands: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(nodes)), key=lambda place: (-nodes[place].length, place)):
        if not bands or nodes[place].length < _BAND * longest:
            bands.append([])
            longest = nodes[place].length
        bands[-1].append(place)
    return bands
