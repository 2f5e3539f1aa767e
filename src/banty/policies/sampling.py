"""Drawing tokens: one uniform number a token, each session's own, so that no draw depends on who shares the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from banty.errors import InputError, PolicyFault
from banty.models.native.draws import drawn
from banty.records import SamplingParams

LEAST_TEMPERATURE = 1e-3


def check_params(params: SamplingParams) -> None:
    """Raises InputError for parameters no distribution can be made of."""
    if params.temperature != 0.0 and not LEAST_TEMPERATURE <= params.temperature < math.inf:
        raise InputError(
            f"temperature is {params.temperature}; it takes a finite number of at least {LEAST_TEMPERATURE}, or 0 for "
            "the most likely token"
        )
    whole = isinstance(params.top_k, int) and params.top_k >= 0
    if not 0.0 < params.top_p <= 1.0 or not 0.0 <= params.min_p <= 1.0 or not whole:
        raise InputError(
            f"top_p={params.top_p}, top_k={params.top_k}, min_p={params.min_p}: top_p takes (0, 1], min_p [0, 1], and "
            "top_k 0 or more"
        )
    if params.max_tokens is not None and params.max_tokens < 1:
        raise InputError(f"max_tokens is {params.max_tokens}; it takes at least 1")


@torch.no_grad()
def draw(logits: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> tuple[list[int], list[float]]:
    """A token for each row of `logits` [B, vocabulary], and its natural logprob under the row's own transform.

    The inverse of the cumulative distribution at `uniforms`, each in [0, 1). Temperature 0 takes the most likely token,
    with logprob 0. Raises PolicyFault where the model gives no distribution to draw from.
    """
    plain = all(one.temperature and one.top_p == 1.0 and not one.top_k and not one.min_p for one in params)
    found = drawn(logits, [one.temperature for one in params], uniforms) if plain else None
    tokens, taken = _drawn(logits, params, uniforms) if found is None else found
    if not torch.isfinite(taken).all():
        raise PolicyFault(
            "the model gives no distribution to draw from (its output is not finite); are its weights sound?"
        )
    return tokens.tolist(), taken.tolist()


def _drawn(logits: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Tokens and logprobs by torch's operations, for any parameters and any device."""
    greedy = [one.temperature == 0.0 for one in params]
    temperatures = torch.tensor([one.temperature or 1.0 for one in params], device=logits.device, dtype=torch.float32)
    logprobs = (logits.float() / temperatures[:, None]).log_softmax(-1)
    filtered = [place for place, one in enumerate(params) if one.top_p < 1.0 or one.top_k or one.min_p]
    for place in filtered:
        logprobs[place] = _filtered(logprobs[place], params[place])
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    points = torch.tensor(uniforms, dtype=torch.float64, device=logits.device) * cumulative[:, -1]
    tokens = torch.searchsorted(cumulative, points[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    if any(greedy):
        likeliest = torch.tensor(greedy, device=logits.device)
        tokens = torch.where(likeliest, logits.argmax(-1), tokens)
        taken = torch.where(likeliest, 0.0, logprobs.gather(1, tokens[:, None])[:, 0])
    else:
        taken = logprobs.gather(1, tokens[:, None])[:, 0]
    return tokens, taken


def _filtered(logprobs: Tensor, params: SamplingParams) -> Tensor:
    """The logprobs [vocabulary] of what top_k, then top_p, then min_p leave, made to sum to 1 again."""
    ordered, order = logprobs.sort(descending=True, stable=True)
    probs = ordered.exp()
    kept = torch.ones_like(probs, dtype=torch.bool)
    if params.top_k:
        kept[params.top_k :] = False
    if params.top_p < 1.0:
        probs = torch.where(kept, probs, 0.0)
        kept &= (probs.cumsum(0) - probs) < params.top_p * probs.sum()  # the one that crosses the line stays
    if params.min_p:
        kept &= ordered >= ordered[0] + torch.log(torch.tensor(params.min_p, device=logprobs.device))
    left = torch.where(kept, ordered, float("-inf")).log_softmax(-1)
    return torch.empty_like(left).scatter_(0, order, left)
