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
    """`credit/NAME` of a batch; None where there is nothing to say.

    `rms` and `max` over trained tokens; `dead_turns`, `dead_tokens` and `dead_cells` (group and position with no live
    turn) as shares; `corr` (and `corr_tokens`, `corr_within` groups): Pearson's of advantage and outcome; `share_TIER`:
    the sum of |A| times tokens in that tier over all; `push` is the mean of `length_push` over the turns, weighted with
    how many rollouts go on after them.
    """
    size, weight = np.abs(turns.advantage), turns.tokens
    total = float(weight.sum())
    if not len(size) or not total:
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
        "push": _mean_push(groups),
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
    """For each position k: m_k, the mean over rollouts that get there of the mean reward the others of their group have
    at k (a rollout that has ended counts 0), and the share of rollouts that go on after k.

    A baseline that is accumulated over the turns a rollout has left takes about m_k off each time another turn is
    taken: rewards that most turns get make rollouts shorter, and penalties longer (specs/irc.md 9).
    """
    longest = max((max(group.lengths, default=0) for group in groups), default=0)
    found = []
    for k in range(longest):
        pushes, going_on, reached = [], 0, 0
        for group in groups:
            at = np.array([turns[k] if len(turns) > k else 0.0 for turns in group.turn_rewards])
            for length, mine in zip(group.lengths, at, strict=True):
                if length > k:
                    reached += 1
                    going_on += length > k + 1
                    if len(at) > 1:
                        pushes.append((at.sum() - mine) / (len(at) - 1))
        found.append((float(np.mean(pushes)) if pushes else 0.0, going_on / reached))
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


def _mean_push(groups: Sequence[GroupRewards]) -> float:
    return float(sum(push * share for push, share in length_push(groups)))


__all__ = ["DEAD", "Turns", "correlation", "credit_metrics", "gradient_shares", "length_push", "turns_of"]
