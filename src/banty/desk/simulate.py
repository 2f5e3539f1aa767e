"""The training loop on tables: sample leaves, give credit, take the gradient, step; many seeds side by side.

The law of what is sampled, the advantages and the update are those of `train_rl` with a habit policy and learner; only
the draws differ. Success is exact after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from banty.credit import CreditSpec
from banty.desk.batch import Batch, batch_credit
from banty.desk.exact import Exact, log_probabilities
from banty.desk.tables import Desk, Floats, Ints
from banty.records import Aggregation, generator

_SEEDS_AT_ONCE = 250
"""So many fit into the processor's cache about as well as fewer, and keep numpy busy."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an arm trains with; `rewards` names the reward file of the desk's tables, whose values are multiplied with
    `reward_scale`, a number a step; none is 1."""

    rewards: str
    credit: CreditSpec
    learning_rate: float
    steps: int
    tasks_per_step: int
    rollouts_per_task: int
    aggregation: Aggregation = "constant"
    constant_tokens: float = 1.0
    reward_scale: tuple[float, ...] = ()

    def scale_at(self, step: int) -> float:
        return self.reward_scale[step] if self.reward_scale else 1.0


@dataclass(frozen=True)
class Curves:
    """Of each seed: `success` before and after every step, exact, [S, steps + 1]; of every step's batch the mean number
    of `turns`, the root mean square `rms` of its advantages over decisions, and the share of `dead` turns, [S, steps];
    the `lapses` of every point at the end, [S, points]. Of the first step, over all seeds, by tier: the mean advantage
    of its turns, and their share of all turns."""

    success: Floats
    turns: Floats
    rms: Floats
    dead: Floats
    lapses: Floats
    tier_mean: dict[str, float]
    tier_share: dict[str, float]


def simulate(desk: Desk, setting: Setting, start: Floats, seeds: Sequence[int]) -> Curves:
    """Train from the logits `start` [points, 2] once with each seed. A seed's result depends on no other seed."""
    exact = Exact(desk)
    parts = [
        _simulate(desk, setting, start, seeds[first : first + _SEEDS_AT_ONCE], exact)
        for first in range(0, len(seeds), _SEEDS_AT_ONCE)
    ]
    sums = np.sum([tiers for _, tiers in parts], axis=0)
    success, turns, rms, dead, lapses = (
        np.concatenate(values) for values in zip(*(arrays for arrays, _ in parts), strict=True)
    )
    means = dict(zip(desk.tier_names, (sums[0] / np.maximum(sums[1], 1.0)).tolist(), strict=True))
    shares = dict(zip(desk.tier_names, (sums[1] / sums[1].sum()).tolist(), strict=True))
    return Curves(success, turns, rms, dead, lapses, means, shares)


def _simulate(
    desk: Desk, setting: Setting, start: Floats, seeds: Sequence[int], exact: Exact
) -> tuple[tuple[Floats, ...], Floats]:
    credit = batch_credit(setting.credit)
    draws = [generator(seed, "desk") for seed in seeds]
    logits = np.repeat(start[None], len(seeds), axis=0)
    success, turns, rms, dead = [exact(logits)], [], [], []
    tiers = np.zeros((2, len(desk.tier_names)))
    for step in range(setting.steps):
        tasks = (step * setting.tasks_per_step + np.arange(setting.tasks_per_step)) % len(desk.tasks)
        shape = (len(tasks), setting.rollouts_per_task, desk.options.shape[1])
        uniform = np.stack([rng.random(shape) for rng in draws])
        leaves = sample_leaves(desk, logits, tasks, uniform)
        batch = batch_of(desk, leaves, setting.rewards)
        batch = replace(batch, rewards=batch.rewards * setting.scale_at(step))
        # Training samples hold advantages in float32, so the real loop's gradient is of those.
        advantages = credit(batch).astype(np.float32).astype(np.float64)
        logits = logits - setting.learning_rate * gradients(desk, logits, leaves, advantages, batch, setting)
        success.append(exact(logits))
        weight = batch.tokens.sum(axis=(1, 2, 3))
        rms.append(np.sqrt((advantages**2 * batch.tokens).sum(axis=(1, 2, 3)) / np.maximum(weight, 1.0)))
        turns.append(batch.lengths.mean(axis=(1, 2)))
        dead.append((batch.live & (np.abs(advantages) < 1e-4)).sum(axis=(1, 2, 3)) / batch.lengths.sum(axis=(1, 2)))
        if step == 0:
            tiers += tier_sums(desk, leaves, advantages)
    lapses = np.exp(log_probabilities(logits))[:, :, 1]
    return (*(np.stack(each, 1) for each in (success, turns, rms, dead)), lapses), tiers


def sample_leaves(desk: Desk, logits: Floats, tasks: npt.NDArray[np.int64], uniform: Floats) -> Ints:
    """Leaves [S, G, N] drawn at logits [S, points, 2] for tasks [G]; `uniform` [S, G, N, D] decides, draw by draw."""
    disciplined = np.exp(log_probabilities(logits))[:, :, 0]
    node = np.broadcast_to(desk.roots[tasks][None, :, None], uniform.shape[:3]).copy()
    seed = np.broadcast_to(np.arange(len(logits))[:, None, None], node.shape)
    for draw in range(uniform.shape[-1]):
        going = node >= 0
        if not going.any():
            break
        at = node[going]
        lapses = uniform[..., draw][going] >= disciplined[seed[going], desk.node_point[at]]
        node[going] = desk.node_child[at, lapses.astype(np.int64)]
    return ~node


def batch_of(desk: Desk, leaves: Ints, rewards: str) -> Batch:
    """What estimators need to know of these episodes."""
    return Batch(
        desk.success[leaves],
        desk.rewards[rewards][leaves],
        desk.tokens[leaves],
        desk.anchors[leaves],
        desk.lengths[leaves],
    )


def gradients(desk: Desk, logits: Floats, leaves: Ints, advantages: Floats, batch: Batch, setting: Setting) -> Floats:
    """The gradient of each batch's loss, [S, points, 2], as `HabitLearner` takes it."""
    options = desk.options[leaves]
    per_turn = advantages * _factors(batch, setting)
    weight = np.take_along_axis(per_turn, desk.turns[leaves], axis=-1)
    size = 2 * len(desk.points)
    place = np.arange(len(leaves)).reshape(-1, 1, 1, 1) * size + options
    drawn = options >= 0
    taken = np.bincount(place[drawn], weight[drawn], minlength=len(leaves) * size).reshape(logits.shape)
    return np.asarray(np.exp(log_probabilities(logits)) * taken.sum(axis=-1, keepdims=True) - taken)


def _factors(batch: Batch, setting: Setting) -> Floats:
    """What a turn's decisions are multiplied with, [S, G, N, K]: `learn.aggregate` for episodes of one sample each."""
    tokens = batch.tokens
    of_episode = tokens.sum(axis=-1, keepdims=True)
    num_rollouts = np.maximum((of_episode > 0).sum(axis=(1, 2, 3), keepdims=True), 1)
    if setting.aggregation == "token":
        divisor = np.maximum(of_episode.sum(axis=(1, 2, 3), keepdims=True), 1.0)
    elif setting.aggregation == "constant":
        divisor = num_rollouts * setting.constant_tokens
    elif setting.aggregation == "sequence":
        divisor = np.maximum(of_episode, 1.0) * num_rollouts
    else:
        num_turns = np.maximum((tokens > 0).sum(axis=-1, keepdims=True), 1)
        divisor = np.maximum(tokens, 1.0) * num_turns * num_rollouts
    return np.asarray(np.broadcast_to(1.0 / divisor, tokens.shape))


def tier_sums(desk: Desk, leaves: Ints, advantages: Floats) -> Floats:
    """Of each tier the sum of its turns' advantages, and how many there are, [2, tiers]."""
    tiers = desk.tiers[leaves]
    named = tiers >= 0
    size = len(desk.tier_names)
    return np.stack(
        [np.bincount(tiers[named], advantages[named], minlength=size), np.bincount(tiers[named], minlength=size)]
    )
