"""Intervals over training seeds against scipy's t tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from banty.errors import InputError
from banty.stats import Interval, seed_difference_interval, seed_interval

LEFT = [0.41, 0.44, 0.39, 0.52, 0.47, 0.43]
RIGHT = [0.38, 0.40, 0.37, 0.45, 0.46, 0.36]


def ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_one_method(level: float) -> None:
    expected = stats.ttest_1samp(LEFT, 0.0).confidence_interval(level)
    interval = seed_interval(LEFT, level=level)
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(np.mean(LEFT))
    assert interval.n == 6


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_two_methods_on_shared_seeds(level: float) -> None:
    expected = stats.ttest_rel(LEFT, RIGHT).confidence_interval(level)
    interval = seed_difference_interval(LEFT, RIGHT, paired=True, level=level)
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert interval.n == 6


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_two_methods_on_seeds_of_their_own(level: float) -> None:
    expected = stats.ttest_ind(LEFT, RIGHT[:4], equal_var=False).confidence_interval(level)
    interval = seed_difference_interval(LEFT, RIGHT[:4], paired=False, level=level)
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert interval.n == 10


def test_one_side_without_spread_is_no_obstacle_to_welch() -> None:
    # Then it is a constant, and Welch's degrees of freedom are those of the other side.
    expected = stats.ttest_1samp(LEFT, 0.0).confidence_interval(0.95)
    interval = seed_difference_interval(LEFT, [0.4] * 5, paired=False)
    assert ends(interval) == pytest.approx((expected.low - 0.4, expected.high - 0.4))


def test_a_dead_seed_is_left_out_with_its_partner() -> None:
    whole = seed_difference_interval(LEFT[1:], RIGHT[1:], paired=True)
    assert seed_difference_interval([None, *LEFT[1:]], RIGHT, paired=True) == whole
    assert seed_difference_interval(LEFT, [float("nan"), *RIGHT[1:]], paired=True) == whole
    assert seed_interval([*LEFT, None]) == seed_interval(LEFT)


def test_ends_stay_within_bounds() -> None:
    wide = seed_interval([0.1, 0.9, 0.95])
    assert wide.excludes(-1.0)
    assert not wide.excludes(-0.1)
    assert ends(seed_interval([0.1, 0.9, 0.95], bounds=(0.0, 1.0))) == (0.0, 1.0)
    assert seed_interval(LEFT, bounds=(0.0, 1.0)) == seed_interval(LEFT)
    with pytest.raises(InputError, match="outside the bounds"):
        seed_interval([0.5, 1.5], bounds=(0.0, 1.0))


def test_numbers_other_than_successes_are_welcome() -> None:
    assert seed_interval([12.0, -3.0]).estimate == 4.5


@pytest.mark.parametrize(
    ("interval", "estimate"),
    [
        (seed_interval([]), None),
        (seed_interval([None]), None),
        (seed_interval([0.4]), 0.4),
        (seed_interval([0.4, 0.4, 0.4]), 0.4),
        (seed_difference_interval([0.5, 0.6], [0.3, 0.4], paired=True), 0.2),
        (seed_difference_interval([], [], paired=True), None),
        (seed_difference_interval([0.5], [0.3, 0.4], paired=False), 0.15),
        (seed_difference_interval([0.5, 0.5], [0.3, 0.3], paired=False), 0.2),
        (seed_difference_interval([None], [0.3, 0.3], paired=False), None),
    ],
)
def test_an_unknown_spread_gives_no_ends(interval: Interval, estimate: float | None) -> None:
    assert interval.estimate == (None if estimate is None else pytest.approx(estimate))
    assert ends(interval) == (None, None)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(InputError, match="align"):
        seed_difference_interval(LEFT, RIGHT[:4], paired=True)
