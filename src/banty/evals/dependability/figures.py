"""Estimates as a card holds them, over tasks and over replicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from banty.evals.dependability.results import task_place
from banty.records import Rollout
from banty.stats import Interval, clustered_interval, interval_over_tasks, seed_interval, task_means


def interval_json(found: Interval) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("estimate", "low", "high", "level", "n", "method")}


def over_both(replicates: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """From one value a task and replicate: the interval over tasks, of each task's mean over replicates, and the one
    over replicates, of their means; None for that where there is one."""
    per_task = task_means(list(zip(*replicates, strict=True)))
    means = [_mean(values) for values in replicates]
    over = interval_json(seed_interval(means, bounds=(0.0, 1.0))) if len(replicates) > 1 else None
    return {"by_task": interval_json(interval_over_tasks(per_task, method="wilson")), "over_replicates": over}


def share(rollouts: Iterable[Rollout], value: Callable[[Rollout], float | bool | None]) -> dict[str, Any]:
    """The mean over tasks of a 0 or 1 an episode, where it is one, clustered by task; with the plain counts."""
    by_task = trials_by_task(rollouts, value)
    found = [one for trials in by_task.values() for one in trials]
    counts = {"count": int(sum(found)), "of": len(found)}
    return {**counts, **interval_json(clustered_interval(list(by_task.values()), method="wilson"))}


def trials_by_task(
    rollouts: Iterable[Rollout], value: Callable[[Rollout], float | bool | None]
) -> Mapping[str, list[float]]:
    """A number an episode, by task; episodes without one are left out."""
    by_task: dict[str, list[float]] = {}
    for rollout in rollouts:
        found = value(rollout)
        if found is not None:
            by_task.setdefault(task_place(rollout.task.id), []).append(float(found))
    return by_task


def ratio(count: float, of: float) -> float | None:
    return count / of if of else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
