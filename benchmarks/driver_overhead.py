"""What the driver adds to an engine of known latency: 64 live episodes of 6 turns, tools that cost nothing.

    PYTHONPATH=. python benchmarks/driver_overhead.py
    PYTHONPATH=. python benchmarks/driver_overhead.py --latencies 0.25 --repetitions 9

The engine is a script that waits: under the exact order as the local engine does (40 ticks an answer, each of which
blocks the event loop), with answers all of one length or of half to one and a half of it, and free-running as a remote
endpoint does (each request sleeps by itself). The ideal is what the waits alone sum to; overhead is what the wall clock
has beyond it, as a share of it. Beside them, the same endpoint and episodes in bare loops without a driver. The ways
take turns within each repetition. Then processor time a turn without any wait, and what a training step does with the
rollouts.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from banty.credit import CreditSpec, estimator_of
from banty.envs import Tasks, ToolEnv, tool
from banty.records import (
    Capability,
    Completion,
    Env,
    EpisodeSpec,
    Gate,
    Host,
    Message,
    Opening,
    Outcome,
    Policy,
    Rollout,
    SampleRequest,
    Segment,
    Task,
    Taskset,
    ToolCall,
)
from banty.rollout import Cast, Store, collect, group_rollouts, plan_groups
from banty.train.rl import credit_groups

NUM_TURNS = 6
TRIALS = 8
"""Rollouts a task, as in a training step."""
TOKENS = 40
"""Tokens, and so ticks, an answer."""
PROMPT_TOKENS, REPLY_TOKENS = 300, 60
SPIN_S = 0.0005
"""A sleep may oversleep by this much; the rest of a wait is spun."""
OPENING = (Message("system", "You run errands. Look things up, then finish."), Message("user", "Look up five things."))


class Errands(ToolEnv):
    """Look-ups that know the answer at once, and an end."""

    def __init__(self) -> None:
        self.looked = 0

    async def start(self, host: Host) -> Opening:
        return self.opening(*OPENING)

    @tool("read", inline=True)
    def look(self, thing: str) -> str:
        """What is known of a thing."""
        self.looked += 1
        return f"{thing} is where it was"

    @tool("terminal", inline=True)
    def finish(self) -> str:
        """End the errands."""
        return "done"

    def outcome(self) -> Outcome:
        return Outcome(self.looked == NUM_TURNS - 1, 1.0)


class ErrandTasks(Tasks):
    env = "benchmark/errands"
    splits: Mapping[str, int] = {"train": 1 << 20}

    def make(self, split: str, index: int, rng: np.random.Generator) -> None:
        """Every task is the same."""

    def episode(self, task: Task) -> Env:
        return Errands()


def _completion(turn: int) -> Completion:
    last = turn == NUM_TURNS - 1
    call = ToolCall("finish", {}) if last else ToolCall("look", {"thing": f"thing {turn}"})
    num_new = REPLY_TOKENS if turn else PROMPT_TOKENS
    segment = Segment(range(num_new), range(TOKENS), [-0.5] * TOKENS, continues=turn > 0)
    read = PROMPT_TOKENS + turn * (REPLY_TOKENS + TOKENS)
    return Completion(Message("assistant", calls=(call,)), segment, prompt_tokens=read, sampled_tokens=TOKENS)


SCRIPT = tuple(map(_completion, range(NUM_TURNS)))


def answer_to(request: SampleRequest) -> Completion:
    return SCRIPT[(len(request.messages) - len(OPENING)) // 2]


class Endpoint:
    """A remote engine: each request is answered after the same wait, whoever else waits."""

    name = "endpoint"
    capabilities: frozenset[Capability] = frozenset({"ids", "logprobs"})

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    async def sample(self, request: SampleRequest) -> Completion:
        await asyncio.sleep(self._latency_s)
        return answer_to(request)

    async def release(self, session: str) -> None:
        """Nothing is kept."""


@dataclass(eq=False)
class _Held:
    left: int
    answer: asyncio.Future[None]


class BatchEngine:
    """A local engine under a gate: a tick blocks the event loop and brings every parked answer one token further.

    An answer of `TOKENS` tokens takes `latency_s`; with `uneven` the seed draws half to one and a half times as many.
    """

    name = "batch"
    capabilities: frozenset[Capability] = frozenset({"ids", "logprobs"})

    def __init__(self, latency_s: float, *, uneven: bool = False) -> None:
        self.tick_s = latency_s / TOKENS
        self.num_ticks = 0
        self._uneven = uneven
        self._held: list[_Held] = []
        self._pump: asyncio.Task[None] | None = None

    async def sample(self, request: SampleRequest) -> Completion:
        gate, seed = request.gate, request.params.seed
        assert gate is not None
        assert seed is not None
        length = TOKENS // 2 + seed % (TOKENS + 1) if self._uneven else TOKENS
        held = _Held(length, asyncio.get_running_loop().create_future())
        self._held.append(held)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._tick_on(gate))
        await gate.parked(self.name, held.answer)
        return answer_to(request)

    async def _tick_on(self, gate: Gate) -> None:
        while self._held:
            await gate.turn(self.name)
            end = time.perf_counter() + self.tick_s
            self.num_ticks += 1
            for held in self._held:
                held.left -= 1
            finished = [held for held in self._held if not held.left]
            self._held = [held for held in self._held if held.left]
            block_until(end)  # the engine's own work is part of its latency
            for held in finished:
                if not held.answer.done():
                    held.answer.set_result(None)

    async def release(self, session: str) -> None:
        """Nothing is kept."""


def block_until(end: float) -> None:
    """Keep the thread until `time.perf_counter()` says `end`, to some microseconds."""
    if (left := end - time.perf_counter()) > SPIN_S:
        time.sleep(left - SPIN_S)
    while time.perf_counter() < end:
        pass


@dataclass(frozen=True)
class Timed:
    """One collection: seconds by the wall and of the processor, and what its waits alone sum to."""

    wall_s: float
    cpu_s: float
    ideal_s: float
    num_turns: int
    rollouts: Sequence[Rollout] = ()

    @property
    def overhead(self) -> float:
        return (self.wall_s - self.ideal_s) / self.ideal_s

    @property
    def cpu_us(self) -> float:
        """Of one turn."""
        return self.cpu_s / self.num_turns * 1e6


Way = Callable[[Sequence[EpisodeSpec], int, float], Timed]


def batched(specs: Sequence[EpisodeSpec], concurrency: int, latency_s: float, *, uneven: bool = False) -> Timed:
    engine = BatchEngine(latency_s, uneven=uneven)
    return _driven(specs, concurrency, engine, True, lambda: engine.num_ticks * engine.tick_s)


def free(specs: Sequence[EpisodeSpec], concurrency: int, latency_s: float) -> Timed:
    return _driven(specs, concurrency, Endpoint(latency_s), False, lambda: _ideal_s(specs, concurrency, latency_s))


def bare(specs: Sequence[EpisodeSpec], concurrency: int, latency_s: float) -> Timed:
    """The same episodes at the same endpoint without a driver: nothing is limited, caught or recorded."""
    policy, taskset, waiting = Endpoint(latency_s), ErrandTasks(), list(specs)

    async def work() -> None:
        while waiting:
            await _play(taskset.episode(waiting.pop().task), policy)

    async def run() -> tuple[float, float]:
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - began, time.process_time() - cpu

    wall_s, cpu_s = asyncio.run(run())
    return Timed(wall_s, cpu_s, _ideal_s(specs, concurrency, latency_s), len(specs) * NUM_TURNS)


async def _play(env: Env, policy: Policy) -> None:
    host: Any = None  # errands ask it for nothing
    opening = await env.start(host)
    messages, done = list(opening.messages), False
    while not done:
        completion = await policy.sample(SampleRequest(tuple(messages), opening.tools))
        seen = await env.step(completion, host)
        messages += [completion.message, *seen.messages]
        done = seen.done
    env.outcome()


def _ideal_s(specs: Sequence[EpisodeSpec], concurrency: int, latency_s: float) -> float:
    return -(-len(specs) // concurrency) * NUM_TURNS * latency_s


def _driven(
    specs: Sequence[EpisodeSpec], concurrency: int, policy: Policy, exact: bool, ideal_s: Callable[[], float]
) -> Timed:
    taskset: Taskset = ErrandTasks()

    async def run() -> tuple[float, float, list[Rollout]]:
        began, cpu = time.perf_counter(), time.process_time()
        trees = await collect(specs, taskset, Cast(policy), concurrency=concurrency, exact=exact)
        return time.perf_counter() - began, time.process_time() - cpu, [tree[0] for tree in trees]

    wall_s, cpu_s, rollouts = asyncio.run(run())
    assert all(rollout.outcome.success for rollout in rollouts), "an episode failed: its time says nothing"
    return Timed(wall_s, cpu_s, ideal_s(), len(specs) * NUM_TURNS, rollouts)


WAYS: Mapping[str, Way] = {
    "exact order": batched,
    "exact order, uneven answers": partial(batched, uneven=True),
    "free-running": free,
    "free-running, no driver": bare,
}


def plan(num_episodes: int) -> list[EpisodeSpec]:
    taskset = ErrandTasks()
    return plan_groups([taskset.task("train", index) for index in range(num_episodes // TRIALS)], TRIALS, seed=0)


def alternate(
    specs: Sequence[EpisodeSpec], concurrency: int, latency_s: float, repetitions: int
) -> Mapping[str, list[Timed]]:
    """Every way once a repetition, in the same order; the rollouts are dropped."""
    found: dict[str, list[Timed]] = {name: [] for name in WAYS}
    for _ in range(repetitions):
        for name, way in WAYS.items():
            gc.collect()  # no way pays for what another left behind
            found[name].append(dataclasses.replace(way(specs, concurrency, latency_s), rollouts=()))
    return found


def after_sampling(rollouts: Sequence[Rollout], repetitions: int) -> Mapping[str, list[float]]:
    """Microseconds an episode of what a training step does with its rollouts, by the wall."""
    found: dict[str, list[float]] = {"group, credit, pack": [], "store": []}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(repetitions):
            began = time.perf_counter()
            credit_groups(group_rollouts(rollouts), estimator_of(CreditSpec(estimator="grpo")))
            packed = time.perf_counter()
            Store(folder).write(f"step-{repetition:06d}", rollouts)
            stored = time.perf_counter()
            found["group, credit, pack"].append((packed - began) / len(rollouts) * 1e6)
            found["store"].append((stored - packed) / len(rollouts) * 1e6)
    return found


def median_and_range(values: Iterable[float], form: str) -> str:
    ordered = sorted(values)
    low, middle, high = (f"{value:{form}}" for value in (ordered[0], statistics.median(ordered), ordered[-1]))
    return f"{middle:>9} {f'{low} - {high}':>18}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latencies", type=float, nargs="+", default=[0.05, 0.25, 1.0], help="seconds an answer")
    parser.add_argument("--episodes", type=int, default=128, help=f"a multiple of {TRIALS}")
    parser.add_argument("--concurrency", type=int, default=64, help="live episodes")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    if args.episodes < TRIALS or args.episodes % TRIALS:
        parser.error(f"--episodes is {args.episodes}; it takes a multiple of {TRIALS}, the rollouts of one task")
    if min(args.latencies) <= 0 or args.concurrency < 1 or args.repetitions < 1:
        parser.error("--latencies takes seconds above 0, --concurrency and --repetitions at least 1")
    specs = plan(args.episodes)
    print(
        f"{len(specs)} episodes of {NUM_TURNS} turns, {args.concurrency} live, {TOKENS} tokens an answer, "
        f"n = {args.repetitions}: medians and ranges"
    )
    alternate(specs, args.concurrency, 0.0, 1)  # imports and caches
    print(f"\n{'overhead':28} {'latency s':>9} {'ideal s':>8} {'median':>9} {'range':>18}")
    for latency_s in args.latencies:
        for name, runs in alternate(specs, args.concurrency, latency_s, args.repetitions).items():
            spread = median_and_range((run.overhead for run in runs), ".2%")
            print(f"{name:28} {latency_s:9g} {runs[0].ideal_s:8.2f} {spread}", flush=True)
    print(f"\n{'without waits':28} {'processor us a turn':>18} {'range':>18}")
    without = alternate(specs, args.concurrency, 0.0, args.repetitions)
    for name, runs in without.items():
        print(f"{name:28} {'':9} {median_and_range((run.cpu_us for run in runs), '.0f')}")
    print(f"\n{'after sampling':28} {'wall us an episode':>18} {'range':>18}")
    rollouts = batched(specs, args.concurrency, 0.0).rollouts
    after_sampling(rollouts, 1)  # as above
    for name, spent in after_sampling(rollouts, args.repetitions).items():
        print(f"{name:28} {'':9} {median_and_range(spent, '.0f')}")


if __name__ == "__main__":
    main()
