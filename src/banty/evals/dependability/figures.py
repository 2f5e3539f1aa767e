"""Estimates as a card holds them, over tasks and over replicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from banty.evals.dependability.results import task_place
from banty.records import Rollout
from banty.stats import clustered_interval, interval_over_tasks, seed_interval, task_means


def over_both(replicates: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """From one value a task and replicate: the interval over tasks, of each task's mean over replicates, and the one
    over replicates, of their means; None for that where there is one."""
    per_task = task_means(list(zip(*replicates, strict=True)))
    means = [_mean(values) for values in replicates]
    over = seed_interval(means, bounds=(0.0, 1.0)).to_json() if len(replicates) > 1 else None
    return {"by_task": interval_over_tasks(per_task, method="wilson").to_json(), "over_replicates": over}


def share(rollouts: Iterable[Rollout], value: Callable[[Rollout], float | bool | None]) -> dict[str, Any]:
    """The mean over tasks of a 0 or 1 an episode, where it is one, clustered by task; with the plain counts."""
    values = list(trials_by_task(rollouts, value).values())
    found = [one for trials in values for one in trials]
    counts = {"count": int(sum(found)), "of": len(found)}
    return {**counts, **clustered_interval(values, method="wilson").to_json()}


def trials_by_task(
    rollouts: Iterable[Rollout], value: Callable[[Rollout], float | bool | None]
) -> Mapping[str, list[float]]:
    """A number an episode, by task; episodes without one are left out."""
    found = {place: [value(one) for one in trials] for place, trials in by_task(rollouts).items()}
    known = {place: [float(each) for each in values if each is not None] for place, values in found.items()}
    return {place: values for place, values in known.items() if values}


def by_task(rollouts: Iterable[Rollout]) -> Mapping[str, list[Rollout]]:
    """Rollouts by the place of their task, in their order."""
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(task_place(rollout.task.id), []).append(rollout)
    return found


def ratio(count: float, of: float) -> float | None:
    return count / of if of else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
