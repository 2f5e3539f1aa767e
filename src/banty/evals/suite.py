"""Running an evaluation: tasks times trials, in shards, resumable."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from banty.envs.tasksets import check_place
from banty.errors import InputError
from banty.records import (
    JSON,
    Capability,
    Completion,
    EpisodeSpec,
    Limits,
    Policy,
    Rollout,
    SampleRequest,
    SamplingParams,
    Task,
    Taskset,
    sha256_json,
    take,
)
from banty.rollout import Cast, Store, collect, plan_groups

SHARD_SIZE = 64
LONGEST_UNWRITTEN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """Which episodes an evaluation consists of.

    All but `concurrency` and `exact`, which say only how they are run, is part of the evaluation's identity. `without`
    names tasks of the first `num_tasks` that are left out, by the ids that an audit gives them.
    """

    split: str = "test"
    num_tasks: int | None = None
    num_trials: int = 1
    seed: int = 0
    params: SamplingParams = field(default_factory=SamplingParams)
    limits: Limits = field(default_factory=Limits)
    concurrency: int = 64
    exact: bool = True
    without: tuple[str, ...] = ()

    def check(self, taskset: Taskset) -> None:
        """Raises InputError for a plan that these tasks cannot serve."""
        check_place(taskset.env, taskset.splits, self.split)
        size = taskset.splits[self.split]
        if self.num_tasks is not None and not 1 <= self.num_tasks <= size:
            raise InputError(f"{taskset.env} {self.split} has {size} tasks; {self.num_tasks} were asked for")
        if self.num_trials < 1:
            raise InputError(f"{self.num_trials} trials were asked for; it takes at least 1")
        for name, value in (("max_turns", self.limits.max_turns), ("concurrency", self.concurrency)):
            if value < 1:
                raise InputError(f"{name} is {value}; it takes at least 1")
        if self.params.max_tokens is not None and self.params.max_tokens < 1:
            raise InputError(f"max_tokens is {self.params.max_tokens}; it takes at least 1")
        if not 0 <= self.params.temperature < math.inf:
            raise InputError(f"the temperature is {self.params.temperature}; it takes a finite number, 0 or more")
        if self.without:
            self.tasks(taskset)

    def tasks(self, taskset: Taskset) -> Sequence[Task]:
        """The tasks in their order. Raises InputError where `without` names others, or leaves none."""
        return tasks_of(taskset, self.split, self.num_tasks, self.seed, self.without)

    def num_episodes(self, taskset: Taskset) -> int:
        size = self.num_tasks or taskset.splits[self.split]
        return (len(self.tasks(taskset)) if self.without else size) * self.num_trials

    def identity(
        self,
        taskset: Taskset,
        policy_name: str,
        roles: Mapping[str, Policy] | None = None,
        *,
        details: Mapping[str, JSON] | None = None,
        role_params: Mapping[str, SamplingParams] | None = None,
        role_details: Mapping[str, Mapping[str, JSON]] | None = None,
    ) -> dict[str, JSON]:
        """What has to be equal for finished episodes to be part of the same evaluation.

        `details` tells policies of one name apart: the hash of their weights, how an endpoint is asked; `role_details`
        does so for those in roles.
        """
        left_out = {"without": list(self.without)} if self.without else {}
        told = {"role_details": {role: dict(found) for role, found in role_details.items()}} if role_details else {}
        return {
            "env": taskset.env,
            "split": self.split,
            "num_tasks": self.num_tasks,
            "num_trials": self.num_trials,
            "seed": self.seed,
            "policy": policy_name,
            "policy_details": dict(details or {}),
            "roles": {role: policy.name for role, policy in (roles or {}).items()},
            "role_params": {role: dataclasses.asdict(params) for role, params in (role_params or {}).items()},
            **told,
            **left_out,
            "params": dataclasses.asdict(self.params),
            "limits": dataclasses.asdict(self.limits),
            "tasks_sha256": fingerprint_of(taskset, self.split, self.num_tasks, self.seed, self.without),
            "provenance": dict(taskset.provenance),
        }


def tasks_of(
    taskset: Taskset, split: str, num_tasks: int | None, seed: int, without: Sequence[str] = ()
) -> Sequence[Task]:
    """The first `num_tasks` tasks of a split, but for those `without` names. Raises InputError where it names one that
    is not among them, or leaves none."""
    tasks = take(taskset, split, num_tasks, seed)
    if not without:
        return tasks
    names = [audited_id(task) for task in tasks]
    if strange := sorted(set(without) - set(names)):
        raise InputError(
            f"{taskset.env} {split} has no task {strange[0]!r} among these {len(tasks)}, which was to be left out; "
            "take the audit of these very tasks"
        )
    left = [task for task, name in zip(tasks, names, strict=True) if name not in set(without)]
    if not left:
        raise InputError(f"all {len(tasks)} tasks of {taskset.env} {split} are left out; there is nothing to measure")
    return left


def audited_id(task: Task) -> str:
    """A task's id in audits: the one it was published under, or its pin."""
    return published_id(task.public, task.id)


def published_id(public: object, otherwise: str) -> str:
    """What a task was published under, by its public part; what it is called `otherwise` where that does not say."""
    named = public.get("task_id") if isinstance(public, Mapping) else None
    return otherwise if named is None else str(named)


def fingerprint_of(taskset: Taskset, split: str, num_tasks: int | None, seed: int, without: Sequence[str] = ()) -> str:
    """sha256 over everything that decides what these tasks ask and how they are scored, and which are left out."""
    whole = taskset.fingerprint(split, num_tasks, seed)
    return sha256_json({"tasks_sha256": whole, "without": sorted(without)}) if without else whole


async def evaluate(
    plan: EvalPlan,
    taskset: Taskset,
    cast: Cast,
    store: Store | None = None,
    on_finished: Callable[[Rollout], None] | None = None,
    finished: Mapping[str, Rollout] | None = None,
) -> list[Rollout]:
    """The root rollouts of all episodes of `plan`, in the plan's order.

    With a `store`, finished episodes are written in shards as they end, whatever happens later: full ones, and where
    episodes take long, every half a minute what has ended by then. Those the store already holds are not run again,
    unless they errored: an infrastructure failure gets another try. `finished` is what `latest_roots` of the store
    gave, for a caller that has read it.
    """
    plan.check(taskset)
    specs = plan_groups(plan.tasks(taskset), plan.num_trials, plan.seed)
    known = dict(latest_roots(store) if finished is None else finished)
    left = [spec for spec in specs if not _is_done(known.get(spec.rollout_id))]
    shard: list[Rollout] = []

    written_at = time.monotonic()

    def flush() -> None:
        nonlocal written_at
        if shard and store is not None:
            store.write(_next_shard(store), shard)
        shard.clear()
        written_at = time.monotonic()

    def record(tree: tuple[Rollout, ...]) -> None:
        known[tree[0].rollout_id] = tree[0]
        shard.extend(tree)
        if len(shard) >= SHARD_SIZE or time.monotonic() - written_at >= LONGEST_UNWRITTEN_S:
            flush()
        if on_finished is not None:
            on_finished(tree[0])

    if isinstance(cast.agent, PerTaskPolicy):
        cast.agent.expect(left)
    cast = dataclasses.replace(cast, params=plan.params)
    try:
        await collect(
            left, taskset, cast, plan.limits, concurrency=plan.concurrency, exact=plan.exact, on_finished=record
        )
    finally:
        flush()
    return [known[spec.rollout_id] for spec in specs]


def num_done(finished: Mapping[str, Rollout]) -> int:
    """How many of these episodes will not be run again."""
    return sum(map(_is_done, finished.values()))


def latest_roots(store: Store | None) -> dict[str, Rollout]:
    """Root rollouts by id; of several tries at one episode the last counts."""
    return {} if store is None else {rollout.rollout_id: rollout for rollout in store.read() if rollout.depth == 0}


def _next_shard(store: Store) -> str:
    """A name after all there are, also where one in between was deleted: none is replaced, and the last try is last."""
    numbers = [int(part.removeprefix("shard-")) for part in store.parts()]
    return f"shard-{max(numbers, default=-1) + 1:06d}"


def _is_done(rollout: Rollout | None) -> bool:
    return rollout is not None and rollout.status != "errored"


class PerTaskPolicy:
    """One policy a task, told apart by the session; made when its task is first met."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, name: str, make_policy: Callable[[Task], Policy]) -> None:
        self.name = name
        self._make_policy = make_policy
        self._policies: dict[str, Policy] = {}

    def expect(self, specs: Sequence[EpisodeSpec]) -> None:
        """Make the policies of the episodes about to run."""
        self._policies = {spec.rollout_id: self._make_policy(spec.task) for spec in specs}

    async def sample(self, request: SampleRequest) -> Completion:
        return await self._policies[request.session.rpartition("|")[0]].sample(request)

    async def release(self, session: str) -> None:
        """Scripts keep nothing."""


async def run_baselines(
    plan: EvalPlan, taskset: Taskset, only: Sequence[str] | None = None
) -> Mapping[str, Sequence[Rollout]]:
    """One episode of every task for each of the taskset's baselines, or for those of them in `only`."""
    baselines = taskset.baselines()
    plain = dataclasses.replace(plan, num_trials=1, params=SamplingParams(), exact=False)
    if plan.without:
        kept = {task.index for task in plan.tasks(taskset)}
        theirs = take(baselines.taskset, plan.split, plan.num_tasks, plan.seed)
        plain = dataclasses.replace(plain, without=tuple(audited_id(task) for task in theirs if task.index not in kept))
    return {
        name: await evaluate(plain, baselines.taskset, Cast(PerTaskPolicy(name, make_policy)))
        for name, make_policy in baselines.policies.items()
        if only is None or name in only
    }
