"""Every estimator against a second one written from the formulas, on random ragged groups; and MT-GRPO's variants."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.credit import reference
from tests.credit.by_hand import advantages_of, assert_ragged, credit_of, group_of, groups

from banty.credit import CreditSpec, GroupRewards, estimator_of

# Deviations are at least 1/8 here, or 0; both sides divide by the deviation plus 1e-6.
CLOSE = 1e-8
DISCOUNTS = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(group=groups(least=1), ddof=st.sampled_from([0, 1]))
def test_mt_grpo(group: GroupRewards, ddof: int) -> None:
    wanted = reference.mt_grpo(group, partial(reference.gn, ddof=ddof))
    assert_ragged(advantages_of(group, estimator="mt_grpo", ddof=ddof), wanted, CLOSE)
    assert_ragged(
        advantages_of(group, estimator="mt_grpo", std=False), reference.mt_grpo(group, reference.centred), CLOSE
    )


@settings(derandomize=True, deadline=None, max_examples=60)
@given(group=groups(least=1), gamma=DISCOUNTS, compare=st.sampled_from(["position", "pooled"]))
def test_gtpo_and_the_hybrid(group: GroupRewards, gamma: float, compare: str) -> None:
    over = reference.by_position if compare == "position" else reference.pooled
    # Rounding of discounted returns that are equal in truth is divided by the epsilon alone: up to 1e-15 / 1e-6.
    options: dict[str, Any] = {"gamma": gamma, "compare": compare}
    assert_ragged(
        advantages_of(group, estimator="gtpo", std=False, **options),
        reference.gtpo(group, gamma, over, reference.centred),
        CLOSE,
    )
    assert_ragged(advantages_of(group, estimator="gtpo", **options), reference.gtpo(group, gamma, over), 1e-6)
    assert_ragged(
        advantages_of(group, estimator="hybrid", outcome_weight=0.7, **options),
        reference.hybrid(group, gamma, 0.7, over),
        1e-6,
    )


@settings(derandomize=True, deadline=None, max_examples=60)
@given(group=groups(), gamma=DISCOUNTS, weight=st.sampled_from([0.0, 1.0, 2.5]))
def test_gigpo(group: GroupRewards, gamma: float, weight: float) -> None:
    found = advantages_of(group, estimator="gigpo", gamma=gamma, state_weight=weight)
    assert_ragged(found, reference.gigpo(group, gamma, weight), CLOSE)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(batch=st.lists(groups(), min_size=1, max_size=3), weight=st.sampled_from([0.5, 1.0]))
def test_gdpo_normalises_over_the_whole_batch(batch: list[GroupRewards], weight: float) -> None:
    found = estimator_of(CreditSpec(estimator="gdpo", turn_weight=weight))(batch)
    for credit, wanted in zip(found, reference.gdpo(batch, weight), strict=True):
        assert_ragged(credit.advantages, wanted, 1e-6)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(group=groups(), ended=st.sampled_from(["outcome", "left_out"]))
def test_unbiased(group: GroupRewards, ended: str) -> None:
    assert_ragged(advantages_of(group, estimator="unbiased", ended=ended), reference.unbiased(group, ended), 1e-12)


def test_unbiased_by_hand_with_rollouts_that_end_early() -> None:
    group = group_of([[1, 2, 0], [3, 0], [0]], [1, 0, 5])
    # Returns: [4, 3, 1], [3, 0], [5].
    outcome = [[4 - 4, 3 - (0 + 5) / 2, 1 - (0 + 5) / 2], [3 - 4.5, 0 - (3 + 5) / 2], [5 - 3.5]]
    assert_ragged(advantages_of(group, estimator="unbiased"), outcome, 1e-15)
    left_out = [[4 - 4, 3 - 0, 1 - (0 + 5) / 2], [3 - 4.5, 0 - 3], [5 - 3.5]]
    assert_ragged(advantages_of(group, estimator="unbiased", ended="left_out"), left_out, 1e-15)
    parts = credit_of(group, estimator="unbiased").parts
    assert_ragged(parts["return"], [[4, 3, 1], [3, 0], [5]], 1e-15)
    assert_ragged(parts["baseline"], [[4, 2.5, 2.5], [4.5, 4], [3.5]], 1e-15)


@pytest.mark.parametrize("estimator", ["rloo", "dr_grpo", "grpo"])
def test_a_total_is_the_outcome_plus_all_turn_rewards(estimator: str) -> None:
    group = group_of([[1, 0.5], [0], [-2, 0, 0.25]], [1, 0, 1])
    summed = group_of([[0, 0], [0], [0, 0, 0]], [2.5, 0, -0.75])
    found = advantages_of(group, estimator=estimator, total=True)
    assert_ragged(found, advantages_of(summed, estimator=estimator), 1e-15)


# MT-GRPO's variants by hand: means only, so that every figure can be followed.
VARIED = group_of([[1, 3, 0], [0, 1, 0], [2, 0], [0]], [1, 0, 1, 0])
#         outcomes centred:  0.5, -0.5, 0.5, -0.5
#         turn 1 of those who go on, 1 0 2:  0, -1, 1        turn 2 of those who go on, 3 1:  1, -1


def test_the_variant_go_accumulates() -> None:
    wanted = [[1.5, 1.5, 0.5], [-2.5, -1.5, -0.5], [1.5, 0.5], [-0.5]]
    assert_ragged(advantages_of(VARIED, estimator="mt_grpo", std=False), wanted, 1e-12)
    half = [[1.0, 1.0, 0.5], [-1.5, -1.0, -0.5], [1.0, 0.5], [-0.5]]
    assert_ragged(advantages_of(VARIED, estimator="mt_grpo", std=False, turn_weight=0.5), half, 1e-12)


def test_the_variant_additive_compares_every_turn_the_last_too() -> None:
    # Turn 1: 1 0 2 0 less 0.75; turn 2: 3 1 0 less 4/3; turn 3: 0 0.
    wanted = [[0.25 + 0.5, 5 / 3 + 0.5, 0.5], [-0.75 - 0.5, -1 / 3 - 0.5, -0.5], [1.25 + 0.5, 0.5 - 4 / 3], [-1.25]]
    found = advantages_of(VARIED, estimator="mt_grpo", variant="additive", std=False)
    assert_ragged(found, wanted, 1e-12)
    found = advantages_of(VARIED, estimator="mt_grpo", variant="additive", std=False, outcome_weight=0.0)
    assert_ragged(found, [[0.25, 5 / 3, 0], [-0.75, -1 / 3, 0], [1.25, -4 / 3], [-0.75]], 1e-12)


def test_the_variant_additive_last_gives_the_last_turn_the_outcome_alone() -> None:
    found = advantages_of(VARIED, estimator="mt_grpo", variant="additive_last", std=False, outcome_weight=2.0)
    assert_ragged(found, [[1, 2, 0.5], [-2, -2, -0.5], [2, 0.5], [-0.5]], 1e-12)


def test_the_variant_two_stage_credits_all_but_the_answer() -> None:
    # Sums before the answer of the three that used a tool: 4 1 2, less 7/3; the fourth gets its total among totals.
    totals = np.array([5, 1, 3, 0])
    wanted = [[0.5 + 5 / 3] * 2 + [0.5], [-0.5 - 4 / 3] * 2 + [-0.5], [0.5 - 1 / 3, 0.5], [float(-totals.mean())]]
    found = advantages_of(VARIED, estimator="mt_grpo", variant="two_stage", std=False)
    assert_ragged(found, wanted, 1e-12)
    half = advantages_of(VARIED, estimator="mt_grpo", variant="two_stage", std=False, turn_weight=0.5)
    assert_ragged(half, [[0.5 + 5 / 6] * 2 + [0.5], [-0.5 - 2 / 3] * 2 + [-0.5], [0.5 - 1 / 6, 0.5], [-2.25]], 1e-12)


def test_a_reward_on_the_last_turn_is_left_out_unless_asked_for() -> None:
    paid = group_of([[0, 4], [0, 0]], [1, 0])
    assert_ragged(advantages_of(paid, estimator="mt_grpo", std=False), [[0.5, 0.5], [-0.5, -0.5]], 1e-12)
    found = advantages_of(paid, estimator="mt_grpo", std=False, last_turn=True)
    assert_ragged(found, [[2.5, 2.5], [-2.5, -2.5]], 1e-12)
    # Returns take it with the outcome, undiscounted between the two (equation 4).
    (first, _) = credit_of(paid, estimator="gtpo").parts["return"]
    assert first.tolist() == [0.9 * 5, 5]
