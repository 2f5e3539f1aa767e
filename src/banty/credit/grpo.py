"""Group-normalised outcome (specs/irc.md equation 1; Shao et al. 2024, arXiv 2402.03300)."""

from __future__ import annotations

import numpy as np

from banty.credit.types import Credit, GroupRewards, broadcast

EPSILON = 1e-6


def grpo(rewards: GroupRewards, ddof: int = 1) -> Credit:
    """A_i = (R_i - mean R) / (std R + 1e-6). A group of one, or of equal outcomes, gets 0.

    `ddof` 1 is the unbiased deviation, which at four rollouts differs from 0 by 15 %.
    """
    outcomes = rewards.outcomes
    if len(outcomes) < 2:
        return broadcast(np.zeros(len(outcomes)), rewards)
    return broadcast((outcomes - outcomes.mean()) / (outcomes.std(ddof=ddof) + EPSILON), rewards)
