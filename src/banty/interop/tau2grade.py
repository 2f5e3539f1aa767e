"""A trajectory's reward with its components, as tau2-bench's evaluator gives them, and the semantic verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from banty.chat import in_order
from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.grade_tau2 import (
    FINISHED,
    EndedBy,
    action_matches,
    failing_gold,
    gold_state,
    is_said,
    replayed_state,
)
from banty.envs.airline.rubric import Conversation, Gold, score
from banty.envs.airline.tau2tasks import Tau2Task
from banty.envs.airline.tools import AirlineTools
from banty.errors import InputError
from banty.interop.conversation import UNKNOWN_TOOL, Said
from banty.interop.places import Place
from banty.interop.tau2 import said_of_messages
from banty.records import JSON, CallFault, CallResult, Message, ToolCall


@dataclass(frozen=True)
class Tau2Reward:
    """A verdict as the benchmark's evaluator gives it, and what it is made of.

    `breakdown` has the parts of the task's reward basis, each 0.0 or 1.0, and is empty where nothing was judged.
    `db_match` and the hashes (the benchmark's, of the whole database after the trajectory and after the golden actions)
    are None where the database was not looked at. `communicate` and `actions` say of each string and of each golden
    action whether it was found. `failed_gold` are golden writes that failed, which the benchmark passes over.
    `semantic` is the other grader's verdict, and `reason` why the two disagree where they do.
    """

    reward: float
    basis: tuple[str, ...] | None
    breakdown: Mapping[str, float]
    db_match: bool | None
    database: str | None
    gold_database: str | None
    communicate: tuple[tuple[str, bool], ...]
    actions: tuple[tuple[Mapping[str, JSON], bool], ...]
    failed_gold: tuple[str, ...]
    semantic: float
    reason: str = ""
    note: str = ""

    def to_json(self) -> JSON:
        """A `reward_info` of tau2-bench's form; what is ours beside it stands in its `info`."""
        matched = None if self.db_match is None else {"db_match": self.db_match, "db_reward": float(self.db_match)}
        return {
            "reward": self.reward,
            "db_check": matched,
            "env_assertions": [],
            "action_checks": [
                {
                    "action": {"action_id": str(number), **action},
                    "action_match": found,
                    "action_reward": float(found),
                    "tool_type": _tool_type(str(action.get("name"))),
                }
                for number, (action, found) in enumerate(self.actions)
            ],
            "nl_assertions": None,
            "communicate_checks": [
                {"info": info, "met": met, "justification": f"{'said' if met else 'not said'} by the agent"}
                for info, met in self.communicate
            ],
            "reward_basis": None if self.basis is None else list(self.basis),
            "reward_breakdown": dict(self.breakdown),
            "info": {
                "note": self.note,
                "semantic": self.semantic,
                "reason": self.reason,
                "database": self.database,
                "gold_database": self.gold_database,
                "failed_gold": list(self.failed_gold),
            },
        }


def grade_tau2_trajectory(
    messages: Sequence[Message | Mapping[str, Any]],
    task: Tau2Task,
    database: AirlineWorld,
    termination_reason: str = "user_stop",
    *,
    strict: bool = True,
) -> Tau2Reward:
    """Grade a whole conversation, greeting included, as tau2-bench 1.0.1 grades it.

    Messages are ours or objects of the benchmark's form. The writes among the agent's calls are run again from a fresh
    database, the task's golden actions on another; reads, generic calls, unknown tools and calls of the user are not.

    Raises InputError for a task graded by assertions it makes, for a reason nobody knows, and for a conversation that
    the benchmark's evaluator refuses: a call without its answer, an answer without its call, ids that differ. With
    `strict` raises ReplayMismatch where a write that was recorded now answers otherwise.
    """
    reasons = get_args(EndedBy)
    if termination_reason not in reasons:
        raise InputError(f"termination_reason {termination_reason!r} is not one of {', '.join(reasons)}")
    if termination_reason not in FINISHED:
        note = f"ended by {termination_reason}, which scores 0 whatever was done"
        return Tau2Reward(0.0, None, {}, None, None, None, (), (), (), 0.0, note=note)
    calls, texts = _made(messages)
    ended: Any = termination_reason
    state = replayed_state(database, calls, strict=strict and task.checks_database)
    right = gold_state(database, task.actions)
    talk = Conversation(calls=calls, agent_texts=texts, ended_by=ended)
    outcome = score(database, state, Gold(task, process=False), talk, "tau2")
    parts = outcome.components
    judged = {"DB": parts["tau2_db"], "COMMUNICATE": parts["tau2_communicate"], "ACTION": parts["tau2_action"]}
    basis = [name for name in task.reward_basis if name not in ("DB", "ENV_ASSERTION") or task.checks_database]
    listed = task.criteria.get("actions") or ()
    judges = task.raw.get("evaluation_criteria") is not None
    return Tau2Reward(
        reward=float(outcome.reward or 0.0),
        basis=task.reward_basis if judges else None,
        breakdown={name: float(judged.get(name, 1.0) or 0.0) for name in basis},
        db_match=bool(parts["tau2_db"]) if judges else None,
        database=tau2_hash(state),
        gold_database=tau2_hash(right),
        communicate=tuple((needle, is_said(needle, texts)) for needle in task.communicate),
        actions=tuple(zip(listed, action_matches(task, calls), strict=True)),
        failed_gold=failing_gold(database, task),
        semantic=float(parts["semantic"] or 0.0),
        reason=outcome.reason.partition("; ")[2] if outcome.reason.startswith("tau2: ") else outcome.reason,
        note="" if judges else "the task has no evaluation criteria",
    )


def _made(messages: Sequence[Message | Mapping[str, Any]]) -> tuple[list[CallResult], list[str]]:
    """The agent's calls with their answers, in order, and everything it said."""
    said = said_of_messages(messages, Place(Path("trajectory")))
    calls: list[CallResult] = []
    texts: list[str] = []
    place = 0
    while place < len(said):
        message = said[place].message
        place += 1
        if message.role == "tool":
            raise InputError(f"message {place} of the trajectory answers no call; answers stand right after their call")
        if message.role == "assistant" and message.content.strip():
            texts.append(message.content)
        for item in in_order(message):
            answer = said[place] if place < len(said) else None
            place += 1
            if answer is None or answer.message.role != "tool":
                raise InputError(f"message {place - 1} of the trajectory calls {item.name}, and no answer follows")
            if isinstance(item, CallFault):
                continue  # what could not be read as a call was answered, and did nothing
            if answer.message.call_id != item.id:
                given = answer.message.call_id
                raise InputError(f"message {place} of the trajectory answers the call {given!r} instead of {item.id!r}")
            if message.role == "assistant":
                calls.append(_result(item, answer))
    return calls, texts


def _result(call: ToolCall, answer: Said) -> CallResult:
    output = answer.message.content
    tool = AirlineTools.tools.get(call.name)
    if tool is None:
        return CallResult(call.name, call.arguments, output, "none", UNKNOWN_TOOL)
    error = answer.error or ("tool" if output.startswith("Error: ") else "")
    return CallResult(call.name, call.arguments, output, tool.schema.effect, error)


_GENERIC = ("calculate", "transfer_to_human_agents")


def _tool_type(name: str) -> str | None:
    """The benchmark's own word for what a tool does."""
    tool = AirlineTools.tools.get(name)
    return None if tool is None else "generic" if name in _GENERIC else tool.schema.effect
