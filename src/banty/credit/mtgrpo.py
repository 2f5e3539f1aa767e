"""MT-GRPO: turn rewards normalised at each turn position, then accumulated (specs/irc.md 1.4; arXiv 2604.02869 and
2505.11821), in the four forms that are published under the name."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from banty.credit.normalise import Over, by_position
from banty.credit.types import Credit, FloatArray, GroupRewards, ones, spread

Variant: TypeAlias = Literal["go", "two_stage", "additive", "additive_last"]


def mt_grpo(
    rewards: GroupRewards,
    over: Over,
    *,
    variant: Variant = "go",
    outcome_weight: float = 1.0,
    turn_weight: float = 1.0,
    last_turn: bool = False,
) -> Credit:
    """A^I is the normalised reward of a turn among the turns at its position, A^O the normalised outcome.

    * `go` (2604.02869): A_k = sum over l >= k of A^I_l, plus A^O.
    * `additive`: A_k = A^I_k + lambda A^O; `additive_last` gives the last turn A^O alone.
    * `two_stage` (the code released with 2505.11821): every turn but the last gets A^O + c A^I, where A^I is the
      normalised sum of their rewards; the last gets A^O. A rollout of one turn, which used no tool, gets its normalised
      total. The release has one call and one answer; that all turns before the answer are the first stage is our
      reading.

    `outcome_weight` is lambda and `turn_weight` c. The last turn's own reward has no place in the paper's sums; with
    `last_turn` it is taken like any other's. The baseline of `go` has as many terms as the rollout has turns left,
    which depends on what the policy does: its gradient is biased wherever the policy decides when to stop (specs/irc.md
    9).
    """
    outcome = over(rewards.outcomes)
    everywhere = spread(outcome, rewards)
    if variant == "two_stage":
        return _two_stage(rewards, over, outcome, turn_weight)
    keep_last = last_turn or variant == "additive"
    own = [turns if keep_last else turns[:-1] for turns in rewards.turn_rewards]
    turn = [_padded(one, length) for one, length in zip(by_position(own, over), rewards.lengths, strict=True)]
    if variant == "go":
        advantages = [np.cumsum(one[::-1])[::-1] * turn_weight + out for one, out in zip(turn, everywhere, strict=True)]
    else:
        advantages = [turn_weight * one + outcome_weight * out for one, out in zip(turn, everywhere, strict=True)]
        if variant == "additive_last":
            for one, value in zip(advantages, outcome, strict=True):
                one[-1:] = value
    return Credit(advantages, ones(rewards), {"turn": turn, "outcome": everywhere})


def _two_stage(rewards: GroupRewards, over: Over, outcome: FloatArray, turn_weight: float) -> Credit:
    staged = [i for i, length in enumerate(rewards.lengths) if length > 1]
    first = np.zeros(len(outcome))
    first[staged] = over(np.array([rewards.turn_rewards[i][:-1].sum() for i in staged]))
    total = over(rewards.outcomes + np.array([turns.sum() for turns in rewards.turn_rewards]))
    turn = [
        _padded(np.full(max(length - 1, 0), value), length)
        for length, value in zip(rewards.lengths, first, strict=True)
    ]
    base = [total[i] if length == 1 else outcome[i] for i, length in enumerate(rewards.lengths)]
    everywhere = spread(np.array(base), rewards)
    advantages = [out + turn_weight * one for one, out in zip(turn, everywhere, strict=True)]
    return Credit(advantages, ones(rewards), {"turn": turn, "outcome": everywhere})


def _padded(values: FloatArray, length: int) -> FloatArray:
    return np.append(values, np.zeros(length - len(values)))
