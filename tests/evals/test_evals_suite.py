"""Running evaluations: the same figures however often one is interrupted, and failures that are nobody's counted."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.evals.toy_desk import Guesser, GuessingTasks

from banty.envs.registry import make_taskset
from banty.errors import InputError, StoreError
from banty.evals import EvalPlan, evaluate, run_baselines, suite
from banty.policies.scripted import FunctionPolicy
from banty.records import Limits, Rollout, SamplingParams
from banty.rollout import Cast, Store

TASKSET = GuessingTasks()
PLAN = EvalPlan(num_trials=3, concurrency=4)
NUM_EPISODES = 36
ALL = [f"{TASKSET.task('test', index).id}#{trial}" for index in range(12) for trial in range(3)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "SHARD_SIZE", 5)


def run(
    policy: Guesser,
    store: Store | None = None,
    on_finished: Callable[[Rollout], None] | None = None,
    plan: EvalPlan = PLAN,
) -> list[Rollout]:
    return asyncio.run(evaluate(plan, TASKSET, Cast(policy), store, on_finished))


def bare(rollouts: list[Rollout]) -> list[Rollout]:
    """Rollouts without their clock."""
    return [
        dataclasses.replace(
            rollout,
            duration_s=0.0,
            turns=tuple(dataclasses.replace(turn, policy_s=0.0, env_s=0.0) for turn in rollout.turns),
        )
        for rollout in rollouts
    ]


class Stop(Exception):
    """What a test interrupts an evaluation with."""


class StopAfter:
    """Stops an evaluation when so many episodes have finished; others of the same round may finish as well."""

    def __init__(self, num_episodes: int) -> None:
        self.num_episodes = num_episodes
        self.finished: list[str] = []

    def __call__(self, rollout: Rollout) -> None:
        self.finished.append(rollout.rollout_id)
        if len(self.finished) == self.num_episodes:
            raise Stop


def test_every_task_is_tried_in_the_plans_order() -> None:
    finished: list[str] = []
    rollouts = run(Guesser(TASKSET), on_finished=lambda rollout: finished.append(rollout.rollout_id))
    assert [rollout.rollout_id for rollout in rollouts] == ALL
    assert sorted(finished) == sorted(ALL)
    assert len({rollout.seed for rollout in rollouts}) == NUM_EPISODES
    assert {rollout.outcome.success for rollout in rollouts} == {True, False}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_concurrency_and_order_change_no_figure(exact: bool, concurrency: int) -> None:
    plan = dataclasses.replace(PLAN, exact=exact, concurrency=concurrency)
    assert bare(run(Guesser(TASKSET), plan=plan)) == bare(run(Guesser(TASKSET)))


def test_more_trials_and_more_tasks_leave_the_first_ones_alone() -> None:
    few = {rollout.rollout_id: rollout for rollout in bare(run(Guesser(TASKSET)))}
    more = bare(run(Guesser(TASKSET), plan=dataclasses.replace(PLAN, num_trials=4)))
    assert [few[rollout.rollout_id] for rollout in more if rollout.rollout_id in few] == list(few.values())
    some = bare(run(Guesser(TASKSET), plan=dataclasses.replace(PLAN, num_tasks=5)))
    assert some == list(few.values())[:15]


def test_the_store_holds_what_was_returned(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    rollouts = run(Guesser(TASKSET), store)
    stored = {rollout.rollout_id: rollout for rollout in store.read()}
    assert [stored[rollout.rollout_id] for rollout in rollouts] == rollouts
    assert len(store.parts()) == math.ceil(NUM_EPISODES / 5)


@pytest.mark.parametrize("num_finished", [1, 5, 13, 35, 36])
def test_an_interrupted_evaluation_ends_like_one_that_was_not(tmp_path: Path, num_finished: int) -> None:
    store = Store(tmp_path / "rollouts")
    stop = StopAfter(num_finished)
    with pytest.raises(Stop):
        run(Guesser(TASKSET), store, stop)
    kept = {rollout.rollout_id for rollout in store.read()}
    assert kept == set(stop.finished), "what finished was written, whatever happened then"
    assert num_finished <= len(kept) < num_finished + PLAN.concurrency
    second = Guesser(TASKSET)
    resumed = run(second, store)
    assert bare(resumed) == bare(run(Guesser(TASKSET)))
    assert not kept & set(second.turns), "what is finished is not run again"
    assert set(second.turns) == set(ALL) - kept
    assert len(list(store.read())) == NUM_EPISODES


def test_it_can_be_interrupted_again_and_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    for _ in range(4):
        with pytest.raises(Stop):
            run(Guesser(TASKSET), store, StopAfter(5))
    assert bare(run(Guesser(TASKSET), store)) == bare(run(Guesser(TASKSET)))
    assert sorted(rollout.rollout_id for rollout in store.read()) == sorted(ALL), "nothing was run twice"


def test_slow_episodes_are_written_before_their_shard_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "LONGEST_UNWRITTEN_S", 0.0)
    store = Store(tmp_path / "rollouts")
    on_disk: list[int] = []
    run(Guesser(TASKSET), store, lambda rollout: on_disk.append(len(list(store.read()))))
    assert on_disk == list(range(1, NUM_EPISODES + 1)), "a process killed now would have lost none"


def test_a_finished_evaluation_asks_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    rollouts = run(Guesser(TASKSET), store)
    parts = store.parts()
    idle = Guesser(TASKSET)
    assert run(idle, store) == rollouts
    assert not idle.turns
    assert store.parts() == parts


def test_a_shard_that_was_deleted_is_done_again_and_replaces_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    rollouts = run(Guesser(TASKSET), store)
    lost = {rollout.rollout_id for rollout in store.read(["shard-000002"])}
    shutil.rmtree(store.folder / "shard-000002")
    again = Guesser(TASKSET)
    assert bare(run(again, store)) == bare(rollouts)
    assert set(again.turns) == lost
    assert sorted(rollout.rollout_id for rollout in store.read()) == sorted(ALL)


def test_errored_episodes_get_another_try_and_the_last_try_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    down = frozenset(ALL[3:6] + ALL[10:11])
    rollouts = run(Guesser(TASKSET, faults=down), store)
    assert {rollout.rollout_id for rollout in rollouts if rollout.status == "errored"} == down
    assert {rollout.cause for rollout in rollouts if rollout.status == "errored"} == {"infrastructure"}
    assert all(rollout.outcome.success is None for rollout in rollouts if rollout.status == "errored")
    second = Guesser(TASKSET, faults=frozenset(ALL[3:4]))
    again = run(second, store)
    assert set(second.turns) == down
    assert [rollout.rollout_id for rollout in again if rollout.status == "errored"] == ALL[3:4]
    healthy = run(Guesser(TASKSET), store)
    assert bare(healthy) == bare(run(Guesser(TASKSET)))
    latest = suite.latest_roots(store)
    assert [latest[rollout_id] for rollout_id in ALL] == healthy


def test_truncated_episodes_are_results_and_not_retried(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    plan = dataclasses.replace(PLAN, limits=Limits(max_turns=1))
    rollouts = run(Guesser(TASKSET), store, plan=plan)
    assert {(rollout.status, rollout.cause, rollout.scored) for rollout in rollouts} == {("truncated", "turns", True)}
    idle = Guesser(TASKSET)
    run(idle, store, plan=plan)
    assert not idle.turns


def test_a_full_disk_keeps_what_was_finished_and_the_rest_is_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "rollouts")
    real = pq.write_table
    written: list[Any] = []

    def until_full(table: Any, *arguments: Any, **named: Any) -> Any:
        written.append(table)
        if len(written) > 7:  # three tables a shard: the third shard fails at its second table
            raise OSError(28, "No space left on device")
        return real(table, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", until_full)
        with pytest.raises(StoreError, match="No space left on device"):
            run(Guesser(TASKSET), store)
    assert len(store.parts()) == 2
    kept = [rollout.rollout_id for rollout in store.read()]
    assert len(kept) == len(set(kept)) == 10
    assert not [entry for entry in store.folder.iterdir() if entry.name.startswith(".")], "no half-written shard"
    second = Guesser(TASKSET)
    assert bare(run(second, store)) == bare(run(Guesser(TASKSET)))
    assert set(second.turns) == set(ALL) - set(kept)


# The plan.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "tset"}, r"no split 'tset'; it has train, test"),
        ({"num_tasks": 13}, r"toy/guessing test has 12 tasks; 13 were asked for"),
        ({"num_tasks": 0}, r"test has 12 tasks; 0 were asked for"),
        ({"num_tasks": -1}, r"test has 12 tasks; -1 were asked for"),
        ({"num_trials": 0}, r"0 trials were asked for; it takes at least 1"),
        ({"concurrency": 0}, r"concurrency is 0; it takes at least 1"),
        ({"params": SamplingParams(temperature=-0.5)}, r"temperature is -0\.5"),
        ({"params": SamplingParams(temperature=math.nan)}, r"temperature is nan"),
        ({"params": SamplingParams(temperature=math.inf)}, r"temperature is inf"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anybody_is_asked(changes: dict[str, Any], said: str) -> None:
    policy = Guesser(TASKSET)
    with pytest.raises(InputError, match=said):
        run(policy, plan=dataclasses.replace(PLAN, **changes))
    assert not policy.turns


def test_the_identity_changes_with_everything_that_changes_a_figure() -> None:
    identity = PLAN.identity(TASKSET, "someone")
    assert json.loads(json.dumps(identity, allow_nan=False)) == identity
    others = [
        dataclasses.replace(PLAN, split="train").identity(TASKSET, "someone"),
        dataclasses.replace(PLAN, num_tasks=3).identity(TASKSET, "someone"),
        dataclasses.replace(PLAN, num_trials=4).identity(TASKSET, "someone"),
        dataclasses.replace(PLAN, seed=1).identity(TASKSET, "someone"),
        dataclasses.replace(PLAN, params=SamplingParams(temperature=0.5)).identity(TASKSET, "someone"),
        dataclasses.replace(PLAN, limits=Limits(max_turns=3)).identity(TASKSET, "someone"),
        PLAN.identity(TASKSET, "someone else"),
        PLAN.identity(TASKSET, "someone", {"user": FunctionPolicy(lambda request: "", "a user")}),
        PLAN.identity(GuessingTasks("lenient"), "someone"),
    ]
    assert all(other != identity for other in others)
    assert len({json.dumps(other, sort_keys=True) for other in others}) == len(others)
    assert PLAN.identity(GuessingTasks(), "someone") == identity
    for changed in (others[0], others[1], others[3], others[8]):
        assert changed["tasks_sha256"] != identity["tasks_sha256"]
    assert others[2]["tasks_sha256"] == identity["tasks_sha256"]
    assert dataclasses.replace(PLAN, concurrency=9, exact=False).identity(TASKSET, "someone") == identity


def test_the_params_of_the_plan_are_those_that_are_sampled_under() -> None:
    seen: list[SamplingParams] = []

    class Asked(Guesser):
        async def sample(self, request: Any) -> Any:
            seen.append(request.params)
            return await super().sample(request)

    plan = dataclasses.replace(PLAN, params=SamplingParams(temperature=0.25, max_tokens=7))
    asyncio.run(evaluate(plan, TASKSET, Cast(Asked(TASKSET), params=SamplingParams(temperature=2.0))))
    assert {(params.temperature, params.max_tokens) for params in seen} == {(0.25, 7)}
    assert len({params.seed for params in seen}) == len(seen)


# Baselines.


def test_baselines_play_every_task_of_the_plan_once() -> None:
    played = asyncio.run(run_baselines(dataclasses.replace(PLAN, num_tasks=5), TASKSET))
    assert list(played) == ["do-nothing"]
    assert [rollout.rollout_id for rollout in played["do-nothing"]] == ALL[:15:3]
    assert not any(rollout.outcome.success for rollout in played["do-nothing"])


def test_baselines_of_the_airline_bound_what_a_result_can_be() -> None:
    played = asyncio.run(run_baselines(EvalPlan(split="dev", num_tasks=80), make_taskset("airline/mini")))
    share = {name: sum(bool(r.outcome.success) for r in rollouts) / 80 for name, rollouts in played.items()}
    assert share["golden-replay"] == 1.0
    assert share["do-nothing"] < 0.25
    assert share["always-transfer"] < 0.25
    assert all(rollout.scored for rollouts in played.values() for rollout in rollouts)
