from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest

from banty.envs.airline.canonical import same_database, tau2_hash
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.grade_tau2 import EndedBy, gold_state, grade_tau2, replayed_state
from banty.envs.airline.tau2tasks import Tau2Task, Tau2Tasks, read_tasks
from banty.envs.airline.tools import run_calls
from banty.envs.state import State
from banty.errors import InputError, ReplayMismatch
from banty.records import CallResult, ToolCall

Change = Callable[[ToolCall], ToolCall | None]


def passes(world: AirlineWorld, task: Tau2Task, calls: Sequence[ToolCall | CallResult], *texts: str) -> bool:
    return grade_tau2(world, calls, texts, task, "user_stop")["reward"] == 1.0


@pytest.mark.parametrize("file", ["tau2_tasks", "verified_tasks"])
def test_the_gold_actions_pass_everywhere_and_doing_nothing_passes_23(
    tau2_world: AirlineWorld, file: str, request: pytest.FixtureRequest
) -> None:
    tasks: Tau2Tasks = request.getfixturevalue(file)
    assert sum(passes(tau2_world, task, task.actions, *task.communicate) for task in tasks.tasks) == 50
    assert sum(passes(tau2_world, task, []) for task in tasks.tasks) == 23


def test_no_gold_action_fails(tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks) -> None:
    for task in tau2_tasks.tasks:
        records = run_calls(tau2_world, task.actions)
        assert [record.error for record in records] == [""] * len(records)
        assert grade_tau2(tau2_world, records, task.communicate, task, "agent_stop", strict=True) == {
            "db": 1.0,
            "communicate": 1.0,
            "action": 1.0,
            "reward": 1.0,
        }


def reversed_list(key: str, *tools: str) -> Change:
    def change(call: ToolCall) -> ToolCall | None:
        items = call.arguments.get(key, [])
        if call.name not in tools or len(items) < 2:
            return None
        return dataclasses.replace(call, arguments={**call.arguments, key: items[::-1]})

    return change


def float_bags(call: ToolCall) -> ToolCall | None:
    if call.name != "update_reservation_baggages":
        return None
    bags = {key: float(call.arguments[key]) for key in ("total_baggages", "nonfree_baggages")}
    return dataclasses.replace(call, arguments={**call.arguments, **bags})


def amounts_as(kind: type) -> Change:
    def change(call: ToolCall) -> ToolCall | None:
        if call.name != "book_reservation":
            return None
        paid = [{**payment, "amount": kind(payment["amount"])} for payment in call.arguments["payment_methods"]]
        return dataclasses.replace(call, arguments={**call.arguments, "payment_methods": paid})

    return change


@pytest.mark.parametrize(
    ("change", "failed", "tried"),
    [
        (reversed_list("flights", "update_reservation_flights"), 17, 18),
        (reversed_list("payment_methods", "book_reservation"), 7, 7),
        (reversed_list("passengers", "book_reservation", "update_reservation_passengers"), 3, 3),
        (float_bags, 5, 5),
        (amounts_as(float), 0, 10),
        (amounts_as(str), 0, 10),
    ],
)
def test_the_measured_sensitivities_of_section_10(
    tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks, change: Change, failed: int, tried: int
) -> None:
    results = []
    for task in tau2_tasks.tasks:
        for index, action in enumerate(task.actions):
            changed = change(action)
            if changed is not None:
                calls = [*task.actions[:index], changed, *task.actions[index + 1 :]]
                results.append(passes(tau2_world, task, calls, *task.communicate))
    assert (results.count(False), len(results)) == (failed, tried)


def test_a_kept_gold_state_is_not_changed_by_grading(tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks) -> None:
    task = tau2_tasks.task("18")
    gold = gold_state(tau2_world, task.actions)
    before = tau2_hash(gold)
    for calls in (task.actions, task.actions[:-1], task.actions * 2, ()):
        graded = grade_tau2(tau2_world, calls, task.communicate, task, "user_stop", gold=gold)
        assert graded == grade_tau2(tau2_world, calls, task.communicate, task, "user_stop")
    assert tau2_hash(gold) == before


CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"})
CRITERIA: dict[str, Any] = {"actions": [{"name": CANCEL.name, "arguments": dict(CANCEL.arguments)}]}


def made(*basis: str, say: tuple[str, ...] = ()) -> Tau2Task:
    raw = {"evaluation_criteria": CRITERIA}
    return Tau2Task("t", "Go.", (CANCEL,), say, basis or ("DB", "COMMUNICATE"), raw)


def test_only_writes_are_run_again_and_failed_ones_are_harmless(small_world: AirlineWorld) -> None:
    calls = [
        ToolCall("get_user_details", {"user_id": "nobody"}),
        ToolCall("wish", {}),
        ToolCall("cancel_reservation", {"reservation_id": "RES009"}),
        CANCEL,
        ToolCall("update_reservation_baggages", {"reservation_id": "RES001"}),
    ]
    assert passes(small_world, made(), calls)
    assert passes(small_world, made(), run_calls(small_world, calls))
    assert not passes(small_world, made(), [*calls, CANCEL])
    assert not passes(small_world, made(), [])


def test_gold_actions_that_fail_are_passed_over(small_world: AirlineWorld) -> None:
    broken = ToolCall("cancel_reservation", {"reservation_id": "RES009"})
    assert same_database(gold_state(small_world, [broken, CANCEL]), replayed_state(small_world, [CANCEL]))


def test_what_was_never_a_call_is_not_run_again(small_world: AirlineWorld) -> None:
    unread = CallResult("cancel_reservation", {}, "Error: not JSON", "none", "malformed")
    assert same_database(replayed_state(small_world, [unread], strict=True), State(small_world))
    assert grade_tau2(small_world, [unread], [], made("ACTION"), "user_stop")["action"] == 0.0


@pytest.mark.parametrize(
    ("needle", "texts", "found"),
    [
        ("1628", ["It is $1,628."], 1.0),
        ("1628", ["the number 916289"], 1.0),
        ("1628", ["16", "28"], 0.0),
        ("1,628", ["It is 1,628."], 0.0),
        ("Gold", ["you are a GOLD member"], 1.0),
        ("4", [], 0.0),
    ],
)
def test_communication_is_a_substring_of_one_message_without_commas(
    small_world: AirlineWorld, needle: str, texts: list[str], found: float
) -> None:
    graded = grade_tau2(small_world, [CANCEL], texts, made(say=(needle,)), "user_stop")
    assert graded["communicate"] == graded["reward"] == found


@pytest.mark.parametrize("ended_by", get_args(EndedBy))
def test_an_episode_that_no_side_ended_gets_nothing(small_world: AirlineWorld, ended_by: EndedBy) -> None:
    graded = grade_tau2(small_world, [CANCEL], [], made(), ended_by)
    if ended_by in ("agent_stop", "user_stop"):
        assert graded["reward"] == graded["db"] == 1.0
    else:
        assert graded == {"db": None, "communicate": None, "action": None, "reward": 0.0}


def test_the_reward_is_the_product_over_the_basis_alone(small_world: AirlineWorld) -> None:
    graded = grade_tau2(small_world, [CANCEL], [], made("DB", say=("4",)), "user_stop")
    assert graded == {"db": 1.0, "communicate": 0.0, "action": 1.0, "reward": 1.0}
    assert grade_tau2(small_world, [], [], made("COMMUNICATE"), "user_stop")["reward"] == 1.0
    assert grade_tau2(small_world, [], [], made("ACTION"), "user_stop")["reward"] == 0.0
    free = Tau2Task("t", "Go.", (), (), (), {})
    assert grade_tau2(small_world, [CANCEL], [], free, "user_stop")["reward"] == 1.0


@pytest.mark.parametrize(
    ("compare", "arguments", "found"),
    [
        (None, {"reservation_id": "RES001"}, 1.0),
        (None, {"reservation_id": "RES002"}, 0.0),
        (None, {"reservation_id": "RES001", "why": "x"}, 0.0),
        (None, {}, 1.0),
        (["reservation_id"], {}, 0.0),
        ([], {"reservation_id": "RES002"}, 1.0),
        (["why"], {"reservation_id": "RES002"}, 1.0),
        (["why"], {"why": "x"}, 0.0),
    ],
)
def test_actions_match_by_name_and_the_arguments_compared(
    small_world: AirlineWorld, compare: list[str] | None, arguments: dict[str, Any], found: float
) -> None:
    gold = CRITERIA["actions"][0] | {"compare_args": compare}
    scenario = {"instructions": "Go."}
    criteria = {"actions": [gold], "reward_basis": ["ACTION"]}
    (task,) = read_tasks([{"id": "t", "user_scenario": scenario, "evaluation_criteria": criteria}], "here")
    call = ToolCall("cancel_reservation", arguments)
    assert grade_tau2(small_world, [call], [], task, "user_stop")["action"] == found
    other = ToolCall("get_reservation_details", arguments)
    assert grade_tau2(small_world, [other], [], task, "user_stop")["action"] == 0.0


@pytest.mark.parametrize(
    ("basis", "said"),
    [
        ("NL_ASSERTION", "needs a model to judge them"),
        ("ENV_ASSERTION", "needs functions that the airline's tools do not have"),
        ("VIBES", "known are DB, COMMUNICATE, ACTION, NL_ASSERTION, ENV_ASSERTION"),
    ],
)
def test_a_basis_that_nothing_here_decides_is_refused(small_world: AirlineWorld, basis: str, said: str) -> None:
    criteria = CRITERIA | {"nl_assertions": ["The agent is kind."], "env_assertions": [{"func_name": "is_kind"}]}
    task = dataclasses.replace(made("DB", basis), raw={"evaluation_criteria": criteria})
    with pytest.raises(InputError, match=said):
        grade_tau2(small_world, [], [], task, "max_steps")


def test_strict_replay_notices_another_answer(small_world: AirlineWorld) -> None:
    (record,) = run_calls(small_world, [CANCEL])
    replayed_state(small_world, [record], strict=True)
    for other in (
        dataclasses.replace(record, output="{}"),
        dataclasses.replace(record, error="tool", output="Error: no"),
    ):
        replayed_state(small_world, [other])
        with pytest.raises(ReplayMismatch, match="cancel_reservation answered"):
            replayed_state(small_world, [other], strict=True)
