"""tau2-bench's results: conversations, verdicts, endings and reference calls as the benchmark means them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.interop import logs
from tests.published_data import PLACE

from banty.errors import InputError
from banty.interop import ImportOptions, read_log
from banty.interop.tau2 import ENDINGS
from banty.records import Rollout, ToolCall


def imported(tmp_path: Path, results: Any) -> list[Rollout]:
    return list(read_log(logs.write_json(tmp_path / "run.json", results)).rollouts)


def test_a_conversation_comes_with_its_calls_errors_and_effects(tmp_path: Path) -> None:
    (rollout,) = imported(tmp_path, logs.tau2_results([logs.simulation("7", trial=1)]))
    assert [message.role for message in rollout.opening] == ["system", "assistant", "user"]
    assert rollout.opening[0].content == "Be kind."
    assert [turn.index for turn in rollout.turns] == [0, 1, 2]
    assert all(turn.trainable and turn.policy == "some-model" for turn in rollout.turns)
    read, wrote, last = rollout.turns
    assert (read.calls[0].effect, read.calls[0].error) == ("read", "")
    assert [(one.name, one.effect, one.error) for one in wrote.calls] == [
        ("cancel_reservation", "write", "tool"),
        ("no_such_tool", "none", "unknown_tool"),
    ]
    assert wrote.observation[0].call_id == "c2"
    assert [message.content for message in last.observation] == ["###STOP###"]
    assert (read.prompt_tokens, read.sampled_tokens, read.cost_usd) == (100, 7, 0.25)
    assert (rollout.seed, rollout.duration_s, rollout.task.env) == (301, 12.5, "tau2/airline")
    assert rollout.task.public == {"task_id": "7"}


def test_success_is_a_reward_of_one_and_components_say_why_not(tmp_path: Path) -> None:
    told = [logs.simulation("7", 0, 1.0 - 1e-9), logs.simulation("7", 1, 0.0), logs.simulation("9", 0, None)]
    solved, failed, unscored = imported(tmp_path, logs.tau2_results(told))
    assert solved.outcome.success is True
    assert (failed.outcome.success, failed.outcome.reward) == (False, 0.0)
    assert failed.outcome.components == {"DB": 0.0, "COMMUNICATE": 1.0, "db_match": 0.0, "action_checks": 0.0}
    assert solved.outcome.components["action_checks"] == 0.5
    assert failed.outcome.reason == "ended by user_stop; DB not met"
    assert (unscored.outcome.success, unscored.scored, unscored.status) == (None, False, "completed")


@pytest.mark.parametrize("reason", sorted(ENDINGS))
def test_what_ended_it_decides_whether_it_counts(tmp_path: Path, reason: str) -> None:
    (rollout,) = imported(tmp_path, logs.tau2_results([logs.simulation("7", reward=0.0, reason=reason)]))
    not_counted = {
        "timeout": "deadline",
        "user_error": "simulator",
        "infrastructure_error": "infrastructure",
        "unexpected_error": "infrastructure",
        "context_window_exceeded": "infrastructure",
    }
    if reason in not_counted:
        assert (rollout.status, rollout.cause) == ("errored", not_counted[reason])
        assert rollout.outcome.reward is None
        assert not rollout.scored
    else:
        assert rollout.scored
        assert rollout.status == ("completed" if reason.endswith("stop") else "truncated")


def test_trials_are_members_of_one_group_and_indices_follow_the_task_list(tmp_path: Path) -> None:
    told = [logs.simulation("9"), logs.simulation("7", 0), logs.simulation("7", 1), logs.simulation("7", 1)]
    rollouts = imported(tmp_path, logs.tau2_results(told))
    assert [rollout.rollout_id for rollout in rollouts] == [
        "tau2/airline:imported:1:0#0",
        *(f"tau2/airline:imported:0:0#{trial}" for trial in range(3)),  # also where the log counts a trial twice
    ]
    assert len({rollout.group_id for rollout in rollouts}) == 2


def test_reference_calls_are_the_agents_own_and_nobody_knows_is_not_none(tmp_path: Path) -> None:
    tasks = [
        logs.tau2_task("a", [logs.action("toggle", "user"), logs.action("fix", line="L1")]),
        logs.tau2_task("b", []),
        logs.tau2_task("c", None),
        {"id": "d"},
    ]
    told = [logs.simulation(key) for key in "abcd"]
    found = read_log(logs.write_json(tmp_path / "run.json", logs.tau2_results(told, tasks, "telecom"))).golden
    assert found == {
        "tau2/telecom:imported:0:0": (ToolCall("fix", {"line": "L1"}),),
        "tau2/telecom:imported:1:0": (),
    }


def test_a_users_own_tools_are_not_the_agents(tmp_path: Path) -> None:
    toggle = {**logs.call("toggle_data", "u1"), "requestor": "user"}
    told = [
        logs.GREETING,
        logs.says("user", "No signal."),
        logs.says("assistant", "Toggle your data."),
        logs.says("user", None, [toggle]),
        logs.answers("u1", "Data is on", requestor="user"),
        logs.says("user", "Done."),
        logs.says("assistant", "Good."),
    ]
    (rollout,) = imported(tmp_path, logs.tau2_results([logs.simulation("7", messages=told)], domain="telecom"))
    assert [turn.actor for turn in rollout.turns] == ["agent", "user", "agent"]
    asked = rollout.turns[1]
    assert not asked.trainable
    assert (asked.calls[0].name, asked.calls[0].output, asked.calls[0].effect) == (
        "toggle_data",
        "Data is on",
        "unknown",
    )
    assert [message.content for message in rollout.turns[0].observation] == ["Done."]
    assert "Data is on" not in [message.content for message in rollout.transcript]


def test_a_history_that_was_given_is_no_turn(tmp_path: Path) -> None:
    task = {**logs.tau2_task("7", []), "initial_state": {"message_history": logs.CONVERSATION[:4]}}
    (rollout,) = imported(tmp_path, logs.tau2_results([logs.simulation("7")], [task]))
    assert len(rollout.turns) == 2
    assert [message.role for message in rollout.opening] == ["system", "assistant", "user", "assistant", "tool"]


def test_effects_of_other_domains_are_those_said_and_given(tmp_path: Path) -> None:
    file = logs.write_json(tmp_path / "run.json", logs.tau2_results([logs.simulation("7")], domain="retail"))
    log = read_log(file)
    # The log's own checks say that cancel_reservation writes; of the other tool it says nothing.
    assert log.recipe["effects"] == {"cancel_reservation": "write"}
    assert log.recipe["effects_unknown"] == ["get_reservation_details"]
    effects = logs.write_json(tmp_path / "effects.json", {"get_reservation_details": "read"})
    log = read_log(file, ImportOptions(effects=effects))
    assert log.recipe["effects_unknown"] == []
    assert log.rollouts[0].turns[0].calls[0].effect == "read"


@pytest.mark.parametrize("named", [True, False], ids=["with an empty list", "as 1.0.1 writes it"])
def test_a_folder_of_simulations_is_read_whole_or_not_at_all(tmp_path: Path, named: bool) -> None:
    whole = {**logs.tau2_results([]), "simulation_index": [{"id": "one"}, {"id": "two"}]}
    if not named:
        del whole["simulations"]
    logs.write_json(tmp_path / "results.json", whole)
    for name in ("one", "two"):
        logs.write_json(tmp_path / "simulations" / f"{name}.json", logs.simulation("7"))
    log = read_log(tmp_path)
    assert len(log.rollouts) == 2
    assert len(log.recipe["files"]) == 3
    assert len(read_log(tmp_path / "results.json").rollouts) == 2
    (tmp_path / "simulations" / "two.json").unlink()
    with pytest.raises(InputError, match="lists 1 simulations that simulations/ has not, such as two"):
        read_log(tmp_path)


def test_what_cannot_be_imported_is_counted(tmp_path: Path) -> None:
    told = [logs.simulation("7"), logs.simulation("7", messages=None), logs.simulation("7", reason="sunburn")]
    recipe = read_log(logs.write_json(tmp_path / "run.json", logs.tau2_results(told))).recipe
    assert recipe["num_rollouts"] == 1
    assert recipe["left_out"] == {
        "no messages (a voice simulation, or one that never began)": 1,
        "termination_reason 'sunburn' is not known": 1,
    }


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in logs.simulation("7").items() if name != key}


BROKEN = {
    "no reason": (_without("termination_reason"), "record 2, task '7': expected an object with 'termination_reason'"),
    "no task": ({**logs.simulation("7"), "task_id": None}, "record 2, task_id: expected a text, found nothing"),
    "another task": (logs.simulation("8"), "record 2, task_id: expected one of the file's 2 tasks, found '8'"),
    "text": (logs.simulation("7", messages="hi"), "messages: expected a list, found 'hi'"),  # type: ignore[arg-type]
    "a role": (logs.simulation("7", messages=[{"role": "judge"}]), "message 1, role: expected one of system, user"),
    "a call": (
        logs.simulation("7", messages=[logs.says("assistant", None, [{"name": "f", "arguments": "x"}])]),
        "message 1, tool_calls, arguments: expected an object, found 'x'",
    ),
    "a reward": (
        {**logs.simulation("7"), "reward_info": {"reward": "high"}},
        "reward_info, reward: expected a number, found 'high'",
    ),
    "not a number": (
        {**logs.simulation("7"), "reward_info": {"reward": float("nan")}},
        "reward_info, reward: expected a number, found nan",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_damage_is_named_by_file_record_and_field(tmp_path: Path, name: str) -> None:
    broken, words = BROKEN[name]
    with pytest.raises(InputError) as error:
        imported(tmp_path, logs.tau2_results([logs.simulation("7"), broken]))
    assert f"{tmp_path / 'run.json'}, record 2" in str(error.value)
    assert words in str(error.value)


def test_a_cut_file_and_mixed_versions_are_refused(tmp_path: Path) -> None:
    file = logs.write_json(tmp_path / "run.json", logs.tau2_results([logs.simulation("7")]))
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="not whole JSON"):
        read_log(file)
    logs.write_json(tmp_path / "run.json", logs.tau2_results([logs.simulation("7")]))
    logs.write_json(tmp_path / "two.json", logs.tau2_results([logs.simulation("7")], [logs.tau2_task("7", [])]))
    with pytest.raises(InputError, match="different versions of the tasks"):
        read_log(tmp_path)
    logs.write_json(tmp_path / "two.json", logs.tau2_results([logs.simulation("7")], domain="retail"))
    with pytest.raises(InputError, match="several domains"):
        read_log(tmp_path)


def test_the_published_task_file_serves_as_golden(tmp_path: Path) -> None:
    if not (PLACE / "tasks.json").is_file():
        pytest.skip("the benchmark's task file is not here")
    simulations = [{**logs.simulation("7"), "task_id": str(number)} for number in range(50)]
    results = {key: value for key, value in logs.tau2_results(simulations).items() if key != "tasks"}
    log = read_log(logs.write_json(tmp_path / "run.json", results), ImportOptions(golden=PLACE / "tasks.json"))
    assert len(log.golden) == 50
    assert sum(len(calls) for calls in log.golden.values()) == 142  # specs/tau.md, section 5
