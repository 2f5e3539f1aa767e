"""Which learning rate the habit recipe should use: success on the dev split after training, over seeds.

python benchmarks/habit_learning_rate.py --rates 5 10 20 40 --seeds 3 --steps 40
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from banty.envs.airline.expert import AIRLINE_EXPERT
from banty.envs.registry import make_taskset
from banty.evals import EvalPlan, evaluate
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Limits
from banty.rollout import Cast
from banty.runs import RunFolder
from banty.stats import seed_interval, task_means
from banty.train.recipe import TrainBlock
from banty.train.rl import train_rl


def dev_success(rate: float, seed: int, steps: int, num_tasks: int) -> float:
    """Success on held-out dev tasks after one training run."""
    taskset = make_taskset("airline/mini")
    weights = HabitWeights.with_lapses(AIRLINE_EXPERT.points, 0.3)
    policy, learner = HabitPolicy(AIRLINE_EXPERT, weights), HabitLearner(weights, rate)
    block = TrainBlock(steps=steps, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", {})
        asyncio.run(train_rl(block, taskset, "train", policy, learner, run))
    plan = EvalPlan(split="dev", num_tasks=num_tasks, num_trials=2, seed=1, limits=Limits(max_turns=block.max_turns))
    rollouts = asyncio.run(evaluate(plan, taskset, Cast(policy)))
    return float(task_means([[float(bool(rollout.outcome.success))] for rollout in rollouts]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[5.0, 10.0, 20.0, 40.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=200)
    args = parser.parse_args()
    print(
        f"airline/mini dev, {args.tasks} tasks x 2, {args.steps} steps of 16 x 8, {args.seeds} seeds; 95 % over seeds"
    )
    for rate in args.rates:
        values = [dev_success(rate, seed, args.steps, args.tasks) for seed in range(args.seeds)]
        print(f"rate {rate:>5g}  {seed_interval(values)}  {' '.join(f'{value:.3f}' for value in values)}", flush=True)


if __name__ == "__main__":
    main()
