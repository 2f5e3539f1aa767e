"""Simulations: 95% intervals hold the truth in 95% of cases, and the detectable effect is detected in 80%.

Tasks are beta-binomial: each draws its chance of success, its trials are independent given that chance. Seeds are
fixed, so a failure is never bad luck; tolerances are three binomial standard errors of the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from banty.stats import (
    Comparison,
    Interval,
    bootstrap_interval,
    clustered_interval,
    compare_on_tasks,
    compare_over_seeds,
    detectable_effect,
    interval_over_tasks,
    pass_hat_k,
    seed_difference_interval,
    sign_flip_p_value,
    tasks_needed,
    wilson_interval,
)

REPETITIONS = 800

Tasks = NDArray[np.float64]


def tolerance(rate: float, repetitions: int = REPETITIONS) -> float:
    return 3 * math.sqrt(rate * (1 - rate) / repetitions)


def chances(generator: np.random.Generator, mean: float, correlation: float, num_tasks: int) -> Tasks:
    """Chances of success whose trials have the wanted intra-task correlation: 1 / (a + b + 1)."""
    total = 1 / correlation - 1
    return generator.beta(mean * total, (1 - mean) * total, size=num_tasks)


def coverage(
    make: Callable[[Tasks], Interval],
    *,
    mean: float,
    correlation: float,
    num_tasks: int = 40,
    num_trials: int = 4,
    repetitions: int = REPETITIONS,
) -> float:
    generator = np.random.default_rng([int(mean * 1000), int(correlation * 1000), num_tasks])
    held = 0
    for _ in range(repetitions):
        chance = chances(generator, mean, correlation, num_tasks)
        interval = make((generator.random((num_tasks, num_trials)) < chance[:, None]).astype(float))
        held += not interval.excludes(mean)
    return held / repetitions


@pytest.mark.parametrize("correlation", [0.05, 0.7])
@pytest.mark.parametrize("mean", [0.5, 0.7])
def test_clustered_interval_covers(mean: float, correlation: float) -> None:
    assert coverage(clustered_interval, mean=mean, correlation=correlation) == pytest.approx(0.95, abs=tolerance(0.95))


def test_treating_trials_as_independent_does_not_cover() -> None:
    def naive(tasks: Tasks) -> Interval:
        return wilson_interval(int(tasks.sum()), tasks.size)

    assert coverage(naive, mean=0.5, correlation=0.7) < 0.80
    assert coverage(naive, mean=0.5, correlation=0.01) > 0.92


def test_near_certain_success_is_covered_by_wilson_and_not_by_t() -> None:
    def wilson(tasks: Tasks) -> Interval:
        return clustered_interval(tasks, method="wilson")

    assert coverage(clustered_interval, mean=0.95, correlation=0.2) < 0.91
    assert coverage(wilson, mean=0.95, correlation=0.2) > 0.92
    assert coverage(wilson, mean=0.5, correlation=0.7) == pytest.approx(0.95, abs=tolerance(0.95))


def test_bootstrap_over_tasks_covers_nearly() -> None:
    def bootstrap(tasks: Tasks) -> Interval:
        return bootstrap_interval(tasks, seed=0, num_resamples=500)

    covered = coverage(bootstrap, mean=0.5, correlation=0.7, repetitions=400)
    assert 0.91 < covered < 0.95 + tolerance(0.95, 400)


def test_all_tasks_equal_is_covered_too() -> None:
    """Success so near certain that most samples show no failure at all: the fallback must carry the coverage."""

    def checked(tasks: Tasks) -> Interval:
        interval = clustered_interval(tasks)
        fallbacks.append("all tasks equal" in interval.method)
        return interval if fallbacks[-1] else Interval(0.99, 0.0, 1.0, 0.95, 20, "not under test")

    fallbacks: list[bool] = []
    assert coverage(checked, mean=0.99, correlation=0.5, num_tasks=20, repetitions=300) >= 0.95
    assert np.mean(fallbacks) > 0.5


def test_trial_counts_that_follow_difficulty_do_not_bias_the_mean() -> None:
    """Hard tasks were given eight trials and easy ones two: tasks still weigh the same, pooled trials do not."""
    generator = np.random.default_rng(11)
    held = pooled_held = 0
    for _ in range(REPETITIONS):
        chance = generator.choice([0.2, 0.8], size=40)
        tasks = [(generator.random(8 if p < 0.5 else 2) < p).astype(float) for p in chance]
        held += not clustered_interval(tasks).excludes(0.5)
        trials = np.concatenate(tasks)
        pooled_held += not wilson_interval(int(trials.sum()), trials.size).excludes(0.5)
    assert held / REPETITIONS == pytest.approx(0.95, abs=tolerance(0.95))
    assert pooled_held / REPETITIONS < 0.3


def test_intervals_of_pass_hat_k_cover_the_chance_that_all_succeed() -> None:
    generator = np.random.default_rng(12)
    a, b = 3.0, 2.0
    truth = a * (a + 1) / ((a + b) * (a + b + 1))  # E[p^2] of a beta distribution
    held = 0
    for _ in range(REPETITIONS):
        tasks = (generator.random((40, 4)) < generator.beta(a, b, size=(40, 1))).astype(float)
        held += not interval_over_tasks(pass_hat_k(tasks, 2).per_task).excludes(truth)
    assert held / REPETITIONS == pytest.approx(0.95, abs=tolerance(0.95))


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_over_seeds_cover_at_five_seeds(paired: bool) -> None:
    generator = np.random.default_rng(13)
    held = 0
    for _ in range(REPETITIONS):
        shared = generator.normal(0.0, 0.1, size=5) if paired else 0.0
        left, right = generator.normal(0.5, 0.02, size=5) + shared, generator.normal(0.45, 0.02, size=5) + shared
        held += not seed_difference_interval(left, right, paired=paired).excludes(0.05)
    # Welch's degrees of freedom are an approximation, slightly on the safe side.
    assert held / REPETITIONS == pytest.approx(0.95, abs=tolerance(0.95))


def paired_tasks(generator: np.random.Generator, effect: float, num_tasks: int) -> tuple[Tasks, Tasks]:
    baseline = 0.1 + 0.4 * generator.random(num_tasks)
    draw = generator.random((2, num_tasks, 4))
    return (draw[0] < (baseline + effect)[:, None]).astype(float), (draw[1] < baseline[:, None]).astype(float)


def variance_of_difference(effect: float) -> float:
    """Of one task's difference of two means of four trials, with chances uniform on [0.1, 0.5] before the effect."""
    chance = np.linspace(0.1, 0.5, 10_001)
    lifted = chance + effect
    return float(np.mean(chance * (1 - chance) + lifted * (1 - lifted)) / 4)


def rejection_rates(comparisons: list[Comparison]) -> tuple[float, float]:
    """Shares of comparisons that the sign-flip test and the t interval call significant."""
    by_test = [comparison.p_value is not None and comparison.p_value <= 0.05 for comparison in comparisons]
    return float(np.mean(by_test)), float(np.mean([comparison.difference.excludes(0.0) for comparison in comparisons]))


def test_paired_comparison_detects_its_detectable_effect() -> None:
    effect = 0.1
    num_tasks = tasks_needed(effect, variance_of_difference(effect))
    assert num_tasks == 86
    generator = np.random.default_rng(14)
    comparisons = [compare_on_tasks(*paired_tasks(generator, effect, num_tasks)) for _ in range(600)]
    by_test, by_interval = rejection_rates(comparisons)
    assert by_interval == pytest.approx(0.8, abs=tolerance(0.8, 600))
    # On quarters the exact test is coarse and gives away a few percent of power, never more of the error rate.
    assert 0.72 < by_test <= by_interval + 0.02
    assert np.median([comparison.mde or 0.0 for comparison in comparisons]) == pytest.approx(effect, rel=0.03)
    # A verdict asks for more than significance: half of the differences fall below the true effect.
    assert np.mean([comparison.verdict == "better" for comparison in comparisons]) == pytest.approx(0.5, abs=0.07)
    assert not any(comparison.verdict == "worse" for comparison in comparisons)


def test_paired_comparison_of_equals_rejects_in_one_of_twenty() -> None:
    generator = np.random.default_rng(15)
    comparisons = [compare_on_tasks(*paired_tasks(generator, 0.0, 40)) for _ in range(600)]
    by_test, by_interval = rejection_rates(comparisons)
    assert by_interval == pytest.approx(0.05, abs=tolerance(0.05, 600))
    assert 0.01 < by_test < 0.05 + tolerance(0.05, 600)
    assert np.mean([comparison.verdict != "not resolved" for comparison in comparisons]) < 0.02


@pytest.mark.parametrize("detectable", [True, False])
def test_sign_flips_of_rewards_reject_as_often_as_they_should(detectable: bool) -> None:
    generator = np.random.default_rng(17)
    effect = detectable_effect(0.2 / math.sqrt(14), 13) if detectable else 0.0
    rewards = generator.normal(effect, 0.2, size=(REPETITIONS, 14))
    rejected = np.mean([(sign_flip_p_value(row) or 0.0) <= 0.05 for row in rewards])
    rate = 0.8 if detectable else 0.05
    assert rejected == pytest.approx(rate, abs=tolerance(rate))


def test_the_noncentral_t_is_needed_at_six_seeds() -> None:
    """At the effect the normal approximation calls detectable, six seeds find it far too seldom; at ours, in 80%."""
    generator = np.random.default_rng(16)
    error = 0.02 / math.sqrt(6)
    found = {}
    for name, effect in (("exact", detectable_effect(error, 5)), ("normal", 2.8016 * error)):
        noise = generator.normal(0.0, 0.02, size=(REPETITIONS, 6))
        p_values = [compare_over_seeds(effect + row, np.zeros(6), paired=True).p_value for row in noise]
        found[name] = np.mean([p_value is not None and p_value <= 0.05 for p_value in p_values])
    assert found["exact"] == pytest.approx(0.8, abs=tolerance(0.8))
    assert found["normal"] < 0.72
