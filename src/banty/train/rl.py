"""Multi-turn reinforcement learning: collect, credit, update, publish."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from banty.credit import ESTIMATORS, Credit, GroupRewards
from banty.errors import InputError, StoreError, TrainingStopped
from banty.records import Group, Learner, Limits, Policy, SamplingParams, Task, Taskset, TrainingSample, derive
from banty.rollout import Cast, Store, collect, group_rollouts, plan_groups
from banty.runs import RunFolder
from banty.train.recipe import TrainBlock
from banty.train.samples import group_rewards, pack_group


class TrainablePolicy(Policy, Protocol):
    """A policy that takes what its learner publishes."""

    def load(self, weights: Any) -> None: ...


@dataclass(frozen=True)
class StepReport:
    """One step's metrics, for whoever shows progress."""

    step: int
    num_steps: int
    metrics: Mapping[str, float | int | None]


async def train_rl(
    block: TrainBlock,
    taskset: Taskset,
    split: str,
    policy: TrainablePolicy,
    learner: Learner,
    run: RunFolder,
    on_step: Callable[[StepReport], None] | None = None,
) -> None:
    """Train `policy` for `block.steps` updates, starting after the last step the run folder holds.

    Each step writes its rollouts, one line of metrics and a checkpoint. In exact order (which this uses) a run that is
    interrupted and resumed ends with the same weights as one that was not.
    """
    estimator = ESTIMATORS.get(block.estimator)
    if estimator is None:
        raise InputError(f"train.estimator is {block.estimator!r}; known are {', '.join(ESTIMATORS)}")
    check_tasks(block, taskset, split)
    first = _restore(run, learner)
    policy.load(learner.publish())
    store = Store(run.rollouts)
    for step in range(first, block.steps):
        started = time.perf_counter()
        tasks = _tasks_of_step(block, taskset, split, step)
        specs = plan_groups(tasks, block.rollouts_per_task, derive(block.seed, "step", step), f"step-{step:04d}")
        cast = Cast(policy, params=SamplingParams(temperature=block.temperature))
        limits = Limits(max_turns=block.max_turns)
        trees = await collect(specs, taskset, cast, limits, concurrency=block.concurrency)
        sampled = time.perf_counter()
        groups = group_rollouts(rollout for tree in trees for rollout in tree)
        _check_some_scored(groups, step)
        samples = credit_groups(groups, estimator)
        update = {**learner.forward_backward(samples, "policy_gradient"), **learner.optim_step()}
        policy.load(learner.publish())
        trained = time.perf_counter()
        store.write(f"step-{step:06d}", [rollout for tree in trees for rollout in tree])
        metrics = {
            **step_metrics(groups, samples),
            **{f"train/{name}": value for name, value in update.items()},
            "time/sample_s": sampled - started,
            "time/train_s": trained - sampled,
            "time/step_s": time.perf_counter() - started,
        }
        run.metrics.write(step, metrics)
        _checkpoint(run, learner, step)  # last: a step without one is done again, and replaces what it wrote
        if on_step is not None:
            on_step(StepReport(step, block.steps, metrics))


def _check_some_scored(groups: Sequence[Group], step: int) -> None:
    """Training on nothing but failures of the infrastructure would look like progress."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if not any(rollout.scored for rollout in rollouts):
        first = rollouts[0]
        raise TrainingStopped(
            f"step {step}: none of {len(rollouts)} episodes could be scored; the first is {first.status} "
            f"({first.cause}: {first.detail}). Mend that, then resume the run"
        )


def credit_groups(groups: Sequence[Group], estimator: Callable[[GroupRewards], Credit]) -> list[TrainingSample]:
    """The training samples of all groups under an estimator."""
    return [sample for group in groups for sample in pack_group(group, estimator(group_rewards(group)))]


def step_metrics(groups: Sequence[Group], samples: Sequence[TrainingSample]) -> dict[str, float | int | None]:
    """What every step logs about its rollouts. Means are over scored rollouts; None where there are none."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored = [rollout for rollout in rollouts if rollout.scored]
    outcomes = [[float(bool(rollout.outcome.success)) for rollout in group.scored] for group in groups]
    statuses = Counter(rollout.status for rollout in rollouts)
    return {
        "rollout/success": float(np.mean([value for group in outcomes for value in group])) if scored else None,
        "rollout/turns": float(np.mean([len(rollout.agent_turns) for rollout in scored])) if scored else None,
        "rollout/episodes": len(rollouts),
        "rollout/truncated": statuses["truncated"],
        "rollout/errored": statuses["errored"],
        "group/zero_variance": sum(len(set(group)) < 2 for group in outcomes),
        "group/num_groups": len(groups),
        "train/samples": len(samples),
    }


def check_tasks(block: TrainBlock, taskset: Taskset, split: str) -> None:
    """Raises InputError for tasks that cannot fill a step."""
    size = taskset.splits.get(split)
    if size is None:
        raise InputError(f"{taskset.env} has no split {split!r}; it has {', '.join(taskset.splits)}")
    if block.tasks_per_step > size:
        raise InputError(
            f"train.tasks_per_step is {block.tasks_per_step}, and {taskset.env} {split} has {size} tasks; a step takes "
            "each at most once"
        )


def _tasks_of_step(block: TrainBlock, taskset: Taskset, split: str, step: int) -> list[Task]:
    """The next tasks in the split's own order, round and round; the order is a property of the taskset."""
    size = taskset.splits[split]
    start = step * block.tasks_per_step
    return [taskset.task(split, (start + place) % size, block.seed) for place in range(block.tasks_per_step)]


def _checkpoint(run: RunFolder, learner: Learner, step: int) -> None:
    """Save under a temporary name, then rename: a checkpoint is whole or it is not there."""
    folder = run.path / "checkpoints"
    draft, target = folder / f".step-{step:06d}.tmp", folder / f"step-{step:06d}"
    try:
        for stale in (draft, target):
            shutil.rmtree(stale, ignore_errors=True)
        draft.mkdir(parents=True)
        learner.save(draft)
        draft.rename(target)
    except OSError as error:
        raise StoreError(f"could not write the checkpoint {target}: {error.strerror or error}") from error
    for old in sorted(folder.glob("step-*"))[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def _restore(run: RunFolder, learner: Learner) -> int:
    """Load the newest checkpoint, if there is one; the step to do next."""
    found = sorted((run.path / "checkpoints").glob("step-*"))
    if not found:
        return 0
    learner.load(found[-1])
    return int(found[-1].name.removeprefix("step-")) + 1
