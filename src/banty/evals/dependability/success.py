"""pass^k, what its figures rest on, and how they fall on tasks that take a write and those that do not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from banty.evals.dependability.facts import TaskFacts
from banty.evals.dependability.figures import over_both
from banty.evals.dependability.results import Result, Trials, User
from banty.evals.several import pairs_of
from banty.stats import (
    clustered_interval,
    compare_on_tasks,
    evaluation_noise,
    largest_k,
    pass_at_k,
    pass_hat_k,
    replicate_noise,
    resolution,
    task_means,
    tasks_needed,
)

WANTED_EFFECT = 0.05
"""The difference that the card says how many tasks it takes to see."""


def success_json(user: User, places: Sequence[str]) -> dict[str, Any]:
    """Success, pass^k and pass@k as far as every task of every replicate has scored trials."""
    replicates = [_aligned(result, places) for result in user.results]
    most = min((largest_k(trials) or 0 for trials in replicates), default=0)
    return {
        "success": over_both([_means(trials) for trials in replicates]),
        "pass_hat": {
            str(k): over_both([pass_hat_k(trials, k).per_task for trials in replicates]) for k in range(1, most + 1)
        },
        "pass_at": {
            str(k): over_both([pass_at_k(trials, k).per_task for trials in replicates]) for k in range(1, most + 1)
        },
    }


def hardest(found: Mapping[str, Any]) -> dict[str, Any]:
    """pass^k of the largest k there is; success itself where that is 1, and None where no task was scored."""
    most = max(map(int, found["pass_hat"]), default=0)
    return {"k": most, "pass_hat_k": found["pass_hat"][str(most)] if most > 1 else found["success"] if most else None}


def noise_json(user: User, places: Sequence[str]) -> dict[str, Any]:
    """The measured noise of this evaluation and what it could resolve; the replicates' spread where there are any."""
    replicates = [_aligned(result, places) for result in user.results]
    noise = evaluation_noise(*([pooled_trials(user, places)] if user.replicates == "repetitions" else replicates))
    sees = resolution(noise)
    variance = None if noise.error is None else noise.error**2 * noise.num_tasks
    return {
        **noise._asdict(),
        "resolves": sees._asdict(),
        "wanted_effect": WANTED_EFFECT,
        "tasks_needed": None if variance is None else tasks_needed(WANTED_EFFECT, variance),
        "replicates": replicate_noise(replicates)._asdict() if len(replicates) > 1 else None,
    }


def strata_json(user: User, places: Sequence[str], facts: TaskFacts) -> dict[str, Any]:
    """Tasks whose right ending takes a write apart from those it does not, each beside doing nothing."""
    if not facts.writes:
        why = facts.why_not or "the tasks name no reference path"
        return {"known": False, "why_not": why, "rows": []}
    rows = []
    for name, wanted in (("write", (True,)), ("no write", (False,)), ("all", (True, False))):
        inside = [place for place in places if facts.writes.get(place) in wanted]
        whole = len(wanted) == 1 or len(inside) == len(places)
        if inside and whole:
            found = success_json(user, inside)
            idle: list[Trials] = [[facts.do_nothing.get(place)] for place in inside]
            row = {"name": name, "num_tasks": len(inside), "success": found["success"], **hardest(found)}
            known = [value for trials in idle for value in trials if value is not None]
            told = clustered_interval(idle, method="wilson").to_json()
            row["do_nothing"] = {"count": int(sum(known)), "of": len(known), **told}
            rows.append(row)
    return {"known": True, "why_not": "", "rows": rows}


def differences_json(users: Sequence[User], places: Sequence[str]) -> list[dict[str, Any]]:
    """Every pair of users, paired by task; verdicts hold to Holm's p-value over all pairs."""
    pairs = list(itertools.combinations(users, 2))
    results = [compare_on_tasks(pooled_trials(b, places), pooled_trials(a, places)) for a, b in pairs]
    found = pairs_of([(a.name, b.name) for a, b in pairs], results)
    return [{**pair.to_json(), "test": pair.result.test} for pair in found]


def pooled_trials(user: User, places: Sequence[str]) -> list[Trials]:
    """Every trial of each task, of all replicates."""
    by_place: Mapping[str, list[float | None]] = {place: [] for place in places}
    for result in user.results:
        for place, trials in result.successes.items():
            if place in by_place:
                by_place[place].extend(trials)
    return list(by_place.values())


def _aligned(result: Result, places: Sequence[str]) -> list[Trials]:
    found = result.successes
    return [found[place] for place in places]


def _means(trials: Sequence[Trials]) -> list[float | None]:
    return [None if value != value else float(value) for value in task_means(trials)]
