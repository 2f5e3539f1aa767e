"""What stored rollouts would have taught under one reward file and estimator, without sampling anything (specs/irc.md
2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from banty.calibrate.direction import Direction, Labelled, directions_of
from banty.credit import CreditSpec, credit_metrics, estimator_of, turns_of
from banty.credit.metrics import correlation


@dataclass(frozen=True)
class Standing:
    """What an estimator makes of labelled rollouts. `metrics` are `credit/NAME`, those every training step logs;
    `reward_corr` is the correlation, over rollouts, of the mean reward of a turn with the outcome."""

    directions: tuple[Direction, ...]
    metrics: Mapping[str, float | None]
    reward_corr: float | None

    @property
    def mismatches(self) -> tuple[str, ...]:
        """The tiers that do not go the way they were meant to."""
        return tuple(row.tier for row in self.directions if row.mismatch)


def standing_of(
    labelled: Labelled,
    spec: CreditSpec,
    intended: Mapping[str, int],
    *,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> Standing:
    """Raises InputError for a spec that cannot work."""
    credits = estimator_of(spec)(labelled.groups)
    return Standing(
        directions_of(labelled, spec, intended, seed=seed, level=level, num_resamples=num_resamples, credits=credits),
        credit_metrics(turns_of(labelled.groups, credits, labelled.tiers), labelled.groups),
        reward_correlation(labelled),
    )


def reward_correlation(labelled: Labelled) -> float | None:
    """Pearson's of a rollout's mean turn reward with its outcome; None where either does not vary."""
    pairs = [
        (float(rewards.mean()) if len(rewards) else 0.0, float(outcome))
        for group in labelled.groups
        for rewards, outcome in zip(group.turn_rewards, group.outcomes, strict=True)
    ]
    if not pairs:
        return None
    rewards, outcomes = np.array(pairs, dtype=np.float64).T
    return correlation(rewards, outcomes)


COMPARED = ("dead_turns", "dead_tokens", "rms", "corr", "corr_within", "push")


def changes(before: Standing, after: Standing) -> dict[str, tuple[float | None, float | None]]:
    """Of each figure that compares two standings, that of both: dead turns, size and correlation of advantages, the
    push on length, the correlation of turn rewards with the outcome, the number of mismatches, and every tier's share
    of the gradient."""
    found: dict[str, tuple[float | None, float | None]] = {
        name: (before.metrics.get(f"credit/{name}"), after.metrics.get(f"credit/{name}")) for name in COMPARED
    }
    found["reward_corr"] = (before.reward_corr, after.reward_corr)
    found["mismatches"] = (float(len(before.mismatches)), float(len(after.mismatches)))
    for one, other in zip(before.directions, after.directions, strict=True):
        found[f"share_{one.tier}"] = (one.share, other.share)
    return found
