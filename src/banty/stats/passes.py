"""pass@k (any of k trials succeeds) and pass^k (all k succeed), unbiased from n >= k trials of each task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from banty.errors import InputError
from banty.stats.trials import Trials, check_binary, scored_trials


@dataclass(frozen=True, slots=True)
class PassEstimate:
    """Estimates for each task and their mean over tasks."""

    k: int
    """Trials drawn together."""
    mean: float | None
    """Mean over the tasks with a scored trial; None when there is none."""
    per_task: tuple[float | None, ...]
    """One estimate per task, in order; None for a task without a scored trial. `interval_over_tasks` takes it as is."""
    num_tasks: int
    """Tasks in the mean."""
    num_unscored: int
    """Tasks left out because no trial of theirs was scored."""


def pass_at_k(successes: Trials, k: int) -> PassEstimate:
    """Chance that at least one of k trials succeeds: 1 - C(n-c, k) / C(n, k) for c successes in n scored trials.

    Unbiased for 1 - (1-p)^k of each task, which 1 - (1 - c/n)^k is not. Source: Chen et al. 2021, equation 1
    (arXiv 2107.03374); here n may differ between tasks.

    Raises:
        InputError: k is above `largest_k(successes)`, or an outcome is not 0 or 1.
    """
    return _estimate(successes, k, pass_at_k_of_task)


def pass_hat_k(successes: Trials, k: int) -> PassEstimate:
    """pass^k, the chance that all of k trials succeed: C(c, k) / C(n, k) for c successes in n scored trials.

    Unbiased for p^k of each task. Source: Yao et al. 2024, tau-bench (arXiv 2406.12045); here n may differ between
    tasks.

    Raises:
        InputError: k is above `largest_k(successes)`, or an outcome is not 0 or 1.
    """
    return _estimate(successes, k, pass_hat_k_of_task)


def largest_k(successes: Trials) -> int | None:
    """The k that every task with a scored trial has trials for; None when no task has one."""
    return min((trials.size for trials in scored_trials(successes) if trials.size), default=None)


# Exact integers: Python's comb cannot overflow, and true division of two integers rounds once, at any n.


def pass_at_k_of_task(num_trials: int, num_successes: int, k: int) -> float:
    """pass@k of one task, correctly rounded.

    Raises:
        InputError: not 1 <= k <= num_trials, or not 0 <= num_successes <= num_trials.
    """
    _check_counts(num_trials, num_successes, k)
    draws = math.comb(num_trials, k)
    return (draws - math.comb(num_trials - num_successes, k)) / draws


def pass_hat_k_of_task(num_trials: int, num_successes: int, k: int) -> float:
    """pass^k of one task, correctly rounded.

    Raises:
        InputError: not 1 <= k <= num_trials, or not 0 <= num_successes <= num_trials.
    """
    _check_counts(num_trials, num_successes, k)
    return math.comb(num_successes, k) / math.comb(num_trials, k)


def _estimate(successes: Trials, k: int, of_task: Callable[[int, int, int], float]) -> PassEstimate:
    tasks = scored_trials(successes)
    for trials in tasks:
        check_binary(trials, "decide which rewards count as success before asking for pass@k or pass^k")
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    shortest = min((trials.size for trials in tasks if trials.size), default=None)
    if shortest is not None and k > shortest:
        raise InputError(
            f"k={k} asks for more trials than some task has scored; the largest k allowed here is {shortest}: "
            "run more trials of that task, or leave the task out of every table alike"
        )
    per_task = tuple(of_task(trials.size, round(trials.sum()), k) if trials.size else None for trials in tasks)
    estimates = [estimate for estimate in per_task if estimate is not None]
    mean = math.fsum(estimates) / len(estimates) if estimates else None
    return PassEstimate(k, mean, per_task, num_tasks=len(estimates), num_unscored=len(tasks) - len(estimates))


def _check_counts(num_trials: int, num_successes: int, k: int) -> None:
    if not 0 <= num_successes <= num_trials:
        raise InputError(f"{num_successes} successes in {num_trials} trials is impossible")
    if not 1 <= k <= num_trials:
        raise InputError(f"k must be between 1 and the {num_trials} trials of the task, got {k}")
