"""Every episode a habit policy can have on a task: played one by one through the real driver, and kept as leaves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from banty.errors import InputError
from banty.models.habits import START_ID, option_id
from banty.records import Capability, Completion, EpisodeSpec, Expert, Limits, SampleRequest, Segment, Task, Taskset
from banty.rollout import Cast, run_episode
from banty.rubrics import Labeller
from banty.train.samples import anchors_of


@dataclass(frozen=True)
class Leaf:
    """One episode. `decisions` are (turn, point, option) in the order they were asked, `rewards` one value a turn under
    each reward file, `tiers` and `anchors` one a turn."""

    decisions: tuple[tuple[int, int, int], ...]
    success: bool
    num_turns: int
    rewards: Mapping[str, tuple[float, ...]]
    tiers: tuple[str, ...]
    anchors: tuple[str, ...]

    @property
    def options(self) -> tuple[int, ...]:
        return tuple(option for _, _, option in self.decisions)


class ReplayPolicy:
    """Makes the decisions it is given, and keeps to discipline where they end; `asked` notes them all."""

    name = "replayed habits"
    capabilities: frozenset[Capability] = frozenset({"ids"})

    def __init__(self, expert: Expert, options: Sequence[int]) -> None:
        self._expert, self._options = expert, options
        self._places = {point: place for place, point in enumerate(expert.points)}
        self._turn = 0
        self.asked: list[tuple[int, int, int]] = []

    async def sample(self, request: SampleRequest) -> Completion:
        before = len(self.asked)

        def choose(point: str) -> bool:
            place = len(self.asked)
            option = self._options[place] if place < len(self._options) else 0
            self.asked.append((self._turn, self._places[point], option))
            return option == 0

        message = self._expert.respond(request, choose)
        ids = [option_id(point, option) for _, point, option in self.asked[before:]]
        segment = Segment([START_ID], ids, [0.0] * len(ids), continues=self._turn > 0)
        self._turn += 1
        return Completion(message, segment, prompt_tokens=1, sampled_tokens=len(ids))

    async def release(self, session: str) -> None:
        pass


def decision_tree(
    task: Task, taskset: Taskset, expert: Expert, labellers: Mapping[str, Labeller], max_turns: int, max_leaves: int
) -> tuple[Leaf, ...] | None:
    """All episodes of a task, those of discipline first; None when there are more than `max_leaves`.

    Raises InputError for an episode that could not be scored, and for an environment that does not repeat itself.
    """
    return asyncio.run(_enumerate(task, taskset, expert, labellers, Limits(max_turns=max_turns), max_leaves))


def choose_trees(
    taskset: Taskset,
    split: str,
    num_tasks: int,
    labellers: Mapping[str, Labeller],
    *,
    max_turns: int,
    max_leaves: int,
) -> tuple[dict[str, tuple[Leaf, ...]], int]:
    """By id, the first `num_tasks` tasks of a split that discipline ends rightly within `max_turns`, with at most
    `max_leaves` episodes; and how many were looked at to find them. Raises InputError when there are not so many."""
    expert = taskset.expert()
    if expert is None:
        raise InputError(f"{taskset.env} has no scripted expert, so nothing a habit policy could do there")
    found: dict[str, tuple[Leaf, ...]] = {}
    for index in range(taskset.splits.get(split, 0)):
        task = taskset.task(split, index)
        (disciplined,) = asyncio.run(_first(task, taskset, expert, labellers, Limits(max_turns=max_turns)))
        leaves = decision_tree(task, taskset, expert, labellers, max_turns, max_leaves) if disciplined.success else None
        if leaves is not None:
            found[task.id] = leaves
        if len(found) == num_tasks:
            return found, index + 1
    raise InputError(
        f"{taskset.env} {split!r} has {len(found)} tasks that discipline ends within {max_turns} turns and that have "
        f"at most {max_leaves} episodes; {num_tasks} are asked for. Raise desk.max_leaves or train.max_turns"
    )


async def _first(
    task: Task, taskset: Taskset, expert: Expert, labellers: Mapping[str, Labeller], limits: Limits
) -> list[Leaf]:
    return [await _play(task, taskset, expert, labellers, limits, ())]


async def _enumerate(
    task: Task,
    taskset: Taskset,
    expert: Expert,
    labellers: Mapping[str, Labeller],
    limits: Limits,
    max_leaves: int,
) -> tuple[Leaf, ...] | None:
    leaves: list[Leaf] = []
    options: list[int] = []
    while len(leaves) < max_leaves:
        leaf = await _play(task, taskset, expert, labellers, limits, options)
        if leaves:
            _check_same(leaves[-1], leaf, len(options), task)
        leaves.append(leaf)
        options = list(leaf.options)
        while options and options[-1] == 1:  # both ways of the last decision are done
            options.pop()
        if not options:
            return tuple(leaves)
        options[-1] = 1
    return None


async def _play(
    task: Task,
    taskset: Taskset,
    expert: Expert,
    labellers: Mapping[str, Labeller],
    limits: Limits,
    options: Sequence[int],
) -> Leaf:
    policy = ReplayPolicy(expert, options)
    rollout = (await run_episode(EpisodeSpec(task), taskset, Cast(policy), limits))[0]
    if not rollout.scored:
        raise InputError(f"an episode of {task.id} could not be scored ({rollout.cause}: {rollout.detail})")
    labels = {name: labeller(rollout) for name, labeller in labellers.items()}
    tiers = {tuple(label.tier for label in each) for each in labels.values()}
    return Leaf(
        tuple(policy.asked),
        bool(rollout.outcome.success),
        len(rollout.turns),
        {name: tuple(label.reward for label in each) for name, each in labels.items()},
        tiers.pop() if len(tiers) == 1 else (),
        tuple(anchors_of(rollout)),
    )


def _check_same(before: Leaf, after: Leaf, num_forced: int, task: Task) -> None:
    """The decisions asked along a shared prefix are the same ones, or the environment is no function of them."""
    shared = itertools.islice(zip(before.decisions, after.decisions, strict=False), num_forced)
    asked = [(one[:2], other[:2]) for one, other in shared]
    if len(asked) < num_forced or any(one != other for one, other in asked):
        raise InputError(f"{task.id} asked for other decisions when it was played again; its environment draws anew")
