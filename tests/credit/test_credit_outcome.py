"""Leave-one-out and group-normalised outcome credit: fixture F1, degenerate groups, shuffles, shifts and scales."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.credit import ESTIMATORS, Credit, CreditSpec, GroupRewards, estimator_of, grpo, rloo

F1_TOLERANCE = 2e-5
REWARDS = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=9)
LENGTHS = st.integers(0, 4)
EVERY_ESTIMATOR = pytest.mark.parametrize(
    "estimator", [rloo, grpo, partial(grpo, ddof=0)], ids=["rloo", "grpo", "grpo-ddof0"]
)
Estimator = Callable[[GroupRewards], Credit]


def group_of(outcomes: Sequence[float], lengths: Sequence[int] | None = None) -> GroupRewards:
    turns = [np.zeros(length) for length in lengths or [1] * len(outcomes)]
    return GroupRewards(np.array(outcomes, dtype=np.float64), turns)


def per_rollout(estimator: Estimator, outcomes: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array([turns[0] for turns in estimator(group_of(outcomes)).advantages])


# Columns of fixture F1 of irc.md: outcomes, GRPO with ddof 1, GRPO with ddof 0, RLOO.
F1 = [
    ([1, 0, 0, 1], [0.866024, -0.866024, -0.866024, 0.866024], [0.999998, -0.999998, -0.999998, 0.999998],
     [0.666667, -0.666667, -0.666667, 0.666667]),
    ([1, 1, 1, 0], [0.499999] * 3 + [-1.499997], [0.577349] * 3 + [-1.732047], [0.333333] * 3 + [-1.0]),
    ([1, 0, 0, 0], [1.499997] + [-0.499999] * 3, [1.732047] + [-0.577349] * 3, [1.0] + [-0.333333] * 3),
    ([1, 1, 1, 1], [0.0] * 4, [0.0] * 4, [0.0] * 4),
]  # fmt: skip


@pytest.mark.parametrize(("outcomes", "unbiased", "biased", "leave_one_out"), F1)
def test_fixture_f1(
    outcomes: list[float], unbiased: list[float], biased: list[float], leave_one_out: list[float]
) -> None:
    np.testing.assert_allclose(per_rollout(grpo, outcomes), unbiased, atol=F1_TOLERANCE, rtol=0)
    np.testing.assert_allclose(per_rollout(partial(grpo, ddof=0), outcomes), biased, atol=F1_TOLERANCE, rtol=0)
    np.testing.assert_allclose(per_rollout(rloo, outcomes), leave_one_out, atol=F1_TOLERANCE, rtol=0)


def test_recipes_name_the_estimators() -> None:
    for name, estimator in (("rloo", rloo), ("grpo", grpo)):
        (made,) = estimator_of(CreditSpec(estimator=name))([group_of([1, 0, 0, 1])])
        assert [turns[0] for turns in made.advantages] == per_rollout(estimator, [1, 0, 0, 1]).tolist()
    assert per_rollout(grpo, [1, 0, 0, 1])[1] == pytest.approx(-0.866024, abs=F1_TOLERANCE)


@EVERY_ESTIMATOR
@pytest.mark.parametrize("outcomes", [[0.0], [1.0], [7.5], [0.1] * 3, [1.0] * 8, [0.0] * 5, [-2.5] * 2])
def test_a_group_without_contrast_gives_nobody_credit(estimator: Estimator, outcomes: list[float]) -> None:
    assert per_rollout(estimator, outcomes) == pytest.approx(0.0, abs=1e-8)


@EVERY_ESTIMATOR
def test_a_singleton_is_not_credited_with_its_raw_reward(estimator: Estimator) -> None:
    credit = estimator(group_of([1.0], [3]))
    assert [turns.tolist() for turns in credit.advantages] == [[0.0, 0.0, 0.0]]
    assert [turns.tolist() for turns in credit.weights] == [[1.0, 1.0, 1.0]]


@EVERY_ESTIMATOR
def test_an_empty_group_has_no_credit_to_give(estimator: Estimator) -> None:
    credit = estimator(group_of([]))
    assert (list(credit.advantages), list(credit.weights)) == ([], [])


def test_leave_one_out_is_each_reward_minus_the_mean_of_the_others() -> None:
    outcomes = [0.2, 0.9, -1.0, 0.0, 3.5]
    expected = [x - sum(outcomes[:i] + outcomes[i + 1 :]) / 4 for i, x in enumerate(outcomes)]
    np.testing.assert_allclose(per_rollout(rloo, outcomes), expected, rtol=1e-12)


@settings(derandomize=True, deadline=None)
@given(REWARDS.filter(lambda rewards: len(rewards) > 1))
def test_leave_one_out_is_the_rescaled_centred_reward(outcomes: list[float]) -> None:
    num, mean = len(outcomes), math.fsum(outcomes) / len(outcomes)
    expected = [num / (num - 1) * (reward - mean) for reward in outcomes]
    np.testing.assert_allclose(per_rollout(rloo, outcomes), expected, atol=1e-9)


@EVERY_ESTIMATOR
@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS, lengths=st.data())
def test_every_turn_of_a_rollout_gets_its_advantage_and_weight_1(
    estimator: Estimator, outcomes: list[float], lengths: st.DataObject
) -> None:
    num_turns = [lengths.draw(LENGTHS) for _ in outcomes]
    credit = estimator(group_of(outcomes, num_turns))
    expected = per_rollout(estimator, outcomes)
    assert [len(turns) for turns in credit.advantages] == num_turns
    for advantages, weights, advantage in zip(credit.advantages, credit.weights, expected, strict=True):
        assert (advantages == advantage).all(), "the advantage is constant within a rollout, whatever its length"
        assert weights.tolist() == [1.0] * len(advantages)


@EVERY_ESTIMATOR
def test_turn_rewards_do_not_enter_outcome_credit(estimator: Estimator) -> None:
    plain = estimator(GroupRewards(np.array([1.0, 0.0]), [np.zeros(2), np.zeros(1)]))
    shaped = estimator(GroupRewards(np.array([1.0, 0.0]), [np.array([5.0, -3.0]), np.array([9.0])]))
    for left, right in zip(plain.advantages, shaped.advantages, strict=True):
        assert left.tolist() == right.tolist()


@EVERY_ESTIMATOR
@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS, order=st.randoms(use_true_random=False))
def test_permuting_rollouts_permutes_credit(estimator: Estimator, outcomes: list[float], order: Random) -> None:
    places = list(range(len(outcomes)))
    order.shuffle(places)
    straight = per_rollout(estimator, outcomes)
    shuffled = per_rollout(estimator, [outcomes[place] for place in places])
    np.testing.assert_allclose(shuffled, straight[places], atol=1e-8)


@EVERY_ESTIMATOR
@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS, constant=st.integers(-20, 20))
def test_a_constant_added_to_all_outcomes_changes_nothing(
    estimator: Estimator, outcomes: list[float], constant: int
) -> None:
    shifted = per_rollout(estimator, [reward + constant for reward in outcomes])
    np.testing.assert_allclose(shifted, per_rollout(estimator, outcomes), atol=1e-8)


@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS, scale=st.sampled_from([0.25, 0.5, 2.0, 10.0]))
def test_scaling_scales_leave_one_out_and_leaves_the_normalised_one(outcomes: list[float], scale: float) -> None:
    scaled = [scale * reward for reward in outcomes]
    np.testing.assert_allclose(per_rollout(rloo, scaled), scale * per_rollout(rloo, outcomes), atol=1e-8)
    # The 1e-6 in the denominator is what is left of the scale; rewards here differ by at least 1/16.
    np.testing.assert_allclose(per_rollout(grpo, scaled), per_rollout(grpo, outcomes), atol=1e-3, rtol=1e-4)


@EVERY_ESTIMATOR
@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS)
def test_credit_of_a_group_sums_to_0(estimator: Estimator, outcomes: list[float]) -> None:
    assert math.fsum(per_rollout(estimator, outcomes)) == pytest.approx(0.0, abs=1e-8)


@settings(derandomize=True, deadline=None)
@given(outcomes=REWARDS.filter(lambda rewards: len(rewards) > 1))
def test_normalised_credit_is_bounded(outcomes: list[float]) -> None:
    num = len(outcomes)
    assert np.abs(per_rollout(grpo, outcomes)).max() <= (num - 1) / math.sqrt(num) + 1e-9
    assert np.abs(per_rollout(partial(grpo, ddof=0), outcomes)).max() <= math.sqrt(num - 1) + 1e-9


def test_the_estimators_leave_their_input_as_it_was() -> None:
    rewards = group_of([1.0, 0.0, 0.5])
    for estimator in ESTIMATORS:
        estimator_of(CreditSpec(estimator=estimator))([dataclasses.replace(rewards, anchors=[["a"]] * 3)])
    assert rewards.outcomes.tolist() == [1.0, 0.0, 0.5]


def test_an_unscored_outcome_never_reaches_an_estimator() -> None:
    with pytest.raises(AssertionError, match="unscored"):
        group_of([1.0, float("nan")])
    with pytest.raises(AssertionError, match="turn rewards"):
        GroupRewards(np.array([1.0, 0.0]), [np.zeros(1)])
