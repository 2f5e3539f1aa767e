"""pass@k and pass^k against all k-subsets written out, and the rules for ragged and unscored tasks."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.errors import InputError
from banty.stats import largest_k, pass_at_k, pass_at_k_of_task, pass_hat_k, pass_hat_k_of_task

TASKS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=7), min_size=1, max_size=6)


@pytest.mark.parametrize("num_trials", range(1, 8))
def test_every_count_agrees_with_all_subsets_of_the_trials(num_trials: int) -> None:
    for num_successes, k in itertools.product(range(num_trials + 1), range(1, num_trials + 1)):
        trials = [1] * num_successes + [0] * (num_trials - num_successes)
        subsets = list(itertools.combinations(trials, k))
        any_share = sum(map(any, subsets)) / len(subsets)
        all_share = sum(map(all, subsets)) / len(subsets)
        assert pass_at_k_of_task(num_trials, num_successes, k) == pytest.approx(any_share, abs=1e-15)
        assert pass_hat_k_of_task(num_trials, num_successes, k) == pytest.approx(all_share, abs=1e-15)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.75), (2, 0.535714), (4, 0.214286), (8, 0.0)])
def test_six_of_eight(k: int, expected: float) -> None:
    estimate = pass_hat_k([[1, 1, 1, 0, 1, 1, 0, 1]], k)
    assert estimate.mean == pytest.approx(expected, abs=5e-7)
    assert estimate.num_tasks == 1


def test_the_mean_is_over_tasks_and_not_over_trials() -> None:
    estimate = pass_hat_k([[1, 1], [0] * 20], 1)
    assert estimate.mean == 0.5
    assert estimate.per_task == (1.0, 0.0)


def test_unscored_tasks_are_left_out_and_counted() -> None:
    estimate = pass_at_k([[1, None, 0], [], [None, float("nan")], [0, 0]], 2)
    assert estimate.per_task == (1.0, None, None, 0.0)
    assert (estimate.mean, estimate.num_tasks, estimate.num_unscored) == (0.5, 2, 2)


@pytest.mark.parametrize("successes", [[], [[]], [[None], []]])
def test_an_average_over_nothing_is_missing(successes: list[list[float | None]]) -> None:
    estimate = pass_at_k(successes, 3)
    assert estimate.mean is None
    assert (estimate.num_tasks, estimate.num_unscored) == (0, len(successes))
    assert largest_k(successes) is None


def test_k_is_capped_by_the_shortest_scored_task() -> None:
    successes: list[list[float | None]] = [[1, 0, 1, 1], [1, 0, None, 1], []]
    assert largest_k(successes) == 3
    assert pass_hat_k(successes, 3).mean == pytest.approx((1 / 4 + 0) / 2)
    for function in (pass_at_k, pass_hat_k):
        with pytest.raises(InputError, match="largest k allowed here is 3"):
            function(successes, 4)
        with pytest.raises(InputError, match="at least 1"):
            function(successes, 0)


def test_rewards_are_refused_rather_than_rounded() -> None:
    with pytest.raises(InputError, match=r"0 or 1, got 0\.5"):
        pass_at_k([[1, 0.5]], 1)


@pytest.mark.parametrize(("num_trials", "num_successes", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5), (0, 0, 1)])
def test_impossible_counts_are_refused(num_trials: int, num_successes: int, k: int) -> None:
    for function in (pass_at_k_of_task, pass_hat_k_of_task):
        with pytest.raises(InputError):
            function(num_trials, num_successes, k)


def test_large_numbers_of_trials_neither_overflow_nor_cancel() -> None:
    # A success in 10**9 trials: 1 - C(n-1, k) / C(n, k) is k/n exactly, and floats would lose half of the digits.
    assert pass_at_k_of_task(10**9, 1, 3) == 3e-9
    assert pass_hat_k_of_task(10**9, 10**9 - 1, 1) == 1 - 1e-9
    exact = Fraction(1)
    for j in range(500):
        exact *= Fraction(1500 - j, 2000 - j)
    assert pass_hat_k_of_task(2000, 1500, 500) == pytest.approx(float(exact), rel=1e-14)
    assert pass_at_k_of_task(2000, 500, 500) == 1.0  # 1 - 1e-70


def test_both_are_unbiased_for_their_task() -> None:
    # The expectation over binomial counts, written out: no simulation, so no tolerance to hide behind.
    num_trials, k, success = 6, 3, 0.37
    counts = range(num_trials + 1)
    chance = [math.comb(num_trials, c) * success**c * (1 - success) ** (num_trials - c) for c in counts]
    mean_any = sum(p * pass_at_k_of_task(num_trials, c, k) for p, c in zip(chance, counts, strict=True))
    mean_all = sum(p * pass_hat_k_of_task(num_trials, c, k) for p, c in zip(chance, counts, strict=True))
    assert mean_any == pytest.approx(1 - (1 - success) ** k, abs=1e-12)
    assert mean_all == pytest.approx(success**k, abs=1e-12)


@settings(deadline=None)
@given(TASKS, st.randoms(use_true_random=False))
def test_order_of_tasks_and_trials_is_irrelevant(tasks: list[list[float]], random: Random) -> None:
    shuffled = [list(trials) for trials in tasks]
    random.shuffle(shuffled)
    for trials in shuffled:
        random.shuffle(trials)
    for function, k in itertools.product((pass_at_k, pass_hat_k), range(1, 5)):
        assert function(shuffled, k).mean == function(tasks, k).mean


@settings(deadline=None)
@given(TASKS)
def test_more_trials_help_any_and_hurt_all(tasks: list[list[float]]) -> None:
    ks = range(1, (largest_k(tasks) or 0) + 1)
    any_of = [pass_at_k(tasks, k).mean or 0.0 for k in ks]
    all_of = [pass_hat_k(tasks, k).mean or 0.0 for k in ks]
    assert any_of[0] == pytest.approx(all_of[0], abs=1e-15)
    assert any_of[0] == pytest.approx(np.mean([np.mean(trials) for trials in tasks]))
    assert all(later >= earlier - 1e-15 for earlier, later in itertools.pairwise(any_of))
    assert all(later <= earlier + 1e-15 for earlier, later in itertools.pairwise(all_of))
