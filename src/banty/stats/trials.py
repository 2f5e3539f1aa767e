"""Trials of tasks as arrays: the shape the other files of this room take.

Successes are one inner sequence of per-trial values for each task, ragged where some trials were not scored:
`[[1, 0, 1, 1], [0, None], []]` is three tasks with four, one and no scored trial. The task is the unit that was drawn
at random; its trials are not independent of each other, so every count of evidence here is a count of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banty.errors import InputError

FloatArray: TypeAlias = NDArray[np.float64]

Values: TypeAlias = Sequence[float | None] | NDArray[Any]
"""One value each; None or NaN where there is no score."""

Trials: TypeAlias = Sequence[Values] | NDArray[Any]
"""One inner sequence of per-trial values for each task; None or NaN where a trial has no score."""

Bounds: TypeAlias = tuple[float, float]
"""The lowest and the highest value that is possible."""

UNIT: Bounds = (0.0, 1.0)
"""Where successes and rewards live unless a caller says otherwise."""

ROUNDING = 1e-12
"""Differences this small, between numbers of order one, are rounding and nothing else."""


def as_values(values: Values, what: str = "values") -> FloatArray:
    """Floats with NaN where there is no score, same length as `values`.

    Raises:
        InputError: the input is nested, not numeric, or holds an infinity; the message calls it `what`.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be numbers, None or NaN ({error})") from error
    if array.ndim != 1:
        raise InputError(f"{what} must be one flat sequence of numbers, not an array of {array.ndim} dimensions")
    if np.isinf(array).any():
        raise InputError(f"{what} holds an infinite value; give NaN or None for a missing score")
    return array


def scored(values: Values, what: str = "values") -> FloatArray:
    """The values that have a score, in their order."""
    array = as_values(values, what)
    return array[~np.isnan(array)]


def scored_trials(successes: Trials) -> list[FloatArray]:
    """The scored trials of each task; an empty array for a task without one."""
    return [scored(trials, f"task {index}") for index, trials in enumerate(successes)]


def task_means(successes: Trials, *, bounds: Bounds | None = None) -> FloatArray:
    """Mean over the scored trials of each task, NaN for a task without one. One entry per task, in order.

    Raises:
        InputError: the value of a trial is infinite or outside `bounds`.
    """
    tasks = [within_bounds(trials, bounds) for trials in scored_trials(successes)]
    return np.array([trials.mean() if trials.size else np.nan for trials in tasks], dtype=np.float64)


def paired_values(first: Values, second: Values) -> tuple[FloatArray, FloatArray]:
    """Both sequences where both have a score.

    Raises:
        InputError: the lengths differ, so that entry i of one is not the partner of entry i of the other.
    """
    left, right = as_values(first, "the first values"), as_values(second, "the second values")
    if left.size != right.size:
        raise InputError(
            f"pairs need the same length, got {left.size} and {right.size}; align them by task or seed first"
        )
    both = ~(np.isnan(left) | np.isnan(right))
    return left[both], right[both]


def paired_differences(candidate: Trials, baseline: Trials, *, bounds: Bounds | None = None) -> FloatArray:
    """Candidate minus baseline in per-task mean, NaN where either has no scored trial. One entry per task, in order.

    Raises:
        InputError: the two hold different numbers of tasks, or the value of a trial is outside `bounds`.
    """
    left, right = task_means(candidate, bounds=bounds), task_means(baseline, bounds=bounds)
    if left.size != right.size:
        raise InputError(
            f"candidate has {left.size} tasks and baseline {right.size}; give both the same tasks in order"
        )
    return left - right


def variance_over_tasks(task_values: Values) -> float | None:
    """Unbiased variance of one value per task; None for fewer than two tasks, or when all are equal.

    Equal values are no evidence of a variance of zero, so there is nothing to compute a standard error from.
    """
    values = scored(task_values)
    if values.size < 2 or all_equal(values):
        return None
    return float(values.var(ddof=1))


def all_equal(values: FloatArray) -> bool:
    """Whether nothing but rounding distinguishes the values (and at least one is there)."""
    # Means of 3 and of 4 equal trials may differ in the last bit: exact equality would miss them and
    # leave a standard error of 1e-17.
    return values.size > 0 and bool(np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())))


def within_bounds(values: FloatArray, bounds: Bounds | None) -> FloatArray:
    """The values, with what passes a bound by rounding alone moved onto it.

    Raises:
        InputError: a value lies outside, or the bounds are not in order.
    """
    if bounds is None:
        return values
    low, high = bounds
    if not low < high:
        raise InputError(f"bounds must be a lower and a higher number, got {bounds}")
    slack = ROUNDING * (abs(low) + abs(high))
    outside = values[(values < low - slack) | (values > high + slack)]
    if outside.size:
        raise InputError(
            f"{float(outside[0])!r} lies outside the bounds {bounds}; give the range the values can have, or None"
        )
    return np.clip(values, low, high)


def check_share(name: str, value: float) -> None:
    """Raises InputError unless `value` is strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} must be strictly between 0 and 1, got {value!r}")


def check_binary(values: FloatArray, remedy: str) -> None:
    """Raises InputError, ending in `remedy`, unless every value is 0 or 1."""
    other = values[(values != 0.0) & (values != 1.0)]
    if other.size:
        raise InputError(f"outcomes must be 0 or 1, got {float(other[0])!r}; {remedy}")
