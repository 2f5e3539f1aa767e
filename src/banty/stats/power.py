"""What an experiment can see: the smallest effect a t test detects, and the tasks needed to see a wanted one.

Exact under normal task values: the noncentral t distribution is solved numerically. The usual (1.96 + 0.84) standard
errors is 11% too small at ten tasks. Source: Miller 2024 (arXiv 2411.00640), on power analysis, with t for normal.
"""

from __future__ import annotations

import math

from scipy import optimize, special

from banty.errors import InputError
from banty.stats.trials import Trials, Values, check_share, paired_differences, scored, task_means, variance_over_tasks

_MOST_TASKS = 10**9


def detectable_shift(successes: Trials, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest distance of the mean over tasks from a fixed value that a two-sided t test would find.

    From the observed variance between tasks, so for these tasks with these numbers of trials. It is itself an
    estimate. None when the variance is not known: fewer than two tasks, or all equal.
    """
    return _from_task_values(task_means(successes), alpha, power)


def detectable_difference(
    candidate: Trials, baseline: Trials, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest true difference of candidate and baseline on the same tasks that the paired t test would find.

    From the observed variance of the per-task differences. None when that is not known: fewer than two tasks scored
    on both sides, or all differences equal.
    """
    return _from_task_values(paired_differences(candidate, baseline), alpha, power)


def detectable_effect(
    standard_error: float, degrees_of_freedom: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The effect at which a two-sided t test with this standard error rejects with probability `power`.

    Raises:
        InputError: a standard error or degrees of freedom that is not positive, or not 0 < alpha < power < 1.
    """
    _check(standard_error, degrees_of_freedom, alpha, power)
    critical = _critical(degrees_of_freedom, alpha)

    def shortfall(noncentrality: float) -> float:
        return _detection(noncentrality, degrees_of_freedom, critical) - power

    upper = critical + 1.0
    while shortfall(upper) < 0.0:
        upper *= 2.0
    return float(optimize.brentq(shortfall, 0.0, upper, xtol=1e-12, rtol=1e-12)) * standard_error


def t_test_power(effect: float, standard_error: float, degrees_of_freedom: float, *, alpha: float = 0.05) -> float:
    """Probability that a two-sided t test rejects and finds the right sign, when the true effect is `effect`.

    A significant difference of the wrong sign detects nothing, so the value for an effect near zero is near alpha/2.
    From 80% power on, counting both sides would add less than 1e-6.

    Raises:
        InputError: a standard error or degrees of freedom that is not positive.
    """
    _check(standard_error, degrees_of_freedom, alpha)
    return _detection(abs(effect) / standard_error, degrees_of_freedom, _critical(degrees_of_freedom, alpha))


def tasks_needed(effect: float, task_variance: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Fewest tasks at which the t test finds `effect` with the wanted power.

    `task_variance` is that of one value per task, from `variance_over_tasks` of `task_means` (a mean against a fixed
    value) or of `paired_differences` (two policies on the same tasks), with as many trials per task as planned.

    Raises:
        InputError: no effect, a variance that is not positive, or more than a thousand million tasks.
    """
    _check(task_variance, 1.0, alpha, power)
    if effect == 0.0 or not math.isfinite(effect):
        raise InputError(f"effect must be a finite number other than 0, got {effect}")

    def enough(num_tasks: int) -> bool:
        return t_test_power(effect, math.sqrt(task_variance / num_tasks), num_tasks - 1, alpha=alpha) >= power

    most = 2
    while not enough(most):
        most *= 2
        if most > _MOST_TASKS:
            raise InputError(f"an effect of {effect} needs more than {_MOST_TASKS} tasks; ask for a larger one")
    fewest = max(2, most // 2)
    while fewest < most:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if enough(middle) else (middle + 1, most)
    return most


def _from_task_values(task_values: Values, alpha: float, power: float) -> float | None:
    variance = variance_over_tasks(task_values)
    if variance is None:
        return None
    num_tasks = scored(task_values).size
    return detectable_effect(math.sqrt(variance / num_tasks), num_tasks - 1, alpha=alpha, power=power)


def _critical(degrees_of_freedom: float, alpha: float) -> float:
    return float(special.stdtrit(degrees_of_freedom, 1.0 - alpha / 2.0))


def _detection(noncentrality: float, degrees_of_freedom: float, critical: float) -> float:
    # The wrong side is left out on purpose (see `t_test_power`), and also because scipy's nctdtr gives NaN for some
    # negative arguments; for positive ones it is sound.
    return float(1.0 - special.nctdtr(degrees_of_freedom, noncentrality, critical))


def _check(spread: float, degrees_of_freedom: float, alpha: float, power: float | None = None) -> None:
    check_share("alpha", alpha)
    if power is not None:
        check_share("power", power)
        if power <= alpha:
            raise InputError(f"power must be above alpha, got power={power} and alpha={alpha}")
    if not (math.isfinite(spread) and spread > 0.0):
        raise InputError(f"the standard error or variance must be a positive number, got {spread}")
    if not degrees_of_freedom > 0.0:
        raise InputError(f"degrees of freedom must be positive (two tasks or more), got {degrees_of_freedom}")
