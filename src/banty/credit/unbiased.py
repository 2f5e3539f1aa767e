"""A turn baseline whose policy gradient has no bias (specs/irc.md 9)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from banty.credit.normalise import returns
from banty.credit.types import Credit, GroupRewards, ones

Ended: TypeAlias = Literal["outcome", "left_out"]


def unbiased(rewards: GroupRewards, *, ended: Ended = "outcome") -> Credit:
    """A_{i,k} = R_{i,k} - mean over j != i of R_{j,k}, undiscounted.

    The baseline is made of the other rollouts alone, so nothing rollout i does moves it: the gradient's expectation is
    exact, whenever the policy decides to stop. Of a rollout that has `ended` before turn k its outcome enters, or it is
    left out; where no other reached k, the baseline is the mean of their outcomes. Holds for a sum over tokens divided
    by a constant, one update a batch, and no scale made from the rollout's own group. A group of one gets 0.
    """
    found = returns(rewards.turn_rewards, rewards.outcomes, 1.0)
    num_rollouts, outcomes = len(found), rewards.outcomes
    if num_rollouts < 2:
        zeros = [np.zeros(length) for length in rewards.lengths]
        return Credit(zeros, ones(rewards), {"return": found, "baseline": zeros})
    longest = max(rewards.lengths)
    reached = np.array([[length > k for k in range(longest)] for length in rewards.lengths]).reshape(num_rollouts, -1)
    value = np.repeat(outcomes[:, None], longest, axis=1)
    for i, one in enumerate(found):
        value[i, : len(one)] = one
    # Apart from the first that is there, so that where all are equal nothing is left, not even rounding.
    first = value[reached.argmax(axis=0), np.arange(longest)]
    apart = value - first
    counted = reached if ended == "left_out" else np.ones_like(reached)
    others = counted.sum(axis=0) - counted
    total = np.where(counted, apart, 0.0)
    mean_outcome = (outcomes.sum() - outcomes) / (num_rollouts - 1)
    baseline = np.where(others > 0, (total.sum(axis=0) - total) / np.maximum(others, 1), mean_outcome[:, None] - first)
    lengths = list(enumerate(rewards.lengths))
    return Credit(
        [apart[i, :length] - baseline[i, :length] for i, length in lengths],
        ones(rewards),
        {"return": found, "baseline": [baseline[i, :length] + first[:length] for i, length in lengths]},
    )
