"""Rollouts of ours as tau2-bench's simulation JSON, which its viewer and its evaluator read, and `banty import` too."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from banty import __version__
from banty.chat import in_order
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tau2tasks import Tau2Task
from banty.errors import InputError
from banty.interop.tau2 import ENDINGS
from banty.interop.tau2extras import (
    OURS,
    UNREADABLE_CALL,
    Extras,
    RolloutExtras,
    given_id,
    tools_json,
    unread_id,
)
from banty.interop.tau2grade import grade_tau2_trajectory
from banty.records import JSON, CallFault, Message, Rollout, ToolCall, Turn

AGENT_STOP = "###STOP###"
_REASONS: Mapping[tuple[str, str], str] = {
    ("truncated", "errors"): "too_many_errors",
    ("errored", "deadline"): "timeout",
    ("errored", "simulator"): "user_error",
}


@dataclass(frozen=True, kw_only=True)
class ExportAbout:
    """What a results file says of the run: everything but the simulations. `started` is an ISO time, `user_version`
    what an evaluation's card says of its user."""

    domain: str = "airline"
    commit: str = ""
    started: str = ""
    user: str = ""
    user_args: Mapping[str, JSON] = field(default_factory=dict)
    user_version: Mapping[str, JSON] = field(default_factory=dict)
    agent_args: Mapping[str, JSON] = field(default_factory=dict)
    max_steps: int = 0
    max_errors: int = 0
    seed: int = 0


@dataclass(frozen=True)
class ExportTask:
    """A task in the benchmark's form, under the id the file names it by. With a `world` its rollouts are graded again,
    so that the file holds every check; without one it holds the verdict alone."""

    key: str
    raw: Mapping[str, JSON]
    task: Tau2Task | None = None
    world: AirlineWorld | None = None


def tau2_results(
    rollouts: Sequence[Rollout], tasks: Mapping[str, ExportTask], about: ExportAbout
) -> tuple[dict[str, JSON], list[str]]:
    """A results file's object, and notes on what could not be said in it. `tasks` are by our task ids.

    Rewards are the benchmark's grader's, whichever graded the run; the outcome under the run's own grader, endings,
    faults and whatever else the form has no field for stands under keys `banty`, from which `banty import` restores it.
    Tokens and state hashes are not written. Raises InputError where there is nothing to write or a task is missing.
    """
    roots = sorted(
        (rollout for rollout in rollouts if rollout.depth == 0),
        key=lambda rollout: (rollout.task.split, rollout.task.index, rollout.group_id, rollout.trial),
    )
    if not roots:
        raise InputError("there are no rollouts to export")
    if missing := sorted({rollout.task.id for rollout in roots} - set(tasks)):
        raise InputError(f"{len(missing)} tasks are not known, such as {missing[0]}; nothing was written")
    spawned = len(rollouts) - len(roots)
    notes = [f"{spawned} rollouts of spawned episodes left out"] if spawned else []
    policies = list(dict.fromkeys(rollout.policy for rollout in roots))
    prompts = list(dict.fromkeys(_prompt(rollout) for rollout in roots))
    simulations = [_simulation(rollout, tasks[rollout.task.id], about, len(prompts) > 1, notes) for rollout in roots]
    used = {tasks[rollout.task.id].key: tasks[rollout.task.id] for rollout in roots}
    data = {
        "timestamp": about.started or _EPOCH,
        "info": {
            "git_commit": about.commit or f"banty {__version__}",
            "num_trials": max(rollout.trial for rollout in roots) + 1,
            "max_steps": about.max_steps,
            "max_errors": about.max_errors,
            "user_info": {
                "implementation": OURS,
                "llm": about.user or None,
                "llm_args": dict(about.user_args),
                **({OURS: dict(about.user_version)} if about.user_version else {}),
            },
            "agent_info": {
                "implementation": OURS,
                "llm": policies[0] if len(policies) == 1 else None,
                "llm_args": dict(about.agent_args),
            },
            "environment_info": {
                "domain_name": about.domain,
                "policy": prompts[0] if len(prompts) == 1 else "",
                "tool_defs": None,
            },
            "seed": about.seed,
        },
        "tasks": [dict(task.raw) for task in used.values()],
        "simulations": simulations,
        OURS: {"version": __version__, **tools_json(max((rollout.tools for rollout in roots), key=len))},
    }
    return data, notes


_EPOCH = "1970-01-01T00:00:00"


def _prompt(rollout: Rollout) -> str:
    first = rollout.opening[0] if rollout.opening else None
    return first.content if first is not None and first.role == "system" else ""


def _simulation(
    rollout: Rollout, task: ExportTask, about: ExportAbout, own_prompt: bool, notes: list[str]
) -> dict[str, JSON]:
    given = rollout.opening[1:] if _prompt(rollout) else rollout.opening
    messages = [_plain(message) for message in given]
    for turn in rollout.agent_turns:
        messages += _turn(turn)
    for place, message in enumerate(messages):
        message["turn_idx"] = place
        message["timestamp"] = about.started or _EPOCH
    reason = _reason(rollout)
    return {
        "id": rollout.rollout_id.replace("/", "-"),  # the benchmark may name a file by it
        "task_id": task.key,
        "timestamp": about.started or _EPOCH,
        "start_time": about.started or _EPOCH,
        "end_time": _later(about.started or _EPOCH, rollout.duration_s),
        "duration": rollout.duration_s,
        "termination_reason": reason,
        "agent_cost": sum(turn.cost_usd for turn in rollout.agent_turns),
        "user_cost": sum(turn.cost_usd for turn in rollout.turns if turn.actor != "agent"),
        "reward_info": _reward_info(rollout, task, messages, reason, notes),
        "messages": messages,
        "trial": rollout.trial,
        "seed": rollout.seed,
        "mode": "half_duplex",
        "policy": _prompt(rollout) if own_prompt else None,
        "info": RolloutExtras.of_rollout(rollout, len(given), task.world.tag if task.world else "").to_json(),
    }


def _turn(turn: Turn) -> list[dict[str, JSON]]:
    """A turn's message and what came back. Calls are listed in the order they were written, unreadable ones too."""
    items = in_order(turn.message)
    ids = [
        unread_id(turn.index, number) if isinstance(item, CallFault) else given_id(item.id, turn.index, number)
        for number, item in enumerate(items)
    ]
    calls = [_call(item, call_id) for item, call_id in zip(items, ids, strict=True)]
    usage = {"prompt_tokens": turn.prompt_tokens, "completion_tokens": turn.sampled_tokens}
    said = _plain(turn.message) | {
        "tool_calls": calls or None,
        "cost": turn.cost_usd,
        "usage": usage if any(usage.values()) else None,
        "raw_data": Extras.of_turn(turn).to_json(),
        "generation_time_seconds": turn.policy_s,
    }
    answered = _answered(items, turn.observation)
    errors = dict(zip(sorted(answered.values()), (call.error for call in turn.calls), strict=False))
    told = []
    for number, message in enumerate(turn.observation):
        plain = _plain(message)
        if message.role == "tool" and number in answered:
            plain |= {"id": ids[answered[number]], "error": bool(errors.get(answered[number]))}
        told.append(plain)
    return [said, *told]


def _answered(items: Sequence[ToolCall | CallFault], observation: Sequence[Message]) -> dict[int, int]:
    """Which call each answer belongs to, both by their place: paired by id, else by order."""
    answers = {number: message for number, message in enumerate(observation) if message.role == "tool"}
    by_id = {item.id: place for place, item in enumerate(items) if isinstance(item, ToolCall) and item.id}
    paired = {number: by_id[answer.call_id] for number, answer in answers.items() if answer.call_id in by_id}
    free = iter([place for place in range(len(items)) if place not in set(paired.values())])
    for number in answers:
        if number not in paired and (place := next(free, None)) is not None:
            paired[number] = place
    return paired


def _call(item: ToolCall | CallFault, call_id: str) -> dict[str, JSON]:
    if isinstance(item, CallFault):
        return {"id": call_id, "name": UNREADABLE_CALL, "arguments": {"text": item.raw}, "requestor": "assistant"}
    return {"id": call_id, "name": item.name, "arguments": dict(item.arguments), "requestor": "assistant"}


def _plain(message: Message) -> dict[str, JSON]:
    if message.role == "tool":
        return {
            "role": "tool",
            "id": message.call_id,
            "content": message.content,
            "requestor": "assistant",
            "error": False,
        }
    calls = [_call(call, call.id) for call in message.calls]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls or None}


def _reason(rollout: Rollout) -> str:
    """The `termination_reason` that says best how a rollout ended."""
    if rollout.status == "completed":
        last = rollout.agent_turns[-1:]
        said = last[0].message if last else None
        if said is not None and not (said.content.strip() or in_order(said) or last[0].observation):
            return "agent_error"
        stopped = said is not None and not said.calls and AGENT_STOP in said.content
        return "agent_stop" if stopped else "user_stop"
    for name, ending in ENDINGS.items():
        if (ending.status, ending.cause, ending.detail) == (rollout.status, rollout.cause, rollout.detail):
            return name
    other = "max_steps" if rollout.status == "truncated" else "infrastructure_error"
    return _REASONS.get((rollout.status, rollout.cause), other)


def _reward_info(
    rollout: Rollout, task: ExportTask, messages: Sequence[Mapping[str, Any]], reason: str, notes: list[str]
) -> JSON:
    if not rollout.scored:
        return None
    parts = rollout.outcome.components
    if task.task is None or task.world is None:
        return _verdict_alone(rollout)
    try:
        graded = grade_tau2_trajectory(messages, task.task, task.world, reason, strict=False)
    except InputError as refused:
        notes.append(f"{rollout.rollout_id} is written without its checks: {refused}")
        return _verdict_alone(rollout)
    if "tau2" in parts and parts["tau2"] != graded.reward:
        notes.append(
            f"{rollout.rollout_id} was scored {parts['tau2']} by the benchmark's grader when it was played, and is "
            f"{graded.reward} now; are data and tasks those of the run?"
        )
    return graded.to_json()


def _verdict_alone(rollout: Rollout) -> JSON:
    parts = rollout.outcome.components
    reward = parts.get("tau2", rollout.outcome.reward)
    breakdown = {name: parts[name] for name in ("DB", "COMMUNICATE", "ACTION") if parts.get(name) is not None}
    return {"reward": float(reward or 0.0), "reward_basis": list(breakdown) or None, "reward_breakdown": breakdown}


def _later(start: str, seconds: float) -> str:
    try:
        return (datetime.datetime.fromisoformat(start) + datetime.timedelta(seconds=seconds)).isoformat()
    except (ValueError, OverflowError):
        return start
