"""Group-normalised outcome (specs/irc.md equation 1; Shao et al. 2024, arXiv 2402.03300) and its form without a
deviation (Dr.GRPO; Liu et al. 2025, arXiv 2503.20783)."""

from __future__ import annotations

from banty.credit.normalise import EPSILON, normalise
from banty.credit.types import Credit, GroupRewards, broadcast


def grpo(rewards: GroupRewards, ddof: int = 1, std: bool = True, epsilon: float = EPSILON) -> Credit:
    """A_i = (R_i - mean R) / (std R + epsilon). A group of one, or of equal outcomes, gets 0.

    `ddof` 1 is the unbiased deviation, which at four rollouts differs from 0 by 15 %. Without `std` it is Dr.GRPO,
    whose loss is aggregated with a constant.
    """
    return broadcast(normalise(rewards.outcomes, std=std, ddof=ddof, epsilon=epsilon), rewards)
