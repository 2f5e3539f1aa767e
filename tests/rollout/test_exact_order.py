"""In an exact order, which calls an engine sees together, and in which order, depends on the episodes' ids alone."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
import time
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from tests.rollout.puppets import Chatter, Stage, Voice, assert_freed, perform, task

from banty.blocking import run_blocking
from banty.records import (
    Capability,
    Completion,
    EpisodeSpec,
    Host,
    Limits,
    Message,
    Observation,
    Rollout,
    SampleRequest,
    Task,
)
from banty.rollout import Cast, ExactOrder, collect, plan_groups, run_episode

LIMITS = Limits(max_turns=4, max_depth=2)
SHORT = dataclasses.replace(LIMITS, policy_timeout_s=0.25, step_timeout_s=0.25, ask_timeout_s=0.25)

Batch = tuple[str, ...]


class Engine:
    """Answers together all that arrives until it yields, and logs such batches: session, draw and last words."""

    name = "engine"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, hangs: str = "never") -> None:
        self._hangs = hangs
        self._batch: list[str] = []
        self._ticked: asyncio.Event | None = None
        self.log: list[Batch] = []
        self.live: set[str] = set()

    async def sample(self, request: SampleRequest) -> Completion:
        self.live.add(request.session)
        self._batch.append(f"{request.session} {request.params.seed} {request.messages[-1].content}")
        if self._ticked is None:
            self._ticked = asyncio.Event()
            await asyncio.sleep(0)
            self.log.append(tuple(self._batch))
            self._batch = []
            ticked, self._ticked = self._ticked, None
            ticked.set()
        else:
            await self._ticked.wait()
        if self._hangs in request.session:
            await asyncio.sleep(60)
        return Completion(Message("assistant", f"answer {len(request.messages)}"))

    async def release(self, session: str) -> None:
        self.live.discard(session)


class Jittery(Chatter):
    """Takes a random time for everything, partly in a thread."""

    def __init__(self, task: Task, steps: list[str], num_turns: int) -> None:
        super().__init__(num_turns)
        self.task = task
        self._steps = steps

    async def dawdle(self) -> None:
        pause_s = random.uniform(0, 0.004)
        await run_blocking(lambda: time.sleep(pause_s))
        await asyncio.sleep(random.uniform(0, 0.002))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self._steps.append(self.task.id)
        await self.dawdle()
        await self.act(host)
        await self.dawdle()
        return await super().step(completion, host)

    async def act(self, host: Host) -> None:
        """What else the step does."""


class Asks(Jittery):
    async def act(self, host: Host) -> None:
        for place in range(1 + self.num_heard):
            await host.ask("user", [Message("user", f"question {place}")])
            await self.dawdle()


class Spawns(Jittery):
    """Has two children, which have two each if the depth allows it."""

    async def act(self, host: Host) -> None:
        if self.num_heard == 0:
            below = self.task.index + 100
            kinds = ("nested", "asks") if below < 200 else ("plain", "asks")
            await host.spawn([Task("stage", kind, below, place) for place, kind in enumerate(kinds)])


class DoesBothAtOnce(Jittery):
    async def act(self, host: Host) -> None:
        await asyncio.gather(
            host.ask("user", [Message("user", "one")]),
            host.spawn([Task("stage", "plain", 300, 0)]),
            host.ask("user", [Message("user", "two")]),
            host.spawn([Task("stage", "asks", 301, 0), Task("stage", "plain", 302, 0)]),
        )


class Raises(Jittery):
    async def act(self, host: Host) -> None:
        if self.num_heard == 1:
            raise ConnectionError("no database")


class Hangs(Jittery):
    async def act(self, host: Host) -> None:
        if self.num_heard == 1:
            await run_blocking(lambda: time.sleep(0.5))


KINDS: dict[str, type[Jittery]] = {
    "plain": Jittery,
    "asks": Asks,
    "spawns": Spawns,
    "nested": Spawns,
    "both": DoesBothAtOnce,
    "raises": Raises,
    "hangs": Hangs,
}


def specs_of(kinds: Sequence[str]) -> list[EpisodeSpec]:
    return plan_groups([Task("stage", kind, index, 0) for index, kind in enumerate(kinds)], 1, seed=3)


def run(
    specs: Sequence[EpisodeSpec], *, concurrency: int = 64, limits: Limits = LIMITS, hangs: str = "never"
) -> tuple[list[Batch], list[str], list[tuple[Rollout, ...]]]:
    """The engine's log, the steps in the order in which they began, and the rollouts without their durations."""
    steps: list[str] = []
    engine = Engine(hangs)
    stage = Stage(lambda task: KINDS[task.split](task, steps, num_turns=1 + task.index % 4))
    cast = Cast(engine, {"user": engine})

    async def collected() -> list[tuple[Rollout, ...]]:
        return await collect(specs, stage, cast, limits, concurrency=concurrency)

    trees = perform(collected())
    assert not engine.live
    assert all(env.log.count("close") == 1 for env in stage.made)
    return engine.log, steps, [tuple(_timeless(rollout) for rollout in tree) for tree in trees]


def _timeless(rollout: Rollout) -> Rollout:
    turns = tuple(dataclasses.replace(turn, policy_s=0.0, env_s=0.0) for turn in rollout.turns)
    return dataclasses.replace(rollout, turns=turns, duration_s=0.0)


EASY = ["plain", "asks", "spawns", "plain", "asks", "both", "plain", "spawns", "asks", "plain", "both", "plain"]
HARD = ["plain", "raises", "spawns", "hangs", "asks", "raises", "both", "plain", "asks"]


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_the_same_calls_in_the_same_batches_whatever_the_jitter(concurrency: int) -> None:
    specs = specs_of(EASY)
    log, _, trees = run(specs, concurrency=concurrency)
    assert {rollout.status for tree in trees for rollout in tree} == {"completed"}
    assert max(rollout.depth for tree in trees for rollout in tree) == 2
    for _ in range(2):
        again, _, trees_again = run(specs, concurrency=concurrency)
        assert again == log
        assert trees_again == trees


@pytest.mark.parametrize("concurrency", [2, 64])
def test_also_when_episodes_fail_hang_or_are_truncated(concurrency: int) -> None:
    """The eighth meets its deadline within a round, `hangs` in a thread between two rounds."""
    kinds = [*HARD, "plain", "plain", "plain"]
    specs = specs_of(kinds)
    log, _, trees = run(specs, concurrency=concurrency, limits=SHORT, hangs="plain:7:0#0|agent")
    causes = {kind: tree[0].cause for kind, tree in zip(kinds, trees, strict=True)}
    assert causes["raises"] == "infrastructure"
    assert causes["hangs"] == "deadline"
    assert trees[7][0].cause == "deadline"
    again, _, trees_again = run(specs, concurrency=concurrency, limits=SHORT, hangs="plain:7:0#0|agent")
    assert again == log
    assert trees_again == trees


def test_truncated_episodes_leave_their_round() -> None:
    class Endless(Jittery):
        async def step(self, completion: Completion, host: Host) -> Observation:
            return dataclasses.replace(await super().step(completion, host), done=False)

    def logged() -> list[Batch]:
        engine = Engine()
        stage = Stage(lambda task: (Endless if task.index % 2 else Jittery)(task, [], 2))
        perform(collect(plan_groups([task(index) for index in range(4)], 1, 0), stage, Cast(engine), LIMITS))
        return engine.log

    log = logged()
    assert [len(batch) for batch in log] == [4, 4, 2, 2]
    assert logged() == log


def test_a_round_has_one_call_of_every_live_episode_sorted_by_id() -> None:
    log, _, _ = run(specs_of(["plain"] * 4))  # of 1, 2, 3 and 4 turns
    sessions = [[call.split()[0] for call in batch] for batch in log]
    names = [f"stage:plain:{index}:0#0|agent" for index in range(4)]
    assert sessions == [names, names[1:], names[2:], names[3:]]


def test_environments_step_in_the_order_of_ids() -> None:
    _, steps, _ = run(specs_of(["plain"] * 4))
    names = [f"stage:plain:{index}:0" for index in range(4)]
    assert steps == [*names, *names[1:], *names[2:], *names[3:]]


def test_the_order_in_which_episodes_are_given_does_not_matter_when_all_fit() -> None:
    specs = specs_of(EASY)
    log, steps, _ = run(specs)
    shuffled = random.Random(5).sample(specs, len(specs))
    again, steps_again, _ = run(shuffled)
    assert again == log
    assert sorted(steps_again) == sorted(steps)


def test_without_exact_order_nobody_waits_for_the_slowest() -> None:
    ended: list[int] = []

    class Slow(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await asyncio.sleep(0.25)
            return await super().step(completion, host)

    def collected(exact: bool) -> list[int]:
        ended.clear()
        stage = Stage(lambda task: Slow(2) if task.index == 0 else Chatter(4))
        cast = Cast(Voice())
        specs = plan_groups([task(index) for index in range(9)], 1, seed=0)
        started = time.perf_counter()
        perform(
            collect(
                specs,
                stage,
                cast,
                LIMITS,
                concurrency=3,
                exact=exact,
                on_finished=lambda tree: ended.append(round(1000 * (time.perf_counter() - started))),
            )
        )
        assert_freed(stage, cast)
        return list(ended)

    free = collected(exact=False)
    assert free[7] < 200, "eight quick episodes end while the slow one takes its first step"
    assert free[8] >= 500
    exact = collected(exact=True)
    assert exact[0] >= 450, "in rounds even the quick ones wait for two slow steps"


def test_one_episode_in_an_order_of_its_own() -> None:
    stage = Stage(lambda task: Chatter(3))
    cast = Cast(Voice())
    (rollout,) = perform(run_episode(EpisodeSpec(task()), stage, cast, LIMITS, ExactOrder()))
    assert rollout.status == "completed"
    assert_freed(stage, cast)


def test_two_runs_share_one_order() -> None:
    """`run_episode` enters and leaves it by itself, so rounds wait for both."""

    async def both() -> list[Batch]:
        order, engine = ExactOrder(), Engine()
        stage = Stage(lambda task: Jittery(task, [], 2))
        specs = plan_groups([task(0), task(1)], 1, seed=0)
        await asyncio.gather(*(run_episode(spec, stage, Cast(engine), LIMITS, order) for spec in specs))
        return engine.log

    assert [len(batch) for batch in perform(both())] == [2, 2]


def test_a_failing_answer_fails_its_own_call_only() -> None:
    def answer(request: SampleRequest) -> str:
        if ":1:" in request.session:
            raise ConnectionError("endpoint down")
        return "yes"

    stage = Stage()
    cast = Cast(Voice(answer))
    trees = perform(collect(plan_groups([task(index) for index in range(3)], 1, 0), stage, cast, LIMITS))
    assert [tree[0].status for tree in trees] == ["completed", "errored", "completed"]
    assert_freed(stage, cast)


def test_a_delivered_call_is_freed_without_the_garbage_collector() -> None:
    """A call holds a whole conversation; thousands of them waiting for the collector would cost memory and time."""
    answering: list[weakref.ref[asyncio.Task[Any]]] = []

    async def answer() -> str:
        task = asyncio.current_task()
        assert task is not None
        answering.append(weakref.ref(task))
        return "yes"

    async def main() -> None:
        order = ExactOrder()
        order.enter()
        for index in range(3):
            assert await order.call(("one", "agent", index), answer) == "yes"
            await asyncio.sleep(0)  # the loop itself holds what it has just run
            assert answering[index]() is None
        order.leave()

    was_on = gc.isenabled()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        if was_on:
            gc.enable()


def test_waiting_for_a_round_is_not_an_environments_own_time() -> None:
    """Else every episode that asks a user would die of somebody else's slow tool."""

    class SlowOnce(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await asyncio.sleep(0.2)
            return await super().step(completion, host)

    class Asking(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            for _ in range(3):
                await host.ask("user", [Message("user", "well?")])
            return await super().step(completion, host)

    stage = Stage(lambda task: Asking() if task.index == 0 else SlowOnce(4))
    cast = Cast(Voice(), {"user": Voice()})
    trees = perform(collect(plan_groups([task(0), task(1)], 1, 0), stage, cast, SHORT))
    assert [tree[0].status for tree in trees] == ["completed", "completed"], [tree[0].detail for tree in trees]
