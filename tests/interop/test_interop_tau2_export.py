"""Our rollouts as tau2-bench's simulations, and back: the same messages, calls and outcomes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.envs.airline.conftest import DB
from tests.envs.airline.players import expert, play
from tests.interop import logs, tau2form

from banty.envs.airline.published import PublishedTasks
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.baselines import LinePolicy
from banty.errors import InputError
from banty.interop import ExportAbout, ExportTask, read_log, regrade_tau2, tau2_results
from banty.interop.tau2tasks import export_task
from banty.policies.scripted import FunctionPolicy
from banty.records import (
    CallFault,
    Limits,
    Message,
    Policy,
    Rollout,
    SampleRequest,
    Taskset,
    ToolCall,
    take,
)

Line = str | ToolCall | Message
READ = ToolCall("get_reservation_details", {"reservation_id": "RES001"})
CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"}, "call_1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "data"
    action = logs.action("cancel_reservation", reservation_id="RES001")
    tasks = [logs.tau2_task("7", [action]), logs.tau2_task("9", [])]
    logs.write_json(home / "tasks.json", tasks)
    logs.write_json(home / "db.json", DB)
    (home / "policy.md").write_text("Be kind.")
    return home


def says(*lines: Line) -> Policy:
    """A policy that says these one after the other, and the last again and again."""

    def respond(asked: SampleRequest) -> Message:
        done = sum(message.role == "assistant" for message in asked.messages) - 1
        line = lines[min(done, len(lines) - 1)]
        if isinstance(line, Message):
            return line
        return Message("assistant", calls=(line,)) if isinstance(line, ToolCall) else Message("assistant", line)

    return FunctionPolicy(respond, "by hand")


def exported(taskset: Taskset, rollouts: Sequence[Rollout]) -> dict[str, Any]:
    tasks = {rollout.task.id: export_task(taskset, rollout.task) for rollout in rollouts}
    data, notes = tau2_results(rollouts, tasks, ExportAbout(started="2026-01-01T00:00:00", seed=3))
    assert notes == []
    tau2form.check(json.loads(json.dumps(data)))
    return data


def back(data: Any, file: Path) -> tuple[Rollout, ...]:
    return read_log(logs.write_json(file, data)).rollouts


def compared(rollout: Rollout) -> list[Any]:
    """What has to come back: all but tokens, state hashes, who was asked, and how long tools took."""
    calls = [
        [dataclasses.replace(call, state_before="", state_after="") for call in turn.calls]
        for turn in rollout.agent_turns
    ]
    told = [(turn.message, turn.observation, turn.finish, turn.prompt_tokens) for turn in rollout.agent_turns]
    ending = (rollout.status, rollout.cause, rollout.detail, rollout.outcome)
    tools = rollout.tools if rollout.opening else ()  # one that never began was offered none
    about = (rollout.policy, rollout.seed, rollout.trial, rollout.duration_s, tools)
    return [rollout.opening, told, calls, rollout.transcript, ending, about]


def assert_comes_back(taskset: Taskset, rollouts: Sequence[Rollout], tmp_path: Path) -> dict[str, Any]:
    data = exported(taskset, rollouts)
    again = back(data, tmp_path / "out.json")
    assert [compared(rollout) for rollout in again] == [compared(rollout) for rollout in rollouts]
    return data


def test_a_published_conversation_comes_back_and_is_graded_the_same(folder: Path, tmp_path: Path) -> None:
    taskset = PublishedTasks(data=folder, customer="silent")
    policy = says(READ, CANCEL, ToolCall("fly", {}), ToolCall("get_user_details", {}), "Done.")
    rollouts = play(taskset, take(taskset, "base", None), policy)
    data = assert_comes_back(taskset, rollouts, tmp_path)
    assert [task["id"] for task in data["tasks"]] == ["7", "9"]
    first, second = data["simulations"]
    assert (first["task_id"], first["termination_reason"], first["reward_info"]["reward"]) == ("7", "user_stop", 1.0)
    assert second["reward_info"]["db_check"] == {"db_match": False, "db_reward": 0.0}
    told = data["info"]["environment_info"]
    assert (told["domain_name"], told["tool_defs"]) == ("airline", None)
    assert told["policy"].endswith("<policy>\nBe kind.\n</policy>"), "all that the agent was told"
    assert (data["info"]["agent_info"]["llm"], data["info"]["seed"]) == ("by hand", 3)
    errors = [call.error for turn in rollouts[0].turns for call in turn.calls]
    assert errors == ["", "", "unknown_tool", "arguments"], "of which the benchmark's form knows only yes and no"
    report = regrade_tau2(tmp_path / "out.json", taskset.world)
    assert (report.to_json()["num_graded"], report.disagreements) == (2, ())
    assert not any(each.replay for each in report.simulations)


def test_broken_calls_thoughts_and_several_calls_come_back(folder: Path, tmp_path: Path) -> None:
    fault = CallFault("malformed", "This is no JSON.", order=1, position=4, raw="<call>{", name="cancel_reservation")
    turns = (
        Message("assistant", "One moment.", (READ, CANCEL), (fault,), "I should look first."),
        Message("assistant", calls=(CANCEL, READ)),
        Message("assistant", "Zoë <b>é</b>", reasoning="Say it."),
    )
    taskset = PublishedTasks(data=folder, customer="silent")
    rollouts = play(taskset, take(taskset, "base", 1), says(*turns))
    assert [call.error for call in rollouts[0].turns[0].calls] == ["", "malformed", ""]
    data = assert_comes_back(taskset, rollouts, tmp_path)
    listed = [call["name"] for call in data["simulations"][0]["messages"][2]["tool_calls"]]
    assert listed == ["get_reservation_details", "unreadable_call", "cancel_reservation"]
    assert data["simulations"][0]["reward_info"]["reward"] == rollouts[0].outcome.reward == 0.0


def test_a_user_played_by_a_policy_comes_back_as_what_it_said(folder: Path, tmp_path: Path) -> None:
    taskset = PublishedTasks(data=folder, customer="model")
    user = LinePolicy("user", ["Cancel RES001.", "Yes.", "###STOP###"])
    rollouts = play(taskset, take(taskset, "base", None), says("Shall I?", CANCEL, "Done."), user=user)
    assert {turn.actor for rollout in rollouts for turn in rollout.turns} == {"agent", "user"}
    assert_comes_back(taskset, rollouts, tmp_path)


@pytest.mark.parametrize(
    ("policy", "user", "reason", "status"),
    [
        (says("Bye. ###STOP###"), "Hello.", "agent_stop", "completed"),
        (says("Well.", " "), "Go on.", "agent_error", "completed"),
        (says("Well."), "Go on.", "max_steps", "truncated"),
        (says(ToolCall("fly", {})), "Go on.", "too_many_errors", "truncated"),
        (says("Well."), "", "user_error", "errored"),
    ],
)
def test_every_ending_comes_back(
    folder: Path, tmp_path: Path, policy: Policy, user: str, reason: str, status: str
) -> None:
    taskset = PublishedTasks(data=folder, customer="model")
    limits = Limits(max_turns=6, max_consecutive_errors=3)
    talker = FunctionPolicy(lambda asked: Message("assistant", user and f"{user} {len(asked.messages)}"), "user")
    (rollout,) = play(taskset, take(taskset, "base", 1), policy, user=talker, limits=limits)
    assert rollout.status == status
    data = assert_comes_back(taskset, [rollout], tmp_path)
    (simulation,) = data["simulations"]
    assert simulation["termination_reason"] == reason
    assert (simulation["reward_info"] is None) == (status == "errored")


def test_generated_conversations_come_back_under_either_grader(tmp_path: Path) -> None:
    for size, grade in (("mini", "semantic"), ("full", "tau2")):
        taskset = GeneratedTasks(size, grade=grade)  # type: ignore[arg-type]
        lapses = {"malformed_call", "skip_look_up"} & set(taskset.expert().points)
        tasks = take(taskset, "test", 8)
        rollouts = [*play(taskset, tasks[:4], expert()), *play(taskset, tasks[4:], expert(lapses))]
        data = assert_comes_back(taskset, rollouts, tmp_path)
        assert [one["reward_info"]["reward"] for one in data["simulations"]] == [
            rollout.outcome.components["tau2"] for rollout in rollouts
        ], "the file holds the benchmark's verdict whichever grader the run had"


def test_a_log_of_theirs_comes_back_as_it_was(tmp_path: Path) -> None:
    """Their conversation as ours, and ours as theirs: calls, ids, errors and verdicts."""
    theirs = logs.tau2_results([logs.simulation("7", reward=0.0), logs.simulation("9", reason="max_steps", reward=0.0)])
    first = back(theirs, tmp_path / "a.json")
    tasks = {
        rollout.task.id: ExportTask(str(rollout.task.public["task_id"]), task)
        for rollout, task in zip(first, theirs["tasks"], strict=True)
    }
    data, _ = tau2_results(first, tasks, ExportAbout())
    tau2form.check(json.loads(json.dumps(data)))
    again = back(data, tmp_path / "b.json")
    assert [compared(rollout) for rollout in again] == [compared(rollout) for rollout in first]

    def said(simulation: Any) -> list[Any]:
        keys = ("role", "content", "tool_calls", "id", "error")
        return [{key: message.get(key) for key in keys} for message in simulation["messages"]]

    for one, other in zip(data["simulations"], theirs["simulations"], strict=True):
        assert said(one) == said(other)
        assert (one["termination_reason"], one["reward_info"]["reward"]) == (other["termination_reason"], 0.0)


def test_what_cannot_be_exported_is_refused_or_noted(folder: Path) -> None:
    taskset = PublishedTasks(data=folder, customer="silent")
    (rollout,) = play(taskset, take(taskset, "base", 1), says(CANCEL, "Done."))
    task = export_task(taskset, rollout.task)
    with pytest.raises(InputError, match="no rollouts to export"):
        tau2_results([], {}, ExportAbout())
    with pytest.raises(InputError, match="1 tasks are not known, such as airline/tau2:base:0:0"):
        tau2_results([rollout], {}, ExportAbout())
    child = dataclasses.replace(rollout, rollout_id="child", depth=1)
    _, notes = tau2_results([rollout, child], {rollout.task.id: task}, ExportAbout())
    assert notes == ["1 rollouts of spawned episodes left out"]
    other = dataclasses.replace(task, task=taskset.published.task("9"))
    _, notes = tau2_results([rollout], {rollout.task.id: other}, ExportAbout())
    assert "was scored 1.0 by the benchmark's grader when it was played, and is 0.0 now" in notes[0]


DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "a status": (lambda one: one["info"]["banty"].update(status="happy"), "expected one of completed, truncated"),
    "an outcome": (lambda one: one["info"]["banty"].update(outcome=5), "outcome: expected an object, found 5"),
    "a component": (
        lambda one: one["info"]["banty"]["outcome"].update(components={"tau2": "yes"}),
        "components, tau2: expected a number, found 'yes'",
    ),
    "a fault": (
        lambda one: one["messages"][2].update(raw_data={"banty": {"faults": [{"kind": "malformed", "x": 1}]}}),
        "faults: expected what an export of banty wrote",
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_a_damaged_export_is_refused_by_place(folder: Path, tmp_path: Path, name: str) -> None:
    taskset = PublishedTasks(data=folder, customer="silent")
    data = exported(taskset, play(taskset, take(taskset, "base", 1), says(CANCEL, "Done.")))
    harm, said = DAMAGE[name]
    harm(data["simulations"][0])
    with pytest.raises(InputError) as error:
        back(data, tmp_path / "out.json")
    assert said in str(error.value)
    assert "record 1" in str(error.value)


def test_the_published_tasks_played_rightly_are_exported_with_all_checks_met(tau2_folder: Path) -> None:
    taskset = PublishedTasks(data=tau2_folder, customer="silent")
    golden = taskset.baselines().policies["golden-replay"]
    rollouts = [play(taskset, [task], golden(task))[0] for task in take(taskset, "base", None)]
    data = exported(taskset, rollouts)
    infos = [one["reward_info"] for one in data["simulations"]]
    assert all(info["reward"] == 1.0 and info["db_check"]["db_match"] for info in infos)
    assert all(check["action_match"] for info in infos for check in info["action_checks"])
    assert sum(len(info["action_checks"]) for info in infos) == 142
