"""The estimators a second time: plain loops, from section 1 of specs/irc.md and its reference functions in 7.0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from banty.credit import GroupRewards

Ragged = list[list[float]]


def gn(values: Sequence[float], ddof: int = 1, eps: float = 1e-6) -> list[float]:
    if len(values) < 2:
        return [0.0] * len(values)
    mean = fmean(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - ddof)) ** 0.5
    return [(value - mean) / (deviation + eps) for value in values]


def centred(values: Sequence[float]) -> list[float]:
    return [value - fmean(values) for value in values] if len(values) > 1 else [0.0] * len(values)


Norm = Callable[[Sequence[float]], list[float]]


def by_position(values: Ragged, norm: Norm) -> Ragged:
    out = [[0.0] * len(one) for one in values]
    for k in range(max(map(len, values))):
        present = [i for i, one in enumerate(values) if len(one) > k]
        for i, value in zip(present, norm([values[i][k] for i in present]), strict=True):
            out[i][k] = value
    return out


def pooled(values: Ragged, norm: Norm) -> Ragged:
    flat = iter(norm([value for one in values for value in one]))
    return [[next(flat) for _ in one] for one in values]


def returns(group: GroupRewards, gamma: float) -> Ragged:
    """Equation 4, term by term; the last turn's index is that of the outcome."""
    found = []
    for turns, outcome in zip(group.turn_rewards, group.outcomes, strict=True):
        last = len(turns) - 1
        found.append(
            [
                sum(gamma ** (later - k) * float(turns[later]) for later in range(k, last + 1))
                + gamma ** (last - k) * float(outcome)
                for k in range(last + 1)
            ]
        )
    return found


def mt_grpo(group: GroupRewards, norm: Norm = gn) -> Ragged:
    turn = by_position([turns[:-1].tolist() for turns in group.turn_rewards], norm)
    outcome = norm(group.outcomes.tolist())
    return [[sum(turn[i][k:]) + outcome[i] for k in range(length)] for i, length in enumerate(group.lengths)]


def gtpo(group: GroupRewards, gamma: float, compare: Callable[[Ragged, Norm], Ragged], norm: Norm = gn) -> Ragged:
    return compare(returns(group, gamma), norm)


def hybrid(
    group: GroupRewards, gamma: float, weight: float, compare: Callable[[Ragged, Norm], Ragged], norm: Norm = gn
) -> Ragged:
    outcome = norm(group.outcomes.tolist())
    return [[a + weight * outcome[i] for a in one] for i, one in enumerate(gtpo(group, gamma, compare, norm))]


def gigpo(group: GroupRewards, gamma: float, weight: float) -> Ragged:
    totals = [o + float(turns.sum()) for o, turns in zip(group.outcomes, group.turn_rewards, strict=True)]
    episode = centred(totals)
    found = returns(group, gamma)
    places = [(i, k) for i, length in enumerate(group.lengths) for k in range(length)]
    out: Ragged = [[0.0] * length for length in group.lengths]
    for i, k in places:
        anchor = group.anchors[i][k]
        alike = [found[j][n] for j, n in places if anchor and group.anchors[j][n] == anchor]
        state = found[i][k] - fmean(alike) if len(alike) > 1 else 0.0
        out[i][k] = episode[i] + weight * state
    return out


def gdpo(groups: Sequence[GroupRewards], weight: float) -> list[Ragged]:
    added = []
    for group in groups:
        outcome = gn(group.outcomes.tolist())
        turn = gn([float(turns.sum()) for turns in group.turn_rewards])
        added.append([a + weight * b for a, b in zip(outcome, turn, strict=True)])
    flat = iter(gn([value for one in added for value in one]))
    return [[[value] * length for length in group.lengths for value in [next(flat)]] for group in groups]


def unbiased(group: GroupRewards, ended: str) -> Ragged:
    found = returns(group, 1.0)
    out = []
    for i, mine in enumerate(found):
        row = []
        others = [j for j in range(len(found)) if j != i]
        for k, value in enumerate(mine):
            reached = [found[j][k] for j in others if len(found[j]) > k]
            gone = [float(group.outcomes[j]) for j in others if len(found[j]) <= k]
            everyone = [float(group.outcomes[j]) for j in others]
            baseline = reached + gone if ended == "outcome" else reached or everyone
            row.append(value - float(np.mean(baseline)))
        out.append(row)
    return out
