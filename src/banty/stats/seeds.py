"""What training seeds say about a method: t intervals whose units are seeds, never tasks or trials."""

from __future__ import annotations

import math
from typing import NamedTuple

from banty.stats.intervals import Interval, standard_error, t_ends, without_ends
from banty.stats.trials import Bounds, FloatArray, Values, all_equal, check_share, paired_values, scored, within_bounds


class SeedDifference(NamedTuple):
    """Candidate minus baseline over seeds, before a level is chosen."""

    estimate: float | None
    error: float | None
    """Standard error; None where the spread is not known."""
    degrees_of_freedom: float
    num_seeds: int
    """Pairs, or seeds of both sides together where they are not paired."""
    num_fewest: int
    """Seeds on the side that has fewer."""
    num_left_out: int
    """Seeds without a score, or without a partner's."""


def seed_interval(seed_values: Values, *, level: float = 0.95, bounds: Bounds | None = None) -> Interval:
    """t interval for the mean over training seeds of one number per seed; the ends stay within `bounds`.

    Seeds without a score are left out. Fewer than two, or all equal: no ends, for nothing is known of their spread.

    Raises:
        InputError: a value is infinite or outside `bounds`.
    """
    check_share("level", level)
    values = within_bounds(scored(seed_values), bounds)
    if values.size < 2 or all_equal(values):
        return without_ends(values, level, "t over seeds (spread unknown: no interval)")
    mean = float(values.mean())
    low, high = t_ends(mean, standard_error(values), values.size - 1, level)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(mean, low, high, level, values.size, "t over seeds")


def seed_difference_interval(candidate: Values, baseline: Values, *, paired: bool, level: float = 0.95) -> Interval:
    """t interval for candidate minus baseline in the mean over training seeds.

    Paired when entry i of both was trained with seed i; a seed that lacks either score is left out. Otherwise Welch's
    interval for two independent sets of seeds, where `n` counts both. Too few seeds (two pairs; two on each side), or
    no spread at all: no ends.

    Raises:
        InputError: paired, and the lengths differ.
    """
    check_share("level", level)
    method = "paired t over seeds" if paired else "Welch t over seeds"
    found = seed_difference(candidate, baseline, paired=paired)
    if found.estimate is None or found.error is None:
        method = f"{method} (spread unknown: no interval)"
        return Interval(found.estimate, None, None, level, found.num_seeds, method)
    low, high = t_ends(found.estimate, found.error, found.degrees_of_freedom, level)
    return Interval(found.estimate, low, high, level, found.num_seeds, method)


def seed_difference(candidate: Values, baseline: Values, *, paired: bool) -> SeedDifference:
    """The difference with its standard error: of the pairs, or by Welch 1947 for seeds that are not shared.

    Raises:
        InputError: paired, and the lengths differ.
    """
    if paired:
        left, right = paired_values(candidate, baseline)
        differences, num_left_out = left - right, len(candidate) - left.size
        n = differences.size
        unknown = n < 2 or all_equal(differences)
        error = None if unknown else standard_error(differences)
        return SeedDifference(float(differences.mean()) if n else None, error, n - 1.0, n, n, num_left_out)
    left, right = scored(candidate), scored(baseline)
    num_seeds, num_fewest = left.size + right.size, min(left.size, right.size)
    estimate = float(left.mean() - right.mean()) if num_fewest else None
    num_left_out = len(candidate) + len(baseline) - num_seeds
    if num_fewest < 2 or (all_equal(left) and all_equal(right)):
        return SeedDifference(estimate, None, 0.0, num_seeds, num_fewest, num_left_out)
    return SeedDifference(estimate, *_welch(left, right), num_seeds, num_fewest, num_left_out)


def _welch(left: FloatArray, right: FloatArray) -> tuple[float, float]:
    parts = [float(side.var(ddof=1)) / side.size for side in (left, right)]
    total = sum(parts)
    freedom = total**2 / (parts[0] ** 2 / (left.size - 1) + parts[1] ** 2 / (right.size - 1))
    return math.sqrt(total), freedom
