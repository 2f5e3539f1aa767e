"""Multi-turn reinforcement learning: collect, credit, update, publish."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from banty.calibrate import CalibrateBlock
from banty.credit import BatchEstimator, Credit, CreditSpec, GroupRewards, credit_metrics, estimator_of, turns_of
from banty.errors import InputError, TrainingStopped
from banty.perf import Machine, PhaseMeter
from banty.records import (
    Group,
    Learner,
    Limits,
    Policy,
    PolicyLoss,
    Rollout,
    SamplingParams,
    Task,
    Taskset,
    TrainingSample,
    derive,
    generator,
)
from banty.rollout import Cast, Store, collect, group_rollouts, plan_groups, waited_s
from banty.rubrics import RewardFile
from banty.runs import RunFolder
from banty.train.checkpoints import restore, save_checkpoint
from banty.train.gating import RunGate
from banty.train.recipe import RewardsBlock, TrainBlock
from banty.train.rewards import TurnRewards, check_rewards, keep
from banty.train.samples import check_finite, group_rewards, outcome_of, overlong_penalty, pack_group

Metrics = dict[str, float | int | None]


class TrainablePolicy(Policy, Protocol):
    """A policy that takes what its learner publishes."""

    def load(self, weights: Any) -> None: ...


@dataclass(frozen=True)
class StepReport:
    """One step's metrics, for whoever shows progress."""

    step: int
    num_steps: int
    metrics: Mapping[str, float | int | None]


@dataclass
class Batch:
    """What one step sampled. `kept` are the groups that are trained on; the others taught nothing."""

    rollouts: list[Rollout] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    kept: list[Group] = field(default_factory=list)
    num_tasks: int = 0
    rounds: int = 0


async def train_rl(
    block: TrainBlock,
    taskset: Taskset,
    split: str,
    policy: TrainablePolicy,
    learner: Learner,
    run: RunFolder,
    on_step: Callable[[StepReport], None] | None = None,
    *,
    credit: CreditSpec | None = None,
    loss: PolicyLoss | None = None,
    rewards: RewardsBlock | None = None,
    reward_file: RewardFile | None = None,
    calibrate: CalibrateBlock | None = None,
    machine: Machine | None = None,
) -> None:
    """Train `policy` for `block.steps` batches, starting after the last step the run folder holds.

    Each step writes its rollouts, one line of metrics and a checkpoint. The metrics say what each phase used, and with
    a `machine` how near to its limits that was. With a `reward_file` turns earn what it says, as far as `rewards` lets
    them; the run folder keeps a copy. With `calibrate` the run moves the values itself, and keeps every version. In
    exact order (which this uses) a run that is interrupted and resumed ends with the same weights as one that was not.
    """
    block.check()
    check_tasks(block, taskset, split)
    loss = loss or PolicyLoss()
    estimator = estimator_of(credit or CreditSpec())
    if reward_file is not None:
        check_rewards(reward_file, taskset, split)
        keep(run, reward_file)
    turns = TurnRewards(taskset, split, reward_file, rewards or RewardsBlock())
    first, place = restore(run, learner, {"next_task": 0})
    policy.load(learner.publish())
    store = Store(run.rollouts)
    gate = None
    if calibrate is not None and calibrate.every:
        calibrate.check()
        gate = RunGate(run, calibrate, turns, store, block.seed, first)
    checkpoint_s = 0.0
    meter = PhaseMeter((policy, learner), machine)
    for step in range(first, block.steps):
        clock = Clock()
        meter.begin()
        turns.begin(step)
        with clock.phase("sample"):
            batch = await _sample(block, taskset, split, policy, turns, estimator, step, place["next_task"])
        place["next_task"] += batch.num_tasks
        given = _credit(batch.kept, estimator, block)
        samples = pack_groups(batch.kept, given, block)
        update = _update(block, learner, samples, loss, step, clock)
        with clock.phase("publish"):
            policy.load(learner.publish())
        with clock.phase("store"):
            store.write(f"step-{step:06d}", batch.rollouts)
        metrics = {
            **step_metrics(batch.groups, samples),
            **sampling_metrics(batch),
            **turns.metrics(batch.groups),
            **_credit_metrics(batch.kept, given, turns, block),
            **update,
            **clock.metrics(),
        }
        metrics["time/last_checkpoint_s"] = checkpoint_s
        metrics |= meter.metrics({**waited_s(batch.rollouts), "publish": clock.spent("publish")})
        _check_some_scored(batch.groups, step)
        if gate is not None:
            metrics |= gate.after(step, batch.rollouts)
        run.metrics.write(step, metrics)
        if (step + 1) % block.checkpoint_every == 0 or step + 1 == block.steps:
            began = time.perf_counter()
            save_checkpoint(run, learner, step, place)  # last: a step without one is done again, and replaces its own
            checkpoint_s = time.perf_counter() - began
        if on_step is not None:
            on_step(StepReport(step, block.steps, metrics))


async def _sample(
    block: TrainBlock,
    taskset: Taskset,
    split: str,
    policy: Policy,
    turns: TurnRewards,
    estimator: BatchEstimator,
    step: int,
    next_task: int,
) -> Batch:
    """Groups for one step. With several rounds, groups that teach nothing are replaced as long as rounds are left."""
    batch = Batch()
    cast = Cast(policy, params=SamplingParams(temperature=block.temperature))
    limits = Limits(max_turns=block.max_turns, max_tokens=block.max_tokens or None)
    while len(batch.kept) < block.tasks_per_step and batch.rounds < block.sampling_rounds:
        tag = f"step-{step:04d}" + (f".{batch.rounds}" if batch.rounds else "")
        tasks = _tasks(taskset, split, next_task + batch.num_tasks, block.tasks_per_step - len(batch.kept), block.seed)
        specs = plan_groups(tasks, block.rollouts_per_task, derive(block.seed, "step", step), tag)
        trees = await collect(specs, taskset, cast, limits, concurrency=block.concurrency)
        rollouts = turns.give([rollout for tree in trees for rollout in tree])
        groups = group_rollouts(rollouts)
        batch.rollouts += rollouts
        batch.groups += groups
        batch.kept += (
            groups if block.sampling_rounds == 1 else [one for one in groups if teaches(one, estimator, block)]
        )
        batch.num_tasks += len(tasks)
        batch.rounds += 1
    return batch


def teaches(group: Group, estimator: BatchEstimator, block: TrainBlock) -> bool:
    """Whether any turn of a group gets an advantage that is not 0, and is trained on."""
    (credit,) = _credit([group], estimator, block)
    return any(
        np.any(advantages)
        for rollout, advantages in zip(group.scored, credit.advantages, strict=True)
        if not _left_out(rollout, block)
    )


def _update(
    block: TrainBlock, learner: Learner, samples: Sequence[TrainingSample], loss: PolicyLoss, step: int, clock: Clock
) -> Metrics:
    """Score if asked, then `epochs` times `minibatches` updates; metrics are means over the updates."""
    found: Metrics = {}
    with clock.phase("score"):
        if block.old_logprobs == "trainer" and samples:
            old = learner.logprobs(samples)
            found |= mismatch_metrics(samples, old)
            samples = [dataclasses.replace(one, old_logprobs=row) for one, row in zip(samples, old, strict=True)]
        if loss.kl and samples:
            reference = learner.logprobs(samples, reference=True)
            samples = [dataclasses.replace(one, ref_logprobs=row) for one, row in zip(samples, reference, strict=True)]
    updates: list[Mapping[str, float]] = []
    with clock.phase("train"):
        for epoch in range(block.epochs):
            parts = minibatches(samples, block.minibatches, derive(block.seed, "minibatches", step, epoch))
            updates += [{**learner.forward_backward(part, loss), **learner.optim_step()} for part in parts]
    if updates and "abs_drift" in updates[0] and "mismatch/abs" not in found:
        found["mismatch/abs"] = updates[0]["abs_drift"]  # before any update of this batch: sampler against trainer
    names = {name for update in updates for name in update}
    found |= {f"train/{name}": float(np.mean([one[name] for one in updates if name in one])) for name in sorted(names)}
    return {**found, "train/updates": len(updates)}


def minibatches(samples: Sequence[TrainingSample], count: int, seed: int) -> list[list[TrainingSample]]:
    """`samples` in `count` parts of about as many rollouts each, at random; a rollout's samples stay together."""
    rollouts: dict[str, list[TrainingSample]] = {}
    for sample in samples:
        rollouts.setdefault(sample.rollout_id, []).append(sample)
    names = list(rollouts)
    if count > 1:
        names = [names[place] for place in generator(seed, "order").permutation(len(names))]
    parts = [part for part in np.array_split(np.arange(len(names)), count) if len(part)]
    return [[sample for place in part for sample in rollouts[names[place]]] for part in parts]


def _check_some_scored(groups: Sequence[Group], step: int) -> None:
    """Training on nothing but failures of the infrastructure would look like progress."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if not any(rollout.scored for rollout in rollouts):
        first = rollouts[0]
        raise TrainingStopped(
            f"step {step}: none of {len(rollouts)} episodes could be scored; the first is {first.status} "
            f"({first.cause}: {first.detail}). Mend that, then resume the run"
        )


def credit_groups(
    groups: Sequence[Group], estimator: BatchEstimator, block: TrainBlock | None = None
) -> list[TrainingSample]:
    """The training samples of all groups under an estimator, and what `block` says of episodes that ran into a cap."""
    block = block or TrainBlock()
    return pack_groups(groups, _credit(groups, estimator, block), block)


def pack_groups(groups: Sequence[Group], credits: Sequence[Credit], block: TrainBlock) -> list[TrainingSample]:
    """The training samples of groups and their credit; those of cut episodes only if `block` keeps them."""
    samples: list[TrainingSample] = []
    for group, credit in zip(groups, credits, strict=True):
        left_out = {rollout.rollout_id for rollout in group.scored if _left_out(rollout, block)}
        samples += [sample for sample in pack_group(group, credit) if sample.rollout_id not in left_out]
    return samples


def _left_out(rollout: Rollout, block: TrainBlock) -> bool:
    """Whether an episode is in its group's baseline alone, and in no gradient."""
    return block.truncated == "mask" and rollout.status == "truncated"


def _credit(groups: Sequence[Group], estimator: BatchEstimator, block: TrainBlock) -> list[Credit]:
    check_finite(groups)
    return estimator([shaped_rewards(group, block) for group in groups])


def shaped_rewards(group: Group, block: TrainBlock) -> GroupRewards:
    """What estimators are given of a group: `group_rewards`, outcomes less what `block` takes off long episodes, and no
    trained tokens in those that it leaves out."""

    def shaping(rollout: Rollout) -> float:
        sampled = sum(turn.sampled_tokens for turn in rollout.agent_turns)
        return overlong_penalty(sampled, block.max_tokens, block.overlong_buffer, block.overlong_penalty)

    return _trained_alone(group_rewards(group, shaping), group, block)


def _trained_alone(rewards: GroupRewards, group: Group, block: TrainBlock) -> GroupRewards:
    """Without the tokens of episodes that are left out: what counts over trained tokens counts what is trained."""
    tokens = [
        np.zeros_like(counts) if _left_out(rollout, block) else counts
        for rollout, counts in zip(group.scored, rewards.tokens, strict=True)
    ]
    return dataclasses.replace(rewards, tokens=tokens)


def _credit_metrics(
    groups: Sequence[Group], credits: Sequence[Credit], turns: TurnRewards, block: TrainBlock
) -> Metrics:
    rewards = [_trained_alone(group_rewards(group), group, block) for group in groups]
    return dict(credit_metrics(turns_of(rewards, credits, turns.tiers(groups)), rewards))


def step_metrics(groups: Sequence[Group], samples: Sequence[TrainingSample]) -> Metrics:
    """What every step logs about its rollouts. Means are over scored rollouts; None where there are none."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored = [rollout for rollout in rollouts if rollout.scored]
    outcomes = [[float(bool(rollout.outcome.success)) for rollout in group.scored] for group in groups]
    rewards = [{outcome_of(rollout) for rollout in group.scored} for group in groups]
    statuses = Counter(rollout.status for rollout in rollouts)
    return {
        "rollout/success": float(np.mean([value for group in outcomes for value in group])) if scored else None,
        "rollout/turns": float(np.mean([len(rollout.agent_turns) for rollout in scored])) if scored else None,
        "rollout/episodes": len(rollouts),
        "rollout/truncated": statuses["truncated"],
        "rollout/errored": statuses["errored"],
        "group/zero_variance": sum(len(different) < 2 for different in rewards),
        "group/num_groups": len(groups),
        "train/samples": len(samples),
    }


def sampling_metrics(batch: Batch) -> Metrics:
    """Tokens of the step, statuses by cause, and what dynamic sampling set aside."""
    turns = [turn for rollout in batch.rollouts for turn in rollout.turns if turn.trainable]
    causes = Counter(f"{one.status}_{one.cause}" for one in batch.rollouts if one.status != "completed")
    return {
        "tokens/sampled": sum(turn.sampled_tokens for turn in turns),
        "tokens/prompt": sum(turn.prompt_tokens for turn in turns),
        "rollout/cut_answers": sum(turn.finish == "length" for turn in turns),
        "group/set_aside": len(batch.groups) - len(batch.kept),
        "group/sampling_rounds": batch.rounds,
        **{f"status/{name}": count for name, count in sorted(causes.items())},
    }


def mismatch_metrics(samples: Sequence[TrainingSample], trainer: Sequence[np.ndarray[Any, Any]]) -> Metrics:
    """How far the trainer's logprobs are from the sampler's on the same weights: mean and largest difference, and the
    k3 estimate of KL(sampler, trainer)."""
    log_ratio = np.concatenate(
        [(row - one.sampler_logprobs)[one.mask] for one, row in zip(samples, trainer, strict=True)]
    ).astype(np.float64)
    return {
        "mismatch/abs": float(np.abs(log_ratio).mean()),
        "mismatch/max": float(np.abs(log_ratio).max()),
        "mismatch/k3": float((np.expm1(log_ratio) - log_ratio).mean()),
    }


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._spent: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - began

    def spent(self, name: str) -> float:
        return self._spent.get(name, 0.0)

    def metrics(self) -> Metrics:
        """Seconds of every phase, and since the clock was made."""
        return {f"time/{name}_s": spent for name, spent in [*self._spent.items(), ("step", self._since())]}

    def _since(self) -> float:
        return time.perf_counter() - self._began


def check_tasks(block: TrainBlock, taskset: Taskset, split: str) -> None:
    """Raises InputError for tasks that cannot fill a step."""
    size = taskset.splits.get(split)
    if size is None:
        raise InputError(f"{taskset.env} has no split {split!r}; it has {', '.join(taskset.splits)}")
    most = block.tasks_per_step * block.sampling_rounds
    if most > size:
        raise InputError(
            f"a step takes up to {most} tasks (train.tasks_per_step x sampling_rounds), and {taskset.env} {split} has "
            f"{size}; a step takes each at most once"
        )


def _tasks(taskset: Taskset, split: str, first: int, count: int, seed: int) -> list[Task]:
    """The next tasks in the split's own order, round and round; the order is a property of the taskset."""
    size = taskset.splits[split]
    return [taskset.task(split, (first + place) % size, seed) for place in range(count)]
