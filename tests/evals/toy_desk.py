"""A desk where one guesses a number, and guessers that are right, wrong or out of order as a test tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from banty.envs.tasksets import Tasks
from banty.errors import PolicyFault
from banty.records import (
    JSON,
    Capability,
    Completion,
    Env,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    SampleRequest,
    Task,
    generator,
)


class Guessing:
    """Two turns: a number, and a number again; both have to be right."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.said: list[str] = []

    async def start(self, host: Host) -> Opening:
        return Opening((Message("user", "which number?"),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self.said.append(completion.message.content)
        return Observation((Message("user", "sure?"),), done=len(self.said) == 2)

    def outcome(self) -> Outcome:
        right = [said == str(self.answer) for said in self.said]
        return Outcome(all(right), sum(right) / 2, {"right": float(sum(right)), "style": None})

    async def close(self) -> None: ...


class GuessingTasks(Tasks):
    env = "toy/guessing"
    splits: Mapping[str, int] = {"train": 5, "test": 12}

    def __init__(self, grader: str = "exact") -> None:
        self.grader = grader

    @property
    def provenance(self) -> Mapping[str, JSON]:
        return {"grader": self.grader, "user": "scripted"}

    def make(self, split: str, index: int, rng: np.random.Generator) -> int:
        return int(rng.integers(10))

    def public(self, data: int) -> Mapping[str, JSON]:
        return {"kind": "odd" if data % 2 else "even"}

    def episode(self, task: Task) -> Env:
        return Guessing(task.data)


class Guesser:
    """Knows every answer and gives it with the chance `skill`; faults in the episodes named, and counts its turns."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self, taskset: GuessingTasks, skill: float = 0.6, faults: frozenset[str] = frozenset(), seed: int = 0
    ) -> None:
        self.name = f"guesser {skill}"
        self.skill = skill
        self.faults = faults
        self.turns: Counter[str] = Counter()
        self._answers = {
            task.id: str(task.data)
            for split in taskset.splits
            for index in range(taskset.splits[split])
            for task in [taskset.task(split, index, seed)]
        }

    async def sample(self, request: SampleRequest) -> Completion:
        episode = request.session.partition("|")[0]
        self.turns[episode] += 1
        if episode in self.faults:
            raise PolicyFault("the engine is down")
        seed = request.params.seed
        assert seed is not None
        right = generator(seed, "skill").random() < self.skill
        return Completion(Message("assistant", self._answers[episode.partition("#")[0]] if right else "none"))

    async def release(self, session: str) -> None: ...
