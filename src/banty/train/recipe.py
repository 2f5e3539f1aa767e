"""The recipe of a reinforcement-learning run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from banty.credit import ESTIMATORS
from banty.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EnvBlock:
    """Which tasks. `options` go to the taskset, such as `data` or `grade`."""

    name: str = "airline/mini"
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class PolicyBlock:
    """What is trained: a habit policy that lapses with probability `lapse`, or at `lapses[point]` where given."""

    type: Literal["habits"] = "habits"
    lapse: float = 0.2
    lapses: Mapping[str, float] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainBlock:
    """How it is trained. `tasks_per_step` groups of `rollouts_per_task` episodes make one update."""

    steps: int = 30
    tasks_per_step: int = 16
    rollouts_per_task: int = 8
    learning_rate: float = 1.0
    estimator: str = "rloo"
    temperature: float = 1.0
    max_turns: int = 20
    concurrency: int = 64
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EvalBlock:
    """The evaluation before and after: the same held-out tasks and seeds both times."""

    split: str = "test"
    num_tasks: int = 200
    num_trials: int = 4
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class RLRecipe:
    """A run: tasks, policy, training, evaluation."""

    env: EnvBlock = field(default_factory=EnvBlock)
    policy: PolicyBlock = field(default_factory=PolicyBlock)
    train: TrainBlock = field(default_factory=TrainBlock)
    eval: EvalBlock = field(default_factory=EvalBlock)

    def check(self) -> None:
        """Raises InputError for values that contradict each other or cannot work."""
        train = self.train
        for name in ("steps", "tasks_per_step", "rollouts_per_task", "max_turns", "concurrency"):
            if getattr(train, name) < 1:
                raise InputError(f"train.{name} is {getattr(train, name)}; it takes at least 1")
        if train.rollouts_per_task < 2:
            raise InputError("train.rollouts_per_task is 1; a leave-one-out baseline needs at least 2 in a group")
        for name in ("learning_rate", "temperature"):
            if not 0.0 < getattr(train, name) < math.inf:
                raise InputError(f"train.{name} is {getattr(train, name)}; it takes a finite number above 0")
        rates = {"lapse": self.policy.lapse, **{f"lapses.{point}": at for point, at in self.policy.lapses.items()}}
        for name, rate in rates.items():
            if not 0.0 < rate < 1.0:
                raise InputError(f"policy.{name} is {rate}; it takes a number between 0 and 1, ends excluded")
        if train.estimator not in ESTIMATORS:
            raise InputError(f"train.estimator is {train.estimator!r}; known are {', '.join(ESTIMATORS)}")
        if self.eval.num_tasks < 1 or self.eval.num_trials < 1:
            raise InputError("eval.num_tasks and eval.num_trials take at least 1")
