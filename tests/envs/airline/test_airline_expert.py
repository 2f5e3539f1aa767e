"""The expert, its lapses and the baselines, through the driver and under both graders.

Success of the expert that always lapses at one point, `airline/mini`, 1,000 tasks of dev (one episode each):

    lapse        semantic   tau2
    none            1.000  1.000
    lookup          0.261  0.423
    unknown_id      0.321  0.392
    confirm         0.345  1.000
    policy          0.816  0.873
    pressure        0.913  0.913
    format          0.000  0.144
    error           0.875  0.888
    ending          0.145  0.145
    answer          0.756  0.756
    all             0.000  0.144
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.envs.airline.players import drawn, expert, play, rate

from banty.envs.airline.expert import HABITS
from banty.envs.airline.phrases import SPLITS
from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.tasks import GeneratedTasks
from banty.evals import EvalPlan, run_baselines
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Expert, Taskset, take

GRADERS = ("semantic", "tau2")


@pytest.mark.parametrize("split", SPLITS)
def test_the_expert_always_succeeds_under_both_graders(taskset: GeneratedTasks, split: str) -> None:
    rollouts = play(taskset, drawn(taskset, split)[:150], expert())
    assert [(rollout.task.id, rollout.outcome.reason) for rollout in rollouts if not rollout.outcome.success] == []
    assert [rate(rollouts, grader) for grader in GRADERS] == [1.0, 1.0]
    assert max(len(rollout.agent_turns) for rollout in rollouts) <= 25


def test_the_expert_never_meets_the_same_question_twice_in_vain(mini_tasks: GeneratedTasks) -> None:
    """What nano will be trained on: no failed call but for a code that does not exist."""
    for rollout in play(mini_tasks, drawn(mini_tasks, "train")[:150], expert()):
        slips = {request.slip for request in rollout.task.data.scenario.requests if request.slip}
        failed = [call for turn in rollout.agent_turns for call in turn.calls if call.error]
        assert {call.arguments.get("reservation_id") for call in failed} <= slips


@pytest.mark.parametrize("point", list(HABITS))
def test_every_lapse_costs_success_by_itself(mini_tasks: GeneratedTasks, point: str) -> None:
    assert rate(play(mini_tasks, drawn(mini_tasks, "dev")[:200], expert({point})), "semantic") < 0.97


def test_who_gives_up_after_an_error_is_not_talked_out_of_it(mini_tasks: GeneratedTasks) -> None:
    rollouts = play(mini_tasks, drawn(mini_tasks, "dev"), expert({"error"}))
    failed = [any(call.error for turn in rollout.agent_turns for call in turn.calls) for rollout in rollouts]
    assert [rollout.outcome.success for rollout in rollouts] == [not each for each in failed]
    assert any(failed)


def test_who_always_lapses_never_succeeds(mini_tasks: GeneratedTasks) -> None:
    assert rate(play(mini_tasks, drawn(mini_tasks, "dev")[:200], expert(HABITS)), "semantic") < 0.02


def test_the_more_careless_the_less_success(mini_tasks: GeneratedTasks) -> None:
    tasks, owned = drawn(mini_tasks, "dev")[:150], mini_tasks.expert()
    rates = [
        rate(play(mini_tasks, tasks, HabitPolicy(owned, HabitWeights.with_lapses(owned.points, lapse))), "semantic")
        for lapse in (0.01, 0.1, 0.3, 0.6)
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9
    assert 0.25 < rates[2] < 0.5
    assert rates[3] < 0.15


def test_the_decision_points_are_named_with_discipline_first(mini_tasks: GeneratedTasks) -> None:
    owned: Expert = mini_tasks.expert()
    assert set(owned.points) == {
        "lookup",
        "unknown_id",
        "confirm",
        "policy",
        "pressure",
        "format",
        "error",
        "ending",
        "answer",
    }
    assert all(len(set(options)) == 2 for options in owned.points.values())


# Baselines.


def shares(taskset: Taskset, split: str, num_tasks: int | None) -> dict[str, tuple[float, float]]:
    """Success of each baseline under (semantic, tau2)."""
    played = asyncio.run(run_baselines(EvalPlan(split=split, num_tasks=num_tasks), taskset))
    return {name: (rate(rollouts, "semantic"), rate(rollouts, "tau2")) for name, rollouts in played.items()}


def test_idle_and_always_transferring_agents_fail_three_in_four_and_gold_passes_mini(
    mini_tasks: GeneratedTasks,
) -> None:
    found = shares(mini_tasks, "test", 400)
    assert found["golden-replay"] == (1.0, 1.0)
    assert max(found["do-nothing"]) < 0.25
    assert max(found["always-transfer"]) < 0.25


@pytest.mark.parametrize("split", SPLITS)
def test_idle_and_always_transferring_agents_fail_three_in_four_and_gold_passes_everywhere(
    taskset: GeneratedTasks, split: str
) -> None:
    found = shares(taskset, split, 60)
    assert found["golden-replay"] == (1.0, 1.0)
    assert max(*found["do-nothing"], *found["always-transfer"]) < 0.3


def test_tasks_without_a_script_are_read_against_the_scripted_customers_baselines() -> None:
    found = shares(GeneratedTasks("mini", customer="model"), "dev", 20)
    assert found["golden-replay"] == (1.0, 1.0)


def test_the_published_tasks_replay_50_of_50_and_doing_nothing_scores_23(tau2_folder: Path) -> None:
    found = shares(PublishedTasks(data=tau2_folder), "base", None)
    assert found["golden-replay"] == (1.0, 1.0)
    assert found["do-nothing"] == (23 / 50, 23 / 50)
    assert found["always-transfer"] == (23 / 50, 23 / 50)


def test_each_published_split_replays(tau2_folder: Path) -> None:
    taskset = PublishedTasks(data=tau2_folder)
    assert dict(taskset.splits) == {"base": 50, "train": 30, "test": 20}
    for split in ("train", "test"):
        assert shares(taskset, split, None)["golden-replay"] == (1.0, 1.0)


def test_the_published_tasks_say_which_they_are_and_hold_nothing_else_in_public(tau2_folder: Path) -> None:
    taskset = PublishedTasks(data=tau2_folder)
    assert {task.public["task_id"] for task in take(taskset, "base", None)} == {str(index) for index in range(50)}
    assert all(set(task.public) == {"task_id"} for task in take(taskset, "base", None))
    assert taskset.provenance["grader"] == "tau2"
    assert len(str(taskset.provenance["tasks_sha256"])) == 64
