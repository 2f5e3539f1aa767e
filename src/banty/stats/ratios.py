"""Ratios of two means over the same tasks, such as what a solved task costs."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from banty.stats.intervals import Interval
from banty.stats.trials import Values, all_equal, check_share, paired_values


def ratio_interval(numerators: Values, denominators: Values, *, level: float = 0.95) -> Interval:
    """Interval for the mean of `numerators` over the mean of `denominators`, one pair a task; neither below 0.

    Fieller's: every ratio r is in it at which numerator - r denominator has a mean that a t test over tasks cannot
    tell from 0. Exact where the two are normal, and honest where the denominator is small: then there are no ends, for
    any ratio might be. Tasks that lack either value are left out. Source: Fieller 1954.

    Raises:
        InputError: the lengths differ, or a value is infinite.
    """
    check_share("level", level)
    above, below = paired_values(numerators, denominators)
    n = int(above.size)
    if n == 0 or float(below.mean()) == 0.0:
        return Interval(None, None, None, level, n, "Fieller over tasks (nothing to divide by)")
    mean_above, mean_below = float(above.mean()), float(below.mean())
    estimate = mean_above / mean_below
    if n < 2 or (all_equal(above) and all_equal(below)):
        return Interval(estimate, None, None, level, n, "Fieller over tasks (spread unknown: no interval)")
    spread = np.cov(above, below, ddof=1) / n
    square = float(special.stdtrit(n - 1, (1.0 + level) / 2.0)) ** 2
    # (mean_above - r mean_below)^2 <= t^2 var(above - r below), as a r^2 - 2 b r + c <= 0
    a = mean_below**2 - square * float(spread[1, 1])
    b = mean_above * mean_below - square * float(spread[0, 1])
    c = mean_above**2 - square * float(spread[0, 0])
    if a <= 0.0:
        return Interval(estimate, None, None, level, n, "Fieller over tasks (too few successes: no interval)")
    reach = math.sqrt(max(0.0, b**2 - a * c))
    return Interval(estimate, max(0.0, (b - reach) / a), (b + reach) / a, level, n, "Fieller over tasks")
