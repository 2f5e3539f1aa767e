"""`banty inspect` and `banty tasks`: look at what is stored, and at what an agent would be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.cli.running import run_async
from banty.envs.baselines import do_nothing
from banty.envs.registry import taskset_of_recipe
from banty.envs.tasksets import Tasks
from banty.errors import InputError, ReplayMismatch
from banty.interop import KIND
from banty.models.habits import HabitWeights
from banty.records import EpisodeSpec, Expert, Limits, Policy, Rollout, Taskset, take
from banty.rollout import Cast, collect, replay
from banty.runs import RunFolder


def rollout_of(rollouts: Sequence[Rollout], wanted: str) -> Rollout:
    """The rollout of that id, or the only one whose id contains it."""
    found = [rollout for rollout in rollouts if rollout.rollout_id == wanted]
    found = found or [rollout for rollout in rollouts if wanted in rollout.rollout_id]
    if len(found) == 1:
        return found[0]
    if not found:
        such = f", such as {rollouts[0].rollout_id!r}" if rollouts else ""
        raise InputError(
            f"--rollout {wanted!r} names none of {len(rollouts)} rollouts; give an id that is there{such}, or leave it "
            "out for a list"
        )
    some = ", ".join(rollout.rollout_id for rollout in found[:3])
    raise InputError(
        f"--rollout {wanted!r} names {len(found)}, among them {some} of {len(rollouts)} rollouts; give the whole id"
    )


def lapses_of(rollout: Rollout, expert: Expert | None) -> dict[str, list[str]]:
    """The lapses a habit policy drew, in words, by turn index."""
    if expert is None or not rollout.policy.startswith("habits"):
        return {}
    weights = HabitWeights.with_lapses(expert.points, 0.5)
    return {
        str(turn.index): [
            expert.points[point][1] for point, lapsed in weights.decisions(turn.segment.sampled_ids) if lapsed
        ]
        for turn in rollout.agent_turns
        if turn.segment is not None
    }


def openings(taskset: Taskset, split: str, count: int, seed: int, roles: dict[str, Policy]) -> list[Rollout]:
    """The first `count` tasks as rollouts that end before the agent's first turn."""
    specs = [EpisodeSpec(task) for task in take(taskset, split, min(count, taskset.splits.get(split, 1)), seed)]
    cast = Cast(do_nothing()(None), roles)
    trees = run_async(collect(specs, taskset, cast, Limits(max_turns=0), exact=False), "nothing was stored")
    return [tree[0] for tree in trees]


def task_json(rollout: Rollout, taskset: Taskset, reveal: bool) -> dict[str, Any]:
    """What anyone may know of a task; with `reveal`, also what only its author may."""
    shown: dict[str, Any] = {
        **rollout.task.pin,
        "public": dict(rollout.task.public),
        "opening": [message.to_json() for message in rollout.opening if message.role != "system"],
    }
    if rollout.status == "errored":
        shown["detail"] = rollout.detail
    if reveal and isinstance(taskset, Tasks):
        shown["private"] = taskset.describe(rollout.task.data)
    return shown


def taskset_of_run(folder: Path, allow_code: bool) -> Taskset:
    """The taskset that a run's or evaluation's recipe names. Raises InputError where it names none."""
    recipe = RunFolder.open(folder).read_json("recipe.json")
    if recipe.get("kind") == KIND:
        raise InputError(f"{folder} is an imported log: it can be read, but nothing in it can be played again here")
    return taskset_of_recipe(folder, recipe, allow_code)


def expert_of_run(folder: Path, allow_code: bool) -> Expert | None:
    """The expert of a run's environment, or None where it cannot be made here: reading a conversation needs none."""
    try:
        return taskset_of_run(folder, allow_code).expert()
    except InputError:
        return None


def replay_stored(
    folder: Path, rollouts: Sequence[Rollout], wanted: Sequence[Rollout], allow_code: bool
) -> dict[str, Any]:
    """Replay the scored roots among `wanted` with their descendants; how many, and where any differ."""
    taskset = taskset_of_run(folder, allow_code)
    trees: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        trees.setdefault(rollout.root_id, []).append(rollout)
    roots = [rollout for rollout in wanted if rollout.depth == 0]
    scored = [root for root in roots if all(member.status != "errored" for member in trees[root.rollout_id])]
    differ: dict[str, str] = {}
    for root in scored:
        tree = sorted(trees[root.rollout_id], key=lambda member: member.depth)
        try:
            run_async(replay(tree, taskset), "nothing was stored")
        except ReplayMismatch as mismatch:
            differ[root.rollout_id] = str(mismatch)
    return {"replayed": len(scored), "errored_left_out": len(roots) - len(scored), "differ": differ}


def replay_sentence(report: Mapping[str, Any]) -> str:
    same = report["replayed"] - len(report["differ"])
    first = next(iter(report["differ"].values()), "")
    left_out = f", {report['errored_left_out']} errored left out" if report["errored_left_out"] else ""
    return (
        f"{same} of {report['replayed']} replayed the same{left_out}{'; first difference: ' + first if first else ''}"
    )
