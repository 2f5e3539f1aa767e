"""The base of tasksets: what they have in common, and what they say to wrong input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from banty.envs.baselines import do_nothing
from banty.errors import InputError
from banty.records import (
    JSON,
    Baselines,
    Env,
    Expert,
    Habit,
    Task,
    TaskContent,
    ToolCall,
    ToolMatching,
    generator,
    sha256_json,
)


class Tasks:
    """Base of tasksets. A subclass names its `env` and `splits`, and gives `make` and `episode`.

    `make` draws one task's data from the generator it is given, which depends on the taskset's name, the split, the
    index and the seed alone. Data that is JSON, or dataclasses of JSON, is fingerprinted as it is.
    """

    env: str
    splits: Mapping[str, int]

    @property
    def roles(self) -> frozenset[str]:
        return frozenset()

    @property
    def provenance(self) -> Mapping[str, JSON]:
        return {}

    @property
    def pinned(self) -> Mapping[str, JSON]:
        """The provenance that decides what tasks ask and how they are scored: the part that is in their fingerprint."""
        return self.provenance

    def make(self, split: str, index: int, rng: np.random.Generator) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must make its tasks' data: def make(self, split, index, rng)")

    def episode(self, task: Task) -> Env:
        raise NotImplementedError(f"{type(self).__name__} must make its episodes: def episode(self, task)")

    def public(self, data: Any) -> Mapping[str, JSON]:
        """What anyone may know of a task."""
        return {}

    def task(self, split: str, index: int, seed: int = 0) -> Task:
        check_place(self.env, self.splits, split, index)
        rng = generator(Task(self.env, split, index, seed).env_seed, "task")
        data = self.make(split, index, rng)
        return Task(self.env, split, index, seed, self.public(data), data)

    def baselines(self) -> Baselines:
        return Baselines(self, {"do-nothing": do_nothing()})

    def expert(self) -> Expert | None:
        return None

    def habits(self) -> Mapping[str, Habit]:
        return {}

    def golden(self, task: Task) -> Sequence[ToolCall] | None:
        return None

    def matching(self) -> Mapping[str, ToolMatching]:
        return {}

    def content(self, task: Task) -> TaskContent:
        """The texts in the task's data, and of its golden calls those of tools that do more than read."""
        golden = self.golden(task)
        writes = None
        if golden is not None:
            tools = getattr(type(self.episode(task)), "tools", {})
            reads = {name for name, tool in tools.items() if tool.schema.effect == "read"}
            writes = tuple(call for call in golden if call.name not in reads)
        return TaskContent(text="\n".join(_texts(self.describe(task.data))), writes=writes)

    def describe(self, data: Any) -> JSON:
        """A task's data as JSON, for the fingerprint."""
        return dataclasses.asdict(data) if dataclasses.is_dataclass(data) and not isinstance(data, type) else data

    def fingerprint(self, split: str, num_tasks: int | None = None, seed: int = 0) -> str:
        check_place(self.env, self.splits, split)
        wanted = self.splits[split] if num_tasks is None else min(num_tasks, self.splits[split])
        tasks = [self.describe(self.task(split, index, seed).data) for index in range(wanted)]
        try:
            return sha256_json({"env": self.env, "provenance": dict(self.pinned), "tasks": tasks})
        except TypeError as error:
            raise InputError(
                f"the data of {self.env} is not JSON ({error}); give {type(self).__name__} a describe(self, data)"
            ) from error


def _texts(value: Any) -> Iterator[str]:
    """The texts in JSON, in its order, keys left out; a number is the text of it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


def check_place(env: str, splits: Mapping[str, int], split: str, index: int = 0) -> None:
    """Raises InputError for a split or a task that does not exist."""
    if split not in splits:
        raise InputError(f"{env} has no split {split!r}; it has {', '.join(splits)}")
    if not 0 <= index < splits[split]:
        raise InputError(f"{env} {split} has tasks 0 to {splits[split] - 1}; {index} was asked for")


def one_of(name: str, value: Any, choices: Any) -> Any:
    """`value`, or InputError naming what `choices`, a Literal type, allows."""
    allowed = get_args(choices)
    if value not in allowed:
        raise InputError(f"{name}={value} is not one of {', '.join(map(str, allowed))}")
    return value
