"""What is done to tiles of attention scores between matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from banty.models.native.layers import library


def merge(output: Tensor, sums: Tensor, other: Tensor, other_sums: Tensor) -> None:
    """Put two parts of an attention together, in place: `output` [N, heads, dim] with the log sums of its softmaxes
    [N, heads], and the other part's [key heads, group, N, dim] and [key heads, group, N]."""
    opened = library(output)
    if opened is not None:
        assert output.is_contiguous(), "parts are put together in place"
        assert sums.is_contiguous()
        other, other_sums = other.contiguous(), other_sums.contiguous()
        pointers = (one.data_ptr() for one in (output, sums, other, other_sums))
        opened.merge(*pointers, *output.shape)
        return
    theirs, their_sums = other.permute(2, 0, 1, 3).flatten(1, 2), other_sums.permute(2, 0, 1).flatten(1, 2)
    whole = torch.logaddexp(sums, their_sums)
    ours, rest = ((one - whole).exp()[..., None] for one in (sums, their_sums))
    output.copy_(ours * output.float() + rest * theirs.float())
    sums.copy_(whole)


def row_dots(one: Tensor, other: Tensor) -> Tensor:
    """Inner products over the last dimension, float32."""
    return (one.float() * other.float()).sum(-1)


def from_scores(scores: Tensor, pulls: Tensor, scale: float, begin: int, width: int) -> None:
    """In place, over [B, M, K]: scores less their log sum become probabilities exp(scale * score), and what pulls at
    them their gradient, scale * probability * pull. With a `width`, row m sees the columns up to begin + m % width, and
    has 0 beyond."""
    opened = library(scores)
    if opened is not None:
        assert scores.is_contiguous(), "what a product gives"
        assert pulls.is_contiguous()
        opened.from_scores(scores.data_ptr(), pulls.data_ptr(), *scores.shape, begin, width, scale)
        return
    scores.mul_(scale).exp_()
    pulls.mul_(scores).mul_(scale)
    if width:
        last = begin + torch.arange(scores.shape[1], device=scores.device) % width
        hidden = torch.arange(scores.shape[2], device=scores.device) > last[:, None]
        scores.masked_fill_(hidden, 0.0)
        pulls.masked_fill_(hidden, 0.0)


def widened(tensor: Tensor, extra: Tensor) -> Tensor:
    """[N + 1, heads, dim + terms]: each row with a float32 number of its own beside it, in as many terms as its type
    needs to hold it; a last row of zeros for padding."""
    terms, left = [], extra.float()
    for _ in range(_terms(tensor)):
        terms.append(left.to(tensor.dtype))
        left = left - terms[-1].float()
    return torch.nn.functional.pad(torch.cat((tensor, torch.stack(terms, dim=-1)), dim=-1), (0, 0, 0, 0, 0, 1))


def widened_by_one(tensor: Tensor) -> Tensor:
    """[N + 1, heads, dim + terms]: what a product with `widened` rows takes, to add their numbers."""
    return torch.nn.functional.pad(torch.nn.functional.pad(tensor, (0, _terms(tensor)), value=1.0), (0, 0, 0, 0, 0, 1))


def _terms(tensor: Tensor) -> int:
    return 1 if tensor.dtype == torch.float32 else 3
