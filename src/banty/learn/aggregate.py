"""From many token losses to one number, with denominators over the whole batch however it is split. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from banty.records import Aggregation, TrainingSample

Floats = npt.NDArray[np.float64]


def coefficients(
    samples: Sequence[TrainingSample], aggregation: Aggregation, constant_tokens: float = 1.0
) -> list[Floats]:
    """What each token's loss is multiplied with, [T] per sample, so that the sum over all tokens is the aggregate.

    Weights are included, as factors; zero off the mask. The modes are those of `PolicyLoss`. A rollout in several
    samples counts once: as many rollouts are there as `rollout_share` sums to, and a turn, which never spans samples,
    is one of its rollout's `num_turns`.
    """
    weights = [np.where(sample.mask, sample.weights, 0.0).astype(np.float64) for sample in samples]
    if aggregation == "token":
        total = sum(float(weight.sum()) for weight in weights)
        return [weight / total if total else weight for weight in weights]
    num_rollouts = sum(sample.rollout_share for sample in samples) or 1.0  # of empty parts alone there is no rollout
    if aggregation == "constant":
        return [weight / (num_rollouts * constant_tokens) for weight in weights]
    if aggregation == "sequence":
        return [
            weight * (sample.rollout_share / max(int(sample.mask.sum()), 1) / num_rollouts)
            for sample, weight in zip(samples, weights, strict=True)
        ]
    return [
        weight / (_tokens_of_turn(sample) * sample.num_turns * num_rollouts)
        for sample, weight in zip(samples, weights, strict=True)
    ]


def _tokens_of_turn(sample: TrainingSample) -> Floats:
    """For each token, how many trained tokens its turn has; 1 where there is no turn."""
    counts = np.bincount(sample.turn_ids[sample.mask], minlength=1).astype(np.float64)
    return np.where(sample.mask, counts[np.where(sample.mask, sample.turn_ids, 0)], 1.0)
