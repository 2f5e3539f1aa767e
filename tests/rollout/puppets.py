"""Environments, tasksets and policies that do as a test tells them, and count what is done to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from banty.envs.baselines import do_nothing
from banty.envs.toolenv import ToolEnv, tool
from banty.errors import ToolError
from banty.records import (
    JSON,
    Baselines,
    Capability,
    Completion,
    Env,
    EpisodeSpec,
    Expert,
    Habit,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Rollout,
    SampleRequest,
    Task,
    TaskContent,
    ToolCall,
    ToolMatching,
)
from banty.rollout import Cast, run_episode

Result = TypeVar("Result")

QUICK = Limits(
    max_turns=5,
    policy_timeout_s=0.4,
    step_timeout_s=0.4,
    ask_timeout_s=0.4,
    episode_timeout_s=2.0,
    close_timeout_s=0.4,
)
"""Limits under which anything that hangs is found out within a second."""


def perform(coroutine: Coroutine[Any, Any, Result], limit_s: float = 3.0) -> Result:
    """Run a test's coroutine, and see to it that it leaves no task behind."""

    async def watched() -> Result:
        async with asyncio.timeout(limit_s):
            result = await coroutine
        assert_nothing_pending()
        return result

    return asyncio.run(watched())


def assert_nothing_pending() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still running: {left}"


class Chatter:
    """An environment that says "go on" until it has heard enough."""

    def __init__(self, num_turns: int = 2) -> None:
        self.num_turns = num_turns
        self.num_heard = 0
        self.log: list[str] = []

    async def start(self, host: Host) -> Opening:
        self.log.append("start")
        return Opening((Message("user", "hello"),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self.log.append("step")
        self.num_heard += 1
        return Observation((Message("user", "go on"),), done=self.num_heard >= self.num_turns)

    def outcome(self) -> Outcome:
        self.log.append("outcome")
        return Outcome(True, 1.0)

    async def close(self) -> None:
        self.log.append("close")


class Stage:
    """A taskset whose episodes a function makes; it keeps them to be asked about afterwards."""

    env = "stage"
    splits: Mapping[str, int] = {"test": 100}
    provenance: Mapping[str, JSON] = {}

    def __init__(self, make: Callable[[Task], Env] = lambda task: Chatter(), *roles: str) -> None:
        self._make = make
        self.roles = frozenset(roles)
        self.made: list[Any] = []

    def task(self, split: str, index: int, seed: int = 0) -> Task:
        return Task(self.env, split, index, seed)

    def episode(self, task: Task) -> Env:
        env = self._make(task)
        self.made.append(env)
        return env

    def baselines(self) -> Baselines:
        return Baselines(self, {"do-nothing": do_nothing()})

    def expert(self) -> Expert | None:
        return None

    def habits(self) -> Mapping[str, Habit]:
        return {}

    def golden(self, task: Task) -> Sequence[ToolCall] | None:
        return None

    def content(self, task: Task) -> TaskContent:
        return TaskContent()

    def matching(self) -> Mapping[str, ToolMatching]:
        return {}

    def fingerprint(self, split: str, num_tasks: int | None = None, seed: int = 0) -> str:
        return "0"


class Voice:
    """A policy that answers with a function, synchronous or not, and remembers who asked and what was released."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        answer: Callable[[SampleRequest], Any] = lambda request: "yes",
        *,
        name: str = "voice",
        tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> None:
        self.name = name
        self._answer = answer
        self._tokens = tokens
        self._cost_usd = cost_usd
        self.requests: list[SampleRequest] = []
        self.released: list[str] = []
        self.busy = 0

    async def sample(self, request: SampleRequest) -> Completion:
        assert request.session not in self.released, f"{request.session} was released already"
        self.requests.append(request)
        self.busy += 1
        try:
            answer = self._answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        finally:
            self.busy -= 1
        message = Message("assistant", answer) if isinstance(answer, str) else answer
        return Completion(message, sampled_tokens=self._tokens, cost_usd=self._cost_usd)

    async def release(self, session: str) -> None:
        self.released.append(session)


class Bench(ToolEnv):
    """A ToolEnv with a tool for every way to fail."""

    def __init__(self, num_turns: int = 2) -> None:
        self.num_turns = num_turns
        self.num_heard = 0
        self.log: list[str] = []

    @tool("read")
    def fine(self) -> str:
        """Works."""
        return "fine"

    @tool("read")
    def refuse(self) -> str:
        """Refuses."""
        raise ToolError("not like this")

    @tool("read", inline=True)
    def crash(self) -> str:
        """Fails."""
        raise ZeroDivisionError("the database is gone")

    @tool("read")
    def leave(self) -> str:
        """Tries to end the process."""
        raise SystemExit(3)

    @tool("read")
    def stop(self) -> str:
        """Raises what no future may hold."""
        raise StopIteration

    @tool("read")
    def hang(self) -> str:
        """Blocks its thread."""
        time.sleep(0.8)
        return "late"

    @tool("read")
    async def hang_softly(self) -> str:
        """Waits for ever."""
        await asyncio.sleep(60)
        return "late"

    @tool("read")
    async def linger(self) -> str:
        """Takes a cancellation for a reason to tidy up."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            self.log.append("tidied")
        return "late"

    async def start(self, host: Host) -> Opening:
        return self.opening(Message("user", "use a tool"))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self.num_heard += 1
        seen = await super().step(completion, host)
        return Observation(seen.messages, self.num_heard >= self.num_turns, seen.calls)

    async def reply(self, text: str, host: Host) -> Observation:
        return Observation((Message("user", "go on"),))

    def outcome(self) -> Outcome:
        self.log.append("outcome")
        return Outcome(True, 1.0)

    async def close(self) -> None:
        self.log.append("close")


def calling(*names: str) -> Message:
    return Message("assistant", calls=tuple(ToolCall(name, {}, id=f"c{place}") for place, name in enumerate(names)))


def task(index: int = 0) -> Task:
    return Task("stage", "test", index, 0)


async def play(stage: Stage, cast: Cast | None = None, limits: Limits = QUICK, index: int = 0) -> tuple[Rollout, ...]:
    """The tree of one episode, with all that it held asserted to be given back."""
    players = cast or Cast(Voice())
    tree = await run_episode(EpisodeSpec(task(index), rollout_id=f"r{index}"), stage, players, limits)
    assert_freed(stage, players)
    return tree


def assert_freed(stage: Stage, cast: Cast) -> None:
    """Every environment is closed exactly once; every session is released exactly once, its answer not in progress."""
    for env in stage.made:
        assert env.log.count("close") == 1, env.log
        assert env.log[-1] == "close", f"used after it was closed: {env.log}"
        assert env.log.count("outcome") <= 1, env.log
    for policy in {id(policy): policy for policy in [cast.agent, *cast.roles.values()]}.values():
        assert isinstance(policy, Voice)
        assert policy.busy == 0, "a session was released while its answer was in progress"
        asked = {request.session for request in policy.requests}
        assert asked <= set(policy.released), f"not released: {asked - set(policy.released)}"
        twice = [session for session, count in Counter(policy.released).items() if count > 1]
        assert not twice, f"released twice: {twice}"
