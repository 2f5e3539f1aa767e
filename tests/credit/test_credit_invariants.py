"""The invariants of specs/irc.md 1.10 that are about advantages (7 in part and 8 are about losses: tests/learn)."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.credit.by_hand import advantages_of, assert_ragged, credit_of, groups

from banty.credit import ESTIMATORS, GroupRewards, gdpo, normalise

# A deviation is at least 1/8 in these groups, so an epsilon of 1e-9 leaves a relative error of 1e-8.
EPSILON = {"epsilon": 1e-9}
CLOSE = 1e-6
GAMMAS = st.sampled_from([0.5, 0.9, 1.0])
NORMALISED: list[dict[str, Any]] = [
    {"estimator": "grpo"},
    {"estimator": "grpo", "total": True},
    *({"estimator": "mt_grpo", "variant": name} for name in ("go", "two_stage", "additive", "additive_last")),
    *({"estimator": name, "compare": over} for name in ("gtpo", "hybrid") for over in ("position", "pooled")),
    {"estimator": "gdpo"},
    {"estimator": "gigpo", "std": True},
]
CENTRED: list[dict[str, Any]] = [
    {"estimator": "rloo"},
    {"estimator": "rloo", "total": True},
    {"estimator": "dr_grpo"},
    {"estimator": "mt_grpo", "std": False},
    {"estimator": "gigpo"},
    {"estimator": "unbiased"},
    {"estimator": "unbiased", "ended": "left_out"},
]
slowly = settings(derandomize=True, deadline=None, max_examples=25)


def _name(options: dict[str, Any]) -> str:
    return "-".join(map(str, options.values()))


def changed(
    group: GroupRewards, *, scale: float = 1.0, outcome: float = 0.0, at: int = 0, reward: float = 0.0
) -> GroupRewards:
    """All rewards times `scale`, then `outcome` on every outcome, then `reward` on each at position `at`."""
    turns = [scale * one for one in group.turn_rewards]
    for one in turns:
        one[at : at + 1] += reward
    return dataclasses.replace(group, outcomes=scale * group.outcomes + outcome, turn_rewards=turns)


def changed_before_the_last(group: GroupRewards, at: int, reward: float) -> GroupRewards:
    """The same on turns that are not a rollout's last, whose reward MT-GRPO does not look at."""
    turns = [one.copy() for one in group.turn_rewards]
    for one in turns:
        one[:-1][at : at + 1] += reward
    return dataclasses.replace(group, turn_rewards=turns)


@slowly
@given(groups(silent=True))
def test_1_without_turn_rewards_mt_grpo_is_grpo(group: GroupRewards) -> None:
    wanted = advantages_of(group, estimator="grpo")
    for variant in ("go", "additive", "additive_last"):
        assert_ragged(advantages_of(group, estimator="mt_grpo", variant=variant), wanted, 1e-12)


@slowly
@given(group=groups(silent=True, equal_lengths=True), gamma=GAMMAS, weight=st.sampled_from([0.0, 0.3, 2.0]))
def test_2_without_turn_rewards_and_with_equal_lengths_gtpo_is_grpo(
    group: GroupRewards, gamma: float, weight: float
) -> None:
    wanted = credit_of(group, estimator="grpo", **EPSILON).advantages
    assert_ragged(
        advantages_of(group, estimator="gtpo", gamma=gamma, **EPSILON), [one.tolist() for one in wanted], CLOSE
    )
    found = advantages_of(group, estimator="hybrid", gamma=gamma, outcome_weight=weight, **EPSILON)
    assert_ragged(found, [((1 + weight) * one).tolist() for one in wanted], CLOSE)


@slowly
@given(group=groups(), gamma=GAMMAS, compare=st.sampled_from(["position", "pooled"]))
def test_3_a_hybrid_without_outcome_weight_is_gtpo(group: GroupRewards, gamma: float, compare: str) -> None:
    options: dict[str, Any] = {"gamma": gamma, "compare": compare}
    found = advantages_of(group, estimator="hybrid", outcome_weight=0.0, **options)
    assert found == advantages_of(group, estimator="gtpo", **options)


@slowly
@given(groups(silent=True))
def test_3_undiscounted_and_pooled_gtpo_is_constant_within_a_rollout(group: GroupRewards) -> None:
    for turns in advantages_of(group, estimator="gtpo", gamma=1.0, compare="pooled"):
        assert np.ptp(turns) == 0.0


@slowly
@given(group=groups(), gamma=GAMMAS)
def test_4_each_position_sums_to_0_over_the_rollouts_that_are_there(group: GroupRewards, gamma: float) -> None:
    for estimator, part in (("mt_grpo", "turn"), ("gtpo", "turn"), ("hybrid", "turn")):
        options = {} if estimator == "mt_grpo" else {"gamma": gamma}
        values = credit_of(group, estimator=estimator, **options, **EPSILON).parts[part]
        for k in range(max(group.lengths)):
            assert sum(one[k] for one in values if len(one) > k) == pytest.approx(0.0, abs=CLOSE)


@pytest.mark.parametrize("options", NORMALISED, ids=_name)
@slowly
@given(group=groups(), scale=st.sampled_from([0.5, 3.0, 10.0]))
def test_5_a_positive_factor_on_all_rewards_changes_nothing(
    options: dict[str, Any], group: GroupRewards, scale: float
) -> None:
    if options["estimator"] == "gdpo":  # outcomes and turns that cancel leave the epsilon of the first round alone
        (added,) = gdpo([group], normalise, batch=False)
        assume(np.std([turns[0] for turns in added.advantages]) > 0.01)
    before = advantages_of(group, **options, **EPSILON)
    assert_ragged(advantages_of(changed(group, scale=scale), **options, **EPSILON), before, 1e-5)


@pytest.mark.parametrize("options", CENTRED, ids=_name)
@slowly
@given(group=groups(), scale=st.sampled_from([0.5, 3.0, 10.0]))
def test_5_without_a_deviation_the_factor_comes_through(
    options: dict[str, Any], group: GroupRewards, scale: float
) -> None:
    wanted = [(scale * one).tolist() for one in credit_of(group, **options).advantages]
    assert_ragged(advantages_of(changed(group, scale=scale), **options), wanted, 1e-9)


@pytest.mark.parametrize(
    "options",
    [
        *({"estimator": name} for name in ("rloo", "grpo", "dr_grpo", "gdpo", "unbiased")),
        *({"estimator": "mt_grpo", "variant": name} for name in ("go", "two_stage", "additive", "additive_last")),
        {"estimator": "unbiased", "ended": "left_out"},
        {"estimator": "gtpo", "gamma": 1.0},
        {"estimator": "gtpo", "gamma": 1.0, "compare": "pooled"},
    ],
    ids=_name,
)
@slowly
@given(group=groups(), constant=st.sampled_from([-3.0, 0.5, 8.0]))
def test_5_a_constant_on_all_outcomes_changes_nothing(
    options: dict[str, Any], group: GroupRewards, constant: float
) -> None:
    before = advantages_of(group, **options)
    assert_ragged(advantages_of(changed(group, outcome=constant), **options), before, CLOSE)


@slowly
@given(group=groups(equal_lengths=True), constant=st.sampled_from([-3.0, 0.5, 8.0]))
def test_5_nor_with_a_discount_where_lengths_are_equal(group: GroupRewards, constant: float) -> None:
    for name in ("gtpo", "hybrid"):
        before = advantages_of(group, estimator=name)
        assert_ragged(advantages_of(changed(group, outcome=constant), estimator=name), before, 1e-5)


def test_5_with_a_discount_and_unequal_lengths_the_constant_depends_on_the_length() -> None:
    group = GroupRewards(np.array([1.0, 0.0, 0.0]), [np.zeros(1), np.zeros(2), np.zeros(4)])
    for name in ("gtpo", "hybrid"):
        before = advantages_of(group, estimator=name)
        assert abs(advantages_of(changed(group, outcome=1.0), estimator=name)[2][0] - before[2][0]) > 0.1


@slowly
@given(group=groups(), at=st.integers(0, 3), constant=st.sampled_from([-2.0, 0.5]))
def test_6_a_constant_on_one_position_changes_nothing_in_mt_grpo(group: GroupRewards, at: int, constant: float) -> None:
    before = advantages_of(group, estimator="mt_grpo")
    found = advantages_of(changed_before_the_last(group, at, constant), estimator="mt_grpo")
    assert_ragged(found, before, 1e-12)
    before = advantages_of(group, estimator="mt_grpo", variant="additive")
    found = advantages_of(changed(group, at=at, reward=constant), estimator="mt_grpo", variant="additive")
    assert_ragged(found, before, 1e-12)


@slowly
@given(group=groups(equal_lengths=True), at=st.integers(0, 3), constant=st.sampled_from([-2.0, 0.5]))
def test_6_nor_in_gtpo_with_equal_lengths(group: GroupRewards, at: int, constant: float) -> None:
    before = advantages_of(group, estimator="gtpo")
    assert_ragged(advantages_of(changed(group, at=at, reward=constant), estimator="gtpo"), before, 1e-5)


@slowly
@given(group=groups(least=3), at=st.integers(0, 3), constant=st.sampled_from([-2.0, 0.5]))
def test_6_nor_at_a_position_all_of_whose_rollouts_have_that_turn(
    group: GroupRewards, at: int, constant: float
) -> None:
    before = advantages_of(group, estimator="gtpo")
    found = advantages_of(changed(group, at=at, reward=constant), estimator="gtpo")
    for k in range(max(group.lengths)):
        present = [i for i, length in enumerate(group.lengths) if length > k]
        if k > at or all(group.lengths[i] > at for i in present):
            assert [found[i][k] for i in present] == pytest.approx([before[i][k] for i in present], abs=1e-5)


def test_6_where_some_have_ended_before_that_turn_it_changes_who_is_ahead() -> None:
    group = GroupRewards(np.array([1.0, 0.0, 0.0]), [np.zeros(1), np.zeros(2), np.zeros(2)])
    before = advantages_of(group, estimator="gtpo")
    found = advantages_of(changed(group, at=1, reward=2.0), estimator="gtpo")
    assert before[0][0] > 0 > found[0][0]


@pytest.mark.parametrize("options", [*NORMALISED, *CENTRED], ids=_name)
@slowly
@given(group=groups(), order=st.randoms(use_true_random=False))
def test_7_permuting_rollouts_permutes_their_credit(
    options: dict[str, Any], group: GroupRewards, order: Random
) -> None:
    places = list(range(len(group.outcomes)))
    order.shuffle(places)
    mixed = GroupRewards(
        group.outcomes[places],
        [group.turn_rewards[i] for i in places],
        anchors=[group.anchors[i] for i in places],
        tokens=[group.tokens[i] for i in places],
    )
    straight = advantages_of(group, **options)
    assert_ragged(advantages_of(mixed, **options), [straight[i] for i in places], 1e-8)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@slowly
@given(group=groups())
def test_weights_are_1_and_the_input_stays_as_it_was(estimator: str, group: GroupRewards) -> None:
    before = [group.outcomes.tolist(), [one.tolist() for one in group.turn_rewards]]
    credit = credit_of(group, estimator=estimator)
    assert [one.tolist() for one in credit.weights] == [[1.0] * length for length in group.lengths]
    for part in credit.parts.values():
        assert [len(one) for one in part] == group.lengths
    assert [group.outcomes.tolist(), [one.tolist() for one in group.turn_rewards]] == before
