"""How fast the airline desk is over tau2-bench's 7 MB database: calls, resets, grading, and where the time goes.

    PYTHONPATH=. taskset -c 0 python benchmarks/airline.py
    PYTHONPATH=. python benchmarks/airline.py --repetitions 15 --data ~/tau2-bench/data

The golden calls of the published tasks, in their proportions, go through an episode's own door as the JSON text a model
writes: parsed and checked against the tool's schema, run, answered as text, the state hashed before and after, over
a fresh episode for each task (its reset counts). Beside it, in strict alternation, the same calls several to a turn,
through the driver, and bare (the tool alone). `plain` does what the reference does: it copies the parsed database for
every episode, and grades by the hash of all of it. Prints medians and ranges; one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import hashlib
import json
import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.chat import parse, render_calls
from banty.envs.airline.data import airline_folder
from banty.envs.airline.env import AirlineDesk
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.rubric import Grade
from banty.envs.airline.tools import AirlineTools
from banty.errors import InputError
from banty.records import Completion, EpisodeSpec, Host, Message, Opening, SampleRequest, Task, ToolSchema
from banty.rollout import Cast, run_episode
from banty.testing import FunctionPolicy

SHARED = Path(__file__).resolve().parents[2] / "shared" / "tau2_airline"
GOALS = {"calls/s": 20_000.0, "reset µs": 100.0, "reset kB": 10.0, "grading ms": 1.0}


class NoHost:
    """Stands in for the driver where nothing is asked of it: the silent customer needs nobody."""


HOST: Host = NoHost()  # type: ignore[assignment]


@dataclass(frozen=True)
class Golden:
    """The tasks whose golden calls all succeed; for each its calls, as a model writes them, and its last words."""

    taskset: PublishedTasks
    tasks: Sequence[Task]
    tools: tuple[ToolSchema, ...]
    texts: Sequence[Sequence[str]]
    closings: Sequence[str]

    @property
    def num_calls(self) -> int:
        return sum(map(len, self.texts))

    @property
    def mix(self) -> Counter[str]:
        return Counter(call.name for task in self.tasks for call in task.data.task.actions)


def load(folder: Path, grade: Grade = "tau2", num_tasks: int | None = None) -> Golden:
    taskset = PublishedTasks(data=folder, grade=grade, customer="silent")
    listed = [taskset.task("base", index) for index in range(taskset.splits["base"])][:num_tasks]
    tools = tuple(entry.schema for entry in AirlineTools.tools.values())
    tasks = [task for task in listed if _succeeds(task)]
    texts = [[render_calls([call], "hermes") for call in task.data.task.actions] for task in tasks]
    closings = [f"It is all settled. {' '.join(task.data.task.communicate)}" for task in tasks]
    return Golden(taskset, tasks, tools, texts, closings)


def _succeeds(task: Task) -> bool:
    desk = AirlineTools(task.data.world)
    return all(desk.execute(call.name, call.arguments)[0] for call in task.data.task.actions)


async def fresh(golden: Golden, task: Task) -> tuple[AirlineDesk, Opening]:
    """A started episode: what a reset is."""
    desk = golden.taskset.episode(task)
    assert isinstance(desk, AirlineDesk)
    return desk, await desk.start(HOST)


async def one_call_a_turn(golden: Golden) -> None:
    for task, texts in zip(golden.tasks, golden.texts, strict=True):
        desk, opening = await fresh(golden, task)
        for text in texts:
            await desk.step(Completion(parse(text, opening.tools, "hermes")), HOST)


async def all_calls_in_a_turn(golden: Golden) -> None:
    for task, texts in zip(golden.tasks, golden.texts, strict=True):
        desk, opening = await fresh(golden, task)
        await desk.step(Completion(parse("\n".join(texts), opening.tools, "hermes")), HOST)


async def through_the_driver(golden: Golden) -> None:
    """Whole episodes, one call a turn, a closing message and the verdict included."""
    for task, texts, closing in zip(golden.tasks, golden.texts, golden.closings, strict=True):
        left = iter([*texts, closing])

        def say(request: SampleRequest, left: Any = left) -> Message:
            return parse(next(left), request.tools, "hermes")

        await run_episode(EpisodeSpec(task), golden.taskset, Cast(FunctionPolicy(say)))


async def bare_calls(golden: Golden) -> None:
    """The tools on typed arguments: no text in, no record, no hash."""
    for task in golden.tasks:
        desk = AirlineTools(task.data.world)
        for call in task.data.task.actions:
            desk.execute(call.name, call.arguments)


WAYS: Mapping[str, Callable[[Golden], Awaitable[None]]] = {
    "door, one call a turn": one_call_a_turn,
    "door, a task's calls in one turn": all_calls_in_a_turn,
    "run_episode, one call a turn": through_the_driver,
    "bare: the tool alone": bare_calls,
}


def calls_per_s(golden: Golden, rounds: int, repetitions: int) -> dict[str, list[float]]:
    """Calls a second of each way, one number a repetition, the ways in turn; the first repetition warms up."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}

    async def run(way: Callable[[Golden], Awaitable[None]]) -> float:
        began = time.perf_counter()
        for _ in range(rounds):
            await way(golden)
        return rounds * golden.num_calls / (time.perf_counter() - began)

    for repetition in range(repetitions + 1):
        for name, way in WAYS.items():
            rate = asyncio.run(run(way))
            if repetition:
                found[name].append(rate)
    return found


def shares_us(golden: Golden, rounds: int) -> dict[str, float]:
    """Mean microseconds a call of the door's parts, timed one by one; resets are spread over the calls."""
    spent = dict.fromkeys(("reset", "parse and check", "tool and its text", "state hash"), 0.0)
    now = time.perf_counter

    async def run() -> None:
        for task, texts in zip(golden.tasks, golden.texts, strict=True):
            began = now()
            desk, opening = await fresh(golden, task)
            spent["reset"] += now() - began
            for text in texts:
                began = now()
                (call,) = parse(text, opening.tools, "hermes").calls
                parsed = now()
                entry = desk.tools[call.name]
                entry.function(desk, **entry.check(call.arguments))
                called = now()
                desk.state_hash()
                spent["state hash"] += now() - called
                spent["tool and its text"] += called - parsed
                spent["parse and check"] += parsed - began

    for _ in range(rounds):
        asyncio.run(run())
    return {name: 1e6 * seconds / (rounds * golden.num_calls) for name, seconds in spent.items()}


def resets_us(golden: Golden, rounds: int) -> list[float]:
    """Microseconds of each reset."""
    found = []

    async def run() -> None:
        for task in golden.tasks:
            began = time.perf_counter()
            await fresh(golden, task)
            found.append(1e6 * (time.perf_counter() - began))

    for _ in range(rounds):
        asyncio.run(run())
    return found


def reset_kb(golden: Golden, num_live: int) -> float:
    """Kilobytes each of many episodes that live at once, with what they have said to the agent."""

    async def run() -> float:
        for task in golden.tasks:
            await fresh(golden, task)  # what all episodes share is made by the first
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        live = [await fresh(golden, golden.tasks[place % len(golden.tasks)]) for place in range(num_live)]
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / len(live) / 1000

    return asyncio.run(run())


def grading_ms(golden: Golden, repetitions: int) -> dict[str, float]:
    """Milliseconds of the verdict on each task's golden episode, the median of the repetitions, by task id."""

    async def play() -> list[AirlineDesk]:
        desks = []
        for task, texts, closing in zip(golden.tasks, golden.texts, golden.closings, strict=True):
            desk, opening = await fresh(golden, task)
            for text in (*texts, closing):
                await desk.step(Completion(parse(text, opening.tools, "hermes")), HOST)
            desks.append(desk)
        return desks

    found = {}
    for task, desk in zip(golden.tasks, asyncio.run(play()), strict=True):
        assert desk.outcome().success, f"the golden way of task {task.data.task.id} must be right"
        spent = []
        for _ in range(repetitions):
            began = time.perf_counter()
            desk.outcome()
            spent.append(1e3 * (time.perf_counter() - began))
        found[task.data.task.id] = statistics.median(spent)
    return found


@dataclass(frozen=True)
class Plain:
    """The database copied whole and hashed whole; what its tools would cost is left out, in its favour."""

    db: Any

    @classmethod
    def of(cls, folder: Path) -> Plain:
        return cls(json.loads((airline_folder(folder) / "db.json").read_bytes()))

    def reset(self) -> Any:
        return copy.deepcopy(self.db)

    def grade(self) -> bool:
        """Two databases from scratch, the episode's and the golden one, compared by their hashes."""
        return self.hash(self.reset()) == self.hash(self.reset())

    @staticmethod
    def hash(db: Any) -> str:
        return hashlib.sha256(json.dumps(db, sort_keys=True, default=str).encode()).hexdigest()

    def reset_kb(self) -> float:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        live = self.reset()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del live
        return (after - before) / 1000


def timed_ms(function: Callable[[], object], repetitions: int) -> list[float]:
    found = []
    for _ in range(repetitions):
        began = time.perf_counter()
        function()
        found.append(1e3 * (time.perf_counter() - began))
    return found


def line(name: str, values: Sequence[float], unit: str, form: str = ",.1f") -> str:
    spread = f"{min(values):{form}} - {max(values):{form}}"
    return f"{name:34} {statistics.median(values):>11{form}} {unit:8} {spread:>22}  n = {len(values)}"


def report(golden: Golden, semantic: Golden, plain: Plain, args: argparse.Namespace) -> None:
    shares = ", ".join(f"{count} {name}" for name, count in golden.mix.most_common())
    print(f"{golden.num_calls} golden calls of {len(golden.tasks)} tasks, all of which succeed: {shares}")
    print(f"goals: {', '.join(f'{name} {value:,g}' for name, value in GOALS.items())}\n")
    print(f"{'':34} {'median':>11} {'':8} {'range':>22}")
    for name, rates in calls_per_s(golden, args.rounds, args.repetitions).items():
        print(line(name, rates, "calls/s", ",.0f"))
    print("\nwhere a call's time at the door goes (mean µs)")
    for name, spent in shares_us(golden, args.rounds).items():
        print(f"  {name:32} {spent:11.1f} µs")
    resets: dict[str, list[float]] = {"banty": [], "plain": []}
    grading: dict[str, list[float]] = {"banty": [], "plain": []}
    for _ in range(args.repetitions):
        resets["banty"].append(statistics.median(resets_us(golden, 1)) / 1e3)
        resets["plain"] += timed_ms(plain.reset, 1)
        grading["banty"].append(statistics.median(grading_ms(golden, 1).values()))
        grading["plain"] += timed_ms(plain.grade, 1)
    print()
    for name, spent_ms in resets.items():
        print(line(f"reset, {name}", spent_ms, "ms", ",.3f"))
    print(f"{'memory of a reset, banty':34} {reset_kb(golden, args.live):11,.1f} kB       of {args.live} live ones")
    print(f"{'memory of a reset, plain':34} {plain.reset_kb():11,.1f} kB       of 1")
    print()
    for name, spent_ms in grading.items():
        print(line(f"grading, {name}", spent_ms, "ms", ",.3f"))
    for name, graded in (("tau2", golden), ("semantic", semantic)):
        by_task = grading_ms(graded, args.repetitions)
        worst = max(by_task, key=by_task.__getitem__)
        print(
            f"{f'grading by {name}':34} {statistics.median(by_task.values()):11.3f} ms       "
            f"median of {len(by_task)} tasks; worst is task {worst} with {by_task[worst]:.3f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="tau2-bench's airline data (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=20, help="times a repetition plays every task")
    parser.add_argument("--live", type=int, default=200, help="episodes alive at once while memory is measured")
    args = parser.parse_args()
    try:
        golden, semantic = load(args.data), load(args.data, "semantic")
    except InputError as missing:
        raise SystemExit(f"this benchmark needs tau2-bench's airline data; give --data FOLDER: {missing}") from None
    report(golden, semantic, Plain.of(args.data), args)


if __name__ == "__main__":
    main()
