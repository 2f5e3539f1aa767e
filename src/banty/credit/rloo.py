"""Leave-one-out baseline on the outcome (specs/irc.md equation 2; Ahmadian et al. 2024, arXiv 2402.14740)."""

from __future__ import annotations

import numpy as np

from banty.credit.normalise import less_the_others
from banty.credit.types import Credit, GroupRewards, broadcast


def rloo(rewards: GroupRewards) -> Credit:
    """A_i = R_i - mean of the others' R. A group of one says nothing about its member: its advantage is 0."""
    outcomes = rewards.outcomes
    if len(outcomes) < 2:
        return broadcast(np.zeros(len(outcomes)), rewards)
    return broadcast(less_the_others(outcomes), rewards)
