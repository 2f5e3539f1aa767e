"""Centring and scaling what is compared: one value a rollout, the turns at one position, or all turns of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from banty.credit.types import FloatArray

EPSILON = 1e-6
Over = Callable[[FloatArray], FloatArray]


def normalise(values: FloatArray, *, std: bool = True, ddof: int = 1, epsilon: float = EPSILON) -> FloatArray:
    """GN(x) = (x - mean x) / (std x + epsilon), or centred alone without `std` (specs/irc.md 1.2).

    A single value has nothing to be compared with and gives 0; taking its raw reward instead, as some trainers do, pays
    whoever is alone. Equal values give exactly 0.
    """
    if values.size < 2:
        return np.zeros_like(values)
    # Less the first, equal values are 0 to the last bit; less their mean, rounding, which a scale would blow up.
    apart = values - values[0]
    centred = apart - apart.mean()
    return np.asarray(centred / (apart.std(ddof=ddof) + epsilon)) if std else np.asarray(centred)


def by_position(values: Sequence[FloatArray], over: Over) -> list[FloatArray]:
    """`over` applied to the turns at each position, over the rollouts that have one there."""
    out = [np.zeros(len(one)) for one in values]
    for position in range(max(map(len, values), default=0)):
        present = [i for i, one in enumerate(values) if len(one) > position]
        found = over(np.array([values[i][position] for i in present]))
        for i, value in zip(present, found, strict=True):
            out[i][position] = value
    return out


def pooled(values: Sequence[FloatArray], over: Over) -> list[FloatArray]:
    """`over` applied to all turns of the group together."""
    found = over(np.concatenate(values) if values else np.zeros(0))
    return np.split(found, np.cumsum([len(one) for one in values])[:-1]) if values else []


def returns(turn_rewards: Sequence[FloatArray], outcomes: FloatArray, gamma: float) -> list[FloatArray]:
    """R_k = sum over l >= k of gamma^(l-k) r_l, plus gamma^(K-k) times the outcome (specs/irc.md equation 4)."""
    out = []
    for rewards, outcome in zip(turn_rewards, outcomes, strict=True):
        found = np.zeros(len(rewards))
        after = outcome
        for turn in range(len(rewards) - 1, -1, -1):
            # The last turn's reward and the outcome arrive together; every step back is discounted.
            after = rewards[turn] + (after if turn == len(rewards) - 1 else gamma * after)
            found[turn] = after
        out.append(found)
    return out


def less_the_others(values: FloatArray) -> FloatArray:
    """Each of at least two values less the mean of the rest; of equal values exactly 0."""
    apart = values - values[0]
    return np.asarray(apart - (apart.sum() - apart) / (len(values) - 1))
