"""Paired comparisons: tests against scipy's exact ones, verdicts against cases worked by hand."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from banty.errors import InputError
from banty.stats import (
    Interval,
    compare_on_tasks,
    compare_over_seeds,
    detectable_difference,
    mcnemar_p_value,
    sign_flip_p_value,
)
from banty.stats.paired import _verdict

QUARTERS = st.integers(-4, 4).map(lambda count: count / 4)


def scipy_sign_flip(differences: list[float]) -> float:
    result = stats.permutation_test(
        (np.array(differences), np.zeros(len(differences))), lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    return float(result.pvalue)


@settings(max_examples=40, deadline=None)
@given(st.lists(QUARTERS, min_size=2, max_size=9))
def test_sign_flip_is_exact(differences: list[float]) -> None:
    p_value = sign_flip_p_value(differences)
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    enumerated = np.mean(np.abs(patterns @ differences) >= abs(sum(differences)) - 1e-12)
    assert p_value == pytest.approx(float(enumerated))
    assert p_value == pytest.approx(scipy_sign_flip(differences))


def test_sign_flip_of_awkward_decimals_counts_ties() -> None:
    # 0.1 + 0.2 - 0.3 is not 0 in floats; the patterns that tie with the observed sum must be counted all the same.
    differences = [0.1, 0.2, -0.3, 0.7]
    assert sign_flip_p_value(differences) == pytest.approx(10 / 16)
    assert sign_flip_p_value([0.1] * 7) == pytest.approx(2 / 2**7)


@given(st.lists(QUARTERS, min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_sign_flip_knows_no_order_and_no_side(differences: list[float], random: Random) -> None:
    shuffled = list(differences)
    random.shuffle(shuffled)
    p_value = sign_flip_p_value(differences, num_draws=500)
    assert sign_flip_p_value(shuffled, num_draws=500) == p_value
    assert sign_flip_p_value([-value for value in differences], num_draws=500) == p_value
    # Tasks without a difference, and tasks without a score, say nothing either way.
    assert sign_flip_p_value([*differences, 0.0, None, 0.0], num_draws=500) == p_value


def test_hundreds_of_tasks_with_few_sizes_are_exact() -> None:
    generator = np.random.default_rng(2)
    quarters = generator.choice([-4, -2, -1, 0, 1, 2, 3, 4], size=120, p=[0.05, 0.1, 0.15, 0.3, 0.2, 0.1, 0.05, 0.05])
    # The distribution of the signed sum, one task at a time, on the lattice of quarters.
    chances = np.ones(1)
    for size in np.abs(quarters):
        chances = np.convolve(chances, [0.5, *[0.0] * (2 * size - 1), 0.5] if size else [1.0])
    middle = (len(chances) - 1) // 2
    extreme = np.abs(np.arange(len(chances)) - middle) >= abs(quarters.sum())
    p_value = sign_flip_p_value(quarters / 4)
    assert 0.01 < chances[extreme].sum() < 0.9
    assert p_value == pytest.approx(chances[extreme].sum(), rel=1e-9)


def test_equal_sizes_are_one_size_whatever_their_rounding() -> None:
    steps = [2 / 3 - 1 / 3, 1 / 3 - 0, 1 - 2 / 3, 0 - 2 / 3, 1 / 3 - 1] * 30
    assert len({abs(step) for step in steps}) > 2
    candidate, baseline = [[0.5 + step / 2] for step in steps], [[0.5 - step / 2] for step in steps]
    assert compare_on_tasks(candidate, baseline).test == "sign flips over tasks, exact"


def test_thousands_of_tasks_neither_overflow_nor_underflow() -> None:
    signs = np.array([1.0] * 2_600 + [-1.0] * 2_400)
    assert sign_flip_p_value(signs) == pytest.approx(stats.binomtest(2_600, 5_000).pvalue, rel=1e-8)


@pytest.mark.parametrize("seed", [1, 2])
def test_drawn_signs_agree_with_the_signed_ranks_of_scipy(seed: int) -> None:
    # Differences of +-1 to +-40 make this Wilcoxon's test, whose exact distribution scipy has; 2^40 sums are drawn.
    generator = np.random.default_rng(4)
    differences = np.arange(1.0, 41.0) * np.where(generator.random(40) < 0.62, 1.0, -1.0)
    exact = stats.wilcoxon(differences, method="exact").pvalue
    drawn = sign_flip_p_value(differences / 40, seed=seed)
    assert 0.005 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))
    assert drawn == sign_flip_p_value(differences / 40, seed=seed)
    assert drawn != sign_flip_p_value(differences / 40, seed=seed + 1)
    candidate, baseline = 0.5 + differences[:, None] / 80, np.full((40, 1), 0.5)
    assert compare_on_tasks(candidate, baseline, seed=seed).test == "sign flips over tasks, Monte Carlo"


def test_drawn_signs_never_give_zero() -> None:
    assert sign_flip_p_value(np.linspace(0.5, 1.0, 200), num_draws=999) == 1 / 1000


def test_twenty_tasks_are_enumerated_whatever_their_values() -> None:
    # The extreme pattern and its mirror, of 2^20; draws could not say so.
    assert sign_flip_p_value(np.linspace(0.5, 1.0, 20)) == pytest.approx(2 / 2**20)


def test_nothing_to_test() -> None:
    assert sign_flip_p_value([]) is None
    assert sign_flip_p_value([None, float("nan")]) is None
    assert sign_flip_p_value([0.0, 0.0]) == 1.0
    assert mcnemar_p_value([], []) is None
    assert mcnemar_p_value([1, None], [None, 0]) is None
    assert mcnemar_p_value([1, 0], [1, 0]) == 1.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, None]), st.sampled_from([0, 1])), min_size=1, max_size=14))
def test_mcnemar_is_the_binomial_and_the_sign_flip(pairs: list[tuple[int | None, int]]) -> None:
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    both = [(a, b) for a, b in pairs if a is not None]
    won, lost = sum(a > b for a, b in both), sum(a < b for a, b in both)
    p_value = mcnemar_p_value(left, right)
    if not both:
        assert p_value is None
        return
    assert p_value == pytest.approx(stats.binomtest(won, won + lost).pvalue if won + lost else 1.0)
    assert p_value == pytest.approx(sign_flip_p_value([a - b for a, b in both]))
    assert p_value == mcnemar_p_value(right, left)


def test_comparison_agrees_with_scipy_throughout() -> None:
    generator = np.random.default_rng(3)
    candidate = (generator.random((14, 6)) < 0.75).astype(float)
    baseline = (generator.random((14, 3)) < 0.25).astype(float)
    comparison = compare_on_tasks(candidate, baseline)
    expected = stats.ttest_rel(candidate.mean(axis=1), baseline.mean(axis=1))
    ends = expected.confidence_interval(0.95)
    assert (comparison.difference.low, comparison.difference.high) == pytest.approx((ends.low, ends.high))
    assert comparison.p_value == pytest.approx(scipy_sign_flip(list(candidate.mean(axis=1) - baseline.mean(axis=1))))
    assert comparison.mde == detectable_difference(candidate, baseline)
    assert (comparison.num_tasks, comparison.num_left_out, comparison.verdict) == (14, 0, "better")
    assert comparison.test == "sign flips over tasks, exact"


def test_exchanging_the_sides_exchanges_the_verdict() -> None:
    candidate, baseline = [[1, 1, 0, 1]] * 15 + [[1, 1]] * 10, [[0, 1, 0, 0]] * 12 + [[0]] * 13
    one, other = compare_on_tasks(candidate, baseline), compare_on_tasks(baseline, candidate)
    assert (one.verdict, other.verdict) == ("better", "worse")
    assert (one.p_value, one.mde) == (other.p_value, other.mde)
    assert one.difference.low is not None
    assert other.difference.high == pytest.approx(-one.difference.low)
    assert one.test == "sign flips over tasks, exact"


def test_tasks_scored_on_one_side_only_are_left_out_and_counted() -> None:
    candidate: list[list[float | None]] = [[1], [None], [1, 0], [], [1], [0]]
    baseline: list[list[float | None]] = [[0], [1], [0, 0], [], [0], []]
    comparison = compare_on_tasks(candidate, baseline)
    assert (comparison.num_tasks, comparison.num_left_out, comparison.difference.n) == (3, 3, 3)
    assert comparison.difference.estimate == pytest.approx((1 + 0.5 + 1) / 3)


def test_with_one_outcome_for_each_task_it_is_mcnemar() -> None:
    candidate, baseline = [[1]] * 40 + [[0]] * 12 + [[None]], [[0]] * 30 + [[1]] * 22 + [[1]]
    comparison = compare_on_tasks(candidate, baseline)
    assert comparison.p_value == pytest.approx(stats.binomtest(30, 42).pvalue)
    assert comparison.p_value == pytest.approx(
        mcnemar_p_value([task[0] for task in candidate], [task[0] for task in baseline])
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "estimate", "p_value"),
    [([], [], None, None), ([[]], [[1]], None, None), ([[1, 1]], [[0]], 1.0, 1.0), ([[1], [0]], [[1], [0]], 0.0, 1.0)],
)
def test_too_little_to_resolve(
    candidate: list[list[float]], baseline: list[list[float]], estimate: float | None, p_value: float | None
) -> None:
    comparison = compare_on_tasks(candidate, baseline)
    assert comparison.verdict == "not resolved"
    assert (comparison.difference.estimate, comparison.p_value, comparison.mde) == (estimate, p_value, None)


def test_the_same_difference_on_every_task_is_judged_without_a_standard_error() -> None:
    clear = compare_on_tasks([[1, 1]] * 20, [[0, 0]] * 20)
    assert (clear.verdict, clear.mde) == ("better", None)
    assert "all tasks equal" in clear.difference.method
    # Five tasks: no sign pattern can reach 5%, whatever the t interval would claim.
    assert compare_on_tasks([[1, 1]] * 5, [[0, 0]] * 5).verdict == "not resolved"
    # Nothing differs: the interval is as wide as what 20 tasks can miss, never a point.
    same = compare_on_tasks([[1, 0]] * 20, [[1, 0]] * 20)
    assert same.difference.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_difference_below_the_detectable_one_is_not_resolved() -> None:
    def verdict(p_value: float | None, low: float | None, high: float | None, mde: float | None) -> str:
        middle = 0.1 if low is None or high is None else (low + high) / 2
        return _verdict(Interval(middle, low, high, 0.95, 30, "t"), p_value, mde)

    assert verdict(0.01, 0.02, 0.18, 0.09) == "better"
    assert verdict(0.01, -0.18, -0.02, 0.09) == "worse"
    assert verdict(0.01, 0.02, 0.18, 0.11) == "not resolved"
    assert verdict(0.06, 0.02, 0.18, 0.09) == "not resolved"
    assert verdict(0.01, -0.02, 0.22, 0.09) == "not resolved"
    assert verdict(0.01, None, None, None) == "not resolved"
    assert verdict(None, 0.02, 0.18, 0.09) == "not resolved"
    assert verdict(0.01, 0.02, 0.18, None) == "better"


def test_rewards_need_their_bounds() -> None:
    with pytest.raises(InputError, match="outside the bounds"):
        compare_on_tasks([[3.0], [1.0]], [[1.0], [0.0]])
    comparison = compare_on_tasks([[3.0], [1.0], [2.5]], [[1.0], [0.0], [0.0]], bounds=(0, 3))
    assert comparison.difference.estimate == pytest.approx(5.5 / 3)
    assert compare_on_tasks([[3.0], [9.0]], [[1.0], [0.0]], bounds=None).difference.estimate == 5.5


SEEDS_A = [0.62, 0.60, 0.66, 0.63, 0.61]
SEEDS_B = [0.41, 0.44, 0.46, 0.42, 0.45]


def test_seeds_agree_with_scipy() -> None:
    paired = compare_over_seeds(SEEDS_A, SEEDS_B, paired=True)
    welch = compare_over_seeds(SEEDS_A, [*SEEDS_B, 0.5], paired=False)
    assert paired.p_value == pytest.approx(stats.ttest_rel(SEEDS_A, SEEDS_B).pvalue)
    assert welch.p_value == pytest.approx(stats.ttest_ind(SEEDS_A, [*SEEDS_B, 0.5], equal_var=False).pvalue)
    assert paired.verdict == welch.verdict == "better"
    assert compare_over_seeds(SEEDS_B, SEEDS_A, paired=True).verdict == "worse"
    assert compare_over_seeds(SEEDS_A, [0.6, 0.63, 0.6, 0.66, 0.62], paired=True).verdict == "not resolved"
    assert paired.num_tasks is None
    assert (paired.difference.n, welch.difference.n) == (5, 11)


def test_fewer_than_five_seeds_carry_no_verdict() -> None:
    four = compare_over_seeds(SEEDS_A[:4], SEEDS_B[:4], paired=True)
    assert four.p_value is not None
    assert four.p_value < 0.01
    assert four.verdict == "no verdict"
    assert compare_over_seeds(SEEDS_A, SEEDS_B[:4], paired=False).verdict == "no verdict"
    assert compare_over_seeds([*SEEDS_A[:4], None], SEEDS_B, paired=True).verdict == "no verdict"
    assert compare_over_seeds([], [], paired=True).verdict == "no verdict"
    assert compare_over_seeds([], [], paired=False).p_value is None


def test_dead_seeds_are_counted() -> None:
    assert compare_over_seeds([*SEEDS_A, None], [*SEEDS_B, 0.4], paired=True).num_left_out == 1
    assert compare_over_seeds([*SEEDS_A, None], [*SEEDS_B, None, 0.4], paired=False).num_left_out == 2


def test_identical_methods_are_not_resolved() -> None:
    comparison = compare_over_seeds(SEEDS_A, SEEDS_A, paired=True)
    assert (comparison.verdict, comparison.p_value, comparison.mde) == ("not resolved", None, None)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="same tasks"):
        compare_on_tasks([[1]], [[1], [0]])
    with pytest.raises(InputError, match="num_draws"):
        sign_flip_p_value([0.1], num_draws=0)
    with pytest.raises(InputError, match="0 or 1"):
        mcnemar_p_value([0.5], [1])
