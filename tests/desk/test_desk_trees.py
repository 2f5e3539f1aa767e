"""A leaf is the real episode that its decisions make; a step on leaves is the real learner's; sums are exact."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from banty.credit import CreditSpec, estimator_of
from banty.desk import (
    Desk,
    Exact,
    Setting,
    batch_credit,
    choose_trees,
    decision_tree,
    desk_of,
    gradients,
    load_desk,
    measure_bias,
    sample_leaves,
    save_desk,
    simulate,
)
from banty.desk.simulate import batch_of
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Aggregation, Group, Limits, PolicyLoss, Rollout
from banty.rollout import Cast, collect, group_rollouts, plan_groups
from banty.rubrics import Labeller, read_reward_file, rewarded
from banty.train.recipe import TrainBlock
from banty.train.rl import pack_groups
from banty.train.samples import group_rewards

TASKSET = make_taskset("airline/mini", {}, False)
EXPERT = TASKSET.expert()
LABELLERS = {name: Labeller(TASKSET, read_reward_file(name)) for name in ("outcome", "naive-dense")}
MAX_TURNS = 8
PLACES = (0, 4)


def a_desk() -> Desk:
    assert EXPERT is not None
    trees = {}
    for index in PLACES:
        task = TASKSET.task("train", index)
        leaves = decision_tree(task, TASKSET, EXPERT, LABELLERS, MAX_TURNS, 600)
        assert leaves is not None
        trees[task.id] = leaves
    return desk_of(trees, tuple(EXPERT.points), 5)


@pytest.fixture(scope="module")
def desk() -> Desk:
    return a_desk()


@pytest.fixture(scope="module")
def one_task(desk: Desk) -> Desk:
    """The desk's first task alone."""
    num_leaves = int((desk.leaf_task == 0).sum())
    own = ("leaf_task", "success", "lengths", "options", "turns", "tiers", "anchors")
    cut = {name: getattr(desk, name)[:num_leaves] for name in own}
    rewards = {name: values[:num_leaves] for name, values in desk.rewards.items()}
    return dataclasses.replace(desk, tasks=desk.tasks[:1], rewards=rewards, **cut)


@pytest.fixture(scope="module")
def real(desk: Desk) -> tuple[HabitWeights, list[Group]]:
    """Groups of the real loop on the desk's tasks, with rewards in their turns."""
    assert EXPERT is not None
    rates = dict(zip(EXPERT.points, np.linspace(0.1, 0.3, len(EXPERT.points)).tolist(), strict=True))
    weights = HabitWeights.with_lapses(EXPERT.points, rates)
    cast = Cast(HabitPolicy(EXPERT, weights))
    specs = plan_groups([TASKSET.task("train", index) for index in PLACES], 12, seed=3)
    rollouts = [tree[0] for tree in asyncio.run(collect(specs, TASKSET, cast, Limits(max_turns=MAX_TURNS)))]
    return weights, group_rollouts(rewarded(one, LABELLERS["naive-dense"](one)) for one in rollouts)


def leaf_of(desk: Desk, rollout: Rollout) -> int:
    node = desk.roots[desk.tasks.index(rollout.task.id)]
    for turn in rollout.turns:
        for token in turn.segment.sampled_ids if turn.segment else ():
            assert desk.node_point[node] == (token - 1) // 2
            node = desk.node_child[node, (token - 1) % 2]
    return int(~node)


def test_a_leaf_is_the_episode_of_its_decisions(desk: Desk, real: tuple[HabitWeights, list[Group]]) -> None:
    states: dict[str, int] = {}
    seen = set()
    for rollout in (one for group in real[1] for one in group.rollouts):
        leaf = leaf_of(desk, rollout)
        seen.add(leaf)
        length = desk.lengths[leaf]
        assert (bool(desk.success[leaf]), length) == (rollout.outcome.success, len(rollout.turns))
        assert desk.tokens[leaf, :length].tolist() == [turn.sampled_tokens for turn in rollout.turns]
        assert desk.rewards["naive-dense"][leaf, :length].tolist() == [turn.reward for turn in rollout.turns]
        tiers = [label.tier for label in LABELLERS["naive-dense"](rollout)]
        assert [desk.tier_names[tier] for tier in desk.tiers[leaf, :length]] == tiers
        (anchors,) = group_rewards(Group(rollout.task, (rollout,))).anchors
        for text, number in zip(anchors, desk.anchors[leaf], strict=False):
            assert states.setdefault(rollout.task.id + text, int(number)) == number
    assert len(seen) > 8
    assert len(set(states.values())) == len(states)


@pytest.mark.parametrize("aggregation", ["token", "constant", "sequence", "turn"])
@pytest.mark.parametrize("estimator", ["rloo", "mt_grpo", "gigpo", "gdpo"])
def test_the_gradient_is_the_real_learners(
    desk: Desk, real: tuple[HabitWeights, list[Group]], estimator: str, aggregation: Aggregation
) -> None:
    weights, groups = real
    spec = CreditSpec(estimator=estimator, scale="others")
    learner = HabitLearner(weights, 1.0)
    loss = PolicyLoss(aggregation=aggregation, constant_tokens=3.0)
    learner.forward_backward(
        pack_groups(groups, estimator_of(spec)([group_rewards(one) for one in groups]), TrainBlock()), loss
    )
    leaves = np.array([[[leaf_of(desk, one) for one in group.rollouts] for group in groups]])
    batch = batch_of(desk, leaves, "naive-dense")
    setting = Setting(
        rewards="naive-dense",
        credit=spec,
        learning_rate=1.0,
        steps=1,
        tasks_per_step=2,
        rollouts_per_task=12,
        aggregation=aggregation,
        constant_tokens=3.0,
    )
    advantages = batch_credit(spec)(batch).astype(np.float32).astype(float)
    found = gradients(desk, weights.logits[None], leaves, advantages, batch, setting)[0]
    assert np.abs(found).max() > 1e-4
    np.testing.assert_allclose(found, learner.gradient, rtol=1e-12, atol=1e-12)


def logits_of(lapse: float) -> np.ndarray:
    assert EXPERT is not None
    return HabitWeights.with_lapses(EXPERT.points, lapse).logits


def test_the_probabilities_of_all_episodes_sum_to_one(desk: Desk) -> None:
    everything = Exact(desk, np.ones(desk.num_leaves))
    assert everything(logits_of(0.3)) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(everything.gradient(logits_of(0.3)), 0.0, atol=1e-12)


def test_the_exact_gradient_is_the_slope_of_exact_success(one_task: Desk) -> None:
    exact = Exact(one_task)
    logits = logits_of(0.3)
    assert 0.05 < exact(logits) < 0.2
    slope = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope[place] = (exact(logits + step) - exact(logits - step)) / 2e-5
    np.testing.assert_allclose(exact.gradient(logits), slope, atol=1e-9)


def test_leaves_are_drawn_by_their_probabilities(desk: Desk) -> None:
    logits = logits_of(0.3)
    uniform = np.random.default_rng(0).random((1, 2, 40_000, desk.options.shape[1]))
    leaves = sample_leaves(desk, logits[None], np.array([0, 1]), uniform)[0]
    for task in range(2):
        inside = desk.leaf_task == task
        assert (desk.leaf_task[leaves[task]] == task).all()
        share = np.bincount(leaves[task], minlength=desk.num_leaves) / 40_000
        probability = np.exp(desk.counts @ np.log([0.7, 0.3] * len(desk.points))) * inside
        assert np.abs(share - probability).max() < 0.012


def test_unbiased_is_unbiased_over_all_pairs_of_episodes(one_task: Desk) -> None:
    """Groups of two, enumerated: the mean gradient is that of success plus turn rewards; MT-GRPO's is not."""
    desk, logits = one_task, logits_of(0.3)
    pairs = np.array(list(itertools.product(range(desk.num_leaves), repeat=2))).reshape(-1, 1, 2)
    probability = np.exp(desk.counts @ np.log([0.7, 0.3] * len(desk.points)))
    weight = probability[pairs].prod(axis=(1, 2))
    assert weight.sum() == pytest.approx(1.0)
    exact = Exact(desk, desk.success + desk.rewards["naive-dense"].sum(axis=1)).gradient(logits)
    batch = batch_of(desk, pairs, "naive-dense")
    many = np.repeat(logits[None], len(pairs), axis=0)

    def expected(estimator: str) -> np.ndarray:
        spec = CreditSpec(estimator=estimator)
        setting = Setting(
            rewards="naive-dense", credit=spec, learning_rate=1.0, steps=1, tasks_per_step=1, rollouts_per_task=2
        )
        each = gradients(desk, many, pairs, batch_credit(spec)(batch), batch, setting)
        return np.asarray(-(weight[:, None, None] * each).sum(axis=0))

    np.testing.assert_allclose(expected("unbiased"), exact, atol=1e-12)
    assert np.abs(expected("mt_grpo") - exact).max() > 0.01


def test_training_learns_and_a_seed_depends_on_no_other(one_task: Desk) -> None:
    setting = Setting(
        rewards="naive-dense",
        credit=CreditSpec(estimator="unbiased"),
        learning_rate=2.0,
        steps=8,
        tasks_per_step=2,
        rollouts_per_task=8,
    )
    together = simulate(one_task, setting, logits_of(0.3), [5, 6, 7])
    alone = simulate(one_task, setting, logits_of(0.3), [6])
    np.testing.assert_allclose(together.success[1], alone.success[0], rtol=1e-12)
    assert together.success[:, 0] == pytest.approx(0.082, abs=1e-3)
    assert (together.success[:, -1] > 0.3).all()
    assert together.tier_mean["gold"] > together.tier_mean["message"]


def test_bias_of_the_real_thing_is_noise(one_task: Desk) -> None:

    def of(estimator: str, rewards: str) -> float:
        setting = Setting(
            rewards=rewards,
            credit=CreditSpec(estimator=estimator),
            learning_rate=1.0,
            steps=1,
            tasks_per_step=1,
            rollouts_per_task=4,
        )
        found = measure_bias(one_task, setting, logits_of(0.3), 4000)
        if estimator == "rloo":
            assert (np.abs(found.mean - found.exact) < 5 * found.error + 1e-12).all()
        return found.cosine

    assert of("rloo", "outcome") > 0.99
    assert of("mt_grpo", "naive-dense") < 0.9


def test_tables_survive_their_file(desk: Desk, tmp_path: Path) -> None:
    save_desk(desk, tmp_path / "desk.npz")
    back = load_desk(tmp_path / "desk.npz")
    for name, value in desk.__dict__.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
    assert (back.tasks, back.points, back.tier_names, back.num_looked_at) == (
        desk.tasks,
        desk.points,
        desk.tier_names,
        5,
    )
    np.testing.assert_array_equal(back.rewards["naive-dense"], desk.rewards["naive-dense"])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "desk.npz").write_bytes(b"PK not quite")
    with pytest.raises(InputError, match=r"desk\.npz holds no decision trees"):
        load_desk(tmp_path / "desk.npz")


def test_a_tree_with_too_many_leaves_is_left_alone() -> None:
    assert EXPERT is not None
    assert decision_tree(TASKSET.task("train", 0), TASKSET, EXPERT, LABELLERS, MAX_TURNS, 50) is None


def test_tasks_that_cannot_be_found_are_an_error() -> None:
    short = GeneratedTasks("mini")
    short.splits = {"dev": 3}
    with pytest.raises(InputError, match=r"Raise desk\.max_leaves"):
        choose_trees(short, "dev", 3, LABELLERS, max_turns=4, max_leaves=60)
