"""Why an episode failed: one cause each, at the first change that departs from the reference calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from tests import rollouts_by_hand as by_hand

from banty.errors import InputError
from banty.evals.diagnosis import STAGES, Reference, compare_diagnoses, diagnose, find_cause
from banty.records import CallResult, GoldenCall, Rollout, ToolCall, ToolMatching, ToolSchema
from banty.rubrics import Matching

TOOLS = (
    ToolSchema("find", "", effect="read"),
    ToolSchema("book", "", effect="write"),
    ToolSchema("cancel", "", effect="write"),
    ToolSchema("transfer", "", effect="terminal"),
)
BOOK = ToolCall("book", {"seat": 4, "name": "Ann"})
FIND = ToolCall("find", {"name": "Ann"})


def did(name: str, error: str = "", output: str = "ok", /, **arguments: Any) -> CallResult:
    effects = {tool.name: tool.effect for tool in TOOLS}
    return CallResult(name, arguments, output, effects.get(name, "none"), error)


def episode(*calls: CallResult, success: bool = False, index: int = 0, trial: int = 0, **changes: Any) -> Rollout:
    turns = [by_hand.turn(place, calls=(call,)) for place, call in enumerate(calls)]
    made = by_hand.rollout(turns, success, of=by_hand.task(index), trial=trial)
    return dataclasses.replace(made, tools=TOOLS, **changes)


def against(*golden: ToolCall, **rules: ToolMatching) -> Reference:
    return Reference(lambda task: golden, Matching(tools=rules))


FOUND = did("find", name="Ann")
BOOKED = did("book", seat=4, name="Ann")


@pytest.mark.parametrize(
    ("calls", "cause", "turn", "about"),
    [
        ((FOUND, did("cancel", id=1), BOOKED), "other_change", 1, "cancel"),
        ((FOUND, did("book", seat=5, name="Ann")), "wrong_arguments", 1, "book: seat"),
        ((did("book", seat=4), BOOKED), "wrong_arguments", 0, "book: name"),
        ((BOOKED, did("cancel", id=1)), "other_change", 1, "cancel"),
        ((BOOKED, BOOKED), "made_twice", 1, "book"),
        ((FOUND, did("book", "tool", "Error: full", seat=9)), "refused", 1, "book"),
        ((did("find", "tool", "Error: no"),), "nothing_worked", None, "book"),
        ((), "nothing_worked", None, "book"),
        ((FOUND, did("transfer", why="hard")), "handed_off", 1, "transfer for book"),
        ((FOUND, did("transfer_to_human_agents", why="hard")), "handed_off", 1, "transfer_to_human_agents for book"),
        ((FOUND, BOOKED, did("transfer", why="done")), "handed_off", 2, "transfer"),
        ((FOUND,), "left_out", None, "book"),
        ((BOOKED, did("book", seat=5, name="Ann")), "other_change", 1, "book"),
        ((FOUND, BOOKED), "judged", None, "told: no price"),
    ],
)
def test_a_failure_has_the_cause_of_its_first_departure(
    calls: Sequence[CallResult], cause: str, turn: int | None, about: str
) -> None:
    failed = episode(*calls)
    failed = dataclasses.replace(failed, outcome=dataclasses.replace(failed.outcome, reason="told: no price; more"))
    found = find_cause(failed, against(FIND, BOOK))
    assert (found.cause, found.turn, found.about) == (cause, turn, about)


def test_other_arguments_are_told_beside_those_of_the_reference() -> None:
    found = find_cause(episode(did("book", seat=5, extra=None)), against(BOOK))
    assert found.told == (
        "extra is None, the reference has not given; name is not given, the reference has 'Ann'; "
        "seat is 5, the reference has 4"
    )


TWO = (BOOK, ToolCall("book", {"seat": 7, "name": "Bob"}))


@pytest.mark.parametrize(
    ("calls", "cause", "told"),
    [
        ((BOOKED, did("book", seat=4, name="Bob")), "wrong_arguments", "seat is 4, the reference has 7"),
        ((did("book", "tool", "Error: full"), BOOKED), "left_out", "ended without book"),
        ((did("book", "tool", "Error: full", seat=7, name="Bob"), BOOKED), "refused", "Error: full"),
        ((BOOKED, did("book", "tool", "Error: full", seat=9)), "refused", "Error: full"),
        ((FOUND,), "left_out", "ended without book and book"),
    ],
)
def test_of_two_calls_of_one_tool_the_one_still_to_be_made_is_the_missing_one(
    calls: Sequence[CallResult], cause: str, told: str
) -> None:
    found = find_cause(episode(*calls), against(*TWO))
    assert (found.cause, found.told) == (cause, told)


def test_any_of_the_needed_calls_may_be_the_one_that_was_refused() -> None:
    needs = ToolCall("cancel", {"id": 1}), BOOK
    assert find_cause(episode(did("book", "tool", "Error: full", seat=4)), against(*needs)).about == "book"


def test_a_call_with_other_arguments_that_changed_nothing_was_made_all_the_same() -> None:
    idle = dataclasses.replace(did("book", seat=5, name="Ann"), state_before="a", state_after="a")
    found = find_cause(episode(FOUND, idle), against(BOOK))
    assert (found.cause, found.turn, found.told) == ("wrong_arguments", 1, "seat is 5, the reference has 4")
    assert find_cause(episode(idle, BOOKED), against(BOOK)).on_path


def test_where_nothing_is_to_be_changed_calls_may_still_be_missing() -> None:
    assert find_cause(episode(), against(FIND)).cause == "nothing_worked"
    assert find_cause(episode(), against()).cause == "judged", "a right ending makes no call"
    assert find_cause(episode(FOUND, did("transfer", why="x")), against(FIND)).about == "transfer"


def test_a_failed_change_that_works_later_is_none() -> None:
    found = find_cause(episode(did("book", "tool", seat=4, name="Ann"), BOOKED, success=True), against(BOOK))
    assert found.on_path
    assert found.stages == len(STAGES)


def test_a_call_that_fails_half_way_and_leaves_a_change_is_a_departure() -> None:
    half = dataclasses.replace(did("book", "tool", seat=4, name="Ann"), state_before="a", state_after="b")
    assert find_cause(episode(half), against(BOOK)).told == "book failed half-way and left a change behind"


def test_changes_may_come_in_any_order_and_under_the_environments_rules() -> None:
    cancel = ToolCall("cancel", {"id": 1, "note": "x"})
    rules = ToolMatching(ignore=("note",))
    found = find_cause(episode(did("cancel", id=1, note="y"), BOOKED), against(BOOK, cancel, cancel=rules))
    assert found.on_path


def test_of_a_call_of_which_some_arguments_count_the_others_are_free() -> None:
    seat = GoldenCall("book", {"seat": 4, "name": "Ann"}, compared=("seat",))
    assert find_cause(episode(did("book", seat=4, name="Bob")), against(seat)).on_path
    assert find_cause(episode(did("book", seat=5, name="Bob")), against(seat)).about == "book: seat"


def test_an_ending_call_of_the_reference_is_met_whatever_it_says() -> None:
    ends = ToolCall("transfer", {"why": "too hard"})
    assert find_cause(episode(did("transfer", why="x"), success=True), against(ends)).on_path
    assert find_cause(episode(FOUND), against(ends)).cause == "left_out"


def test_a_cap_comes_before_all_else() -> None:
    cut = episode(did("cancel", id=1), status="truncated", cause="turns", detail="30 turns")
    found = find_cause(cut, against(BOOK))
    assert (found.cause, found.about, found.on_path) == ("cut_off", "turns", False)


def test_without_reference_calls_nothing_is_made_up() -> None:
    unknown = Reference(lambda task: None)
    assert find_cause(episode(FOUND, did("book", "tool", "Error: full")), unknown).cause == "last_call_failed"
    found = find_cause(episode(FOUND, did("cancel", id=1)), unknown)
    assert (found.cause, found.stages, found.on_path) == ("unexplained", None, None)


def test_a_reference_call_of_a_tool_whose_effect_nobody_knows_explains_nothing() -> None:
    imported = dataclasses.replace(episode(FOUND), tools=())
    assert find_cause(imported, against(ToolCall("mystery", {}))).on_path is None


@pytest.mark.parametrize(
    ("calls", "stages"),
    [
        ((FOUND,), 0),
        ((did("book", "tool"),), 1),
        ((did("book", seat=1),), 2),
        ((BOOKED, did("cancel", id=1)), 3),
        ((BOOKED,), 4),
    ],
)
def test_how_far_an_episode_came(calls: Sequence[CallResult], stages: int) -> None:
    assert find_cause(episode(*calls), against(BOOK)).stages == stages


SET = [
    episode(FOUND, BOOKED, success=True, index=0, trial=0),
    episode(FOUND, index=0, trial=1),
    episode(did("book", seat=5, name="Ann"), index=1, trial=0),
    episode(did("book", seat=6, name="Ann"), index=1, trial=1),
    episode(did("cancel", id=1), success=True, index=2, trial=0),
    dataclasses.replace(by_hand.rollout((), None, of=by_hand.task(2), trial=1, cause="simulator"), tools=TOOLS),
]


def test_every_failure_is_counted_once_and_nothing_unscored() -> None:
    found = diagnose(SET, against(BOOK))
    assert (found["num_scored"], found["num_failures"], found["excluded"]) == (5, 3, {"simulator": 1})
    assert {row["cause"]: row["share"]["count"] for row in found["causes"]} == {"wrong_arguments": 2, "left_out": 1}
    first = found["causes"][0]
    assert first["about"] == {"book: seat": 2}
    assert first["num_tasks"] == 1
    assert first["share"]["estimate"] == pytest.approx(1 / 3)  # the mean over three tasks: 0, 1 and 0
    assert found["off_path"]["passes_off_path"] == 1
    assert found["off_path"]["of_passes"] == 2
    assert [row["reached"] for row in found["stages"]] == [5, 3, 3, 1, 1, 1]
    assert [(row["task"], row["num_failures"], row["num_trials"]) for row in found["tasks"]] == [
        ("1", 2, 2),
        ("0", 1, 2),
    ]


def test_examples_come_from_as_many_tasks_as_there_are() -> None:
    trials = [episode(FOUND, index=index, trial=trial) for index in (0, 1) for trial in range(3)]
    (row,) = diagnose(trials, against(BOOK))["causes"]
    assert [one["task"] for one in row["examples"]] == ["0", "1", "0"]


def test_what_failures_show_stands_beside_what_passes_show() -> None:
    calls = did("find", "tool", "Error: no"), did("find", "tool", "Error: no"), FOUND, FOUND
    found = diagnose([episode(*calls), episode(BOOKED, success=True, index=1)], against(BOOK))
    shown = {row["symptom"]: (row["in_passes"]["count"], row["in_failures"]["count"]) for row in found["symptoms"]}
    assert shown == {"failed_call": (0, 1), "same_failure": (0, 1), "same_call": (0, 1)}


def test_two_sets_are_paired_by_task_and_their_causes_add_up() -> None:
    after = [episode(FOUND, BOOKED, success=True, index=index, trial=trial) for index in (0, 1) for trial in (0, 1)]
    compared = compare_diagnoses(SET[:4], after, (against(BOOK), against(BOOK)))
    rows = {row["cause"]: row for row in compared["differences"]}
    assert set(rows) == {"success", "wrong_arguments", "left_out"}
    assert rows["success"]["counts"] == [1, 4]
    assert rows["wrong_arguments"]["counts"] == [2, 0]
    assert rows["success"]["difference"]["estimate"] == pytest.approx(0.75)
    assert sum(row["difference"]["estimate"] for row in rows.values()) == pytest.approx(0.0)


def test_failures_with_just_the_changes_of_the_reference_are_counted_whatever_their_cause() -> None:
    cut = episode(BOOKED, status="truncated", cause="turns", detail="30 turns")
    assert diagnose([cut, episode(FOUND, index=1)], against(BOOK))["off_path"]["failures_on_path"] == 1


def test_tasks_that_a_seed_draws_otherwise_are_not_paired() -> None:
    drawn = dataclasses.replace(by_hand.task(0), seed=1)
    other = [dataclasses.replace(episode(BOOKED, success=True), task=drawn)]
    compared = compare_diagnoses(SET[:4], other, (against(BOOK), against(BOOK)))
    assert (compared["differences"][0]["num_tasks"], compared["differences"][0]["of"]) == (1, [2, 1])
    with pytest.raises(InputError, match="share none"):
        compare_diagnoses(SET[:4], other, (against(BOOK), against(FIND)))
    with pytest.raises(InputError, match="share none"):
        compare_diagnoses(SET[:4], other, (Reference(lambda task: None), Reference(lambda task: None)))


def test_sets_without_a_task_in_common_and_without_a_verdict_are_refused() -> None:
    with pytest.raises(InputError, match="share none of their 1 and 1 tasks"):
        compare_diagnoses(SET[:2], [episode(index=7)], (against(BOOK), against(BOOK)))
    with pytest.raises(InputError, match="none of 1 stored episodes is scored"):
        diagnose(SET[5:], against(BOOK))
