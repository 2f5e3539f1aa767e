"""What credit did in a batch: how large, how much of it dead, whether it follows the outcome, and whom it reaches
(specs/irc.md 1.11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from banty.credit.types import Credit, FloatArray, GroupRewards

DEAD = 1e-4
"""|A| below this is a dead turn; the paper's threshold is not stated."""


@dataclass(frozen=True)
class Turns:
    """All turns of a batch in one row each: advantage, trained tokens, outcome, group, position, tier."""

    advantage: FloatArray
    tokens: FloatArray
    outcome: FloatArray
    group: FloatArray
    position: FloatArray
    tier: Sequence[str]

    def trained(self) -> Turns:
        """Those with trained tokens; the others are in no gradient."""
        kept = self.tokens > 0
        return Turns(
            self.advantage[kept],
            self.tokens[kept],
            self.outcome[kept],
            self.group[kept],
            self.position[kept],
            [tier for tier, is_kept in zip(self.tier, kept, strict=True) if is_kept],
        )


def turns_of(
    groups: Sequence[GroupRewards], credits: Sequence[Credit], tiers: Sequence[Sequence[Sequence[str]]] = ()
) -> Turns:
    """A batch laid out by turn. `tiers[g][i][k]` names that of each turn; without them all are unnamed."""
    rows: list[tuple[float, float, float, int, int]] = []
    names: list[str] = []
    for g, (group, credit) in enumerate(zip(groups, credits, strict=True)):
        for i, advantages in enumerate(credit.advantages):
            tokens = group.tokens[i] if group.tokens else np.ones(len(advantages))
            rows += [
                (float(a), float(n), float(group.outcomes[i]), g, k)
                for k, (a, n) in enumerate(zip(advantages, tokens, strict=True))
            ]
            names += tiers[g][i] if tiers else [""] * len(advantages)
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    advantage, size, outcome, place, position = table.T
    return Turns(advantage, size, outcome, place, position, names)


def credit_metrics(turns: Turns, groups: Sequence[GroupRewards]) -> dict[str, float | None]:
    """`credit/NAME` of a batch, over turns that have trained tokens; None where there is nothing to say.

    `rms` and `max` over trained tokens; `dead_turns`, `dead_tokens` and `dead_cells` (group and position with no live
    turn) as shares; `corr` (and `corr_tokens`, `corr_within` groups): Pearson's of advantage and outcome; `share_TIER`:
    the sum of |A| times tokens in that tier over all. Of `length_push`, where any turn has a reward: `push_turn_K` and
    `going_on_turn_K` for each turn, counted from 1, and `push`, the mean over all decisions to go on.
    """
    turns = turns.trained()
    size, weight = np.abs(turns.advantage), turns.tokens
    total = float(weight.sum())
    if not len(size):
        return {}
    dead = size < DEAD
    cells: dict[tuple[float, float], bool] = {}
    for group, position, is_dead in zip(turns.group, turns.position, dead, strict=True):
        cells[group, position] = cells.get((group, position), True) and bool(is_dead)
    found: dict[str, float | None] = {
        "rms": float(np.sqrt((weight * size**2).sum() / total)),
        "max": float(size.max()),
        "dead_turns": float(dead.mean()),
        "dead_tokens": float(weight[dead].sum() / total),
        "dead_cells": sum(cells.values()) / len(cells),
        "corr": correlation(turns.advantage, turns.outcome),
        "corr_tokens": correlation(turns.advantage, turns.outcome, weight),
        "corr_within": correlation(_within(turns.advantage, turns.group), _within(turns.outcome, turns.group)),
        **_pushes(groups),
    }
    found |= {f"share_{tier}": share for tier, share in gradient_shares(turns).items()}
    return {f"credit/{name}": value for name, value in found.items()}


def gradient_shares(turns: Turns) -> dict[str, float]:
    """Of each named tier, the sum of |A| times trained tokens over its turns, as a share of all; empty where all is
    0."""
    mass = np.abs(turns.advantage) * turns.tokens
    total = float(mass.sum())
    if not total:
        return {}
    tiers = np.array(turns.tier)
    return {str(tier): float(mass[tiers == tier].sum()) / total for tier in sorted(set(turns.tier) - {""})}


def length_push(groups: Sequence[GroupRewards]) -> list[tuple[float, float]]:
    """For each turn k after which any rollout goes on: m_k, the mean reward at k of the others of its group that go on
    too, averaged over the rollouts that do (those that go on alone have no others, and are left out; 0 where all do);
    and P(K > k), the share of all rollouts that go on after k.

    An estimator that centres rewards turn by turn and then adds them up takes about m_k off each time another turn is
    taken: rewards that most turns get make rollouts shorter, and penalties longer (specs/irc.md 9).
    """
    longest = max((max(group.lengths, default=0) for group in groups), default=0)
    num_rollouts = sum(len(group.lengths) for group in groups)
    found = []
    for k in range(longest - 1):
        going = [np.array([turns[k] for turns in group.turn_rewards if len(turns) > k + 1]) for group in groups]
        means = [(at.sum() - at) / (len(at) - 1) for at in going if len(at) > 1]
        push = float(np.concatenate(means).mean()) if means else 0.0
        found.append((push, sum(map(len, going)) / num_rollouts))
    return found


def correlation(a: FloatArray, b: FloatArray, weights: FloatArray | None = None) -> float | None:
    """Pearson's, weighted; None where either does not vary."""
    weight = np.ones(len(a)) if weights is None else weights
    if not weight.sum():
        return None
    x, y = (value - np.average(value, weights=weight) for value in (a, b))
    spread = float(np.sqrt((weight * x**2).sum() * (weight * y**2).sum()))
    # What is left of a constant after its mean is taken off is rounding, and correlates with anything.
    scale = float(weight.sum()) * max(float(np.abs(a).max()), 1e-300) * max(float(np.abs(b).max()), 1e-300)
    return float((weight * x * y).sum() / spread) if spread > 1e-12 * scale else None


def _within(values: FloatArray, groups: FloatArray) -> FloatArray:
    """Values less their group's mean."""
    _, place = np.unique(groups, return_inverse=True)
    return np.asarray(values - (np.bincount(place, values) / np.bincount(place))[place])


def _pushes(groups: Sequence[GroupRewards]) -> dict[str, float | None]:
    found = length_push(groups)
    if not any(np.any(turns) for group in groups for turns in group.turn_rewards):
        return {"push": 0.0}
    each: dict[str, float | None] = {}
    for turn, (push, going_on) in enumerate(found, start=1):
        each |= {f"push_turn_{turn}": push, f"going_on_turn_{turn}": going_on}
    decisions = sum(going_on for _, going_on in found)
    return {"push": sum(push * going_on for push, going_on in found) / decisions if decisions else 0.0, **each}


__all__ = ["DEAD", "Turns", "correlation", "credit_metrics", "gradient_shares", "length_push", "turns_of"]
