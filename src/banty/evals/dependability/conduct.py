"""How an agent behaves: habits, parts of the verdict that are missed, and two graders held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from banty.evals.dependability.facts import TaskFacts
from banty.evals.dependability.figures import by_task, share
from banty.evals.dependability.results import User, task_place
from banty.evals.graders import GRADERS, disagreement_in
from banty.evals.suite import published_id
from banty.records import Rollout

_NO_GRADERS: Mapping[str, Any] = {"known": False, "counts": {}, "rows": []}


def habits_json(user: User, facts: TaskFacts) -> dict[str, Any]:
    """How often each habit showed where it could have: read off the rollouts, or the cards' own tables."""
    if user.scored and facts.habits:
        found = {name: (habit.lapse, share(user.scored, habit.observe)) for name, habit in facts.habits.items()}
        rows = [{"name": name, "lapse": lapse, **row} for name, (lapse, row) in found.items() if row["of"]]
        return {"source": user.source, "rows": rows}
    kept = _habits_of_card(user.results[0].card.data.get("habits"))
    return {"source": user.card_source, "rows": kept}


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
        return {"source": user.card_source, "rows": rows}
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
    if not user.scored:
        return _graders_of_card(user)
    both = [one for one in user.scored if None not in _verdicts(one)]
    if not both:
        return dict(_NO_GRADERS)
    counts: Counter[str] = Counter(_named(one) for one in both)
    gates = {grader: _gates(both, grader) for grader in GRADERS}
    rows = []
    for trials in by_task(both).values():
        differing = [one for one in trials if _named(one) in GRADERS]
        if differing:
            passes = [sum(_verdicts(one)[at] == 1.0 for one in trials) for at in range(2)]
            reasons = Counter(_reason(one, gates) for one in differing)
            rows.append(
                {
                    "task": published_id(trials[0].task.public, str(trials[0].task.index)),
                    "num_trials": len(trials),
                    **dict(zip(GRADERS, passes, strict=True)),
                    "reasons": dict(reasons),
                }
            )
    agree = share(both, lambda one: _named(one) not in GRADERS)
    return {
        "known": True,
        "source": user.source,
        "counts": {name: counts[name] for name in ("both", *GRADERS, "neither")},
        "verdicts": {
            name: share(both, lambda one, at=at: _verdicts(one)[at])  # type: ignore[misc]
            for at, name in enumerate(GRADERS)
        },
        "agreement": agree,
        "rows": rows,
    }


def _graders_of_card(user: User) -> dict[str, Any]:
    """The card's own table: verdicts, and the disagreements it lists. It does not say who passed what else."""
    found = user.results[0].card.data.get("graders")
    if not isinstance(found, Mapping):
        return dict(_NO_GRADERS)
    judged, differing, listed = (found.get(name) for name in ("num_judged", "num_disagree", "disagreements"))
    if not isinstance(judged, int) or not isinstance(differing, int) or not isinstance(listed, list) or judged < 1:
        return dict(_NO_GRADERS)
    by_place: dict[str, list[Mapping[str, Any]]] = {}
    for one in listed:
        if isinstance(one, Mapping):
            by_place.setdefault(task_place(str(one.get("task"))), []).append(one)
    rows: list[dict[str, Any]] = [
        {
            "task": published_id(trials[0].get("public"), place.rpartition(":")[2]),
            "num_trials": len(trials),
            **{name: sum(one.get(name) == 1.0 for one in trials) for name in GRADERS},
            "reasons": dict(
                Counter(disagreement_in(str(one.get("reason"))) or str(one.get("reason")) for one in trials)
            ),
        }
        for place, trials in by_place.items()
    ]
    num_listed = sum(row["num_trials"] for row in rows)
    which = "they differ" if num_listed == differing else f"they differ, the first {num_listed} of {differing}"
    return {
        "known": True,
        "source": f"{user.card_source}, which lists the trials on which {which}",
        "counts": {name: sum(row[name] for row in rows) for name in GRADERS} if num_listed == differing else {},
        "verdicts": {name: dict(found[name]) for name in GRADERS if isinstance(found.get(name), Mapping)},
        "agreement": {"count": judged - differing, "of": judged, "estimate": 1.0 - differing / judged},
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
    if told := disagreement_in(rollout.outcome.reason):
        return told
    stricter = GRADERS[1] if _named(rollout) == GRADERS[0] else GRADERS[0]
    missed = [name for name in rollout.outcome.components if name in gates[stricter] and _missed(rollout, name)]
    return f"{stricter} misses {', '.join(missed) or 'what no component names'}"
