"""A cancelled run ends everything below it, frees what was held, leaves nothing behind, and says so."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.rollout.puppets import (
    QUICK,
    Bench,
    Chatter,
    Stage,
    Voice,
    assert_freed,
    assert_nothing_pending,
    calling,
    perform,
    task,
)

from banty.errors import InputError, StoreError
from banty.records import (
    Completion,
    EpisodeSpec,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Rollout,
    SampleRequest,
    Task,
)
from banty.rollout import Cast, collect, plan_groups, run_episode

PATIENT = Limits(max_depth=2, close_timeout_s=1.0)
"""Limits under which nothing but a cancellation ends what hangs."""


async def never() -> str:
    await asyncio.sleep(60)
    return "yes"


async def tidy() -> str:
    """Takes a while to give up, as an engine that has to drop a sequence."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
    return "yes"


class StartHangs(Chatter):
    async def start(self, host: Host) -> Opening:
        await asyncio.sleep(60)
        raise AssertionError


class StepHangs(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        await asyncio.sleep(60)
        raise AssertionError


class Asking(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        await host.ask("user", [Message("user", "well?")])
        return await super().step(completion, host)


class Spawning(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        await host.spawn([Task("stage", "test", 50 + place, 0) for place in range(3)])
        return await super().step(completion, host)


Case = tuple[Callable[[Task], Any], Callable[[SampleRequest], Any], Callable[[SampleRequest], Any]]

CASES: dict[str, Case] = {
    "start": (lambda task: StartHangs(), lambda request: "yes", lambda request: "yes"),
    "policy": (lambda task: Chatter(), lambda request: never(), lambda request: "yes"),
    "tidy policy": (lambda task: Chatter(), lambda request: tidy(), lambda request: "yes"),
    "one of the policies": (
        lambda task: Chatter(),
        lambda request: never() if ":3:" in request.session else "yes",
        lambda request: "yes",
    ),
    "step": (lambda task: StepHangs(), lambda request: "yes", lambda request: "yes"),
    "thread": (lambda task: Bench(), lambda request: calling("hang"), lambda request: "yes"),
    "tool": (lambda task: Bench(), lambda request: calling("linger"), lambda request: "yes"),
    "user": (lambda task: Asking(), lambda request: "yes", lambda request: never()),
    "tidy user": (lambda task: Asking(), lambda request: "yes", lambda request: tidy()),
    "child's policy": (
        lambda task: Chatter() if task.index >= 50 else Spawning(),
        lambda request: never() if "/" in request.session else "yes",
        lambda request: "yes",
    ),
    "child's step": (
        lambda task: StepHangs() if task.index >= 50 else Spawning(),
        lambda request: "yes",
        lambda request: "yes",
    ),
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_cancelled_collection(case: str, exact: bool) -> None:
    make, agent, user = CASES[case]

    async def run() -> None:
        stage = Stage(make)
        cast = Cast(Voice(agent), {"user": Voice(user)})
        specs = plan_groups([task(index) for index in range(6)], 1, seed=0)
        running = asyncio.create_task(collect(specs, stage, cast, PATIENT, concurrency=4, exact=exact))
        await asyncio.sleep(0.1)
        assert not running.done()
        assert stage.made
        started = time.perf_counter()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert time.perf_counter() - started < 1.0
        assert_nothing_pending()
        assert_freed(stage, cast)

    perform(run())


@pytest.mark.parametrize("exact", [True, False])
def test_a_cancellation_at_any_moment(exact: bool) -> None:
    """After every number of event-loop ticks of two episodes that ask a user and spawn children, to their end."""

    class Both(Asking, Spawning):
        pass

    async def finished_after(num_ticks: int) -> bool:
        stage = Stage(lambda task: Chatter(1) if task.index >= 50 else Both(1))
        cast = Cast(Voice(), {"user": Voice()})
        specs = plan_groups([task(0), task(1)], 1, seed=0)
        running = asyncio.create_task(collect(specs, stage, cast, PATIENT, exact=exact))
        for _ in range(num_ticks):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        assert_nothing_pending()
        assert_freed(stage, cast)
        return not running.cancelled()

    num_ticks = 0
    while not perform(finished_after(num_ticks)):
        num_ticks += 1
    assert num_ticks > 40


class SlowToClose(Chatter):
    async def close(self) -> None:
        self.log.append("closing")
        await asyncio.sleep(0.2)
        await super().close()


class SlowToRelease(Voice):
    async def release(self, session: str) -> None:
        await asyncio.sleep(0.2)
        await super().release(session)


@pytest.mark.parametrize("delays", [(0.1,), (0.3,), (0.1, 0.1), (0.1, 0.1, 0.1)])
def test_a_cancellation_while_closing_lets_the_closing_finish(delays: tuple[float, ...]) -> None:
    """Also a second and a third one: the session comes first (0.2 s), then the environment (0.2 s)."""

    async def run() -> None:
        stage = Stage(lambda task: SlowToClose(1))
        cast = Cast(SlowToRelease())
        running = asyncio.create_task(run_episode(EpisodeSpec(task()), stage, cast, PATIENT))
        for delay in delays:
            await asyncio.sleep(delay)
            running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert_nothing_pending()
        assert_freed(stage, cast)

    perform(run())


def test_a_timeout_around_an_episode_is_a_cancellation() -> None:
    async def run() -> None:
        stage = Stage(lambda task: StepHangs())
        cast = Cast(Voice())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run_episode(EpisodeSpec(task()), stage, cast, PATIENT), 0.1)
        assert_freed(stage, cast)

    perform(run())


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("error", [StoreError(errno.ENOSPC, "disk full"), ValueError("a bug"), KeyError("x")])
def test_an_exception_of_on_finished_ends_the_collection(exact: bool, error: Exception) -> None:
    def answer(request: SampleRequest) -> Any:
        return "yes" if ":0:" in request.session or exact else never()

    async def run() -> None:
        stage = Stage(lambda task: Chatter(1 if task.index == 0 else 100))
        cast = Cast(Voice(answer))
        finished: list[str] = []

        def on_finished(tree: tuple[Rollout, ...]) -> None:
            finished.append(tree[0].rollout_id)
            raise error

        specs = plan_groups([task(index) for index in range(8)], 1, seed=0)
        with pytest.raises(type(error)) as caught:
            await collect(specs, stage, cast, PATIENT, concurrency=4, exact=exact, on_finished=on_finished)
        assert caught.value is error
        assert finished == ["stage:test:0:0#0"]
        assert len(stage.made) == 4, "nothing new is begun"
        assert_nothing_pending()
        assert_freed(stage, cast)

    perform(run())


def test_the_reason_of_such_an_exception_is_kept() -> None:
    def on_finished(tree: tuple[Rollout, ...]) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise StoreError("could not write") from error

    with pytest.raises(StoreError) as caught:
        perform(collect(plan_groups([task()], 1, 0), Stage(), Cast(Voice()), QUICK, on_finished=on_finished))
    assert isinstance(caught.value.__cause__, OSError)


def test_on_finished_hears_of_each_episode_as_it_ends() -> None:
    async def answer(request: SampleRequest) -> str:
        await asyncio.sleep(0.05 * (4 - int(request.session.split(":")[2])))
        return "yes"

    heard: list[int] = []
    specs = plan_groups([task(index) for index in range(4)], 1, seed=0)
    trees = perform(
        collect(
            specs,
            Stage(lambda task: Chatter(1)),
            Cast(Voice(answer)),
            QUICK,
            exact=False,
            on_finished=lambda tree: heard.append(tree[0].task.index),
        )
    )
    assert heard == [3, 2, 1, 0]
    assert [tree[0].task.index for tree in trees] == [0, 1, 2, 3], "the result has the order of the specs"


def test_no_more_episodes_are_live_than_asked_for() -> None:
    live = most = 0

    class Counted(Chatter):
        async def start(self, host: Host) -> Opening:
            nonlocal live, most
            live += 1
            most = max(most, live)
            return await super().start(host)

        async def close(self) -> None:
            nonlocal live
            live -= 1
            await super().close()

    specs = plan_groups([task(index) for index in range(10)], 1, seed=0)
    perform(collect(specs, Stage(lambda task: Counted()), Cast(Voice()), QUICK, concurrency=3))
    assert most == 3


def test_what_a_collection_refuses() -> None:
    stage = Stage()
    cast = Cast(Voice())
    with pytest.raises(InputError, match="concurrency"):
        perform(collect([], stage, cast, concurrency=0))
    with pytest.raises(InputError, match="num_trials"):
        plan_groups([task()], 0, seed=0)
    with pytest.raises(InputError, match="stage:test:0:0#0"):
        perform(collect(plan_groups([task(), task()], 1, seed=0), stage, cast))
    with pytest.raises(InputError, match="stage:test:0:0#0"):
        perform(collect([EpisodeSpec(task()), EpisodeSpec(task())], stage, cast))
    assert stage.made == []
    assert perform(collect([], stage, cast)) == []


def test_a_tag_tells_two_collections_over_the_same_tasks_apart() -> None:
    first, second = plan_groups([task()], 2, 0, "step-1"), plan_groups([task()], 2, 0, "step-2")
    ids = {spec.rollout_id for spec in first + second}
    assert len(ids) == 4
    assert len({spec.sampler_seed for spec in first + second}) == 4
    assert {spec.group_id for spec in first} == {"step-1|stage:test:0:0"}
    trees = perform(collect(first + second, Stage(), Cast(Voice()), dataclasses.replace(QUICK)))
    assert [tree[0].rollout_id for tree in trees] == [spec.rollout_id for spec in first + second]
