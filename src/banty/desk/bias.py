"""How an estimator's gradient compares with the exact one at given weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from banty.desk.batch import batch_credit
from banty.desk.exact import Exact
from banty.desk.simulate import Setting, batch_of, gradients, sample_leaves, tier_sums
from banty.desk.tables import Desk, Floats
from banty.records import generator

_BATCHES_AT_ONCE = 500


@dataclass(frozen=True)
class Bias:
    """Of the ascent direction of one batch over all tasks, in the space of the points' lapses.

    `mean` and `error` [points]: its expectation and that estimate's standard error, by sampling; `exact` and `shaped`:
    the gradients of success, and of success plus turn rewards. `cosine`, `shaped_cosine`: of the mean with each.
    `bias`: what is left of the mean after the multiple of the exact gradient nearest to it, as a share of it, with the
    value that sampling alone would give in `noise_floor`. `snr`: the mean's length over the root of the total variance.
    `alignment`: the mean cosine of single batches with the exact gradient. `tier_mean`: mean advantage by tier.
    """

    mean: Floats
    error: Floats
    exact: Floats
    shaped: Floats
    cosine: float
    shaped_cosine: float
    bias: float
    noise_floor: float
    snr: float
    alignment: float
    tier_mean: dict[str, float]


def measure_bias(desk: Desk, setting: Setting, logits: Floats, num_batches: int, seed: int = 0) -> Bias:
    """Sampled over `num_batches` batches in which every task has one group."""
    credit = batch_credit(setting.credit)
    tasks = np.arange(len(desk.tasks))
    shape = (len(tasks), setting.rollouts_per_task, desk.options.shape[1])
    found, tiers = [], np.zeros((2, len(desk.tier_names)))
    for first in range(0, num_batches, _BATCHES_AT_ONCE):
        size = min(_BATCHES_AT_ONCE, num_batches - first)
        uniform = generator(seed, "bias", first).random((size, *shape))
        many = np.repeat(logits[None], size, axis=0)
        leaves = sample_leaves(desk, many, tasks, uniform)
        batch = batch_of(desk, leaves, setting.rewards)
        advantages = credit(batch)
        found.append(_ascent(-gradients(desk, many, leaves, advantages, batch, setting)))
        tiers += tier_sums(desk, leaves, advantages)
    each = np.concatenate(found)
    mean, spread = each.mean(axis=0), each.var(axis=0, ddof=1)
    exact = _ascent(Exact(desk).gradient(logits))
    total = desk.success + desk.rewards[setting.rewards].sum(axis=1)
    shaped = _ascent(Exact(desk, total).gradient(logits))
    error = np.sqrt(spread / num_batches)
    return Bias(
        mean,
        error,
        exact,
        shaped,
        cosine(mean, exact),
        cosine(mean, shaped),
        float(np.sqrt(max(1.0 - cosine(mean, exact) ** 2, 0.0))),
        float(np.sqrt((error**2).sum()) / np.linalg.norm(mean)),
        float(np.linalg.norm(mean) / np.sqrt(spread.sum())),
        float(np.mean([cosine(one, exact) for one in each])),
        dict(zip(desk.tier_names, (tiers[0] / np.maximum(tiers[1], 1.0)).tolist(), strict=True)),
    )


def cosine(one: Floats, other: Floats) -> float:
    """0 where either is 0."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def _ascent(gradient: Floats) -> Floats:
    """The two logits of a point move against each other by the same amount, so one number says it all."""
    return np.asarray(gradient[..., 0] * np.sqrt(2.0))
