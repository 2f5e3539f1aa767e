"""What goes into an estimator and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupRewards:
    """One group of N scored rollouts of the same task.

    `outcomes` has shape [N]. `turn_rewards[i]` has one entry per trainable turn of rollout i, [K_i]; lengths differ.
    `anchors[i]` names the state each of these turns was taken in, such as the environment's hash before it; empty where
    nobody knows. `tokens[i]` counts each turn's trained tokens; empty where they are not counted.
    """

    outcomes: FloatArray
    turn_rewards: Sequence[FloatArray]
    anchors: Sequence[Sequence[str]] = ()
    tokens: Sequence[FloatArray] = ()

    def __post_init__(self) -> None:
        assert len(self.outcomes) == len(self.turn_rewards), "one array of turn rewards per outcome"
        assert not np.isnan(self.outcomes).any(), "unscored rollouts are left out before credit is given"
        for name, given in (("anchors", self.anchors), ("tokens", self.tokens)):
            fits = not given or list(map(len, given)) == self.lengths
            assert fits, f"{name} has one entry per trainable turn, or is empty"

    @property
    def lengths(self) -> list[int]:
        """K_i: the number of turns of each rollout."""
        return [len(turns) for turns in self.turn_rewards]


@dataclass(frozen=True)
class Credit:
    """One advantage and one weight per turn, ragged like the rewards; weights are never folded into advantages.

    `parts` say what an advantage was made of, each ragged in the same way: `outcome` (A^O), `turn` (A^I, a turn's own
    normalised reward), `return` (before normalisation), `baseline` (what was taken off it), `state` (A^S).
    """

    advantages: Sequence[FloatArray]
    weights: Sequence[FloatArray]
    parts: Mapping[str, Sequence[FloatArray]] = field(default_factory=dict)


def broadcast(advantages: FloatArray, rewards: GroupRewards) -> Credit:
    """Every turn of a rollout gets the rollout's advantage, with weight 1."""
    everywhere = spread(advantages, rewards)
    return Credit(everywhere, ones(rewards), {"outcome": everywhere})


def spread(values: FloatArray, rewards: GroupRewards) -> list[FloatArray]:
    """A value per rollout, [N], as one per turn."""
    return [np.full(length, value) for length, value in zip(rewards.lengths, values, strict=True)]


def ones(rewards: GroupRewards) -> list[FloatArray]:
    return [np.ones(length) for length in rewards.lengths]
