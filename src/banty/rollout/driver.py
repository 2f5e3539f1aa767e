"""The one loop that runs episodes, of every environment, with every policy."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from banty.blocking import run_blocking
from banty.errors import (
    BudgetExhausted,
    DeadlineFault,
    EnvironmentFault,
    EpisodeFault,
    InputError,
    JudgeFault,
    PolicyFault,
    SimulatorFault,
)
from banty.records import (
    Budget,
    Completion,
    Env,
    EpisodeSpec,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Policy,
    Rollout,
    SampleRequest,
    SamplingParams,
    Task,
    Taskset,
    ToolSchema,
    Turn,
    derive,
    generator,
)
from banty.rollout.cast import Cast
from banty.rollout.deadlines import within
from banty.rollout.faults import Truncated, as_fault, expect, faulting, guarded
from banty.rollout.order import FreeOrder, Order

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass
class _Spent:
    """What the whole tree of one root has used so far."""

    tokens: int = 0
    children: int = 0
    cost_usd: float = 0.0


def id_of(spec: EpisodeSpec) -> str:
    """The id of the rollout that an episode becomes."""
    return spec.rollout_id or f"{spec.task.id}#{spec.trial}"


async def run_episode(
    spec: EpisodeSpec,
    taskset: Taskset,
    cast: Cast,
    limits: Limits | None = None,
    order: Order | None = None,
    *,
    slot_held: bool = False,
) -> tuple[Rollout, ...]:
    """The rollout of one episode, followed by those of all its descendants.

    What an environment, a policy, a user or a judge does ends up in the rollout's status and is never raised, but for
    the InputError of a policy that cannot be sampled as asked: that is a person's mistake and the run's end. A
    cancellation ends the episode and everything below it, frees what they hold, and propagates. With `slot_held` the
    caller has entered `order` for this episode and leaves it afterwards.
    """
    gate = order or FreeOrder()
    if not slot_held:
        gate.enter()
    try:
        return await _Episode(spec, taskset, cast, limits or Limits(), gate).run()
    finally:
        if not slot_held:
            gate.leave()


class _Episode:
    """One episode in progress; it is the Host its environment sees."""

    def __init__(
        self,
        spec: EpisodeSpec,
        taskset: Taskset,
        cast: Cast,
        limits: Limits,
        order: Order,
        parent: _Episode | None = None,
        call_index: int = 0,
    ) -> None:
        self.spec, self.taskset, self.cast, self.limits, self.order = spec, taskset, cast, limits, order
        self.task = spec.task
        self.rollout_id = id_of(spec)
        self.parent, self.call_index = parent, call_index
        self.depth: int = parent.depth + 1 if parent else 0
        self.root_id: str = parent.root_id if parent else self.rollout_id
        self.spent: _Spent = parent.spent if parent else _Spent()
        self.turns: list[Turn] = []
        self.descendants: list[Rollout] = []
        self.num_children = 0
        self._calls: dict[str, int] = {}
        self._children: set[asyncio.Task[tuple[Rollout, ...]]] = set()
        # In an exact order an episode makes one call, or runs one set of children, at a time.
        self._one_at_a_time = asyncio.Lock() if order.exact else contextlib.nullcontext()
        self._over = False
        self._num_away = 0
        self._away_since = 0.0
        self._away_s = 0.0
        self.deadline: float = min(
            asyncio.get_running_loop().time() + limits.episode_timeout_s, parent.deadline if parent else float("inf")
        )

    # What the environment may ask of its host.

    @property
    def budget(self) -> Budget:
        def left(cap: int | None, used: int) -> int | None:
            return None if cap is None else max(cap - used, 0)

        cost = self.limits.max_cost_usd
        return Budget(
            turns=left(self.limits.max_turns, sum(turn.actor == "agent" for turn in self.turns)),
            tokens=left(self.limits.max_tokens, self.spent.tokens),
            children=left(self.limits.max_children, self.spent.children) if self.depth < self.limits.max_depth else 0,
            cost_usd=None if cost is None else max(cost - self.spent.cost_usd, 0.0),
        )

    def rng(self, purpose: str, turn: int = 0) -> np.random.Generator:
        return generator(self.task.env_seed, purpose, turn)

    async def ask(self, role: str, messages: Sequence[Message]) -> Message:
        policy = self.cast.roles.get(role)
        if policy is None:
            placed = ", ".join(sorted(self.cast.roles)) or "nobody"
            raise InputError(f"the environment asks for a policy in the role {role!r}; this run placed {placed}")
        fault = {"user": SimulatorFault, "judge": JudgeFault}.get(role, PolicyFault)
        params = self.cast.role_params.get(role, SamplingParams())
        started = time.perf_counter()
        with self._away():
            completion = await self._sample(policy, role, tuple(messages), (), params, self.limits.ask_timeout_s, fault)
        policy_s = time.perf_counter() - started
        trainable = role in self.cast.trainable_roles
        self.turns.append(_turn(len(self.turns), role, completion, policy, policy_s, trainable, tuple(messages)))
        return completion.message

    async def spawn(self, tasks: Sequence[Task]) -> Sequence[Rollout]:
        if not tasks:
            return ()
        if self.depth >= self.limits.max_depth:
            raise BudgetExhausted("depth", f"depth {self.depth} may not spawn: max_depth is {self.limits.max_depth}")
        if self.spent.children + len(tasks) > self.limits.max_children:
            raise BudgetExhausted(
                "children",
                f"{len(tasks)} more children on top of {self.spent.children}; max_children is "
                f"{self.limits.max_children}",
            )
        self.spent.children += len(tasks)
        children = []
        for task in tasks:
            self.num_children += 1
            spec = EpisodeSpec(
                task,
                trial=self.spec.trial,
                sampler_seed=derive(self.spec.sampler_seed, "child", self.num_children),
                group_id=self.spec.group_id or self.task.id,
                rollout_id=f"{self.rollout_id}/{self.num_children}",
            )
            children.append(
                _Episode(spec, self.taskset, self.cast, self.limits, self.order, self, self.num_children - 1)
            )
        with self._away():
            async with self._one_at_a_time:
                return await self._run_children(children)

    async def _run_children(self, children: Sequence[_Episode]) -> Sequence[Rollout]:
        # The parent lends its slot to its children and gets it back from the last of them, so that no round of an
        # exact order can slip in between the last child's end and the parent's next call.
        self.order.enter(len(children) - 1)
        unfinished = len(children)

        async def run(child: _Episode) -> tuple[Rollout, ...]:
            nonlocal unfinished
            try:
                return await child.run()
            finally:
                unfinished -= 1
                if unfinished:
                    self.order.leave()

        running: list[asyncio.Task[tuple[Rollout, ...]]] = []
        try:
            async with asyncio.TaskGroup() as group:
                running += [group.create_task(run(child)) for child in children]
                self._children.update(running)
        finally:
            for _ in range(unfinished - 1):  # of children cancelled before their first step
                self.order.leave()
            self._children.difference_update(running)
            results = [task.result() for task in running if task.done() and not task.cancelled()]
            self.descendants.extend(rollout for tree in results for rollout in tree)
        return tuple(tree[0] for tree in results)

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        """The environment waits for others: seconds that do not count as its own."""
        if self._over:
            raise DeadlineFault(f"{self.rollout_id} is over; its host answers no more")
        now = asyncio.get_running_loop().time
        if self._num_away == 0:
            self._away_since = now()
        self._num_away += 1
        try:
            yield
        finally:
            self._num_away -= 1
            if self._num_away == 0:
                self._away_s += now() - self._away_since

    def _time_away(self) -> float:
        current = asyncio.get_running_loop().time() - self._away_since if self._num_away else 0.0
        return self._away_s + current

    # The loop.

    async def run(self) -> tuple[Rollout, ...]:
        started = time.perf_counter()
        env: Env | None = None
        record: dict[str, Any] = {"status": "completed"}
        try:
            # On the event loop: an environment made on a thread while its episode is cancelled would never be closed.
            env = guarded(lambda: self.taskset.episode(self.task), EnvironmentFault, "making the environment")
            await self._play(env, record)
        except Truncated as reached:
            record |= {"status": "truncated", "cause": reached.cause, "detail": str(reached)}
        except EpisodeFault as fault:
            record |= {"status": "errored", "cause": fault.cause, "detail": str(fault)}
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - such as an observation whose messages are None
            broken = as_fault(error, EnvironmentFault, "reading what the environment gave")
            record |= {"status": "errored", "cause": broken.cause, "detail": str(broken)}
        finally:
            await self._close(env)
        if record["status"] == "errored":
            record.pop("outcome", None)
        rollout = Rollout(
            rollout_id=self.rollout_id,
            task=self.task,
            turns=tuple(self.turns),
            group_id=self.spec.group_id or self.task.id,
            trial=self.spec.trial,
            seed=self.spec.sampler_seed,
            policy=self.cast.agent.name,
            version=max((turn.version for turn in self.turns if turn.actor == "agent"), default=0),
            root_id=self.root_id,
            parent_id=self.parent.rollout_id if self.parent else "",
            depth=self.depth,
            call_index=self.call_index,
            duration_s=time.perf_counter() - started,
            **record,
        )
        return (rollout, *self.descendants)

    async def _play(self, env: Env, record: dict[str, Any]) -> None:
        failures = 0
        done = False
        try:
            what = "starting the environment"
            opening = expect(await self._environment(partial(env.start, self), what), Opening)
            record |= {"opening": opening.messages, "tools": opening.tools}
            messages = list(opening.messages)
            while not done:
                self._check_budget()
                completion, policy_s = await self._agent(tuple(messages), opening.tools)
                index = len(self.turns)
                self.turns.append(_turn(index, "agent", completion, self.cast.agent, policy_s, trainable=True))
                started = time.perf_counter()
                what = f"turn {index} of the environment"
                seen = expect(await self._environment(partial(env.step, completion, self), what), Observation)
                self.turns[index] = _with_observation(self.turns[index], seen, time.perf_counter() - started)
                messages += [completion.message, *seen.messages]
                failures = failures + 1 if seen.calls and all(call.error for call in seen.calls) else 0
                done = seen.done
                if not done and failures >= self.limits.max_consecutive_errors:
                    raise Truncated("errors", f"{failures} turns in a row in which every call failed")
        except BudgetExhausted as spent:
            record["outcome"] = await self._outcome(env)
            raise Truncated("budget", str(spent)) from None
        except Truncated:
            record["outcome"] = await self._outcome(env)
            raise
        record["outcome"] = await self._outcome(env)

    def _check_budget(self) -> None:
        left = self.budget
        if left.turns == 0:
            raise Truncated("turns", f"the cap of {self.limits.max_turns} turns is reached")
        if left.tokens == 0:
            raise Truncated("tokens", f"the cap of {self.limits.max_tokens} sampled tokens is reached")
        if left.cost_usd == 0:
            raise Truncated("cost", f"the cap of ${self.limits.max_cost_usd:g} is reached")

    async def _agent(self, messages: tuple[Message, ...], tools: tuple[ToolSchema, ...]) -> tuple[Completion, float]:
        params = self.cast.params
        left = self.budget.tokens
        if left is not None:
            params = dataclasses.replace(params, max_tokens=min(left, params.max_tokens or left))
        started = time.perf_counter()
        completion = await self._sample(
            self.cast.agent, "agent", messages, tools, params, self.limits.policy_timeout_s, PolicyFault
        )
        return completion, time.perf_counter() - started

    async def _sample(
        self,
        policy: Policy,
        actor: str,
        messages: tuple[Message, ...],
        tools: tuple[ToolSchema, ...],
        params: SamplingParams,
        limit_s: float,
        fault: type[EpisodeFault],
    ) -> Completion:
        index = self._calls[actor] = self._calls.get(actor, -1) + 1
        if params.seed is None:
            params = dataclasses.replace(params, seed=derive(self.spec.sampler_seed, "sample", actor, index))
        request = SampleRequest(messages, tools, f"{self.rollout_id}|{actor}", params, gate=self.order.gate)
        what = f"answer {index} of the {actor}"
        key = (self.rollout_id, actor, index)

        async def answer() -> Completion:
            limit = self._limit(limit_s)
            most_s = self.deadline - asyncio.get_running_loop().time() - limit  # the episode's deadline stays
            try:
                held_s = partial(self.order.held_s, key)
                given = await within(policy.sample(request), limit, what, lambda: min(held_s(), most_s))
            except PolicyFault as failed:
                raise fault(str(failed)) from failed
            return expect(given, Completion)

        async with self._one_at_a_time:
            if self._over:  # it waited behind another call while the episode ended
                raise DeadlineFault(f"{self.rollout_id} is over; its host answers no more")
            try:
                completion = await faulting(self.order.call(key, answer), fault, what)
            except EpisodeFault as failed:
                if isinstance(failed.__cause__, InputError):
                    raise failed.__cause__ from None  # a person's mistake, the same in every episode
                raise
        if actor == "agent":  # a talkative user or judge does not use up what the agent may say
            self.spent.tokens += completion.sampled_tokens
        self.spent.cost_usd += completion.cost_usd
        return completion

    async def _environment(self, call: Callable[[], Coroutine[Any, Any, Result]], what: str) -> Result:
        async def called() -> Result:
            return await call()

        limited = within(called(), self._limit(self.limits.step_timeout_s), what, self._time_away)
        return await faulting(limited, EnvironmentFault, what)

    def _limit(self, limit_s: float) -> float:
        return min(limit_s, self.deadline - asyncio.get_running_loop().time())

    async def _outcome(self, env: Env) -> Outcome:
        what = "scoring the episode"
        try:
            scored = await within(run_blocking(env.outcome), self._limit(self.limits.step_timeout_s), what)
        except EpisodeFault:
            raise
        except Exception as error:
            # The words of an error of the verdict may hold the right answer, and this text is stored.
            _log.debug("%s of %s failed", what, self.rollout_id, exc_info=error)
            raise EnvironmentFault(f"{what} failed: {type(error).__name__}") from error
        return guarded(lambda: expect(scored, Outcome), EnvironmentFault, what)

    async def _close(self, env: Env | None) -> None:
        """Free everything the episode holds. A cancellation in the middle of it waits until that is done."""
        self._over = True
        freeing = asyncio.ensure_future(self._free(env))
        cancelled: asyncio.CancelledError | None = None
        while not freeing.done():
            try:
                await asyncio.wait({freeing})
            except asyncio.CancelledError as cancellation:
                cancelled = cancellation
        if cancelled is not None:
            raise cancelled
        freeing.result()

    async def _free(self, env: Env | None) -> None:
        """End the children, release engine sessions, close the environment; a failure is logged, the rollout stands."""
        for child in self._children:
            if not child.cancelling():
                child.cancel()
        if self._children:
            await asyncio.wait(self._children)
        players = {"agent": self.cast.agent, **self.cast.roles}
        endings: list[tuple[Callable[[], Coroutine[Any, Any, None]], str]] = [
            (partial(players[actor].release, f"{self.rollout_id}|{actor}"), f"releasing the {actor}'s session")
            for actor in sorted({"agent", *self._calls})
        ]
        if env is not None:
            endings.append((env.close, "closing the environment"))
        for end, what in endings:
            try:
                await within(end(), self.limits.close_timeout_s, what)
            except Exception as error:  # noqa: BLE001 - whatever it is, the rollout stands
                _log.warning("%s of %s failed: %r", what, self.rollout_id, error)


def _turn(
    index: int,
    actor: str,
    completion: Completion,
    policy: Policy,
    policy_s: float,
    trainable: bool,
    request: tuple[Message, ...] = (),
) -> Turn:
    return Turn(
        index=index,
        actor=actor,
        message=completion.message,
        trainable=trainable,
        request=request,
        segment=completion.segment,
        policy=f"{policy.name}, served {completion.served}" if completion.served else policy.name,
        version=completion.version,
        finish=completion.finish,
        prompt_tokens=completion.prompt_tokens,
        sampled_tokens=completion.sampled_tokens,
        cost_usd=completion.cost_usd,
        policy_s=policy_s,
    )


def _with_observation(turn: Turn, seen: Observation, env_s: float) -> Turn:
    return dataclasses.replace(
        turn,
        observation=seen.messages,
        calls=seen.calls,
        state_before=seen.state_before,
        state_after=seen.state_after,
        env_s=env_s,
    )
