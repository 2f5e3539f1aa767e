"""Correlations against scipy, and the cases in which there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from banty.errors import InputError
from banty.stats import pearson_correlation, phi_coefficient

OUTCOMES = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])), min_size=1, max_size=30)


@settings(deadline=None)
@given(OUTCOMES)
def test_phi_agrees_with_chi_squared_and_with_pearson(pairs: list[tuple[int, int]]) -> None:
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    phi = phi_coefficient(left, right)
    if len(set(left)) < 2 or len(set(right)) < 2:
        assert phi is None
        assert pearson_correlation(left, right) is None
        return
    table = stats.contingency.crosstab(left, right).count
    chi_squared = stats.chi2_contingency(table, correction=False).statistic
    assert phi is not None
    assert phi**2 == pytest.approx(chi_squared / len(pairs), abs=1e-12)
    assert phi == pytest.approx(pearson_correlation(left, right), abs=1e-12)
    assert phi == phi_coefficient(right, left)
    assert phi_coefficient([1 - value for value in left], right) == pytest.approx(-phi)


def test_phi_of_a_table_worked_by_hand() -> None:
    # 3 both, 1 only left, 2 only right, 4 neither: (3*4 - 1*2) / sqrt(4*6*5*5)
    left = [1] * 4 + [0] * 6
    right = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert phi_coefficient(left, right) == pytest.approx(10 / np.sqrt(600))


def test_phi_of_many_pairs_does_not_overflow() -> None:
    left = np.tile([1.0, 1.0, 0.0, 0.0], 200_000)
    right = np.tile([1.0, 0.0, 0.0, 0.0], 200_000)
    assert phi_coefficient(left, right) == pytest.approx(1 / np.sqrt(3))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=20))
def test_pearson_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    left, right = np.array(pairs).T
    if min(np.ptp(left), np.ptp(right)) < 1e-3:
        return
    assert pearson_correlation(left, right) == pytest.approx(stats.pearsonr(left, right).statistic, abs=1e-7)


def test_pearson_of_reward_and_outcome_is_point_biserial() -> None:
    outcome, reward = [1, 0, 1, 1, 0, 0], [0.9, 0.2, 0.4, 0.8, 0.5, 0.1]
    assert pearson_correlation(outcome, reward) == pytest.approx(stats.pointbiserialr(outcome, reward).statistic)


def test_units_are_irrelevant_even_at_the_edge_of_floats() -> None:
    left, right = np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0, 1.0, 4.0, 3.0])
    expected = stats.pearsonr(left, right).statistic
    assert pearson_correlation(left * 1e250, right * 1e-250) == pytest.approx(expected)
    assert pearson_correlation(left, left) == pytest.approx(1.0)
    assert pearson_correlation(left, -left) == pytest.approx(-1.0)


def test_pairs_without_both_scores_are_left_out() -> None:
    assert phi_coefficient([1, 0, 1, None, 1], [1, 0, 0, 1, float("nan")]) == phi_coefficient([1, 0, 1], [1, 0, 0])
    assert pearson_correlation([1, 2, None, 4], [2, 1, 9, 5]) == pearson_correlation([1, 2, 4], [2, 1, 5])


@pytest.mark.parametrize(("left", "right"), [([], []), ([1], [1]), ([1, 1], [0, 1]), ([0.1] * 3, [1, 2, 3])])
def test_undefined_is_none(left: list[float], right: list[float]) -> None:
    assert pearson_correlation(left, right) is None


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="0 or 1"):
        phi_coefficient([1, 0.5], [1, 0])
    with pytest.raises(InputError, match="same length"):
        phi_coefficient([1, 0], [1])
    with pytest.raises(InputError, match="must be numbers"):
        pearson_correlation(["a", "b"], [1, 2])  # type: ignore[list-item]
