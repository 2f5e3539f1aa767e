"""How large advantages can be (specs/irc.md 1.2 and 1.6), and that the bounds are reached."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.credit.by_hand import advantages_of, group_of, groups, silent

from banty.credit import GroupRewards

slowly = settings(derandomize=True, deadline=None, max_examples=80)


def bound(size: int, ddof: int = 1) -> float:
    return (size - 1) / math.sqrt(size) if ddof else math.sqrt(size - 1)


def largest(found: list[list[float]]) -> float:
    return max(abs(value) for turns in found for value in turns)


@pytest.mark.parametrize(("size", "ddof", "wanted"), [(4, 1, 1.5), (8, 1, 2.475), (4, 0, 1.732), (8, 0, 2.646)])
def test_one_against_the_rest_reaches_the_bound(size: int, ddof: int, wanted: float) -> None:
    found = advantages_of(silent([1.0] + [0.0] * (size - 1), [1] * size), estimator="grpo", ddof=ddof)
    assert largest(found) == pytest.approx(wanted, abs=1e-3)
    assert largest(found) == pytest.approx(bound(size, ddof), rel=1e-5)


@pytest.mark.parametrize(("passing", "wanted"), [(1, -0.5), (2, -0.866), (3, -1.5)])
def test_a_failure_among_four(passing: int, wanted: float) -> None:
    found = advantages_of(silent([1.0] * passing + [0.0] * (4 - passing), [1] * 4), estimator="grpo")
    assert found[-1] == pytest.approx([wanted], abs=1e-3)


@slowly
@given(group=groups(most=8), ddof=st.sampled_from([0, 1]))
def test_no_estimator_goes_beyond_its_bound(group: GroupRewards, ddof: int) -> None:
    most, longest = bound(len(group.outcomes), ddof) + 1e-9, max(group.lengths)
    assert largest(advantages_of(group, estimator="grpo", ddof=ddof)) <= most
    assert largest(advantages_of(group, estimator="gtpo", ddof=ddof)) <= most
    assert largest(advantages_of(group, estimator="hybrid", ddof=ddof)) <= 1.3 * most
    assert largest(advantages_of(group, estimator="mt_grpo", ddof=ddof)) <= longest * most
    assert largest(advantages_of(group, estimator="mt_grpo", ddof=ddof, variant="additive")) <= 2 * most


def test_the_hybrid_reaches_1_95_at_four_and_mt_grpo_grows_with_the_turns() -> None:
    ahead = group_of([[1.0] * 39 + [0.0]] + [[0.0] * 40] * 3, [1, 0, 0, 0])
    assert largest(advantages_of(ahead, estimator="hybrid")) == pytest.approx(1.95, abs=1e-4)
    assert largest(advantages_of(ahead, estimator="gtpo")) == pytest.approx(1.5, abs=1e-4)
    assert largest(advantages_of(ahead, estimator="mt_grpo")) == pytest.approx(40 * 1.5, rel=1e-4)


def test_pooled_the_bound_is_that_of_all_turns() -> None:
    group = group_of([[0.0] * 9, [0.0] * 9], [0.0, 0.0])
    group.turn_rewards[0][8] = 1.0
    found = advantages_of(group, estimator="gtpo", compare="pooled", gamma=0.0)
    assert largest(found) == pytest.approx(bound(18), rel=1e-4)
    assert np.sum(found) == pytest.approx(0.0, abs=1e-9)
