"""One problem, pinned by where it came from, and sets of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from banty.records.messages import JSON, ToolCall
from banty.records.seeds import derive

if TYPE_CHECKING:
    from banty.records.contracts import Env, Expert, Habit, Policy


@dataclass(frozen=True)
class Task:
    """One problem with its data.

    `(env, split, index, seed)` pins it: the same four give the same bytes everywhere, so a client on the other side of
    a wire names a task by them and never holds the data. `public` may be shown to anyone. `data` is the environment's
    own: it may hold the scenario and the gold answer, is never part of `pin`, `repr`, an observation or a schema.
    """

    env: str
    split: str
    index: int
    seed: int
    public: Mapping[str, JSON] = field(default_factory=dict)
    data: Any = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.env}:{self.split}:{self.index}:{self.seed}"

    @property
    def env_seed(self) -> int:
        """The seed of the environment's draws, the same for all members of a group and for nothing else."""
        return derive(self.seed, self.env, self.split, self.index)

    @property
    def pin(self) -> JSON:
        """What a client may know and send back to get this task again."""
        return {"env": self.env, "split": self.split, "index": self.index, "seed": self.seed}


@dataclass(frozen=True)
class Baselines:
    """Scripted policies by name, made for a task, and the taskset they play on.

    The taskset may differ from the one they are baselines of in who the user is, so that none of them needs a model.
    """

    taskset: Taskset
    policies: Mapping[str, Callable[[Task], Policy]]


@dataclass(frozen=True, slots=True)
class GoldenCall(ToolCall):
    """A golden call of which the arguments named in `compared` alone count: a call with the same ones is this one,
    whatever else it says. Of a golden call that is a plain `ToolCall` all arguments count."""

    compared: tuple[str, ...] = ()


def compared_of(golden: ToolCall) -> tuple[str, ...] | None:
    """The arguments of a golden call that count; None for all of them."""
    return golden.compared if isinstance(golden, GoldenCall) else None


@dataclass(frozen=True, kw_only=True)
class ToolMatching:
    """How arguments of one tool are compared with those of a golden call: names of keys, at any depth.

    What is under a key of `ignore` is not compared. The lists under `as_set` have no order. Texts under `text` are
    compared without letter case and white space. Under `numbers` a text that spells a number is that number.
    """

    ignore: tuple[str, ...] = ()
    as_set: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskContent:
    """What a task could have in common with another one, for audits of leakage. Private like the task's data.

    `customers` are the ids of whom it is about, `text` is what its user is told or says, `writes` are the golden calls
    that change something. `templates` are the wordings its user may speak in, one text each. `tables` are the sha256
    of the tables it is played on, by name. None is for what nobody knows.
    """

    customers: frozenset[str] | None = None
    text: str = ""
    writes: tuple[ToolCall, ...] | None = None
    templates: frozenset[str] | None = None
    tables: Mapping[str, str] | None = None


class Taskset(Protocol):
    """Many tasks of one environment, with splits, and the factory of episodes over them."""

    @property
    def env(self) -> str:
        """The environment's registered name, such as `airline/mini`."""

    @property
    def splits(self) -> Mapping[str, int]:
        """Number of tasks in each split."""

    @property
    def provenance(self) -> Mapping[str, JSON]:
        """What a result has to name: grader, user simulator, world, versions."""

    @property
    def roles(self) -> frozenset[str]:
        """The roles an episode asks for, which a run must place policies in."""

    def task(self, split: str, index: int, seed: int = 0) -> Task:
        """The pinned task. Raises InputError for a split or an index that does not exist."""

    def episode(self, task: Task) -> Env:
        """A fresh single-use environment for one episode of `task`. Quick: what may take long belongs in `start`."""

    def baselines(self) -> Baselines:
        """What any result on these tasks is read against."""

    def expert(self) -> Expert | None:
        """The environment's scripted expert, if it has one."""

    def habits(self) -> Mapping[str, Habit]:
        """What results on these tasks are searched for, by name."""

    def golden(self, task: Task) -> Sequence[ToolCall] | None:
        """The calls of one reference path of a task, in order; none where a right ending makes no call, and None where
        nobody knows. Private like the task's data: never part of an observation, a schema or a store."""

    def matching(self) -> Mapping[str, ToolMatching]:
        """By tool, what in its arguments has no meaning when a call is compared with a golden one."""

    def content(self, task: Task) -> TaskContent:
        """What the task could share with others. Private like its data."""

    def fingerprint(self, split: str, num_tasks: int | None = None, seed: int = 0) -> str:
        """sha256 over everything that decides what the first `num_tasks` tasks ask and how they are scored."""


def canonical_json(value: JSON) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_json(value: JSON) -> str:
    """The sha256, in hex, of `canonical_json(value)`."""
    # JSON from a model or a tool may hold half a surrogate pair, which UTF-8 refuses.
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def take(taskset: Taskset, split: str, num_tasks: int | None, seed: int = 0) -> Sequence[Task]:
    """The first `num_tasks` tasks of a split in their fixed order, or all of them."""
    size = taskset.splits.get(split, 0)
    wanted = size if num_tasks is None else num_tasks
    # An index past the end is left to the taskset, which knows the words for its own error.
    return [taskset.task(split, index, seed) for index in range(wanted if wanted > 0 else 1)][:wanted]
