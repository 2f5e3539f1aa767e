"""GiGPO: the episode's group advantage plus that of a turn among turns taken in the same state (specs/irc.md 1.12; Feng
et al. 2025, arXiv 2505.10978)."""

from __future__ import annotations

import numpy as np

from banty.credit.normalise import Over, returns
from banty.credit.types import Credit, GroupRewards, ones, spread


def gigpo(rewards: GroupRewards, over: Over, *, gamma: float = 0.95, state_weight: float = 1.0) -> Credit:
    """A = A^E + omega A^S, with omega the `state_weight`.

    A^E compares outcomes plus turn rewards, one value a rollout. A^S compares the discounted returns of all turns of
    the group that were taken in the same state; a state met once gives 0. States are the environment's own, by hash: in
    a conversation texts hardly ever repeat. A turn whose state nobody knows (an empty anchor) stands alone.
    """
    assert rewards.anchors or not any(rewards.lengths), "GiGPO compares states; the group names none"
    totals = rewards.outcomes + np.array([turns.sum() for turns in rewards.turn_rewards])
    episode = spread(over(totals), rewards)
    found = returns(rewards.turn_rewards, rewards.outcomes, gamma)
    state = [np.zeros(length) for length in rewards.lengths]
    for places in _by_anchor(rewards).values():
        compared = over(np.array([found[i][k] for i, k in places]))
        for (i, k), value in zip(places, compared, strict=True):
            state[i][k] = value
    advantages = [one + state_weight * other for one, other in zip(episode, state, strict=True)]
    return Credit(advantages, ones(rewards), {"outcome": episode, "state": state, "return": found})


def _by_anchor(rewards: GroupRewards) -> dict[str, list[tuple[int, int]]]:
    places: dict[str, list[tuple[int, int]]] = {}
    for i, anchors in enumerate(rewards.anchors):
        for k, anchor in enumerate(anchors):
            if anchor:
                places.setdefault(anchor, []).append((i, k))
    return places
