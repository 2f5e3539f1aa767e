"""Power against the noncentral t of scipy and an integral of its own, and against published sample sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from banty.errors import InputError
from banty.stats import (
    detectable_difference,
    detectable_effect,
    detectable_shift,
    paired_differences,
    t_test_power,
    task_means,
    tasks_needed,
    variance_over_tasks,
)


def power_by_integration(noncentrality: float, freedom: float, alpha: float) -> float:
    # T > critical given the sample spread s is Z > critical * s - noncentrality; s^2 * freedom is chi-squared.
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    value, _ = integrate.quad(
        lambda share: stats.norm.sf(critical * math.sqrt(stats.chi2.ppf(share, freedom) / freedom) - noncentrality),
        0.0, 1.0, limit=200,
    )  # fmt: skip
    return float(value)


@pytest.mark.parametrize("freedom", [1, 3, 9, 49.5, 499])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_detectable_effect_has_the_wanted_power(freedom: float, alpha: float, power: float) -> None:
    effect = detectable_effect(0.03, freedom, alpha=alpha, power=power)
    assert power_by_integration(effect / 0.03, freedom, alpha) == pytest.approx(power, abs=1e-6)
    assert t_test_power(effect, 0.03, freedom, alpha=alpha) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize("effect", [0.0, 0.01, -0.05, 0.2])
def test_power_counts_the_right_sign_only(effect: float) -> None:
    critical = stats.t.ppf(0.975, 19)
    assert t_test_power(effect, 0.04, 19) == pytest.approx(stats.nct.sf(critical, 19, abs(effect) / 0.04))
    assert t_test_power(0.0, 0.04, 19) == pytest.approx(0.025)


def test_few_tasks_need_more_than_the_normal_approximation_says() -> None:
    normal = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert detectable_effect(1.0, 9) == pytest.approx(normal * 1.124, rel=2e-3)
    assert detectable_effect(1.0, 1e7) == pytest.approx(normal, rel=1e-5)


@pytest.mark.parametrize(("effect", "needed"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_tasks_needed_as_tabulated(effect: float, needed: int) -> None:
    """The sample sizes that G*Power gives for a two-sided one-sample or paired t test at alpha .05 and power .8."""
    assert tasks_needed(effect, 1.0) == needed
    assert tasks_needed(-effect * 0.3, 0.09) == needed


@pytest.mark.parametrize("effect", [3.0, 0.7, 0.11, 0.013])
def test_tasks_needed_is_the_fewest(effect: float) -> None:
    needed = tasks_needed(effect, 0.16)
    assert detectable_effect(math.sqrt(0.16 / needed), needed - 1) <= effect
    if needed > 2:
        assert detectable_effect(math.sqrt(0.16 / (needed - 1)), needed - 2) > effect


def test_effects_come_from_the_variance_between_tasks() -> None:
    generator = np.random.default_rng(0)
    candidate = (generator.random((25, 4)) < generator.random((25, 1))).astype(float)
    baseline = (generator.random((25, 4)) < 0.5).astype(float)
    shift, difference = detectable_shift(candidate), detectable_difference(candidate, baseline)
    means, differences = candidate.mean(axis=1), candidate.mean(axis=1) - baseline.mean(axis=1)
    assert shift == pytest.approx(detectable_effect(stats.sem(means), 24))
    assert difference == pytest.approx(detectable_effect(stats.sem(differences), 24))
    assert detectable_shift(np.repeat(candidate, 9, axis=1)) == pytest.approx(shift)
    assert shift is not None
    assert difference is not None
    # Planning from the pilot's own variance for its own detectable effect asks for the pilot's number of tasks.
    assert tasks_needed(shift * (1 + 1e-9), variance_over_tasks(task_means(candidate)) or 0.0) == 25
    of_pairs = variance_over_tasks(paired_differences(candidate, baseline)) or 0.0
    assert tasks_needed(difference * (1 + 1e-9), of_pairs) == 25


def test_unknown_variance_gives_no_detectable_effect() -> None:
    assert detectable_shift([]) is None
    assert detectable_shift([[1, 0, 1]]) is None
    assert detectable_shift([[1, 1], [1], [], [1]]) is None
    assert detectable_difference([[1], [0]], [[1], [0]]) is None


def test_unscored_tasks_do_not_count() -> None:
    tasks: list[list[float | None]] = [[1, 0], [0], [1], [1, 1, 0]]
    assert detectable_shift([*tasks, [], [None]]) == detectable_shift(tasks)


def test_wrong_input_is_refused() -> None:
    for spread in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive number"):
            detectable_effect(spread, 9)
        with pytest.raises(InputError, match="positive number"):
            tasks_needed(0.1, spread)
    with pytest.raises(InputError, match="two tasks or more"):
        detectable_effect(0.1, 0)
    with pytest.raises(InputError, match="above alpha"):
        detectable_effect(0.1, 9, alpha=0.3, power=0.2)
    with pytest.raises(InputError, match="alpha"):
        t_test_power(0.1, 0.1, 9, alpha=5)
    with pytest.raises(InputError, match="other than 0"):
        tasks_needed(0.0, 0.1)
    with pytest.raises(InputError, match="ask for a larger one"):
        tasks_needed(1e-6, 1.0)
