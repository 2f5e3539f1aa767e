"""Intervals: what a mean over tasks or a proportion says, and how sure it is.

Which one to use:

* a claim about one checkpoint: `clustered_interval` over the trials of each task, or `interval_over_tasks` when there
  is already one number per task, such as pass^k;
* a claim about a training method: `seed_interval` and `seed_difference_interval` in `seeds.py`;
* a plain proportion of independent trials: `wilson_interval`, or `clopper_pearson_interval` for a guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy import special

from banty.errors import InputError
from banty.stats.trials import (
    UNIT,
    Bounds,
    FloatArray,
    Trials,
    Values,
    all_equal,
    check_share,
    scored,
    task_means,
    within_bounds,
)

Method: TypeAlias = Literal["t", "wilson"]

_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval. Ends are None where the data give no basis for any."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    """Nominal coverage, such as 0.95."""
    n: int
    """Independent units it rests on: tasks, seeds, or the trials of a plain proportion."""
    method: str
    """How it was made, fallbacks included; meant for the caption of a table."""

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside; an interval without ends excludes nothing."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def to_json(self) -> dict[str, float | int | str | None]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        if self.estimate is None:
            return "no estimate"
        if self.low is None or self.high is None:
            return f"{_decimals(self.estimate)} (no interval)"
        return f"{_decimals(self.estimate)} [{_decimals(self.low)}, {_decimals(self.high)}]"


def clustered_interval(
    successes: Trials, *, level: float = 0.95, bounds: Bounds | None = UNIT, method: Method = "t"
) -> Interval:
    """Interval for the mean over tasks of each task's success, with the task-clustered standard error.

    A task counts once however many trials it has, so long-running tasks do not weigh more: trial j of task i has
    weight 1/n_i. The cluster-robust variance sum_i (sum_j w_ij (y_ij - mean))^2 / T^2 * T/(T-1) then is the variance
    of the task means over the T tasks with a scored trial, divided by T. Source: Miller 2024 (arXiv 2411.00640),
    clustered standard errors, with these weights and t at T-1 degrees of freedom in place of the normal. Tasks
    without a scored trial are left out. Methods and fallbacks are those of `interval_over_tasks`.

    Raises:
        InputError: a value lies outside `bounds`, or is infinite.
    """
    return interval_over_tasks(task_means(successes, bounds=bounds), level=level, bounds=bounds, method=method)


def interval_over_tasks(
    task_values: Values, *, level: float = 0.95, bounds: Bounds | None = UNIT, method: Method = "t"
) -> Interval:
    """Interval for the mean of one value per task: a task's mean, its pass^k, or a paired difference.

    `bounds` is the range a value can have (None: unlimited); the ends stay within. "t" is mean and t quantile times
    standard error. "wilson" is the score interval at the effective number of trials, mean (1 - mean) / variance of
    the mean, with the t quantile (Dean and Pagano 2015). They agree in the middle. Near a bound take "wilson": at 95%
    success on 40 tasks with 4 trials each, 95% intervals by "t" hold the truth in some 87% of cases, by "wilson" in
    some 93%.

    No task: no estimate; one task: no ends. All values equal: their standard error is 0, which is no certainty. Then
    at level 1-a at most a share q = 1 - (a/2)^(1/T) of all tasks can differ from the common value v, and the ends are
    v - q (v - lower bound) and v + q (upper bound - v); where v is a bound this is Clopper-Pearson with the tasks as
    trials. Without bounds there are no ends.

    Raises:
        InputError: a value lies outside `bounds` or is infinite, or "wilson" is asked for without bounds.
    """
    check_share("level", level)
    if method not in get_args(Method):
        raise InputError(f"method must be one of {get_args(Method)}, got {method!r}")
    if method == "wilson" and bounds is None:
        raise InputError("a Wilson interval needs the bounds of the values; give bounds, or method='t'")
    values = within_bounds(scored(task_values), bounds)
    n = int(values.size)
    if n < 2:
        return without_ends(values, level, "fewer than two tasks: no interval")
    mean = float(values.mean())
    if all_equal(values):
        if bounds is None:
            return without_ends(values, level, "all tasks equal: no interval")
        differing = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / n)
        low, high = mean - differing * (mean - bounds[0]), mean + differing * (bounds[1] - mean)
        return Interval(mean, low, high, level, n, "Clopper-Pearson over tasks (all tasks equal)")
    error = standard_error(values)
    if method == "wilson" and bounds is not None:
        start, width = bounds[0], bounds[1] - bounds[0]
        share = (mean - start) / width
        num_effective = share * (1.0 - share) / (error / width) ** 2
        low, high = _score_ends(share, num_effective, float(special.stdtrit(n - 1, (1.0 + level) / 2.0)))
        return Interval(mean, start + width * low, start + width * high, level, n, "Wilson, clustered by task")
    low, high = t_ends(mean, error, n - 1, level)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(mean, low, high, level, n, "t, clustered by task")


def bootstrap_interval(
    successes: Trials,
    *,
    seed: int,
    level: float = 0.95,
    num_resamples: int = 10_000,
    bounds: Bounds | None = UNIT,
) -> Interval:
    """Percentile bootstrap over tasks, for the same mean as `clustered_interval`; trials stay with their task.

    The same for any order of the tasks. Slightly too short for few tasks (below about 30 prefer the t interval).
    With fewer than two tasks, or all equal, every resample is the same, and the answer is that of
    `clustered_interval`. Source: Efron and Tibshirani 1993, chapter 13.

    Raises:
        InputError: a value lies outside `bounds`, or there are fewer than 100 resamples.
    """
    check_share("level", level)
    if num_resamples < 100:
        raise InputError(f"a bootstrap needs at least 100 resamples, got {num_resamples}")
    values = np.sort(scored(task_means(successes, bounds=bounds)))
    n = int(values.size)
    if n < 2 or all_equal(values):
        return interval_over_tasks(values, level=level, bounds=bounds)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[generator.integers(0, n, size=(min(_RESAMPLES_AT_ONCE, num_resamples - start), n))].mean(axis=1)
            for start in range(0, num_resamples, _RESAMPLES_AT_ONCE)
        ]
    )
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    method = f"percentile bootstrap over tasks, {num_resamples} resamples"
    return Interval(float(values.mean()), float(low), float(high), level, n, method)


def wilson_interval(num_successes: int, num_trials: int, *, level: float = 0.95) -> Interval:
    """Score interval for a proportion of independent trials; too short for repeated trials of the same tasks.

    Source: Wilson 1927. No trial: no estimate.

    Raises:
        InputError: not 0 <= num_successes <= num_trials.
    """
    _check_proportion(num_successes, num_trials, level)
    if num_trials == 0:
        return Interval(None, None, None, level, 0, "Wilson (no trial)")
    share = num_successes / num_trials
    low, high = _score_ends(share, num_trials, float(special.ndtri((1.0 + level) / 2.0)))
    return Interval(share, low, high, level, num_trials, "Wilson")


def clopper_pearson_interval(num_successes: int, num_trials: int, *, level: float = 0.95) -> Interval:
    """Interval for a proportion of independent trials whose coverage is never below `level`.

    Source: Clopper and Pearson 1934, as quantiles of the beta distribution. No trial: no estimate.

    Raises:
        InputError: not 0 <= num_successes <= num_trials.
    """
    _check_proportion(num_successes, num_trials, level)
    if num_trials == 0:
        return Interval(None, None, None, level, 0, "Clopper-Pearson (no trial)")
    num_failures, tail = num_trials - num_successes, (1.0 - level) / 2.0
    low = float(special.betaincinv(num_successes, num_failures + 1, tail)) if num_successes else 0.0
    high = float(special.betaincinv(num_successes + 1, num_failures, 1.0 - tail)) if num_failures else 1.0
    return Interval(num_successes / num_trials, low, high, level, num_trials, "Clopper-Pearson")


def _score_ends(share: float, num_trials: float, critical: float) -> tuple[float, float]:
    square = critical**2
    centre = share + square / (2.0 * num_trials)
    reach = math.sqrt(square * (share * (1.0 - share) + square / (4.0 * num_trials)) / num_trials)
    shrink = 1.0 + square / num_trials
    # At 0 and 1 centre and reach agree only up to rounding.
    low = 0.0 if share == 0.0 else max(0.0, (centre - reach) / shrink)
    high = 1.0 if share == 1.0 else min(1.0, (centre + reach) / shrink)
    return low, high


def standard_error(values: FloatArray) -> float:
    """That of the mean of independent values; two of them at least."""
    return float(values.std(ddof=1)) / math.sqrt(values.size)


def t_ends(mean: float, error: float, degrees_of_freedom: float, level: float) -> tuple[float, float]:
    """Mean minus and plus the t quantile times its standard error."""
    reach = float(special.stdtrit(degrees_of_freedom, (1.0 + level) / 2.0)) * error
    return mean - reach, mean + reach


def without_ends(values: FloatArray, level: float, method: str) -> Interval:
    """The mean of the values, if any, where no interval is justified."""
    estimate = float(values.mean()) if values.size else None
    return Interval(estimate, None, None, level, int(values.size), method)


def _check_proportion(num_successes: int, num_trials: int, level: float) -> None:
    check_share("level", level)
    if not 0 <= num_successes <= num_trials:
        raise InputError(f"{num_successes} successes in {num_trials} trials is impossible")


def _decimals(value: float) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, 3) + 0.0:.3f}"
