"""How an agent behaves: habits, parts of the verdict that are missed, and two graders held against each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from banty.evals.dependability.facts import TaskFacts
from banty.evals.dependability.figures import share
from banty.evals.dependability.results import User, task_place
from banty.records import Rollout

GRADERS = ("tau2", "semantic")
"""Components that are verdicts: the benchmark's grader, and ours."""

_DISAGREES = re.compile(r"(?:tau2 passes and semantic|semantic passes and tau2) fails: .*", re.S)
"""How an outcome begins to say why its graders disagree."""


def habits_json(user: User, facts: TaskFacts) -> dict[str, Any]:
    """How often each habit showed where it could have: read off the rollouts, or the cards' own tables."""
    if user.scored and facts.habits:
        found = {name: (habit.lapse, share(user.scored, habit.observe)) for name, habit in facts.habits.items()}
        rows = [{"name": name, "lapse": lapse, **row} for name, (lapse, row) in found.items() if row["of"]]
        return {"source": user.source, "rows": rows}
    kept = [_habits_of_card(result.card.data.get("habits")) for result in user.results[:1]]
    replaced = "" if len(user.results) == 1 else f" of {user.results[0].place}"
    return {"source": f"card{replaced}", "rows": kept[0]}


def _habits_of_card(habits: Any) -> list[dict[str, Any]]:
    rows = []
    for name, row in habits.items() if isinstance(habits, Mapping) else ():
        if isinstance(row, Mapping):
            kept = {key: row.get(key) for key in ("estimate", "low", "high", "level", "n", "method")}
            counts = {"count": row.get("lapses"), "of": row.get("chances")}
            rows.append({"name": str(name), "lapse": str(row.get("lapse", name)), **counts, **kept})
    return rows


def criteria_json(user: User) -> dict[str, Any]:
    """How often each part of the verdict was missed, of the episodes in which it was judged."""
    rollouts = user.scored
    if not rollouts:
        means = user.results[0].card.data.get("components")
        rows = [
            {"name": name, "estimate": 1.0 - mean, "low": None, "high": None}
            for name, mean in (means.items() if isinstance(means, Mapping) else ())
            if name not in GRADERS and isinstance(mean, (int, float)) and 0.0 <= mean <= 1.0
        ]
        return {"source": "card", "rows": rows}
    rows = []
    for name in _judged(rollouts):
        rows.append({"name": name, **share(rollouts, lambda one, name=name: _missed(one, name))})  # type: ignore[misc]
    return {"source": user.source, "rows": rows}


def _judged(rollouts: Sequence[Rollout]) -> list[str]:
    """Components that are criteria: 0 or 1 wherever they were judged, and no grader's verdict."""
    values: dict[str, set[float]] = {}
    for rollout in rollouts:
        for name, value in rollout.outcome.components.items():
            if value is not None:
                values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if found <= {0.0, 1.0} and name not in GRADERS]


def _missed(rollout: Rollout, name: str) -> bool | None:
    value = rollout.outcome.components.get(name)
    return None if value is None else value == 0.0


def graders_json(user: User) -> dict[str, Any]:
    """The two graders' verdicts, and the tasks on which they differ with what each of them missed."""
    both = [one for one in user.scored if None not in _verdicts(one)]
    if not both:
        return {"known": False, "counts": {}, "rows": []}
    counts: Counter[str] = Counter(_named(one) for one in both)
    gates = {grader: _gates(both, grader) for grader in GRADERS}
    by_task: dict[str, list[Rollout]] = {}
    for one in both:
        by_task.setdefault(task_place(one.task.id), []).append(one)
    rows = []
    for trials in by_task.values():
        differing = [one for one in trials if _named(one) in GRADERS]
        if differing:
            passes = [sum(_verdicts(one)[at] == 1.0 for one in trials) for at in range(2)]
            reasons = Counter(_reason(one, gates) for one in differing)
            public = dict(trials[0].task.public)
            rows.append(
                {
                    "task": str(public.get("task_id", trials[0].task.index)),
                    "num_trials": len(trials),
                    **dict(zip(GRADERS, passes, strict=True)),
                    "reasons": dict(reasons),
                }
            )
    agree = share(both, lambda one: _named(one) not in GRADERS)
    return {
        "known": True,
        "counts": {name: counts[name] for name in ("both", *GRADERS, "neither")},
        "verdicts": {
            name: share(both, lambda one, at=at: _verdicts(one)[at])  # type: ignore[misc]
            for at, name in enumerate(GRADERS)
        },
        "agreement": agree,
        "rows": rows,
    }


def _verdicts(rollout: Rollout) -> tuple[float | None, float | None]:
    found = rollout.outcome.components
    return found.get(GRADERS[0]), found.get(GRADERS[1])


def _named(rollout: Rollout) -> str:
    """Who calls it a success: `both`, `neither`, or the one grader that does."""
    first, second = (value == 1.0 for value in _verdicts(rollout))
    if first == second:
        return "both" if first else "neither"
    return GRADERS[0] if first else GRADERS[1]


def _gates(rollouts: Sequence[Rollout], grader: str) -> set[str]:
    """The grader's own components that no success of its ever missed: the others are for information."""
    names = {name for one in rollouts for name in one.outcome.components if name not in GRADERS}
    own = {name for name in names if name.startswith("tau2_") == (grader == "tau2")}
    passed = [one for one in rollouts if one.outcome.components.get(grader) == 1.0]
    return {name for name in own if not any(_missed(one, name) for one in passed)}


def _reason(rollout: Rollout, gates: Mapping[str, set[str]]) -> str:
    """The outcome's own words about the two where it has any, else what the one that says failure missed."""
    told = _DISAGREES.search(rollout.outcome.reason)
    if told:
        return told[0]
    stricter = GRADERS[1] if _named(rollout) == GRADERS[0] else GRADERS[0]
    missed = [name for name in rollout.outcome.components if name in gates[stricter] and _missed(rollout, name)]
    return f"{stricter} misses {', '.join(missed) or 'what no component names'}"
