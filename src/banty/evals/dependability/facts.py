"""What only the tasks themselves know: which of them take a write, what they are about, what doing nothing scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banty.errors import BantyError
from banty.evals.dependability.results import Result, task_place
from banty.evals.suite import EvalPlan, fingerprint_of, run_baselines, tasks_of
from banty.records import Habit, Limits, Taskset, ToolCall

DO_NOTHING = "do-nothing"
OF_PUBLIC = "the tasks' public part"
OF_REFERENCE = "the reference path: the tools on it that change something"
NO_WRITE = "nothing is changed"


@dataclass(frozen=True)
class TaskFacts:
    """By a task's place in the split. Empty, with the reason in `why_not`, where the tasks cannot be made again.

    `writes` is whether the reference path holds a call that changes something; `intents` what the task is about, which
    `intent_source` has from somewhere; `do_nothing` the verdict of an agent that does not act.
    """

    writes: Mapping[str, bool] = field(default_factory=dict)
    intents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    do_nothing: Mapping[str, float | None] = field(default_factory=dict)
    habits: Mapping[str, Habit] = field(default_factory=dict)
    intent_source: str = OF_PUBLIC
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
    changing: dict[str, list[str]] = {}
    intents: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        golden = taskset.golden(task)
        if golden is not None:
            effects = _effects(taskset.episode(task))
            changing[task_place(task.id)] = [call.name for call in golden if effects.get(call.name) == "write"]
        intents[task_place(task.id)] = intents_of(task.public)
    idle = {
        task_place(rollout.task.id): float(bool(rollout.outcome.success)) if rollout.scored else None
        for rollout in played.get(DO_NOTHING, ())
    }
    known = {place: named for place, named in intents.items() if named}
    return _facts(changing, known, idle, taskset.habits())


def facts_of_log(golden: Mapping[str, Sequence[ToolCall]], effects: Mapping[str, str]) -> TaskFacts:
    """The facts of an imported log's tasks: `golden` are its reference calls by task id, `effects` those of its tools.

    What doing nothing scores is not known, and nothing is where the effect of a tool is not.
    """
    if not golden:
        return TaskFacts(why_not="the log has no reference paths")
    if unknown := sorted({call.name for calls in golden.values() for call in calls} - effects.keys()):
        told = f"the log does not say whether {', '.join(unknown[:5])} on its reference paths changes anything"
        return TaskFacts(why_not=f"{told}; banty import --effects takes that")
    return _facts(
        {
            task_place(task_id): [call.name for call in calls if effects[call.name] == "write"]
            for task_id, calls in golden.items()
        }
    )


def _facts(
    changing: Mapping[str, Sequence[str]],
    intents: Mapping[str, tuple[str, ...]] | None = None,
    idle: Mapping[str, float | None] | None = None,
    habits: Mapping[str, Habit] | None = None,
) -> TaskFacts:
    writes = {place: bool(names) for place, names in changing.items()}
    if intents:
        return TaskFacts(writes, intents, idle or {}, habits or {})
    derived = {place: (" + ".join(sorted(set(names))) or NO_WRITE,) for place, names in changing.items()}
    return TaskFacts(writes, derived, idle or {}, habits or {}, intent_source=OF_REFERENCE)


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
