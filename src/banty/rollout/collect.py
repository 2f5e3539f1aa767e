"""Running many episodes concurrently, and putting them back into groups."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from banty.errors import InputError
from banty.records import EpisodeSpec, Group, Limits, Rollout, Task, Taskset, derive
from banty.rollout.cast import Cast
from banty.rollout.driver import id_of, run_episode
from banty.rollout.order import ExactOrder, FreeOrder, Order


def plan_groups(tasks: Iterable[Task], num_trials: int, seed: int, tag: str = "") -> list[EpisodeSpec]:
    """`num_trials` episodes of every task, in order: one environment seed per task, one sampler seed per trial.

    `tag` keeps the ids and draws of one collection apart from another over the same tasks, such as two training steps.
    """
    if num_trials < 1:
        raise InputError(f"num_trials is {num_trials}; it takes at least 1")
    prefix = f"{tag}|" if tag else ""
    return [
        EpisodeSpec(
            task,
            trial=trial,
            sampler_seed=derive(seed, "sampler", tag, task.id, trial),
            group_id=f"{prefix}{task.id}",
            rollout_id=f"{prefix}{task.id}#{trial}",
        )
        for task in tasks
        for trial in range(num_trials)
    ]


async def collect(
    specs: Sequence[EpisodeSpec],
    taskset: Taskset,
    cast: Cast,
    limits: Limits | None = None,
    *,
    concurrency: int = 64,
    exact: bool = True,
    on_finished: Callable[[tuple[Rollout, ...]], None] | None = None,
) -> list[tuple[Rollout, ...]]:
    """For each spec, its rollout followed by those of its descendants, in the order of `specs`.

    At most `concurrency` root episodes are live, each with its children; nobody waits for the slowest member. With
    `exact`, who is answered together does not depend on how long anything takes (see `ExactOrder`). `on_finished` is
    called as each episode ends, in the order they end. An exception from it, or a cancellation, ends every live
    episode and propagates. Two specs of one id are an InputError: sessions, draws and stored rows go by it.
    """
    check_roles(taskset, cast)
    if concurrency < 1:
        raise InputError(f"concurrency is {concurrency}; it takes at least 1")
    _check_ids(specs)
    order: Order = ExactOrder() if exact else FreeOrder()
    waiting = deque(enumerate(specs))
    results: dict[int, tuple[Rollout, ...]] = {}
    num_workers = min(concurrency, len(specs))
    order.enter(num_workers)

    async def work() -> None:
        try:
            while waiting:
                place, spec = waiting.popleft()
                results[place] = await run_episode(spec, taskset, cast, limits, order, slot_held=True)
                if on_finished is not None:
                    on_finished(results[place])
        finally:
            order.leave()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(num_workers):
                group.create_task(work())
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [results[place] for place in range(len(specs))]


def check_roles(taskset: Taskset, cast: Cast) -> None:
    """Raises InputError when an episode would ask for a role that nobody plays."""
    missing = sorted(taskset.roles - set(cast.roles))
    if missing:
        raise InputError(
            f"{taskset.env} needs a policy in the role {', '.join(missing)}; place one, for example with "
            f"--{missing[0]} URL (an OpenAI-compatible endpoint)"
        )


def _check_ids(specs: Sequence[EpisodeSpec]) -> None:
    for rollout_id, count in Counter(map(id_of, specs)).items():
        if count > 1:
            raise InputError(f"{count} episodes are called {rollout_id}; leave out repeated tasks, or tag them apart")


def group_rollouts(rollouts: Iterable[Rollout]) -> list[Group]:
    """Root rollouts by group, groups in order of first appearance, members by trial."""
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.depth == 0:
            groups.setdefault(rollout.group_id, []).append(rollout)
    return [
        Group(members[0].task, tuple(sorted(members, key=lambda rollout: rollout.trial))) for members in groups.values()
    ]


def waited_s(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Seconds in which episodes waited for their environment, and for simulated users and judges, all added up: of
    episodes that ran at the same time, more than the clock shows."""
    turns = [turn for rollout in rollouts for turn in rollout.turns]
    return {
        "environment": sum(turn.env_s for turn in turns),
        "user": sum(turn.policy_s for turn in turns if turn.actor != "agent"),
    }
