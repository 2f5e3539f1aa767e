"""Is the candidate better than the baseline? Comparisons on the same tasks, and across training seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banty.errors import InputError
from banty.stats.intervals import Interval, interval_over_tasks
from banty.stats.power import detectable_difference, detectable_effect
from banty.stats.seeds import seed_difference, seed_difference_interval
from banty.stats.trials import (
    ROUNDING,
    UNIT,
    Bounds,
    FloatArray,
    Trials,
    Values,
    check_binary,
    check_share,
    paired_differences,
    paired_values,
    scored,
)

Verdict: TypeAlias = Literal["better", "worse", "not resolved", "no verdict"]

FEWEST_SEEDS = 5
"""Below this many seeds a comparison of training methods carries no verdict."""

MOST_ENUMERATED = 2**20
"""Sums of signed differences up to which the sign-flip test is exact."""

_DRAWS_AT_ONCE = 1_000

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against baseline; higher values are better."""

    difference: Interval
    """Candidate minus baseline."""
    p_value: float | None
    """Two-sided, of no difference; None where there is nothing to test."""
    num_tasks: int | None
    """Tasks scored on both sides; None in a comparison over seeds, which `difference.n` counts."""
    mde: float | None
    """Smallest true difference this comparison would find; None when the spread is not known."""
    verdict: Verdict
    num_left_out: int
    """Tasks, or seeds, without a score on both sides."""
    test: str
    """What the p-value comes from."""


def compare_on_tasks(
    candidate: Trials,
    baseline: Trials,
    *,
    level: float = 0.95,
    power: float = 0.8,
    seed: int = 0,
    bounds: Bounds | None = UNIT,
) -> Comparison:
    """Two checkpoints on the same tasks: difference of per-task means, its t interval by task, and a sign-flip test.

    Entry i of both is task i; the numbers of trials need not agree. Says nothing about training methods: that is
    `compare_over_seeds`. `seed` is for the draws of the test, where it is not exact.

    "better" and "worse" need all three: a p-value of at most 1 - level, an interval without zero, and a difference no
    smaller than the minimum detectable effect, since smaller ones that come out significant overstate the truth. So a
    verdict is harder to get than significance: at a true difference as large as the detectable one, half as a rule.

    Raises:
        InputError: the numbers of tasks differ, or a value lies outside `bounds`.
    """
    check_share("level", level)
    differences = paired_differences(candidate, baseline, bounds=bounds)
    used = scored(differences)
    reach = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    difference = interval_over_tasks(used, level=level, bounds=reach)
    p_value = sign_flip_p_value(used, seed=seed)
    mde = detectable_difference(candidate, baseline, alpha=1.0 - level, power=power)
    verdict = _verdict(difference, p_value, mde)
    exact = _num_sums(_counted_sizes(used)[1]) <= MOST_ENUMERATED
    test = f"sign flips over tasks, {'exact' if exact else 'Monte Carlo'}"
    return Comparison(difference, p_value, used.size, mde, verdict, differences.size - used.size, test)


def compare_over_seeds(
    candidate: Values, baseline: Values, *, paired: bool, level: float = 0.95, power: float = 0.8
) -> Comparison:
    """Two training methods, one number per training seed: t interval and t test, paired where seeds are shared.

    Entry i of both is the same seed when paired; otherwise Welch's test. Fewer than five seeds (on either side): the
    verdict is "no verdict". The rule for the other verdicts is that of `compare_on_tasks`.

    Raises:
        InputError: paired, and the lengths differ.
    """
    check_share("level", level)
    difference = seed_difference_interval(candidate, baseline, paired=paired, level=level)
    found = seed_difference(candidate, baseline, paired=paired)
    p_value, mde = None, None
    if found.estimate is not None and found.error is not None:
        freedom = found.degrees_of_freedom
        p_value = 2.0 * float(special.stdtr(freedom, -abs(found.estimate) / found.error))
        mde = detectable_effect(found.error, freedom, alpha=1.0 - level, power=power)
    verdict: Verdict = "no verdict" if found.num_fewest < FEWEST_SEEDS else _verdict(difference, p_value, mde)
    test = "paired t over seeds" if paired else "Welch t over seeds"
    return Comparison(difference, p_value, None, mde, verdict, found.num_left_out, test)


def sign_flip_p_value(differences: Values, *, seed: int = 0, num_draws: int = 20_000) -> float | None:
    """Two-sided p-value of the mean difference when each task's difference is as likely to have the other sign.

    Exact while there are at most `MOST_ENUMERATED` different sums to enumerate: for twenty tasks whatever their
    values, for hundreds with few distinct ones, since m differences of one size give only m+1 sums. Zeros count for
    nothing. Beyond that, signs are drawn, and the observed ones count among them, so that p is never 0 and the test
    stays valid. On coarse outcomes an exact test rejects somewhat less often than the t test. The same for any order
    of the tasks, and with candidate and baseline exchanged. None without any difference; 1 when all are zero.
    Source: Fisher 1935; Phipson and Smyth 2010 for the Monte Carlo count.

    Raises:
        InputError: fewer than one draw, or a value is infinite.
    """
    if num_draws < 1:
        raise InputError(f"num_draws must be at least 1, got {num_draws}")
    given = scored(differences)
    if given.size == 0:
        return None
    sizes, counts = _counted_sizes(given)
    # Sums that are equal in exact arithmetic must count as ties whatever order they were added in.
    threshold = abs(float(given.sum())) - 1e-9 * float(sizes @ counts)
    if _num_sums(counts) <= MOST_ENUMERATED:
        sums, chances = _enumerated_sums(sizes, counts)
        return min(1.0, float(chances[np.abs(sums) >= threshold].sum()))
    generator = np.random.default_rng(seed)
    num_extreme = 0
    for start in range(0, num_draws, _DRAWS_AT_ONCE):
        num_positive = generator.binomial(counts, 0.5, size=(min(_DRAWS_AT_ONCE, num_draws - start), counts.size))
        num_extreme += int(np.count_nonzero(np.abs((2 * num_positive - counts) @ sizes) >= threshold))
    return (num_extreme + 1) / (num_draws + 1)


def mcnemar_p_value(candidate: Values, baseline: Values) -> float | None:
    """Exact two-sided p-value for one 0/1 outcome per task on each side, from the tasks on which the two differ.

    The same number as the sign-flip test, at any number of tasks. Tasks without both outcomes are left out; None when
    no task remains; 1 when the two never differ. Source: McNemar 1947, with the binomial in place of chi-squared.

    Raises:
        InputError: the lengths differ, or an outcome is not 0 or 1.
    """
    left, right = paired_values(candidate, baseline)
    for side in (left, right):
        check_binary(side, "use sign_flip_p_value for rewards")
    if left.size == 0:
        return None
    num_won, num_lost = int(np.sum(left > right)), int(np.sum(left < right))
    if num_won == num_lost:
        return 1.0
    return 2.0 * float(special.bdtr(float(min(num_won, num_lost)), num_won + num_lost, 0.5))


def _verdict(difference: Interval, p_value: float | None, mde: float | None) -> Verdict:
    if difference.estimate is None or p_value is None or p_value > 1.0 - difference.level:
        return "not resolved"
    if not difference.excludes(0.0) or (mde is not None and abs(difference.estimate) < mde):
        return "not resolved"
    return "better" if difference.estimate > 0.0 else "worse"


def _counted_sizes(differences: FloatArray) -> tuple[FloatArray, IntArray]:
    """The distinct absolute differences other than zero, and how many tasks have each."""
    sizes = np.abs(differences)
    sizes = sizes[sizes > ROUNDING]
    if sizes.size == 0:
        return np.empty(0), np.empty(0, dtype=np.int64)
    # 2/3 - 1/3 and 1/3 - 0 differ in the last bit; rounding keeps them one size.
    largest = sizes.max()
    distinct, counts = np.unique(np.round(sizes / largest, 12), return_counts=True)
    return distinct * largest, counts


def _num_sums(counts: IntArray) -> int:
    return math.prod(int(count) + 1 for count in counts)


def _enumerated_sums(sizes: FloatArray, counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Every sum of signed differences and its chance: of `count` equal ones, a binomial number is positive."""
    sums, chances = np.zeros(1), np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        num_positive = np.arange(count + 1)
        # Logarithms, because the binomial coefficients overflow at a thousand tasks.
        chance = (
            special.gammaln(count + 1) - special.gammaln(num_positive + 1) - special.gammaln(count - num_positive + 1)
        )
        chance = np.exp(chance - count * math.log(2.0))
        sums = np.add.outer(sums, (2 * num_positive - count) * size).ravel()
        chances = np.multiply.outer(chances, chance).ravel()
    return sums, chances
