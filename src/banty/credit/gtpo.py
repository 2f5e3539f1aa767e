"""GTPO, turn level: discounted returns, then normalised (specs/irc.md 1.5; Ding et al. 2025, arXiv 2511.14846), and the
hybrid that adds the outcome once more, undiscounted (1.6; arXiv 2604.02869, equation 2)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from banty.credit.normalise import Over, by_position, pooled, returns
from banty.credit.types import Credit, GroupRewards, ones, spread

Comparison: TypeAlias = Literal["position", "pooled"]


def gtpo(rewards: GroupRewards, over: Over, *, gamma: float = 0.9, compare: Comparison = "position") -> Credit:
    """A_k = GN(R_k), over the turns at the same `position`, or over all turns of the group, `pooled`.

    The paper leaves open which. By position the last turn of the longest rollout stands alone and gets 0, and a short
    success's last turn is compared with the middle of others.
    """
    found = returns(rewards.turn_rewards, rewards.outcomes, gamma)
    advantages = by_position(found, over) if compare == "position" else pooled(found, over)
    return Credit(advantages, ones(rewards), {"return": found, "turn": advantages})


def hybrid(
    rewards: GroupRewards,
    over: Over,
    *,
    gamma: float = 0.9,
    outcome_weight: float = 0.3,
    compare: Comparison = "position",
) -> Credit:
    """A_k = GN(R_k) + lambda A^O, with lambda the `outcome_weight`.

    With no turn rewards and equal lengths it is (1 + lambda) A^O whatever gamma is: normalising takes the discount out.
    """
    base = gtpo(rewards, over, gamma=gamma, compare=compare)
    outcome = spread(over(rewards.outcomes), rewards)
    advantages = [one + outcome_weight * out for one, out in zip(base.advantages, outcome, strict=True)]
    return Credit(advantages, ones(rewards), {**base.parts, "outcome": outcome})
