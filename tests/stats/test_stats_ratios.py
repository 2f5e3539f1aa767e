"""Ratios of means: the interval by its definition, its limits, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from banty.errors import InputError
from banty.stats import interval_over_tasks, ratio_interval


def test_the_ends_are_where_the_t_test_begins_to_reject() -> None:
    generator = np.random.default_rng(0)
    above, below = generator.gamma(4.0, 1.0, 30), generator.uniform(0.2, 1.0, 30)
    found = ratio_interval(above, below)
    assert found.estimate == pytest.approx(above.mean() / below.mean())
    for end in (found.low, found.high):
        assert end is not None
        assert stats.ttest_1samp(above - end * below, 0.0).pvalue == pytest.approx(0.05, abs=1e-6)


def test_a_fixed_denominator_leaves_the_t_interval() -> None:
    above = [1.0, 2.0, 4.0, 3.0]
    plain, found = interval_over_tasks(above, bounds=None), ratio_interval(above, [0.5] * 4)
    assert plain.low is not None
    assert plain.high is not None
    assert (found.low, found.high) == pytest.approx((max(0.0, plain.low) * 2, plain.high * 2))


def test_no_success_is_no_price_and_few_are_no_interval() -> None:
    nothing = ratio_interval([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert nothing.estimate is None
    few = ratio_interval([1.0] * 9 + [2.0], [0.0] * 9 + [1.0])
    assert few.estimate == pytest.approx(11.0)
    assert few.low is None
    assert few.high is None
    assert "too few successes" in few.method
    assert ratio_interval([2.0, 2.0], [1.0, 1.0]).low is None, "no spread is no certainty"
    assert ratio_interval([], []).estimate is None


def test_tasks_without_a_value_are_left_out() -> None:
    assert ratio_interval([1.0, None, 3.0, 5.0], [1.0, 1.0, 0.5, None]).n == 2
    with pytest.raises(InputError, match="same length"):
        ratio_interval([1.0], [1.0, 2.0])


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(1000):
        rates = generator.random(50)
        solved = (generator.random((50, 4)) < rates[:, None]).mean(axis=1)
        spent = 2.0 - solved + generator.exponential(1.0, 50)
        found = ratio_interval(spent, solved)
        held += found.low is not None and found.high is not None and found.low <= 2.5 / 0.5 <= found.high
    assert 0.93 <= held / 1000 <= 0.97
