"""What only the tasks themselves know: which of them take a write, what they are about, what doing nothing scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from banty.errors import BantyError
from banty.evals.dependability.results import Result, task_place
from banty.evals.suite import EvalPlan, fingerprint_of, run_baselines, tasks_of
from banty.records import Habit, Limits, Taskset

DO_NOTHING = "do-nothing"


@dataclass(frozen=True)
class TaskFacts:
    """By a task's place in the split. Empty, with the reason in `why_not`, where the tasks cannot be made again.

    `writes` is whether the reference path holds a call that changes something; `do_nothing` the verdict of an agent
    that does not act.
    """

    writes: Mapping[str, bool] = field(default_factory=dict)
    intents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    do_nothing: Mapping[str, float | None] = field(default_factory=dict)
    habits: Mapping[str, Habit] = field(default_factory=dict)
    why_not: str = ""


async def facts_of(taskset: Taskset, result: Result) -> TaskFacts:
    """The facts of the tasks that `result` was measured on, from the same taskset; do-nothing is played again.

    A taskset that makes other tasks than those, or fails to, gives none.
    """
    identity = result.identity
    split, num_tasks, seed = identity["split"], identity.get("num_tasks"), identity["seed"]
    without = tuple(identity.get("without") or ())
    try:
        if fingerprint_of(taskset, split, num_tasks, seed, without) != identity["tasks_sha256"]:
            return TaskFacts(why_not="the tasks made here are not those that were measured: their sha256 differs")
        tasks = tasks_of(taskset, split, num_tasks, seed, without)
        limits = Limits(max_turns=int(identity["limits"]["max_turns"]))
        plan = EvalPlan(split=split, num_tasks=num_tasks, seed=seed, limits=limits, without=without)
        played = await run_baselines(plan, taskset, only=(DO_NOTHING,))
    except (BantyError, KeyError, TypeError, ValueError) as error:
        return TaskFacts(why_not=f"the tasks cannot be made again here: {error}")
    writes: dict[str, bool] = {}
    intents: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        golden = taskset.golden(task)
        if golden is not None:
            effects = _effects(taskset.episode(task))
            writes[task_place(task.id)] = any(effects.get(call.name) == "write" for call in golden)
        intents[task_place(task.id)] = intents_of(task.public)
    idle = {
        task_place(rollout.task.id): float(bool(rollout.outcome.success)) if rollout.scored else None
        for rollout in played.get(DO_NOTHING, ())
    }
    return TaskFacts(writes, {place: named for place, named in intents.items() if named}, idle, taskset.habits())


def intents_of(public: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task is about, where its public part says so."""
    named = public.get("intents", public.get("intent"))
    found = [named] if isinstance(named, str) else named if isinstance(named, (list, tuple)) else []
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one))


def _effects(env: Any) -> Mapping[str, str]:
    """Effects by the name of a tool, of an environment that is made of tools."""
    tools = getattr(env, "tools", None)
    entries = tools.values() if isinstance(tools, Mapping) else ()
    return {entry.schema.name: entry.schema.effect for entry in entries if hasattr(entry, "schema")}
