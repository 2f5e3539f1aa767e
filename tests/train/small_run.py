"""A small training run on airline/mini. As a program it trains until it is killed, a line after every step."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from banty.envs.registry import make_taskset
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.rollout import Store
from banty.runs import RunFolder, read_metrics
from banty.train.recipe import TrainBlock
from banty.train.rl import StepReport, train_rl

TASKSET = make_taskset("airline/mini")


def fresh_learner(learning_rate: float = 40.0, lapse: float = 0.3) -> HabitLearner:
    expert = TASKSET.expert()
    assert expert is not None
    return HabitLearner(HabitWeights.with_lapses(expert.points, lapse), learning_rate)


def policy_over(weights: HabitWeights) -> HabitPolicy:
    expert = TASKSET.expert()
    assert expert is not None
    return HabitPolicy(expert, weights)


def train(
    folder: Path,
    num_steps: int,
    learner: HabitLearner | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    **settings: Any,
) -> HabitWeights:
    """Carry the run in `folder`, new or not, on to `num_steps` steps; the weights it ends with."""
    block = TrainBlock(**{"tasks_per_step": 4, "rollouts_per_task": 4, "seed": 3, **settings, "steps": num_steps})
    run = RunFolder.open(folder) if (folder / "manifest.json").exists() else RunFolder.create(folder, {})
    pupil = learner or fresh_learner()
    asyncio.run(train_rl(block, TASKSET, "train", policy_over(pupil.publish()), pupil, run, on_step))
    return pupil.publish()


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run without its clock."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def story(folder: Path) -> dict[str, Any]:
    """What every stored episode sampled and how it ended."""
    rollouts = list(Store(folder / "rollouts").read())
    told = {
        rollout.rollout_id: (
            rollout.version,
            rollout.status,
            rollout.outcome,
            [(turn.message, list(turn.segment.sampled_ids) if turn.segment else None) for turn in rollout.agent_turns],
        )
        for rollout in rollouts
    }
    assert len(told) == len(rollouts), "an episode is stored once"
    return told


if __name__ == "__main__":
    train(Path(sys.argv[1]), 10_000, on_step=lambda report: print(json.dumps(report.step), flush=True))  # noqa: T201
