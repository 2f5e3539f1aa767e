"""GDPO: each component of the reward normalised by itself, then added (specs/irc.md 1.12; arXiv 2601.05242)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from banty.credit.normalise import Over
from banty.credit.types import Credit, GroupRewards, ones, spread


def gdpo(groups: Sequence[GroupRewards], over: Over, *, turn_weight: float = 1.0, batch: bool = True) -> list[Credit]:
    """Of every rollout, GN of its outcome plus `turn_weight` times GN of the sum of its turn rewards, both in its
    group; with `batch`, normalised once more over all rollouts of the batch, which is why it takes all groups.
    """
    parts = [
        (over(group.outcomes), turn_weight * over(np.array([turns.sum() for turns in group.turn_rewards])))
        for group in groups
    ]
    added = np.concatenate([outcome + turns for outcome, turns in parts]) if parts else np.zeros(0)
    rescaled = np.split(over(added) if batch else added, np.cumsum([len(group.outcomes) for group in groups])[:-1])
    return [
        Credit(spread(values, group), ones(group), {"outcome": spread(outcome, group), "turn": spread(turns, group)})
        for values, group, (outcome, turns) in zip(rescaled, groups, parts, strict=False)
    ]
