"""Token losses in torch: the clipped surrogate, CISPO and GSPO, sampler corrections, k3, and cross-entropy.

Everything here is flat over the N trained tokens of a micro-batch. Aggregation is in the coefficients
(`banty.learn.aggregate`), which were made over the whole batch, so sums over micro-batches are the batch's loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from banty.errors import InputError
from banty.records import Level, Loss, PolicyLoss, SupervisedLoss

_MOST = 20.0
"""Log ratios beyond this are cut before exp: e^20 is past any clip, and stays finite."""


@dataclass
class TrainedTokens:
    """The trained tokens of a micro-batch, [N] each; `logprobs` are the current weights' and carry the gradient.

    `sample_index` and `turn_index` number the sequences and the turns in the micro-batch, from 0.
    """

    logprobs: Tensor
    sampler_logprobs: Tensor
    advantages: Tensor
    coefficients: Tensor
    sample_index: Tensor
    turn_index: Tensor
    old_logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None


def loss_of(tokens: TrainedTokens, loss: Loss) -> tuple[Tensor, dict[str, float]]:
    """The number to call `backward` on, and metrics as sums over the tokens (the caller adds up and divides by
    `tokens`)."""
    if isinstance(loss, SupervisedLoss):
        value = -(tokens.coefficients * tokens.logprobs).sum()
        return value, {"loss": float(value.detach()), "tokens": float(len(tokens.logprobs))}
    return _policy_loss(tokens, loss)


def _policy_loss(tokens: TrainedTokens, loss: PolicyLoss) -> tuple[Tensor, dict[str, float]]:
    base = tokens.sampler_logprobs if tokens.old_logprobs is None else tokens.old_logprobs
    ratio = _ratio(tokens, tokens.logprobs - base, loss.ratio_level)
    high = 1.0 + loss.clip_high
    low = 1.0 - loss.clip_low if loss.clip_low < 1.0 else 0.0  # a ratio is never below 0: the side is open
    clamped = ratio.clamp(low, high)
    advantages = tokens.advantages
    if loss.objective == "cispo":
        each = -clamped.detach() * advantages * tokens.logprobs
        clipped = ratio != clamped
    else:
        plain, bounded = -advantages * ratio, -advantages * clamped
        each = torch.maximum(plain, bounded)
        clipped = bounded > plain
        if loss.dual_clip:
            cap = -advantages * loss.dual_clip
            over = (advantages < 0) & (cap < each)
            each = torch.where(over, cap, each)
            clipped = clipped | over
    correction = _correction(tokens, loss)
    if correction is not None:
        each = each * correction
    value = (tokens.coefficients * each).sum()
    metrics = _metrics(tokens, base, clipped, correction)
    if loss.kl:
        if tokens.ref_logprobs is None:
            raise InputError("loss.kl is above 0 and the samples have no ref_logprobs; the learner keeps no reference")
        divergence = kl_estimate(tokens.logprobs, tokens.ref_logprobs, loss.kl_estimator)
        value = value + loss.kl * (tokens.coefficients * divergence).sum()
        metrics["kl_ref"] = float(divergence.detach().sum())
    return value, {"loss": float(value.detach()), **metrics}


def _ratio(tokens: TrainedTokens, log_ratio: Tensor, level: Level) -> Tensor:
    """Importance ratios, [N]. Above token level every token carries its turn's or sequence's geometric mean, with its
    own gradient (GSPO-token, 2025, eq. 14)."""
    if level == "token":
        return log_ratio.clamp(-_MOST, _MOST).exp()
    with torch.no_grad():
        shared = _spread(log_ratio, _index(tokens, level), mean=True).clamp(-_MOST, _MOST).exp()
    return shared * (tokens.logprobs - tokens.logprobs.detach()).exp()


@torch.no_grad()
def _correction(tokens: TrainedTokens, loss: PolicyLoss) -> Tensor | None:
    """The weight each token gets for having been drawn by another engine than the trainer; None where none is asked."""
    if loss.correction == "none":
        return None
    if tokens.old_logprobs is None:
        raise InputError(
            f"loss.correction={loss.correction!r} compares the trainer before the update with the sampler, and the "
            "samples have no old_logprobs; set train.old_logprobs to 'trainer', or correction to 'none'"
        )
    log_rho = tokens.old_logprobs - tokens.sampler_logprobs
    if loss.correction_level != "token":
        log_rho = _spread(log_rho, _index(tokens, loss.correction_level), mean=loss.correction_geometric)
    rho = log_rho.clamp(-_MOST, _MOST).exp()
    if loss.correction == "truncate":
        return rho.clamp(max=loss.correction_high)
    kept = torch.ones_like(rho) if loss.correction == "mask" else rho
    return torch.where((rho >= loss.correction_low) & (rho <= loss.correction_high), kept, torch.zeros_like(rho))


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: Literal["k1", "k2", "k3"]) -> Tensor:
    """Schulman's estimates of KL(policy, reference) from samples of the policy, [N]: k1 is unbiased, k2 is half its
    square, k3 is unbiased and never negative. Cut where exp would overflow, k3 to at most 10."""
    log_ratio = (ref_logprobs - logprobs).clamp(-_MOST, _MOST)
    if kind == "k1":
        return -log_ratio
    if kind == "k2":
        return 0.5 * log_ratio.square()
    return (log_ratio.exp() - 1.0 - log_ratio).clamp(-10.0, 10.0)


def _index(tokens: TrainedTokens, level: Level) -> Tensor:
    return tokens.turn_index if level == "turn" else tokens.sample_index


def _spread(values: Tensor, index: Tensor, *, mean: bool) -> Tensor:
    """For each token the sum, or mean, of `values` over its turn or sequence."""
    if not len(index):
        return values
    size = int(index.max()) + 1
    total = torch.zeros(size, dtype=values.dtype, device=values.device).index_add_(0, index, values)
    if mean:
        count = torch.zeros_like(total).index_add_(0, index, torch.ones_like(values))
        total = total / count.clamp(min=1.0)
    return total[index]


@torch.no_grad()
def _metrics(tokens: TrainedTokens, base: Tensor, clipped: Tensor, correction: Tensor | None) -> dict[str, float]:
    step = tokens.logprobs - base
    drift = tokens.logprobs - tokens.sampler_logprobs
    found = {
        "tokens": float(len(step)),
        "clipped": float(clipped.sum()),
        "ratio": float(step.clamp(-_MOST, _MOST).exp().sum()),
        "kl_old": float((step.clamp(-_MOST, _MOST).exp() - 1.0 - step).sum()),
        "abs_drift": float(drift.abs().sum()),
        "kl_sampler": float(kl_estimate(tokens.logprobs, tokens.sampler_logprobs, "k1").sum()),
    }
    if correction is not None:
        found["correction"] = float(correction.sum())
    return found
