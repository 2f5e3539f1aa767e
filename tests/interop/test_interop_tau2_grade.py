"""Calls and rewards in terms any implementation can be compared by, and whole logs graded again."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.envs.airline.conftest import DB
from tests.envs.airline.naive import Database, NaiveDesk, naive_reward
from tests.envs.airline.test_airline_differential import calls as any_calls
from tests.interop import logs

from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tau2tasks import Tau2Task, Tau2Tasks, read_tasks
from banty.envs.airline.writes import WRITE_TOOLS
from banty.envs.state import State
from banty.errors import InputError, ReplayMismatch
from banty.interop import (
    Tau2Call,
    Tau2Reward,
    grade_tau2_trajectory,
    read_calls,
    regrade_tau2,
    run_tau2_calls,
)
from banty.records import CallFault, Message, ToolCall

CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"}, "c1")
BAGS = {"reservation_id": "RES001", "total_baggages": 3, "nonfree_baggages": 1, "payment_id": "card_1"}
LEGS = [{"flight_number": "HAT001", "date": "2024-05-20"}, {"flight_number": "HAT002", "date": "2024-05-20"}]


def task(*actions: ToolCall, say: Sequence[str] = (), **criteria: Any) -> Tau2Task:
    listed = [logs.action(call.name, **call.arguments) for call in actions]
    raw = logs.tau2_task("7", listed)
    raw["evaluation_criteria"] |= {"communicate_info": list(say), **criteria}
    return read_tasks([raw], "here")[0]


def spoken(*lines: str | ToolCall, world: AirlineWorld) -> list[dict[str, Any]]:
    """A conversation of the benchmark's form: texts the agent says, and calls with the answers they get."""
    state = State(world)
    messages = [logs.GREETING, logs.says("user", "Please.")]
    for line in lines:
        if isinstance(line, str):
            messages += [logs.says("assistant", line), logs.says("user", "Go on.")]
            continue
        (done,) = run_tau2_calls([line], state)
        made = logs.call(line.name, line.id, **line.arguments)
        messages += [logs.says("assistant", None, [made]), logs.answers(line.id, done.text, not done.ok)]
    return messages


# Calls.


def test_calls_say_whether_they_succeeded_their_text_and_the_benchmarks_hash(small_world: AirlineWorld) -> None:
    naive = NaiveDesk(DB)
    listed: list[ToolCall | dict[str, Any]] = [
        {"name": "get_user_details", "arguments": {"user_id": "ann_lee_1"}},
        CANCEL,
        {"name": "cancel_reservation", "arguments": {"reservation_id": "RES009"}},
        {"name": "fly", "arguments": {}},
        ToolCall("update_reservation_baggages", BAGS),
    ]
    for done in run_tau2_calls(listed, small_world):
        assert (done.ok, done.text) == naive.call(done.name, done.arguments)[:2]
        assert done.database == naive.hash()


def test_calls_begin_fresh_or_go_on_from_a_given_database(small_world: AirlineWorld, tmp_path: Path) -> None:
    once, twice = run_tau2_calls([CANCEL, CANCEL], small_world)
    assert run_tau2_calls([CANCEL], small_world) == [once]
    state = State(small_world)
    assert [*run_tau2_calls([CANCEL], state), *run_tau2_calls([CANCEL], state)] == [once, twice]
    assert tau2_hash(state) == twice.database
    file = logs.write_json(tmp_path / "db.json", DB)
    assert run_tau2_calls([CANCEL, CANCEL], file) == run_tau2_calls([CANCEL, CANCEL], tmp_path) == [once, twice]


def test_a_half_failed_call_shows_in_the_hash(small_world: AirlineWorld) -> None:
    half = ToolCall("update_reservation_baggages", {**BAGS, "nonfree_baggages": 1.25, "payment_id": "gift_1"})
    before, after = run_tau2_calls([ToolCall("list_all_airports", {}), half], small_world)
    assert (before.ok, after.ok) == (True, False)
    assert before.database != after.database, "the gift card was charged before the amount was refused"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([{"name": "x"}], "calls, record 1: expected an object with 'arguments'"),
        ([CANCEL, {"name": 5, "arguments": {}}], "calls, record 2, name: expected text"),
        (["cancel"], "expected an object, found 'cancel'"),
    ],
)
def test_what_is_no_call_is_named(small_world: AirlineWorld, listed: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run_tau2_calls(listed, small_world)


def test_files_of_calls_come_in_three_forms(tmp_path: Path) -> None:
    one = {"name": CANCEL.name, "arguments": dict(CANCEL.arguments), "id": "c1"}
    assert read_calls(logs.write_json(tmp_path / "a.json", [one, one])) == {"calls": [CANCEL, CANCEL]}
    assert read_calls(logs.write_json(tmp_path / "b.json", one)) == {"calls": [CANCEL]}
    assert read_calls(logs.write_json(tmp_path / "c.json", {"x": [one], "y": []})) == {"x": [CANCEL], "y": []}
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(one)}\n\n{json.dumps(one)}\n")
    assert read_calls(tmp_path / "d.jsonl") == {"calls": [CANCEL, CANCEL]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{", "is not whole JSON"),
        ("5", "expected a list of calls, found 5"),
        ('{"x": 5}', "sequence 'x': expected a list of calls"),
        ('[{"name": "f"}]', "record 1: expected an object with 'arguments'"),
    ],
)
def test_damaged_files_of_calls_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "calls.json").write_text(text)
    with pytest.raises(InputError) as error:
        read_calls(tmp_path / "calls.json")
    assert said in str(error.value)
    assert "calls.json" in str(error.value)
    with pytest.raises(InputError, match="there is no"):
        read_calls(tmp_path / "none.json")


# Trajectories.


def graded(world: AirlineWorld, wanted: Tau2Task, *lines: str | ToolCall, **more: Any) -> Tau2Reward:
    return grade_tau2_trajectory(spoken(*lines, world=world), wanted, world, **more)


def test_a_reward_comes_with_its_components_and_both_databases(small_world: AirlineWorld) -> None:
    wanted = task(CANCEL, say=["160", "gone"])
    found = graded(small_world, wanted, CANCEL, "You get $160 back.")
    naive = NaiveDesk(DB)
    naive.call(CANCEL.name, CANCEL.arguments)
    assert (found.reward, found.breakdown, found.db_match) == (0.0, {"DB": 1.0, "COMMUNICATE": 0.0}, True)
    assert found.database == found.gold_database == naive.hash()
    assert found.communicate == (("160", True), ("gone", False))
    assert [matched for _, matched in found.actions] == [True]
    assert graded(small_world, wanted, CANCEL, "It is gone, and 160 dollars come back.").reward == 1.0
    nothing = graded(small_world, wanted, "It is gone, and 160 dollars come back.")
    assert (nothing.breakdown, nothing.gold_database) == ({"DB": 0.0, "COMMUNICATE": 1.0}, naive.hash())
    assert nothing.database == tau2_hash(State(small_world))


def test_as_json_it_is_a_reward_info_of_the_benchmark(small_world: AirlineWorld) -> None:
    told = graded(small_world, task(CANCEL, say=["160"]), CANCEL).to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["db_check"] == {"db_match": True, "db_reward": 1.0}
    assert (told["reward"], told["reward_basis"]) == (0.0, ["DB", "COMMUNICATE"])
    assert told["communicate_checks"] == [{"info": "160", "met": False, "justification": "not said by the agent"}]
    (check,) = told["action_checks"]
    assert (check["action_match"], check["action_reward"], check["tool_type"]) == (True, 1.0, "write")
    assert check["action"]["action_id"] == "cancel_reservation_1"


@pytest.mark.parametrize(
    "reason", ["max_steps", "too_many_errors", "timeout", "agent_error", "context_window_exceeded"]
)
def test_what_nobody_ended_is_0_and_not_judged(small_world: AirlineWorld, reason: str) -> None:
    found = graded(small_world, task(CANCEL), CANCEL, termination_reason=reason)
    assert (found.reward, found.breakdown, found.basis, found.db_match, found.database) == (0.0, {}, None, None, None)
    assert reason in found.note


def test_a_task_without_criteria_or_without_actions_is_not_held_to_a_database(small_world: AirlineWorld) -> None:
    raw = logs.tau2_task("7", None)
    (free,) = read_tasks([raw], "here")
    found = graded(small_world, free, CANCEL)
    assert (found.reward, found.db_match, found.breakdown) == (1.0, True, {"COMMUNICATE": 1.0})
    (none,) = read_tasks([raw | {"evaluation_criteria": None}], "here")
    assert graded(small_world, none, CANCEL).reward == 1.0
    assert graded(small_world, none, CANCEL).basis is None


def test_our_own_messages_are_graded_like_the_benchmarks(small_world: AirlineWorld) -> None:
    (done,) = run_tau2_calls([CANCEL], small_world)
    fault = CallFault("malformed", "no JSON", order=0)
    ours = [
        Message("assistant", "Hi! How can I help you today?"),
        Message("user", "Cancel it."),
        Message("assistant", "One moment.", (CANCEL,), (fault,)),
        Message("tool", "Error: no JSON"),
        Message("tool", done.text, call_id="c1"),
        Message("assistant", "Done."),
    ]
    assert grade_tau2_trajectory(ours, task(CANCEL, say=["moment"]), small_world).reward == 1.0


def test_users_calls_reads_and_unknown_tools_are_not_run_again(small_world: AirlineWorld) -> None:
    by_user = {**logs.call("cancel_reservation", "u1", reservation_id="RES002"), "requestor": "user"}
    messages = [
        logs.GREETING,
        logs.says("user", None, [by_user]),
        logs.answers("u1", "Error: no tools", True, requestor="user"),
        logs.says("assistant", None, [logs.call("get_user_details", "c5", user_id="nobody")]),
        logs.answers("c5", "whatever"),
        *spoken(CANCEL, ToolCall("wish", {}, "c2"), world=small_world)[2:],
    ]
    assert grade_tau2_trajectory(messages, task(CANCEL), small_world).reward == 1.0


BROKEN: Mapping[str, tuple[Sequence[Any], str]] = {
    "an answer to nothing": ([logs.answers("c1", "{}")], "message 1 of the trajectory answers no call"),
    "no answer": (
        [logs.says("assistant", None, [logs.CANCEL])],
        "message 1 of the trajectory calls cancel_reservation",
    ),
    "a text between": (
        [logs.says("assistant", None, [logs.CANCEL]), logs.says("user", "Hm")],
        "message 1 of the trajectory calls cancel_reservation, and no answer follows",
    ),
    "another id": (
        [logs.says("assistant", None, [logs.CANCEL]), logs.answers("c9", "{}")],
        "message 2 of the trajectory answers the call 'c9' instead of 'c2'",
    ),
    "no message": (["hello"], "message 1: expected an object, found 'hello'"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_conversations_that_the_benchmark_refuses_are_refused_by_place(small_world: AirlineWorld, name: str) -> None:
    messages, said = BROKEN[name]
    with pytest.raises(InputError, match=said):
        grade_tau2_trajectory(messages, task(CANCEL), small_world)


def test_an_unknown_reason_and_a_judged_basis_are_refused(small_world: AirlineWorld) -> None:
    with pytest.raises(InputError, match="'sunburn' is not one of agent_stop, user_stop"):
        graded(small_world, task(CANCEL), termination_reason="sunburn")
    with pytest.raises(InputError, match=r"nl_assertions \(NL_ASSERTION\), which needs a model to judge them"):
        graded(small_world, task(CANCEL, reward_basis=["DB", "NL_ASSERTION"], nl_assertions=["The agent is kind."]))


def test_a_basis_of_assertions_is_held_where_the_task_makes_none(small_world: AirlineWorld) -> None:
    for basis in ("NL_ASSERTION", "ENV_ASSERTION"):
        found = graded(small_world, task(CANCEL, reward_basis=["DB", basis]))
        assert (found.reward, dict(found.breakdown)) == (0.0, {"DB": 0.0, basis: 1.0})
        alone = graded(small_world, task(CANCEL, reward_basis=[basis], nl_assertions=[], env_assertions=[]))
        assert (alone.reward, dict(alone.breakdown)) == (1.0, {basis: 1.0})
    unchecked = graded(small_world, task(reward_basis=["ENV_ASSERTION"], actions=None))
    assert (unchecked.reward, dict(unchecked.breakdown), unchecked.db_match) == (1.0, {}, True)


def test_a_recorded_write_failed_where_its_text_says_so(small_world: AirlineWorld) -> None:
    """The benchmark compares texts and never looks at the flag beside them."""
    messages = spoken(CANCEL, world=small_world)
    flagged = [*messages[:-1], messages[-1] | {"error": True}]
    assert grade_tau2_trajectory(flagged, task(CANCEL), small_world).reward == 1.0
    failed = ToolCall("cancel_reservation", {"reservation_id": "RES009"}, "c1")
    messages = spoken(failed, world=small_world)
    plain = [*messages[:-1], messages[-1] | {"error": False}]
    assert grade_tau2_trajectory(plain, task(), small_world).reward == 1.0


def test_without_a_database_to_check_nothing_is_run_again(small_world: AirlineWorld) -> None:
    messages = spoken(CANCEL, world=small_world)
    other = [*messages[:-1], messages[-1] | {"content": "done"}]
    assert grade_tau2_trajectory(other, task(actions=None), small_world).reward == 1.0


def test_recorded_writes_have_to_answer_the_same_unless_lenient(small_world: AirlineWorld) -> None:
    messages = spoken(CANCEL, world=small_world)
    told = json.loads(messages[-1]["content"])

    def recorded(content: str) -> list[dict[str, Any]]:
        return [*messages[:-1], messages[-1] | {"content": content}]

    for same in (json.dumps(told, indent=2), messages[-1]["content"].replace('": 1,', '": 1.0,')):
        assert same != messages[-1]["content"]
        assert grade_tau2_trajectory(recorded(same), task(CANCEL), small_world).reward == 1.0
    for other in (json.dumps(told | {"insurance": "yes"}), "Error: Reservation RES001 not found", "done"):
        with pytest.raises(ReplayMismatch, match="cancel_reservation answered"):
            grade_tau2_trajectory(recorded(other), task(CANCEL), small_world)
        assert grade_tau2_trajectory(recorded(other), task(CANCEL), small_world, strict=False).reward == 1.0


SAYINGS = ["It costs $1,628.", "916289", "1628", "", "You are GOLD.", "gold"]
NAIVE = Database.model_validate(DB)


@settings(deadline=None, max_examples=150)
@given(
    made=st.lists(any_calls(), max_size=5),
    golden=st.lists(any_calls(), max_size=4),
    same=st.booleans(),
    texts=st.lists(st.sampled_from(SAYINGS), max_size=2),
    needles=st.lists(st.sampled_from(["1628", "Gold", "1,628"]), max_size=2, unique=True),
    reason=st.sampled_from(["user_stop", "agent_stop", "user_stop", "max_steps"]),
)
def test_any_trajectory_gets_what_a_naive_evaluator_gives_it(
    small_world: AirlineWorld, made: Any, golden: Any, same: bool, texts: Any, needles: Any, reason: Any
) -> None:
    """Golden actions that fail included: what they change before they fail counts, as in the benchmark."""
    played = [ToolCall(call.name, call.arguments, f"c{n}") for n, call in enumerate(golden if same else made)]
    messages = spoken(*played, *texts, world=small_world)
    wanted = task(*golden, say=needles)
    found = grade_tau2_trajectory(messages, wanted, small_world, reason)
    reward, parts = naive_reward(NAIVE, messages, wanted.criteria, reason)
    assert (found.reward, found.breakdown) == (reward, parts)
    assert bool(found.failed_gold) <= any(
        call.name in WRITE_TOOLS or call.name in ("think", "book_flight") for call in golden
    )


# Both graders.


def test_where_the_graders_differ_the_reason_says_over_what(small_world: AirlineWorld) -> None:
    change: dict[str, Any] = {"reservation_id": "RES001", "cabin": "economy", "payment_id": "card_1"}
    golden = ToolCall("update_reservation_flights", {**change, "flights": LEGS})
    turned = ToolCall("update_reservation_flights", {**change, "flights": LEGS[::-1]}, "c1")
    found = graded(small_world, task(golden), turned)
    assert (found.reward, found.semantic) == (0.0, 1.0)
    assert found.reason == "semantic passes and tau2 fails: reservations/RES001.flights: another order"
    floats = ToolCall("update_reservation_baggages", {**BAGS, "total_baggages": 3.0}, "c1")
    found = graded(small_world, task(ToolCall("update_reservation_baggages", BAGS)), floats)
    assert found.reason == "semantic passes and tau2 fails: reservations/RES001.total_baggages: 3.0 for 3"
    found = graded(small_world, task(CANCEL, say=["1628"]), CANCEL, "Your code is 916289.")
    assert (found.reward, found.semantic) == (1.0, 0.0)
    assert found.reason == "tau2 passes and semantic fails: '1628' stands only inside other words or numbers"
    found = graded(small_world, task(CANCEL, say=["1628"]), CANCEL, "It is 1628.", CANCEL)
    assert (found.reward, found.semantic, found.reason) == (0.0, 0.0, "")


# Whole logs.


def results(world: AirlineWorld, *simulations: Mapping[str, Any]) -> dict[str, Any]:
    tasks = [logs.tau2_task("7", [logs.action(CANCEL.name, reservation_id="RES001")]), logs.tau2_task("9", [])]
    return logs.tau2_results(simulations, tasks)


def simulated(world: AirlineWorld, key: str, *lines: str | ToolCall, **more: Any) -> dict[str, Any]:
    verdict = {"reward": 1.0, "reward_breakdown": {"DB": 1.0, "COMMUNICATE": 1.0}, "communicate_checks": []}
    made = logs.simulation(key, messages=spoken(*lines, world=world))
    return {**made, "reward_info": verdict, **more}


def test_every_reward_of_a_log_is_derived_again_and_disagreements_are_listed(
    small_world: AirlineWorld, tmp_path: Path
) -> None:
    right = simulated(small_world, "7", CANCEL)
    doctored = simulated(small_world, "7", "I did nothing.", trial=1)
    idle = simulated(small_world, "9", "No.")
    cut = simulated(small_world, "9", "No.", trial=1, termination_reason="user_error")
    unjudged = simulated(small_world, "9", "No.", trial=2, reward_info=None)
    file = logs.write_json(tmp_path / "r.json", results(small_world, right, doctored, idle, cut, unjudged))
    report = regrade_tau2(file, small_world)
    assert [each.found.reward if each.found else None for each in report.simulations] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert [len(each.differs) for each in report.simulations] == [0, 2, 0, 1, 0]
    one, other = report.disagreements
    assert one.differs == ("reward: the file says 1, re-derived 0", "DB: the file says 1, re-derived 0")
    assert "ended by user_error, which tau2-bench scores 0 since 1.0.0 only" in other.differs[0]
    told = report.to_json()
    assert (told["num_simulations"], told["num_graded"], told["num_differ"]) == (5, 5, 2)
    assert told["mean_reward"] == 0.6
    assert json.loads(json.dumps(told)) == told


def test_one_that_cannot_be_graded_does_not_keep_the_rest_from_it(small_world: AirlineWorld, tmp_path: Path) -> None:
    orphan = {**simulated(small_world, "7"), "messages": [logs.answers("c1", "{}")]}
    voice = {**simulated(small_world, "7"), "messages": None}
    altered = simulated(small_world, "7", CANCEL)
    altered["messages"][-1]["content"] = "{}"
    file = logs.write_json(
        tmp_path / "r.json", results(small_world, orphan, voice, altered, simulated(small_world, "8"), altered)
    )
    report = regrade_tau2(file, small_world)
    assert ["no call" in report.simulations[0].fault, "no messages" in report.simulations[1].fault] == [True, True]
    assert "task '8' is not one of the 2 that are known" in report.simulations[3].fault
    last = report.simulations[-1]
    assert last.found is not None
    assert (last.found.reward, last.differs) == (1.0, ())
    assert "cancel_reservation answered '{}'" in last.replay
    assert report.to_json()["num_graded"] == 2


def test_a_log_of_another_domain_or_without_tasks_is_refused(small_world: AirlineWorld, tmp_path: Path) -> None:
    data = results(small_world, simulated(small_world, "7", CANCEL))
    other = copy.deepcopy(data)
    other["info"]["environment_info"]["domain_name"] = "retail"
    with pytest.raises(InputError, match="of the domain 'retail'"):
        regrade_tau2(logs.write_json(tmp_path / "a.json", other), small_world)
    file = logs.write_json(tmp_path / "b.json", {**data, "tasks": []})
    with pytest.raises(InputError, match="holds no tasks; name the task file"):
        regrade_tau2(file, small_world)
    with pytest.raises(InputError, match="holds no simulations"):
        regrade_tau2(logs.write_json(tmp_path / "c.json", {**data, "simulations": []}), small_world)


def test_a_task_file_goes_before_the_tasks_of_the_log(small_world: AirlineWorld, tmp_path: Path) -> None:
    file = logs.write_json(tmp_path / "r.json", results(small_world, simulated(small_world, "7", CANCEL)))
    given = Tau2Tasks(read_tasks([logs.tau2_task("7", [])], "here"), {}, "abc", tmp_path)
    report = regrade_tau2(file, small_world, given)
    assert report.tasks_sha256 == "abc"
    assert len(report.disagreements) == 1


def test_the_published_tasks_replayed_pass_and_done_nothing_pass_23(
    tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks
) -> None:
    def conversation(wanted: Tau2Task) -> list[Any]:
        made = [ToolCall(call.name, call.arguments, f"c{n}") for n, call in enumerate(wanted.actions)]
        return spoken(*made, f"That is {' '.join(wanted.communicate)}.", world=tau2_world)

    right = [grade_tau2_trajectory(conversation(each), each, tau2_world) for each in tau2_tasks.tasks]
    assert [found.reward for found in right] == [1.0] * 50
    assert all(found.database == found.gold_database and not found.failed_gold for found in right)
    idle = [grade_tau2_trajectory([logs.GREETING], each, tau2_world) for each in tau2_tasks.tasks]
    assert sum(found.reward for found in idle) == 23


def test_a_call_is_told_as_json(small_world: AirlineWorld) -> None:
    (done,) = run_tau2_calls([CANCEL], small_world)
    assert Tau2Call(**done.to_json()) == done
