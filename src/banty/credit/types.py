"""What goes into an estimator and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupRewards:
    """One group of N scored rollouts of the same task.

    `outcomes` has shape [N]. `turn_rewards[i]` has one entry per trainable turn of rollout i, [K_i]; lengths differ.
    """

    outcomes: FloatArray
    turn_rewards: Sequence[FloatArray]

    def __post_init__(self) -> None:
        assert len(self.outcomes) == len(self.turn_rewards), "one array of turn rewards per outcome"
        assert not np.isnan(self.outcomes).any(), "unscored rollouts are left out before credit is given"


@dataclass(frozen=True)
class Credit:
    """One advantage and one weight per turn, ragged like the rewards; weights are never folded into advantages."""

    advantages: Sequence[FloatArray]
    weights: Sequence[FloatArray]


def broadcast(advantages: FloatArray, rewards: GroupRewards) -> Credit:
    """Every turn of a rollout gets the rollout's advantage, with weight 1."""
    lengths = [len(turns) for turns in rewards.turn_rewards]
    return Credit(
        [np.full(length, advantage) for advantage, length in zip(advantages, lengths, strict=True)],
        [np.ones(length) for length in lengths],
    )
