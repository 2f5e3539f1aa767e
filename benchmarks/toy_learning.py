"""Does a tiny model learn by RL on the toy desk, with all its weights and with an adapter? Over training seeds.

PYTHONPATH=. python benchmarks/toy_learning.py --seeds 5

The desk and its model are those of the tests (`tests/toy.py`): a random Qwen3 of 50 thousand parameters imitates
conversations that guess two times in five, then trains on the verified outcome. One thread, some 25 s a seed and arm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tests.train import toy_run

from banty.learn.learner import TorchLearner
from banty.models.loading import LoraSpec
from banty.records import OptimizerSpec
from banty.stats import seed_interval

ARMS: Mapping[str, tuple[float, dict[str, Any]]] = {
    "all weights, float32": (6e-4, {}),
    "LoRA rank 8, bfloat16": (5e-3, {"lora": LoraSpec(8), "dtype": "bfloat16"}),
}


def after(rate: float, options: Mapping[str, Any], seed: int, steps: int, num_tasks: int) -> float:
    """Success on held-out tasks after training from the warm model."""
    torch.manual_seed(seed)
    policy = toy_run.policy_of(toy_run.warm(), **options)
    learner = TorchLearner(policy.engine.model, OptimizerSpec(learning_rate=rate))
    with tempfile.TemporaryDirectory() as folder:
        toy_run.train(Path(folder) / "run", steps, policy, learner, seed=seed)
    return toy_run.success(policy, num_tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=400)
    args = parser.parse_args()
    before = toy_run.success(toy_run.policy_of(toy_run.warm()), args.tasks)
    print(
        f"toy/colours test, {args.tasks} tasks x 1, {args.steps} steps of 8 x 8, {args.seeds} training seeds; before "
        f"{before:.3f}; after, with 95 % over seeds:"
    )
    for name, (rate, options) in ARMS.items():
        started = time.perf_counter()
        found = [after(rate, options, seed, args.steps, args.tasks) for seed in range(args.seeds)]
        each = " ".join(f"{value:.3f}" for value in found)
        spent = (time.perf_counter() - started) / args.seeds
        print(f"{name:<24} {seed_interval(found)}   seeds {each}   {spent:.0f} s a seed")


if __name__ == "__main__":
    main()
