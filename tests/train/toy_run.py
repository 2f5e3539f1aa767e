"""Training runs of a tiny language model on the toy desk: warmed up once a test run, then trained by what is tested."""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.toy import ColourTasks, careless, write_toy

from banty.evals import EvalPlan, evaluate
from banty.learn.learner import TorchLearner
from banty.models.loading import LanguageModel, load_model
from banty.policies.token import TokenPolicy
from banty.records import OptimizerSpec, TrainingSample, take
from banty.rollout import Cast, collect, plan_groups
from banty.runs import RunFolder
from banty.train.recipe import SFTBlock, TrainBlock
from banty.train.rl import StepReport, train_rl
from banty.train.sft import taught_samples, train_sft
from banty.train.traces import trace_of

TASKSET = ColourTasks()
CARELESS = 0.4


def traces(policy: TokenPolicy, count: int = 1000) -> list[TrainingSample]:
    """Careless conversations on training tasks, as what this policy's model would have sampled."""
    specs = plan_groups(take(TASKSET, "train", count, 0), 1, 0)
    trees = asyncio.run(collect(specs, TASKSET, Cast(careless(CARELESS))))
    return [sample for tree in trees for sample in taught_samples(trace_of(tree[0]), policy.renderer)]


def policy_of(folder: Path, **options: Any) -> TokenPolicy:
    return TokenPolicy.of(load_model(folder, **options), max_tokens=16)


@functools.cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="banty-toy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def warm() -> Path:
    """A model that has imitated careless conversations: it looks up and copies, and guesses two times in five."""
    policy = policy_of(write_toy(scratch() / "random"))
    learner = TorchLearner(policy.engine.model, OptimizerSpec(learning_rate=6e-3, decay_steps=300))
    run = RunFolder.create(scratch() / "sft", {})
    block = SFTBlock(epochs=50, steps=300, batch_size=32, checkpoint_every=300)
    train_sft(block, traces(policy), learner, run)
    policy.engine.model.save(scratch() / "warm")
    return scratch() / "warm"


def success(policy: TokenPolicy, num_tasks: int = 200) -> float:
    """Sampled success on held-out tasks."""
    plan = EvalPlan(split="test", num_tasks=num_tasks, seed=1)
    rollouts = asyncio.run(evaluate(plan, TASKSET, Cast(policy)))
    assert all(rollout.scored for rollout in rollouts)
    return sum(bool(rollout.outcome.success) for rollout in rollouts) / len(rollouts)


def train(
    folder: Path,
    num_steps: int,
    policy: TokenPolicy,
    learner: TorchLearner | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    rate: float = 6e-4,
    loss: Any = None,
    **settings: Any,
) -> LanguageModel:
    """Carry the run in `folder`, new or not, on to `num_steps` steps; the model it ends with."""
    block = TrainBlock(**{"tasks_per_step": 8, "rollouts_per_task": 8, "max_turns": 8, **settings, "steps": num_steps})
    run = RunFolder.open(folder) if (folder / "manifest.json").exists() else RunFolder.create(folder, {})
    pupil = learner or TorchLearner(policy.engine.model, OptimizerSpec(learning_rate=rate))
    asyncio.run(train_rl(block, TASKSET, "train", policy, pupil, run, on_step, loss=loss))
    return pupil.model
