"""Engines that batch continuously, in an exact order: which sessions share a tick depends on ids and answers alone."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.rollout.puppets import Chatter, Stage, Voice, assert_nothing_pending, perform, task
from tests.rollout.test_exact_order import EASY, HARD, KINDS, LIMITS, Jittery, specs_of

from banty.blocking import run_blocking
from banty.records import (
    Capability,
    Completion,
    EpisodeSpec,
    Gate,
    Host,
    Limits,
    Message,
    Observation,
    Policy,
    Rollout,
    SampleRequest,
)
from banty.rollout import Cast, ExactOrder, collect, plan_groups, run_episode

SHORT = dataclasses.replace(LIMITS, policy_timeout_s=0.4, step_timeout_s=0.4, ask_timeout_s=0.4)
ROOMY = dataclasses.replace(LIMITS, policy_timeout_s=1.2, step_timeout_s=1.0, ask_timeout_s=1.2)
"""A busy machine makes nobody late who is not meant to be."""
REPEATS = 20

Tick = tuple[str, ...]
Length = Callable[[SampleRequest], int]


def drawn(request: SampleRequest) -> int:
    """An answer's length, from what would decide it in a model: the seed and the messages."""
    assert request.params.seed is not None
    return 1 + (request.params.seed + len(request.messages)) % 7


@dataclasses.dataclass
class Held:
    label: str
    left: int
    answer: asyncio.Future[None]


class Ticker:
    """A puppet of a batching engine: one tick brings every session one token further, those that are done are answered.

    `log` has, for each tick of all the engines that share it, the engine and its sessions in the order in which they
    were handed to it.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        name: str = "ticker",
        length: Length = drawn,
        log: list[Tick] | None = None,
        *,
        pace_s: float = 0.001,
        tick: Callable[[int], Coroutine[Any, Any, None]] | None = None,
        before: Callable[[str], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.name = name
        self._length = length
        self.log: list[Tick] = [] if log is None else log
        self._pace_s = pace_s
        self._tick = tick
        self._before = before
        self.held: dict[str, Held] = {}
        self.live: set[str] = set()
        self.gates: set[Gate | None] = set()
        self.num_ticks = 0
        self._pump: asyncio.Task[None] | None = None

    async def sample(self, request: SampleRequest) -> Completion:
        self.live.add(request.session)
        self.gates.add(request.gate)
        if self._before is not None:
            await self._before(request.session)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        label = f"{request.session} {request.params.seed} {len(request.messages)}"
        self.held[request.session] = Held(label, self._length(request), answer)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(request.gate))
        try:
            if request.gate is None:
                await answer
            else:
                await request.gate.parked(self.name, answer)
        except asyncio.CancelledError:
            self.held.pop(request.session, None)
            if not self.held and self._pump is not None:
                self._pump.cancel()
                self._pump = None
            raise
        await asyncio.sleep(random.uniform(0, self._pace_s))
        return Completion(Message("assistant", f"{label} by {self.name}"))

    async def _run(self, gate: Gate | None) -> None:
        try:
            while self.held:
                if gate is not None:
                    await gate.turn(self.name)
                batch = dict(self.held)
                self.log.append((self.name, *(f"{each.label} {each.left}" for each in batch.values())))
                self.num_ticks += 1
                if self._tick is not None:
                    await self._tick(self.num_ticks)
                pause_s = random.uniform(0, self._pace_s)
                await run_blocking(lambda pause_s=pause_s: time.sleep(pause_s))  # type: ignore[misc]
                for session, each in sorted(batch.items()):
                    each.left -= 1
                    if each.left == 0 and not each.answer.done():
                        del self.held[session]
                        each.answer.set_result(None)
        except Exception as error:  # noqa: BLE001 - of a tick, whose sessions it fails
            failed, self.held = self.held, {}
            for each in failed.values():
                each.answer.set_exception(error)
        finally:
            if self._pump is asyncio.current_task():
                self._pump = None

    async def release(self, session: str) -> None:
        self.live.discard(session)


class Hangs(Jittery):
    async def act(self, host: Host) -> None:
        if self.num_heard == 1:
            await run_blocking(lambda: time.sleep(2))


ALL_KINDS = {**KINDS, "hangs": Hangs}
PLAYERS: dict[str, Callable[[list[Tick]], dict[str, Policy]]] = {
    "one engine": lambda log: dict.fromkeys(("agent", "user"), Ticker(log=log)),
    "two engines": lambda log: {"agent": Ticker("zebra", log=log), "user": Ticker("ape", log=log)},
    "a scripted user": lambda log: {"agent": Ticker(log=log), "user": Voice()},
    "a scripted agent": lambda log: {"agent": Voice(), "user": Ticker(log=log)},
}

Run = tuple[list[Tick], list[tuple[Rollout, ...]]]


async def one_run(
    players: str, specs: Sequence[EpisodeSpec], concurrency: int, limits: Limits, hangs: str = "never"
) -> Run:
    """The log of the ticks, and the rollouts without their durations."""
    log: list[Tick] = []
    cast = PLAYERS[players](log)

    async def before(session: str) -> None:
        if hangs in session:
            await asyncio.sleep(60)

    engines = [policy for policy in cast.values() if isinstance(policy, Ticker)]
    for engine in engines:
        engine._before = before
    stage = Stage(lambda task: ALL_KINDS[task.split](task, [], num_turns=1 + task.index % 4))
    trees = await collect(specs, stage, Cast(cast["agent"], {"user": cast["user"]}), limits, concurrency=concurrency)
    assert not any(engine.held or engine.live for engine in engines)
    assert all(env.log.count("close") == 1 for env in stage.made)
    return log, [tuple(_timeless(rollout) for rollout in tree) for tree in trees]


def _timeless(rollout: Rollout) -> Rollout:
    turns = tuple(dataclasses.replace(turn, policy_s=0.0, env_s=0.0) for turn in rollout.turns)
    return dataclasses.replace(rollout, turns=turns, duration_s=0.0)


def repeated(num_at_once: int, make: Callable[[], Coroutine[Any, Any, Run]]) -> Run:
    """What `REPEATS` runs gave, all alike; several at once, so that they disturb each other's times."""

    async def several() -> list[Run]:
        return await asyncio.gather(*(make() for _ in range(num_at_once)))

    runs = [run for _ in range(REPEATS // num_at_once) for run in perform(several(), limit_s=30)]
    log, trees = runs[0]
    for log_again, trees_again in runs[1:]:
        assert log_again == log
        assert trees_again == trees
    return log, trees


@pytest.mark.parametrize(("players", "concurrency"), [*((players, 3) for players in PLAYERS), ("two engines", 64)])
def test_the_same_ticks_whatever_the_jitter(players: str, concurrency: int) -> None:
    log, trees = repeated(10, lambda: one_run(players, specs_of(EASY), concurrency, LIMITS))
    assert {rollout.status for tree in trees for rollout in tree} == {"completed"}
    assert max(rollout.depth for tree in trees for rollout in tree) == 2
    if concurrency == 64:
        assert len(log[0]) == 1 + len(EASY)
        assert list(log[0][1:]) == sorted(log[0][1:]), "handed over in the order of ids"


@pytest.mark.parametrize("players", ["one engine", "two engines", "a scripted user"])
def test_also_when_episodes_fail_or_hang(players: str) -> None:
    """The eighth meets its deadline on its way into the engine, `hangs` in a thread while the others are parked."""
    kinds = [*HARD, "plain", "plain"]
    specs = specs_of(kinds)
    log, trees = repeated(10, lambda: one_run(players, specs, 4, ROOMY, hangs="plain:7:0#0|agent"))
    assert log
    causes = {kind: tree[0].cause for kind, tree in zip(kinds, trees, strict=True)}
    assert causes["raises"] == "infrastructure"
    assert causes["hangs"] == "deadline"
    assert trees[7][0].cause == "deadline"
    assert {tree[0].status for tree in (trees[0], trees[4], *trees[8:])} == {"completed"}


def lengths(*tables: Sequence[int]) -> Length:
    """The lengths of the answers of each episode of `plan_groups`."""
    return lambda request: tables[int(request.session.split(":")[2])][len(request.messages) // 2]


def ticks_of(concurrency: int, tables: Sequence[Sequence[int]]) -> list[list[str]]:
    engine = Ticker(length=lengths(*tables))
    stage = Stage(lambda task: Jittery(task, [], len(tables[task.index])))
    specs = plan_groups([task(index) for index in range(len(tables))], 1, 0)
    perform(collect(specs, stage, Cast(engine), LIMITS, concurrency=concurrency))
    return [[label.split(":")[2] for label in labels] for _, *labels in engine.log]


def test_nobody_waits_for_the_longest_answer() -> None:
    """In rounds these would be 9 + 3 + 3 ticks."""
    ticks = ticks_of(64, [(9,), (1, 2, 3), (3, 3, 2)])
    assert len(ticks) == 9
    assert [sorted(tick) for tick in ticks] == [["0", "1", "2"]] * 6 + [["0", "2"]] * 2 + [["0"]]


def test_the_next_episode_begins_while_a_long_answer_is_sampled() -> None:
    ticks = ticks_of(2, [(10,), (2, 2), (3, 3)])
    assert [sorted(tick) for tick in ticks] == [["0", "1"]] * 4 + [["0", "2"]] * 6


def test_a_free_order_has_no_gate() -> None:
    engine, user = Ticker(), Ticker("user")
    stage = Stage(lambda task: KINDS[task.split](task, [], num_turns=1 + task.index % 4))
    specs = specs_of([kind for kind in EASY if kind != "both"])  # who asks twice at once, in one session
    trees = perform(collect(specs, stage, Cast(engine, {"user": user}), LIMITS, exact=False))
    assert {tree[0].status for tree in trees} == {"completed"}
    assert engine.gates == user.gates == {None}


@pytest.mark.parametrize("players", PLAYERS)
@pytest.mark.parametrize("after_s", [0.005, 0.015, 0.03, 0.06])
def test_a_cancelled_collection_leaves_nothing_behind(players: str, after_s: float) -> None:
    async def cancelled() -> None:
        running = asyncio.create_task(one_run(players, specs_of(["spawns", *EASY, *EASY[::-1]]), 5, LIMITS))
        await asyncio.sleep(after_s)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await settled()  # the puppets' pumps were cancelled
        assert_nothing_pending()

    perform(cancelled())


def test_a_tick_that_raises_fails_those_parked_in_it() -> None:
    async def second_fails(index: int) -> None:
        if index == 2:
            raise MemoryError("no memory left for the cache")

    engine = Ticker(length=lengths((1, 9), (9,), (1,), (1, 1)), tick=second_fails)
    stage = Stage(lambda task: Chatter(2 if task.index in {0, 3} else 1))
    specs = plan_groups([task(index) for index in range(4)], 1, 0)
    trees = perform(collect(specs, stage, Cast(engine), LIMITS, concurrency=3))
    assert [tree[0].status for tree in trees] == ["errored", "errored", "completed", "errored"]
    assert "no memory left" in trees[0][0].detail
    assert [len(tick) - 1 for tick in engine.log] == [3, 3]


def test_an_engine_that_never_answers_costs_its_own_episodes_only() -> None:
    """The user hangs in its tick with the one episode that asks it; the deadline of that one frees the turn."""

    async def hangs(index: int) -> None:
        await asyncio.sleep(60)

    class AsksFirst(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await host.ask("user", [Message("user", "well?")])
            return await super().step(completion, host)

    agent, user = Ticker("agent", lengths((1, 1, 1), (2, 2, 2))), Ticker("user", lambda request: 2, tick=hangs)
    stage = Stage(lambda task: AsksFirst() if task.index == 0 else Chatter(3))
    limits = dataclasses.replace(LIMITS, ask_timeout_s=0.2)
    trees = perform(
        collect(plan_groups([task(0), task(1)], 1, 0), stage, Cast(agent, {"user": user}), limits, concurrency=2)
    )
    assert [tree[0].cause for tree in trees] == ["deadline", ""]
    assert trees[1][0].status == "completed"


class Slow(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        await asyncio.sleep(0.25)
        return await super().step(completion, host)


def test_waiting_for_others_is_not_a_policys_own_time() -> None:
    """Else every long answer would die of the others' slow tools."""
    engine = Ticker(length=lengths((5,), (1, 1, 1)))
    stage = Stage(lambda task: Slow(3) if task.index == 1 else Chatter(1))
    trees = perform(collect(plan_groups([task(0), task(1)], 1, 0), stage, Cast(engine), SHORT))
    assert [tree[0].status for tree in trees] == ["completed", "completed"], [tree[0].detail for tree in trees]


def test_waiting_for_others_does_not_move_the_deadline_of_the_episode() -> None:
    async def both() -> list[tuple[Rollout, ...]]:
        order, engine = ExactOrder(), Ticker(length=lengths((5,), (1, 1, 1)))
        stage = Stage(lambda task: Slow(3) if task.index == 1 else Chatter(1))
        specs = plan_groups([task(0), task(1)], 1, 0)
        short = dataclasses.replace(LIMITS, episode_timeout_s=0.3)
        given = zip(specs, (short, LIMITS), strict=True)
        return await asyncio.gather(*(run_episode(spec, stage, Cast(engine), limits, order) for spec, limits in given))

    (first,), (second,) = perform(both())
    assert first.detail.startswith("answer 0 of the agent did not finish within")
    assert first.duration_s < 0.5, "and not when the others' three steps were over"
    assert second.status == "completed"


# The order by itself. A caller is a live slot; what it awaits is set by the test, which stands in for the engines.


async def settled() -> None:
    """All that can happen without the test has happened."""
    await asyncio.sleep(0.01)


class Caller:
    """One slot with one call, which parks in `engine`, or is answered by a policy that does not when that is None."""

    def __init__(self, order: ExactOrder, name: str, engine: str | None = "ape") -> None:
        self.order, self.name, self.engine = order, name, engine
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._started = False
        self.task: asyncio.Task[str] | None = None
        order.enter()

    def call(self, index: int = 0) -> Caller:
        self._started = False
        self.task = asyncio.create_task(self.order.call((self.name, "agent", index), self._sample))
        return self

    def has_started(self) -> bool:
        return self._started

    async def _sample(self) -> str:
        self._started = True
        if self.engine is None:
            return await self.answer
        return await self.order.parked(self.engine, self.answer)

    async def parked(self) -> Caller:
        self.call()
        await settled()
        return self

    @property
    def result(self) -> str:
        assert self.task is not None
        return self.task.result()

    def is_answered(self) -> bool:
        return self.task is not None and self.task.done()

    async def cancelled(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})
        assert self.task.cancelled()


def asking(order: ExactOrder, engine: str = "ape") -> asyncio.Task[None]:
    return asyncio.create_task(order.turn(engine))


async def ended(*turns: asyncio.Task[None]) -> None:
    """Cancel what is left of them, so that nothing is pending."""
    for turn in turns:
        turn.cancel()
    await asyncio.wait(turns)


def test_a_turn_waits_for_everybody() -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second, third = Caller(order, "a"), Caller(order, "b"), Caller(order, "c")
        turn = asking(order)
        for caller in (first, second):
            await caller.parked()
            assert not caller.has_started(), "a call waits for those elsewhere, parked or not"
            assert not turn.done()
        await third.parked()
        assert first.has_started()
        assert second.has_started()
        assert third.has_started()
        assert turn.done()
        for caller in (first, second, third):
            caller.answer.set_result("yes")
        await settled()

    perform(body())


def test_a_waiting_call_starts_beside_parked_ones() -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second = Caller(order, "a").call(), Caller(order, "b").call()
        await settled()
        turn = asking(order)
        await settled()
        first.answer.set_result("short")
        next_turn = asking(order)
        await settled()
        assert turn.done()
        assert not next_turn.done()
        assert first.result == "short"
        assert not second.is_answered()
        first.answer = asyncio.get_running_loop().create_future()
        first.call(1)
        await settled()
        assert first.has_started()
        assert next_turn.done()
        first.answer.set_result("yes")
        second.answer.set_result("yes")
        await settled()

    perform(body())


def test_who_was_answered_is_no_longer_parked_even_before_it_wakes_up() -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second = Caller(order, "a").call(), Caller(order, "b").call()
        await order.turn("ape")
        first.answer.set_result("yes")
        granted = asking(order)  # asked before the first caller runs again, as by an engine's loop
        await settled()
        assert not granted.done()
        order.leave()
        await settled()
        assert granted.done()
        second.answer.set_result("yes")
        await settled()

    perform(body())


def test_what_a_policy_does_after_the_engines_answer_is_elsewhere() -> None:
    async def body() -> None:
        order = ExactOrder()
        rest: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Thinks(Caller):
            async def _sample(self) -> str:
                said = await super()._sample()
                await rest
                return said

        thinker, other, third = Thinks(order, "a").call(), Caller(order, "b").call(), Caller(order, "c").call()
        await order.turn("ape")
        thinker.answer.set_result("yes")
        other.answer.set_result("yes")
        turn = asking(order)
        await settled()
        assert not other.is_answered(), "they are delivered together"
        rest.set_result(None)
        await settled()
        assert (thinker.result, other.result) == ("yes", "yes")
        order.leave()
        assert not turn.done()
        order.leave()
        await settled()
        assert turn.done()
        third.answer.set_result("yes")
        await settled()

    perform(body())


def test_results_are_delivered_in_the_order_of_keys() -> None:
    async def body() -> list[str]:
        order = ExactOrder()
        woken: list[str] = []
        callers = [Caller(order, name, engine).call() for name, engine in (("c", "ape"), ("b", None), ("a", "ape"))]

        async def watched(caller: Caller) -> None:
            assert caller.task is not None
            await caller.task
            woken.append(caller.name)

        watching = [asyncio.create_task(watched(caller)) for caller in callers]
        await settled()
        for caller in callers:  # one after the other: the first is kept until the second is not being answered any more
            caller.answer.set_result("yes")
            await settled()
        await asyncio.wait(watching)
        return woken

    assert perform(body()) == ["b", "c", "a"]


def test_engines_take_turns_in_the_order_of_their_names_however_late_they_ask() -> None:
    async def body() -> None:
        order = ExactOrder()
        callers = [Caller(order, name, engine).call() for name, engine in (("a", "cat"), ("b", "bee"), ("c", "ape"))]
        await settled()
        turns = {engine: asking(order, engine) for engine in ("cat", "bee")}
        await settled()
        assert not any(turn.done() for turn in turns.values()), "the first in turn has not asked yet"
        turns["ape"] = asking(order, "ape")
        await settled()
        assert [engine for engine, turn in turns.items() if turn.done()] == ["ape"], "one at a time"
        for engine, follower in (("ape", "bee"), ("bee", "cat"), ("cat", "ape"), ("ape", "bee")):
            turns[engine] = asking(order, engine)
            await settled()
            assert [name for name, turn in turns.items() if turn.done()] == [follower]
        callers[1].answer.set_result("yes")  # the bee has its turn, holds nothing any more and does not ask again
        await settled()
        assert not turns["cat"].done()
        order.leave()
        await settled()
        assert turns["cat"].done()
        assert not turns["ape"].done()
        turns["cat"] = asking(order, "cat")
        await settled()
        assert turns["ape"].done(), "the bee, which holds nothing, is not waited for"
        await ended(*turns.values())
        for caller in callers:
            if not caller.answer.done():
                caller.answer.set_result("yes")
        await settled()

    perform(body())


@pytest.mark.parametrize("engine", ["ape", None])
def test_a_cancelled_call_is_neither_parked_nor_waiting(engine: str | None) -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second, third = (Caller(order, name, "ape") for name in "abc")
        await first.parked()
        await first.cancelled()
        await second.parked()
        await third.parked()
        assert not second.has_started(), "the cancelled one did not leave and does not wait any more"
        first.engine = engine
        first.call(1)
        await settled()
        assert first.has_started()
        assert second.has_started()
        await first.cancelled()
        assert first.answer.cancelled()
        turn = asking(order)
        await settled()
        assert not turn.done(), "the cancelled one did not leave and is not parked any more"
        order.leave()
        await settled()
        assert turn.done()
        second.answer.set_result("yes")
        third.answer.set_result("yes")
        await settled()

    perform(body())


def test_a_call_cancelled_just_before_a_release_is_not_part_of_it() -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second = Caller(order, "a"), Caller(order, "b")
        order.enter()
        await first.parked()
        await second.parked()
        assert first.task is not None
        first.task.cancel()
        order.leave()  # before the first, which may go on elsewhere, knows that it was cancelled
        await settled()
        assert not first.has_started()
        assert not second.has_started()
        order.leave()
        await settled()
        assert second.has_started()
        second.answer.set_result("yes")
        await settled()

    perform(body())


def test_a_call_may_park_more_than_once_and_is_elsewhere_in_between() -> None:
    async def body() -> None:
        order = ExactOrder()
        between: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class ParksTwice(Caller):
            async def _sample(self) -> str:
                said = await super()._sample()
                await between
                self.answer = asyncio.get_running_loop().create_future()
                return said + await super()._sample()

        twice, other = ParksTwice(order, "a", "bee").call(), Caller(order, "b").call()
        await order.turn("ape")
        twice.answer.set_result("yes")
        await asyncio.sleep(0.1)
        own_s, others_s = (order.held_s((name, "agent", 0)) for name in "ab")
        assert others_s - own_s > 0.08, "only the other stood still meanwhile"
        turn = asking(order, "bee")
        await settled()
        assert not turn.done()
        between.set_result(None)
        await settled()
        assert not turn.done(), "the ape has not asked again"
        other.answer.set_result("yes")
        order.leave()
        await settled()
        assert turn.done()
        twice.answer.set_result(" and no")
        await settled()
        assert twice.result == "yes and no"

    perform(body())


def test_a_call_is_answered_in_its_callers_context() -> None:
    """Not in that of whoever happened to call last."""
    speaker: contextvars.ContextVar[str] = contextvars.ContextVar("speaker")

    async def body() -> list[str]:
        order = ExactOrder()
        order.enter(3)

        async def answer() -> str:
            return speaker.get()

        async def calling(name: str) -> str:
            speaker.set(name)
            return await order.call((name, "agent", 0), answer)

        return await asyncio.gather(*(calling(name) for name in "abc"))

    assert perform(body()) == ["a", "b", "c"]


def test_a_call_being_cancelled_is_not_parked_while_it_tidies_up() -> None:
    async def body() -> None:
        order = ExactOrder()
        tidied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Tidies(Caller):
            async def _sample(self) -> str:
                inner = asyncio.create_task(super()._sample())
                try:
                    return await asyncio.shield(inner)
                finally:
                    await tidied
                    inner.cancel()

        tidies, other = Tidies(order, "a").call(), Caller(order, "b").call()
        await settled()
        assert tidies.task is not None
        tidies.task.cancel()
        turn = asking(order)
        await settled()
        assert not tidies.answer.done()
        assert not turn.done()
        tidied.set_result(None)
        await settled()
        assert tidies.task.cancelled()
        assert not turn.done()
        order.leave()
        await settled()
        assert turn.done()
        other.answer.set_result("yes")
        await settled()

    perform(body())


def test_a_call_deaf_to_its_cancellation_holds_nobody_up_for_ever() -> None:
    """A caller cancelled once more, as by a second Ctrl-C, does not wait for it any longer."""

    async def body() -> None:
        order = ExactOrder()
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Deaf(Caller):
            async def _sample(self) -> str:
                try:
                    return await super()._sample()
                except asyncio.CancelledError:
                    await heard
                    return "late"

        deaf, other, quick = Deaf(order, "a").call(), Caller(order, "b").call(), Caller(order, "c", None).call()
        await settled()
        assert deaf.task is not None
        deaf.task.cancel()
        quick.answer.set_result("yes")
        await settled()
        assert not deaf.is_answered()
        assert not quick.is_answered()
        await deaf.cancelled()
        await settled()
        assert quick.is_answered()
        order.leave()
        turn = asking(order)
        await settled()
        assert not turn.done()
        order.leave()
        await settled()
        assert turn.done()
        heard.set_result(None)
        other.answer.set_result("yes")
        await settled()

    perform(body())


def test_a_call_that_goes_on_after_its_end_is_not_counted() -> None:
    """As one does that `within` left behind, parked and deaf to its cancellation."""

    async def body() -> None:
        order = ExactOrder()
        inner: list[asyncio.Task[str]] = []

        class LeavesBehind(Caller):
            async def _sample(self) -> str:
                inner.append(asyncio.create_task(super()._sample()))
                await asyncio.sleep(0.02)
                raise TimeoutError

        late, other = LeavesBehind(order, "a").call(), Caller(order, "b").call()
        await asyncio.wait({late.task} if late.task else ())
        turn = asking(order)
        await settled()
        assert not turn.done()
        assert not inner[0].done()
        order.leave()
        await settled()
        assert turn.done()
        late.answer.set_result("late")
        other.answer.set_result("yes")
        assert await inner[0] == "late"
        await settled()
        assert late.task is not None
        assert isinstance(late.task.exception(), TimeoutError)

    perform(body())


def test_a_turn_may_be_given_up_before_or_after_it_is_given() -> None:
    async def body() -> None:
        order = ExactOrder()
        first, second = Caller(order, "a"), Caller(order, "b", "bee")
        await ended(asking(order))
        await first.parked()
        turn = asking(order)
        await settled()
        await ended(turn)
        await second.parked()
        bee = asking(order, "bee")
        await settled()
        assert first.has_started()
        assert not bee.done(), "the ape's pump is gone, but it holds a call and will ask again"
        turn = asking(order)
        turn.cancel()
        await asyncio.wait({turn})
        given = asking(order)
        asyncio.get_running_loop().call_soon(given.cancel)
        await asyncio.wait({given})
        assert given.cancelled()
        assert not bee.done()
        again = asking(order)
        await settled()
        assert bee.done()
        assert not again.done()
        await ended(again)
        first.answer.set_result("yes")
        second.answer.set_result("yes")
        await settled()

    perform(body())


def test_an_engine_whose_last_call_was_cancelled_is_let_go_when_nobody_is_left() -> None:
    """Else its pump would wait for ever in an order that is over, deaf to the calls of the next one."""

    async def body() -> None:
        order = ExactOrder()
        caller = await Caller(order, "a").parked()
        await order.turn("ape")
        await caller.cancelled()
        turn = asking(order)
        await settled()
        assert not turn.done()
        order.leave()
        await settled()
        assert turn.done()

    perform(body())


def test_only_a_future_can_be_parked() -> None:
    """A coroutine would end some time after the engine answered, with the next turn given in between."""

    async def body() -> None:
        order = ExactOrder()
        caller = Caller(order, "a")

        async def said() -> str:
            return "yes"

        waiting = said()
        with pytest.raises(TypeError, match="only a future"):
            await order.call(("a", "agent", 0), lambda: order.parked("ape", waiting))
        waiting.close()
        await caller.parked()
        caller.answer.set_result("yes")
        await settled()

    perform(body())


def test_children_park_in_the_slot_their_parent_lends_them() -> None:
    async def body() -> None:
        order = ExactOrder()
        parent, other = Caller(order, "p"), Caller(order, "q").call()
        first, second = Caller(order, "p/1"), Caller(order, "p/2")
        order.leave()  # two children in the parent's slot and one more
        first.call()
        turn = asking(order)
        await settled()
        assert not first.has_started()
        await second.parked()
        assert first.has_started()
        assert turn.done()
        first.answer.set_result("yes")
        turn = asking(order)
        await settled()
        order.leave()
        await settled()
        assert turn.done()
        second.answer.set_result("yes")
        turn = asking(order)
        await settled()
        assert not turn.done(), "the last child's slot is the parent's again, who is elsewhere"
        await parent.parked()
        assert parent.has_started()
        assert turn.done()
        parent.answer.set_result("yes")
        other.answer.set_result("yes")
        await settled()

    perform(body())
