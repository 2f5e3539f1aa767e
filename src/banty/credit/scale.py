"""One scale for the advantages of a batch, so that estimators can be compared at one learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from banty.credit.types import Credit, FloatArray, GroupRewards

Scale: TypeAlias = Literal["none", "batch", "others"]
ROUNDING = 1e-9
"""Advantages this much smaller than the rewards they are made of are 0 but for rounding, and are not scaled up."""


def rescale(credits: Sequence[Credit], groups: Sequence[GroupRewards], scale: Scale, rms: float = 1.0) -> list[Credit]:
    """Advantages divided by their root mean square over trained tokens (over turns where they are not counted), times
    `rms`: by that of the `batch`, or, for each group, of the `others`. A batch of zeros stays as it is; so does a group
    whose others are all 0."""
    least = ROUNDING * max((_largest_reward(group) for group in groups), default=0.0)
    masses = [_squares(credit, group) for credit, group in zip(credits, groups, strict=True)]
    total, count = sum(square for square, _ in masses), sum(own for _, own in masses)
    found = []
    for credit, (square, own) in zip(credits, masses, strict=True):
        left_square, left = (total - square, count - own) if scale == "others" else (total, count)
        size = np.sqrt(max(left_square, 0.0) / left) if left else 0.0
        factor = rms / size if size > least else 1.0
        found.append(
            Credit([one * factor for one in credit.advantages], credit.weights, credit.parts)
            if factor != 1.0
            else credit
        )
    return found


def _largest_reward(group: GroupRewards) -> float:
    return max((float(np.abs(one).max()) for one in (group.outcomes, *group.turn_rewards) if one.size), default=0.0)


def _squares(credit: Credit, group: GroupRewards) -> tuple[float, float]:
    """The weighted sum of squared advantages, and of the weights."""
    weights: Sequence[FloatArray] = group.tokens or [np.ones(len(one)) for one in credit.advantages]
    pairs = list(zip(credit.advantages, weights, strict=True))
    return float(sum((one**2 * weight).sum() for one, weight in pairs)), float(sum(weight.sum() for _, weight in pairs))
