"""What an agent calls: errors and whether they are mended, tools, and tasks by what they are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from banty.evals.dependability.facts import NO_WRITE, OF_PUBLIC, TaskFacts, intents_of
from banty.evals.dependability.figures import by_task, ratio, share
from banty.evals.dependability.results import User, task_place
from banty.evals.dependability.success import hardest, success_json
from banty.records import CallResult, Rollout

NO_TOOL = "(no such tool, or none that could be read)"


def errors_json(user: User) -> dict[str, Any]:
    """How often calls fail, how, and what becomes of the episodes in which one did."""
    rollouts = user.scored
    if not rollouts:
        behaviour = user.results[0].card.data.get("behaviour")
        rate = behaviour.get("call_error_share") if isinstance(behaviour, Mapping) else None
        return {"source": user.card_source, "error_share": rate}
    calls = [call for one in rollouts for call in calls_of(one)]
    failed = [call for call in calls if call.error]
    made_good = sum(num_mended(one) for one in rollouts)
    return {
        "source": user.source,
        "num_calls": len(calls),
        "num_errors": len(failed),
        "error_share": ratio(len(failed), len(calls)),
        "by_kind": dict(Counter(call.error for call in failed).most_common()),
        "episodes_with_error": share(rollouts, erred),
        "success_with_error": share(rollouts, lambda one: _success(one) if erred(one) else None),
        "success_without_error": share(rollouts, lambda one: None if erred(one) else _success(one)),
        "mended": {"count": made_good, "of": len(failed), "estimate": ratio(made_good, len(failed))},
    }


def tools_json(user: User) -> list[dict[str, Any]]:
    """A row a tool: calls, errors, and how much more or less of it there is in successes than in failures."""
    rollouts = user.scored
    passes = [one for one in rollouts if one.outcome.success]
    fails = [one for one in rollouts if not one.outcome.success]
    names = Counter(_tool(call) for one in rollouts for call in calls_of(one))
    offered = {schema.name: schema.effect for one in rollouts for schema in one.tools}
    rows = []
    for name in sorted({*names, *offered}, key=lambda name: (name == NO_TOOL, -names[name], name)):
        calls = [call for one in rollouts for call in calls_of(one) if _tool(call) == name]
        errors = sum(bool(call.error) for call in calls)
        seen = next((call.effect for call in calls if call.effect != "none"), "none")
        rows.append(
            {
                "name": name,
                "effect": offered.get(name, seen),
                "num_calls": len(calls),
                "num_errors": errors,
                "error_share": ratio(errors, len(calls)),
                "mended_share": ratio(sum(num_mended(one, name) for one in rollouts), errors),
                "calls_per_pass": _per_episode(passes, name),
                "calls_per_failure": _per_episode(fails, name),
                "in_passes": ratio(sum(_uses(one, name) for one in passes), len(passes)),
                "in_failures": ratio(sum(_uses(one, name) for one in fails), len(fails)),
            }
        )
    return rows


def intents_json(user: User, places: Sequence[str], facts: TaskFacts) -> dict[str, Any]:
    """A row for what tasks are about; a task about two things counts for both."""
    named, source = _intents(user, facts)
    kinds = sorted({kind for found in named.values() for kind in found})
    rows = []
    for kind in kinds:
        inside = [place for place in places if kind in named.get(place, ())]
        if not inside:
            continue
        members = [one for one in user.scored if task_place(one.task.id) in set(inside)]
        calls = [call for one in members for call in calls_of(one)]
        found = success_json(user, inside)
        rows.append(
            {
                "name": kind,
                "num_tasks": len(inside),
                "num_episodes": len(members),
                "success": found["success"],
                **hardest(found),
                "turns_per_episode": ratio(sum(len(one.agent_turns) for one in members), len(members)),
                "calls_per_episode": ratio(len(calls), len(members)),
                "error_share": ratio(sum(bool(call.error) for call in calls), len(calls)),
            }
        )
    return {"source": source, "rows": rows}


def _intents(user: User, facts: TaskFacts) -> tuple[Mapping[str, tuple[str, ...]], str]:
    """What each task is about, and where that is from."""
    public = {
        task_place(task["id"]): intents_of(task["public"])
        for result in user.results
        for task in result.card.data["tasks"]
        if isinstance(task.get("public"), Mapping)
    }
    if any(public.values()):
        return public, OF_PUBLIC
    if facts.intents:
        return facts.intents, facts.intent_source
    derived = {place: _usual_writes(trials) for place, trials in by_task(user.scored).items()}
    return derived, "the agent's calls: the tools that change something and that half of a task's episodes called"


def _usual_writes(trials: Sequence[Rollout]) -> tuple[str, ...]:
    made = Counter(
        name
        for one in trials
        for name in {call.name for call in calls_of(one) if call.effect == "write" and not call.error}
    )
    usual = sorted(name for name, count in made.items() if 2 * count >= len(trials))
    return (" + ".join(usual) or NO_WRITE,)


def calls_of(rollout: Rollout) -> Iterator[CallResult]:
    """The agent's calls in order, broken ones included."""
    return (call for turn in rollout.agent_turns for call in turn.calls)


def _tool(call: CallResult) -> str:
    return NO_TOOL if call.effect == "none" else call.name


def erred(rollout: Rollout) -> bool:
    return any(call.error for call in calls_of(rollout))


def _success(rollout: Rollout) -> bool:
    return bool(rollout.outcome.success)


def num_mended(rollout: Rollout, tool: str = "") -> int:
    """Failed calls, of one tool or of any, that a later one of the same name made good."""
    calls = list(calls_of(rollout))
    return sum(
        any(later.name == call.name and not later.error for later in calls[at + 1 :])
        for at, call in enumerate(calls)
        if call.error and (not tool or _tool(call) == tool)
    )


def _uses(rollout: Rollout, name: str) -> bool:
    return any(_tool(call) == name for call in calls_of(rollout))


def _per_episode(rollouts: Sequence[Rollout], name: str) -> float | None:
    return ratio(sum(_tool(call) == name for one in rollouts for call in calls_of(one)), len(rollouts))
