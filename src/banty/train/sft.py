"""Supervised fine-tuning on conversations: stored rollouts, or traces from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from banty.errors import InputError
from banty.perf import Machine, PhaseMeter
from banty.records import (
    Learner,
    Message,
    Rollout,
    Segment,
    SupervisedLoss,
    Task,
    ToolSchema,
    TrainingSample,
    Turn,
    derive,
    generator,
)
from banty.rollout import stored_rollouts
from banty.runs import RunFolder
from banty.train.checkpoints import restore, save_checkpoint
from banty.train.recipe import DataBlock, SFTBlock
from banty.train.rl import Clock, StepReport
from banty.train.samples import pack_rollout
from banty.train.traces import Trace, read_traces, trace_of


class Teacher(Protocol):
    """Writes a conversation in a model's own tokens, the model's turns as what it is to sample."""

    def turns(
        self,
        opening: Sequence[Message],
        tools: Sequence[ToolSchema],
        turns: Sequence[tuple[Message, Sequence[Message]]],
    ) -> Sequence[Segment]: ...


def supervised_samples(data: DataBlock, teacher: Teacher) -> list[TrainingSample]:
    """Everything `data` names as training samples, each trained token with weight 1; see `DataBlock`.

    Raises InputError when nothing is left to imitate.
    """
    samples: list[TrainingSample] = []
    num_rollouts = 0
    for folder in data.rollouts:
        rollouts = [rollout for rollout in stored_rollouts(Path(folder)) if rollout.scored and rollout.agent_turns]
        num_rollouts += len(rollouts)
        for rollout in rollouts:
            if rollout.outcome.success or not data.only_successes:
                samples += _of_rollout(rollout, data, teacher)
    for file in data.traces:
        for trace in read_traces(file):
            samples += taught_samples(trace, teacher)
    if not samples:
        raise InputError(
            f"nothing is left to imitate: {num_rollouts} scored rollouts, none of them successful"
            if data.only_successes and num_rollouts
            else f"{', '.join((*data.rollouts, *data.traces))} holds no conversation to imitate"
        )
    return samples


def _of_rollout(rollout: Rollout, data: DataBlock, teacher: Teacher) -> list[TrainingSample]:
    if data.tokens == "text":
        return taught_samples(trace_of(rollout), teacher)
    turns = rollout.agent_turns
    packed = pack_rollout(rollout, turns, [1.0] * len(turns), [1.0] * len(turns))
    return [dataclasses.replace(sample, temperature=1.0) for sample in packed]  # however it was drawn


def taught_samples(trace: Trace, teacher: Teacher) -> list[TrainingSample]:
    """A conversation written by `teacher`: one sample, or several where the template rewrites history."""
    try:
        segments = teacher.turns(trace.opening, trace.tools, trace.turns)
    except InputError as error:
        raise InputError(f"{trace.name}: {error}") from error
    turns = [
        Turn(place, "agent", message, trainable=True, segment=segment)
        for place, ((message, _), segment) in enumerate(zip(trace.turns, segments, strict=True))
    ]
    whole = Rollout(trace.name, Task("", "", 0, 0), "completed", turns=tuple(turns))
    return pack_rollout(whole, turns, [1.0] * len(turns), [1.0] * len(turns))


def train_sft(
    block: SFTBlock,
    samples: Sequence[TrainingSample],
    learner: Learner,
    run: RunFolder,
    on_step: Callable[[StepReport], None] | None = None,
    *,
    loss: SupervisedLoss | None = None,
    machine: Machine | None = None,
) -> None:
    """Imitate `samples`, starting after the last checkpoint the run folder holds.

    A run that is interrupted and resumed ends with the same weights as one that was not. Raises InputError when it is
    resumed with other samples.
    """
    block.check()
    loss = loss or SupervisedLoss()
    _check_same(run, samples)
    first, _ = restore(run, learner, {})
    num_steps = steps_of(block, len(samples))
    meter = PhaseMeter((learner,), machine)
    for step, places in enumerate(_batches(block, len(samples))):
        if step < first:
            continue
        if step >= num_steps:
            break
        clock = Clock()
        meter.begin()
        with clock.phase("train"):
            update = {**learner.forward_backward([samples[place] for place in places], loss), **learner.optim_step()}
        metrics = {**{f"train/{name}": value for name, value in update.items()}, **clock.metrics(), **meter.metrics()}
        run.metrics.write(step, metrics)
        if (step + 1) % block.checkpoint_every == 0 or step + 1 == num_steps:
            save_checkpoint(run, learner, step, {})
        if on_step is not None:
            on_step(StepReport(step, num_steps, metrics))


def steps_of(block: SFTBlock, num_samples: int) -> int:
    """How many updates a block makes of so many samples."""
    whole = block.epochs * math.ceil(num_samples / block.batch_size)
    return min(whole, block.steps) if block.steps else whole


def _batches(block: SFTBlock, num_samples: int) -> Iterator[list[int]]:
    for epoch in range(block.epochs):
        order = generator(derive(block.seed, "order", epoch), "sft").permutation(num_samples)
        for start in range(0, num_samples, block.batch_size):
            yield order[start : start + block.batch_size].tolist()


def _check_same(run: RunFolder, samples: Sequence[TrainingSample]) -> None:
    """The first time, write down what is imitated; later, see that it is the same."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.token_ids.tobytes() + np.packbits(sample.mask).tobytes())
    found: Mapping[str, object] = {
        "num_samples": len(samples),
        "trained_tokens": sum(int(sample.mask.sum()) for sample in samples),
        "tokens": sum(len(sample.token_ids) for sample in samples),
        "sha256": digest.hexdigest(),
    }
    if not (run.path / "data.json").exists():
        run.write_json("data.json", found)
    elif run.read_json("data.json") != found:
        raise InputError(
            f"the conversations are not those {run.path} began with (see its data.json); bring those back, or start a "
            "new run"
        )
