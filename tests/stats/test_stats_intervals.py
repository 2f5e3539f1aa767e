"""Intervals over tasks and of proportions, against scipy and against the cluster-robust formula written out."""

from __future__ import annotations

import dataclasses
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from banty.errors import InputError
from banty.stats import (
    Interval,
    bootstrap_interval,
    clopper_pearson_interval,
    clustered_interval,
    interval_over_tasks,
    pass_hat_k,
    wilson_interval,
)
from banty.stats.intervals import Method

RAGGED: list[list[float | None]] = [[1, 1, 0, 1], [0, 0], [1], [], [0, None, 1, 1, 0, 0], [1, 1, 1], [None], [0, 0, 1]]


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_t_interval_is_that_of_scipy_on_task_means(level: float) -> None:
    means = [3 / 4, 0, 1, 2 / 5, 1, 1 / 3]
    expected = stats.ttest_1samp(means, 0.0).confidence_interval(level)
    interval = clustered_interval(RAGGED, level=level, bounds=(-9.0, 9.0))
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(np.mean(means))
    assert (interval.level, interval.n, interval.method) == (level, 6, "t, clustered by task")


def test_standard_error_is_the_weighted_cluster_sum() -> None:
    tasks = [np.array([value for value in trials if value is not None]) for trials in RAGGED]
    tasks = [trials for trials in tasks if trials.size]
    count = len(tasks)
    weights = [np.full(trials.size, 1 / trials.size) for trials in tasks]
    mean = sum(w @ y for w, y in zip(weights, tasks, strict=True)) / sum(w.sum() for w in weights)
    sums = [w @ (y - mean) for w, y in zip(weights, tasks, strict=True)]
    error = np.sqrt(sum(s**2 for s in sums) / count**2 * count / (count - 1))
    low, high = ends(clustered_interval(RAGGED, bounds=None))
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, count - 1) * error)
    assert (high + low) / 2 == pytest.approx(mean)


def test_repeating_every_trial_adds_no_evidence() -> None:
    once = [[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert ends(clustered_interval([task * 10 for task in once])) == pytest.approx(ends(clustered_interval(once)))


def test_ends_are_cut_at_the_bounds_only() -> None:
    tasks = [[1, 1, 1, 1]] * 9 + [[0, 1, 1, 1]]
    low, high = ends(clustered_interval(tasks))
    free_low, free_high = ends(clustered_interval(tasks, bounds=None))
    assert free_high > 1.0
    assert (low, high) == (free_low, 1.0)


@pytest.mark.parametrize("method", ["t", "wilson"])
@settings(deadline=None)
@given(
    tasks=st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0, None]), max_size=5), max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_order_of_tasks_and_trials_is_irrelevant(
    method: Method, tasks: list[list[float | None]], random: Random
) -> None:
    shuffled = [list(trials) for trials in tasks]
    random.shuffle(shuffled)
    for trials in shuffled:
        random.shuffle(trials)
    for one, other in (
        (clustered_interval(tasks, method=method), clustered_interval(shuffled, method=method)),
        (bootstrap_interval(tasks, seed=1, num_resamples=100), bootstrap_interval(shuffled, seed=1, num_resamples=100)),
    ):
        assert (one.n, one.method) == (other.n, other.method)
        for name in ("estimate", "low", "high"):
            if getattr(one, name) is None:
                assert getattr(other, name) is None
            else:
                assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-9)


@settings(deadline=None)
@given(tasks=st.lists(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=4), min_size=2, max_size=8))
def test_every_interval_holds_its_estimate_and_stays_within_bounds(tasks: list[list[float]]) -> None:
    for interval in (
        clustered_interval(tasks),
        clustered_interval(tasks, method="wilson"),
        bootstrap_interval(tasks, seed=0, num_resamples=200),
    ):
        low, high = ends(interval)
        assert interval.estimate is not None
        # A percentile interval of few resamples of very skewed values may miss the mean: that is not asserted of it.
        if "bootstrap" not in interval.method:
            assert low - 1e-9 <= interval.estimate <= high + 1e-9
        assert 0.0 <= low <= high <= 1.0


def test_no_task_gives_no_estimate_and_one_task_no_ends() -> None:
    for make in (clustered_interval, lambda tasks: bootstrap_interval(tasks, seed=0)):
        nothing = make([[], [None]])
        assert (nothing.estimate, nothing.low, nothing.high, nothing.n) == (None, None, None, 0)
        single = make([[1, 0, 1, 1], []])
        assert (single.estimate, single.low, single.high, single.n) == (0.75, None, None, 1)
        assert "fewer than two tasks" in single.method


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("method", ["t", "wilson"])
def test_tasks_that_all_agree_are_not_certain(value: int, method: Method) -> None:
    interval = clustered_interval([[value] * 4] * 40, method=method)
    exact = stats.binomtest(40 * value, 40).proportion_ci(0.95, method="exact")
    assert ends(interval) == pytest.approx((exact.low, exact.high))
    assert "all tasks equal" in interval.method
    assert bootstrap_interval([[value] * 4] * 40, seed=0) == interval


def test_equal_values_inside_the_range_widen_by_the_share_that_may_differ() -> None:
    share = 1 - 0.025 ** (1 / 12)
    interval = interval_over_tasks([0.6] * 12)
    assert ends(interval) == pytest.approx((0.6 - 0.6 * share, 0.6 + 0.4 * share))
    # No difference on any of twelve tasks: at most that share of all tasks differs, by at most one either way.
    assert ends(interval_over_tasks([0.0] * 12, bounds=(-1, 1))) == pytest.approx((-share, share))
    free = interval_over_tasks([0.6] * 12, bounds=None)
    assert free.estimate == pytest.approx(0.6)
    assert (free.low, free.high) == (None, None)


def test_rounding_does_not_pass_for_variance() -> None:
    tasks = [[0.1] * 3, [0.1] * 7, [0.1] * 10]
    assert len({float(np.mean(trials)) for trials in tasks}) > 1
    assert "all tasks equal" in clustered_interval(tasks).method


def test_wilson_over_tasks_is_wilson_at_the_effective_number_of_trials() -> None:
    values = np.array([1.0, 0.75, 1.0, 1.0, 0.5, 1.0, 0.25, 1.0])
    mean, variance = values.mean(), values.var(ddof=1) / 8
    effective, critical = mean * (1 - mean) / variance, stats.t.ppf(0.975, 7)
    # The score interval solves (mean - p)^2 = critical^2 p (1 - p) / n.
    interval = interval_over_tasks(values, method="wilson")
    for end in ends(interval):
        assert (mean - end) ** 2 == pytest.approx(critical**2 * end * (1 - end) / effective)
    assert interval.method == "Wilson, clustered by task"
    doubled = interval_over_tasks(values * 2 - 1, method="wilson", bounds=(-1, 1))
    assert ends(doubled) == pytest.approx([2 * end - 1 for end in ends(interval)])


def test_intervals_of_pass_hat_k_take_the_estimates_as_they_are() -> None:
    estimate = pass_hat_k([*RAGGED[:2], [], *RAGGED[4:6]], 2)
    interval = interval_over_tasks(estimate.per_task)
    assert interval.estimate == pytest.approx(estimate.mean)
    assert interval.n == estimate.num_tasks == 4


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (1, 10_000), (4999, 9999)]
)
def test_proportions_agree_with_scipy(successes: int, trials: int, level: float) -> None:
    test = stats.binomtest(successes, trials)
    wilson = test.proportion_ci(level, method="wilson")
    exact = test.proportion_ci(level, method="exact")
    assert ends(wilson_interval(successes, trials, level=level)) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    ours = clopper_pearson_interval(successes, trials, level=level)
    assert ends(ours) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert ours.estimate == successes / trials


@pytest.mark.parametrize("make", [wilson_interval, clopper_pearson_interval])
def test_proportions_refuse_the_impossible_and_miss_the_empty(make: object) -> None:
    assert callable(make)
    assert make(0, 0).estimate is None
    assert str(make(0, 0)) == "no estimate"
    for successes, trials in ((3, 2), (-1, 2)):
        with pytest.raises(InputError, match="impossible"):
            make(successes, trials)


def test_bootstrap_agrees_with_scipy_and_repeats_under_its_seed() -> None:
    generator = np.random.default_rng(5)
    tasks = generator.binomial(1, generator.beta(1, 1, size=60)[:, None], size=(60, 3)).astype(float)
    interval = bootstrap_interval(tasks, seed=3)
    assert interval == bootstrap_interval(tasks, seed=3)
    assert interval != bootstrap_interval(tasks, seed=4)
    reference = stats.bootstrap(
        (tasks.mean(axis=1),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ends(interval) == pytest.approx((reference.low, reference.high), abs=0.006)
    assert ends(interval) == pytest.approx(ends(clustered_interval(tasks)), abs=0.02)


def test_trials_are_resampled_with_their_task() -> None:
    # 20 tasks of 50 equal trials: resampling trials would shrink the interval sevenfold.
    tasks = [[index % 2] * 50 for index in range(20)]
    low, high = ends(bootstrap_interval(tasks, seed=0))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(20), rel=0.15)


def test_printed_form() -> None:
    assert str(Interval(0.3118, 0.2712, 0.3526, 0.95, 40, "t")) == "0.312 [0.271, 0.353]"
    assert str(Interval(-0.0001, -0.05, 0.05, 0.95, 40, "t")) == "0.000 [-0.050, 0.050]"
    assert str(Interval(0.75, None, None, 0.95, 1, "t")) == "0.750 (no interval)"


def test_an_interval_excludes_what_lies_outside() -> None:
    interval = Interval(0.3, 0.2, 0.4, 0.95, 9, "t")
    assert [interval.excludes(value) for value in (0.1, 0.2, 0.3, 0.4, 0.5)] == [True, False, False, False, True]
    assert not dataclasses.replace(interval, low=None, high=None).excludes(7.0)


def test_numbers_are_plain_floats() -> None:
    for interval in (clustered_interval(RAGGED), bootstrap_interval(RAGGED, seed=0), wilson_interval(3, 7)):
        assert [type(getattr(interval, name)) for name in ("estimate", "low", "high", "n")] == [
            float,
            float,
            float,
            int,
        ]


def test_wrong_input_says_what_to_do() -> None:
    with pytest.raises(InputError, match="outside the bounds"):
        clustered_interval([[0, 2], [1]])
    outcomes = [1, 0, 1]
    with pytest.raises(InputError, match="one flat sequence"):
        clustered_interval(outcomes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="infinite"):
        interval_over_tasks([0.1, float("inf")])
    with pytest.raises(InputError, match="level"):
        clustered_interval([[0], [1]], level=95)
    with pytest.raises(InputError, match="lower and a higher"):
        interval_over_tasks([0.1, 0.2], bounds=(1, 0))
    with pytest.raises(InputError, match="needs the bounds"):
        interval_over_tasks([0.1, 0.2], bounds=None, method="wilson")
    with pytest.raises(InputError, match="method must be one of"):
        interval_over_tasks([0.1, 0.2], method="Wilson")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="100 resamples"):
        bootstrap_interval([[0], [1]], seed=0, num_resamples=10)
