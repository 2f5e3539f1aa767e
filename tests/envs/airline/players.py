"""Who plays the airline desk in these tests, and hand-made conversations to play."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from banty.envs.airline.data import AirlineWorld, to_json
from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.airline.scenario import Request, Scenario, Slot
from banty.envs.airline.tasks import GeneratedCase, GeneratedTasks
from banty.envs.airline.tools import AirlineTools
from banty.envs.baselines import LinePolicy
from banty.envs.state import State
from banty.policies.scripted import FunctionPolicy
from banty.records import Limits, Message, Policy, Rollout, Task, Taskset, ToolCall, canonical_json, generator, take
from banty.rollout import Cast, collect, plan_groups

Line = str | ToolCall
READ = ToolCall("get_reservation_details", {"reservation_id": "RES001"})
SHALL_I = "Shall I go ahead (yes/no)?"
DONE = "It is done."
FULL_TOOLS = tuple(entry.schema for entry in AirlineTools.tools.values())


def play(
    taskset: Taskset,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    user: Policy | None = None,
    limits: Limits | None = None,
) -> list[Rollout]:
    """One episode a task, through the driver."""
    cast = Cast(policy, {} if user is None else {"user": user})
    trees = asyncio.run(collect(plan_groups(tasks, 1, seed=0), taskset, cast, limits, exact=False))
    return [tree[0] for tree in trees]


def expert(lapses: Collection[str] = ()) -> Policy:
    """The expert, which always lapses at these points and never at others."""
    return FunctionPolicy(lambda request: AIRLINE_EXPERT.respond(request, lambda point: point not in lapses), "expert")


def rate(rollouts: Iterable[Rollout], grader: str) -> float:
    """The share that passes a grader; every episode must have been scored."""
    verdicts = []
    for rollout in rollouts:
        assert rollout.scored, f"{rollout.task.id}: {rollout.detail}"
        verdicts.append(rollout.outcome.components[grader] == 1.0)
    return sum(verdicts) / len(verdicts)


@functools.cache
def drawn(taskset: GeneratedTasks, split: str) -> Sequence[Task]:
    """The first 300 tasks of a split, made once for all tests."""
    return take(taskset, split, 300)


def requests_of(tasks: Iterable[Task]) -> list[tuple[AirlineWorld, Scenario, Request]]:
    return [(task.data.world, task.data.scenario, request) for task in tasks for request in task.data.scenario.requests]


def digest(taskset: GeneratedTasks, split: str, num_tasks: int = 5, seed: int = 0) -> str:
    """A hash of scenarios, worlds and whole conversations."""
    told = hashlib.sha256()
    for rollout in play(taskset, take(taskset, split, num_tasks, seed), expert()):
        case = rollout.task.data
        own_world = to_json(State(case.world)) if taskset.env == "airline/mini" else case.world.tag
        said = [message.to_json() for message in rollout.transcript]
        told.update(canonical_json([rollout.task.pin, case.scenario.to_json(), own_world, said]).encode())
    return told.hexdigest()


class Handmade(GeneratedTasks):
    """One task: this scenario over this world."""

    def __init__(
        self, world: AirlineWorld, scenario: Scenario, size: Literal["mini", "full"] = "full", **options: Any
    ) -> None:
        super().__init__(size, **options)
        self._case = GeneratedCase(world, scenario)

    def make(self, split: str, index: int, rng: np.random.Generator) -> GeneratedCase:
        return self._case


def handmade(world: AirlineWorld, *requests: Request, **options: Any) -> Handmade:
    return Handmade(world, Scenario("ann_lee_1", requests), **options)


def one(taskset: Taskset, *lines: Line, user: Policy | None = None, limits: Limits | None = None) -> Rollout:
    """The rollout of an agent that says these lines."""
    return play(taskset, take(taskset, "test", 1), LinePolicy("lines", lines), user=user, limits=limits)[0]


def request(
    *writes: ToolCall,
    right: Literal["do", "refuse", "transfer"] = "do",
    says: Mapping[Slot, str] | None = None,
    tells: tuple[str, ...] = (),
    looks_up: tuple[str, ...] = ("RES001",),
    **more: Any,
) -> Request:
    """A request about RES001 whose customer says everything at once."""
    said: Mapping[Slot, str] = {"user_id": "ann_lee_1", "reservation_id": "RES001"} if says is None else says
    fields: dict[str, Any] = {"intent": "cancel", "volunteered": frozenset(said), "reservation_id": "RES001"}
    fields |= more
    return Request(right=right, says=said, writes=writes, tells=tells, looks_up=looks_up, **fields)


class FakeHost:
    """A host for a customer outside any episode: draws by purpose and turn, nobody to ask."""

    def rng(self, purpose: str, turn: int = 0) -> np.random.Generator:
        return generator(7, purpose, turn)

    async def ask(self, role: str, messages: Sequence[Message]) -> Message:
        raise AssertionError("a scripted customer asks nobody")
