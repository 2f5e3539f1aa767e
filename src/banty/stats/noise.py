"""Where the noise of an evaluation comes from: the tasks that were drawn, the sampler's draws, the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from banty.stats.power import detectable_effect
from banty.stats.trials import Trials, all_equal, scored, scored_trials, variance_over_tasks


class EvaluationNoise(NamedTuple):
    """The standard error of a mean over tasks, in its parts: `error`^2 = `trial_error`^2 + `task_error`^2, but that
    `task_error` is 0 where draws alone seem to do more than both.

    None where the data give no basis: a trial's part needs tasks with two scored trials, the whole two unequal tasks.
    """

    num_tasks: int
    num_repeated: int
    """Tasks with two scored trials or more."""
    trial_variance: float | None
    """Of one trial about its task's own rate: the mean over the repeated tasks."""
    task_variance: float | None
    """Of the tasks' own rates about their mean, the trials' part taken off; 0 where that explains everything."""
    error: float | None
    """For other tasks of the kind and other draws."""
    trial_error: float | None
    """For other draws alone: what the same evaluation, done again on the same tasks, varies by."""
    task_error: float | None


class Resolution(NamedTuple):
    """Smallest true differences that an evaluation like this one would find (two-sided t test).

    `fixed`: of one mean from a fixed number. `paired`: of two policies on the same tasks, at best, when one is better
    on all of them alike, so that only draws are left. `unpaired`: of two on different tasks.
    """

    fixed: float | None
    paired: float | None
    unpaired: float | None


class ReplicateNoise(NamedTuple):
    """How far means of whole evaluations on the same tasks lie apart, and how far draws alone would put them.

    `p_value` is that of the observed spread when draws are all there is (chi squared); `excess` the standard deviation
    that draws leave unexplained, 0 where they explain it.
    """

    num_replicates: int
    num_tasks: int
    """Scored in all of them."""
    deviation: float | None
    drawn: float | None
    excess: float | None
    p_value: float | None


def evaluation_noise(*replicates: Trials) -> EvaluationNoise:
    """The parts of the noise of the mean over tasks of each task's success.

    Method of moments: trials of a task vary by their unbiased variance; what the tasks' means vary by beyond that is
    the tasks. A task with one scored trial counts with the mean variance of the others. Of several `replicates` (whose
    entry i is the same task) it is the noise of their mean, and only trials of one replicate are held against each
    other, since checkpoints differ by more than draws.
    """
    tasks = [[trials for trials in cells if trials.size] for cells in zip(*map(scored_trials, replicates), strict=True)]
    tasks = [cells for cells in tasks if cells]
    repeated = [float(trials.var(ddof=1)) for cells in tasks for trials in cells if trials.size > 1]
    trial_variance = math.fsum(repeated) / len(repeated) if repeated else None
    between = variance_over_tasks([float(np.mean([trials.mean() for trials in cells])) for cells in tasks])
    error = None if between is None else math.sqrt(between / len(tasks))
    if trial_variance is None:
        return EvaluationNoise(len(tasks), 0, None, None, error, None, None)
    of_means = [
        math.fsum((float(one.var(ddof=1)) if one.size > 1 else trial_variance) / one.size for one in cells)
        / len(cells) ** 2
        for cells in tasks
    ]
    num_repeated = sum(any(trials.size > 1 for trials in cells) for cells in tasks)
    trial_error = math.sqrt(math.fsum(of_means)) / len(tasks)
    if between is None or error is None:
        return EvaluationNoise(len(tasks), num_repeated, trial_variance, None, None, trial_error, None)
    task_variance = max(0.0, between - math.fsum(of_means) / len(tasks))
    task_error = math.sqrt(max(0.0, error**2 - trial_error**2))
    return EvaluationNoise(len(tasks), num_repeated, trial_variance, task_variance, error, trial_error, task_error)


def resolution(noise: EvaluationNoise, *, alpha: float = 0.05, power: float = 0.8) -> Resolution:
    """What differences an evaluation with this noise can see; None where its part of the noise is unknown or 0."""

    def found(error: float | None, freedom: int) -> float | None:
        return detectable_effect(error, freedom, alpha=alpha, power=power) if error and freedom > 0 else None

    freedom, twice = noise.num_tasks - 1, math.sqrt(2.0)
    # Draws are a part of the whole; where they seem to be more, the two are within the noise of their own estimates.
    drawn = [error for error in (noise.trial_error, noise.error) if error is not None and noise.trial_error is not None]
    return Resolution(
        fixed=found(noise.error, freedom),
        paired=found(twice * min(drawn) if drawn else None, freedom),
        unpaired=found(twice * noise.error if noise.error is not None else None, 2 * freedom),
    )


def replicate_noise(replicates: Sequence[Trials]) -> ReplicateNoise:
    """The spread of evaluations of the same tasks: repetitions of one policy, or checkpoints of one method.

    Over the tasks that every replicate scored: a task missing from some would move their means apart by itself.
    """
    scored_in = [scored_trials(successes) for successes in replicates]
    shared = [cells for cells in zip(*scored_in, strict=True) if all(trials.size for trials in cells)]
    if not shared:
        return ReplicateNoise(len(replicates), 0, None, None, None, None)
    kept = list(zip(*shared, strict=True))
    means = scored([float(np.mean([trials.mean() for trials in tasks])) for tasks in kept])
    known = [error for tasks in kept if (error := evaluation_noise(tasks).trial_error) is not None]
    drawn = math.sqrt(math.fsum(error**2 for error in known) / len(known)) if known else None
    if means.size < 2:
        return ReplicateNoise(means.size, len(shared), None, drawn, None, None)
    deviation = 0.0 if all_equal(means) else float(means.std(ddof=1))
    if not drawn:
        return ReplicateNoise(means.size, len(shared), deviation, drawn, None, None)
    excess = math.sqrt(max(0.0, deviation**2 - drawn**2))
    freedom = means.size - 1
    p_value = float(special.chdtrc(freedom, freedom * deviation**2 / drawn**2))
    return ReplicateNoise(means.size, len(shared), deviation, drawn, excess, p_value)
