"""The result card: every figure worked out again from the rollouts, and files that are none refused."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evals.toy_desk import Guesser, GuessingTasks
from tests.rollouts_by_hand import rollout, segment, task, turn

from banty.errors import InputError
from banty.evals import Card, EvalPlan, evaluate, make_card, read_card, run_baselines
from banty.evals.card import FORMAT, habit_table
from banty.models.habits import HabitWeights
from banty.records import CallResult, Habit, Message, Rollout
from banty.rollout import Cast, Store
from banty.runs.folder import write_json
from banty.stats import clustered_interval

TASKSET = GuessingTasks()
PLAN = EvalPlan(num_trials=4)
IDENTITY = PLAN.identity(TASKSET, "someone")


def card_of(rollouts: Sequence[Rollout], **given: Any) -> dict[str, Any]:
    """The data of a card, as it comes out of its file."""
    card = make_card(IDENTITY, rollouts, given.pop("baselines", {}), given.pop("wall_s", 2.0), **given)
    data = dict(card.data)
    assert json.loads(json.dumps(data, allow_nan=False)) == data, "a card is plain JSON, without NaN"
    return data


def trials(index: int, successes: Sequence[bool | None]) -> list[Rollout]:
    """One rollout a trial; None is an infrastructure failure."""
    return [
        rollout([], success, of=task(index), trial=trial)
        if success is not None
        else rollout([], of=task(index), trial=trial, cause="infrastructure")
        for trial, success in enumerate(successes)
    ]


def any_share(values: Sequence[bool], k: int) -> float:
    subsets = list(itertools.combinations(values, k))
    return sum(map(any, subsets)) / len(subsets)


def all_share(values: Sequence[bool], k: int) -> float:
    subsets = list(itertools.combinations(values, k))
    return sum(map(all, subsets)) / len(subsets)


RESULTS: list[list[bool | None]] = [
    [True, True, False, True],
    [False, False, False, False],
    [True, None, True, False],
    [None, None, None, None],
    [True, True, True, True],
]


def test_success_and_passes_are_over_what_was_scored() -> None:
    data = card_of([each for index, row in enumerate(RESULTS) for each in trials(index, row)])
    scored = [[value for value in row if value is not None] for row in RESULTS]
    kept = [row for row in scored if row]
    means = [sum(row) / len(row) for row in kept]
    assert data["success"]["estimate"] == pytest.approx(sum(means) / 4)
    assert data["success"]["n"] == 4, "tasks, not trials"
    assert data["success"]["level"] == 0.95
    assert data["success"]["low"] < data["success"]["estimate"] < data["success"]["high"]
    assert list(data["pass_hat"]) == list(data["pass_at"]) == ["1", "2", "3"], "as far as every scored task goes"
    for k in (1, 2, 3):
        assert data["pass_hat"][str(k)]["estimate"] == pytest.approx(sum(all_share(row, k) for row in kept) / 4)
        assert data["pass_at"][str(k)]["estimate"] == pytest.approx(sum(any_share(row, k) for row in kept) / 4)
        assert data["pass_hat"][str(k)]["n"] == 4
    assert data["pass_hat"]["1"]["estimate"] == pytest.approx(data["success"]["estimate"])


def test_failures_that_are_nobodys_are_excluded_and_counted() -> None:
    rollouts = [each for index, row in enumerate(RESULTS) for each in trials(index, row)]
    rollouts[4] = rollout([], False, of=task(1), trial=0, status="truncated", cause="turns")
    rollouts[5] = rollout([], of=task(1), trial=1, cause="simulator")
    data = card_of(rollouts)
    assert (data["num_episodes"], data["num_scored"]) == (20, 14)
    assert data["statuses"] == {"completed": 13, "truncated": 1, "errored": 6}
    assert data["causes"] == {"infrastructure": 5, "simulator": 1, "turns": 1}
    assert [each["successes"] for each in data["tasks"]] == [
        [1.0, 1.0, 0.0, 1.0],
        [0.0, None, 0.0, 0.0],
        [1.0, None, 1.0, 0.0],
        [None] * 4,
        [1.0] * 4,
    ]
    assert [each["id"] for each in data["tasks"]] == [task(index).id for index in range(5)]
    assert data["tasks"][2]["public"] == {"number": 2}


@pytest.mark.parametrize("rollouts", [[], trials(0, [None, None])])
def test_an_average_over_nothing_is_missing_and_not_zero(rollouts: list[Rollout]) -> None:
    data = card_of(rollouts)
    assert data["success"]["estimate"] is None
    assert data["success"]["n"] == 0
    assert (data["pass_at"], data["pass_hat"], data["components"]) == ({}, {}, {})
    assert data["minimum_detectable_effect"] is None
    assert data["unknown_tools"] == {}
    assert set(data["behaviour"].values()) == {None}
    assert data["cost"]["usd_per_solved"] is None
    assert data["num_scored"] == 0


def test_one_task_has_an_estimate_and_no_interval() -> None:
    data = card_of(trials(0, [True, False]))
    assert (data["success"]["estimate"], data["success"]["low"], data["success"]["high"]) == (0.5, None, None)


def test_all_alike_is_no_certainty() -> None:
    data = card_of([each for index in range(10) for each in trials(index, [True])])
    assert data["success"]["estimate"] == data["success"]["high"] == 1.0
    assert data["success"]["low"] == pytest.approx(0.025 ** (1 / 10)), "Clopper-Pearson over ten tasks"
    assert data["minimum_detectable_effect"] is None


def call(error: str = "") -> CallResult:
    return CallResult("look", {}, "ok", "read", error)


def test_behaviour_components_and_cost_are_worked_out_again() -> None:
    rollouts = [
        rollout(
            [turn(0, segment([0], [1, 1]), calls=(call(), call("tool")), cost_usd=0.25, prompt_tokens=10), turn(1)],
            True,
            components={"state": 1.0, "told": 0.5, "style": None},
        ),
        rollout(
            [turn(0, calls=(call(),), cost_usd=0.5, prompt_tokens=5), turn(1, actor="user", cost_usd=1.0)],
            False,
            of=task(1),
            status="truncated",
            cause="turns",
            components={"state": 0.0, "style": None},
        ),
        rollout([turn(0, calls=(call("bad_value"),), cost_usd=0.25)], of=task(2), cause="deadline"),
        rollout([turn(place) for place in range(5)], True, of=task(3)),
    ]
    data = card_of(rollouts, wall_s=12.5)
    assert data["behaviour"] == {
        "turns_per_episode": (2 + 1 + 5) / 3,
        "calls_per_episode": 1.0,
        "call_error_share": 1 / 3,
        "empty_answer_share": 0.0,
        "capped_share": 1 / 3,
    }
    assert data["components"] == {"state": 0.5, "told": 0.5}
    cost = data["cost"]
    assert (cost["usd"], cost["usd_per_solved"]) == (2.0, 1.0), "what was spent on failures is spent"
    assert (cost["prompt_tokens"], cost["sampled_tokens"], cost["wall_s"]) == (15, 2, 12.5)


def test_empty_answers_and_calls_of_unknown_tools_are_counted() -> None:
    lost = [CallResult(name, {}, "Error", "none", "unknown_tool") for name in ("fly", "x" * 500, "fly")]
    silent = dataclasses.replace(turn(1), message=Message("assistant", " "))
    data = card_of([rollout([turn(0, calls=tuple(lost)), silent, turn(2), turn(3)], False)])
    assert data["behaviour"]["empty_answer_share"] == 0.25
    assert data["unknown_tools"] == {"fly": 2, "x" * 80: 1}


def test_baselines_have_intervals_and_counts() -> None:
    played = {"idle": trials(0, [False]) + trials(1, [True]) + trials(2, [None]) + trials(3, [False])}
    baseline = card_of(trials(0, [True]), baselines=played)["baselines"]["idle"]
    expected = clustered_interval([[0.0], [1.0], [None], [0.0]], method="wilson")
    assert baseline["estimate"] == pytest.approx(1 / 3)
    assert (baseline["low"], baseline["high"], baseline["n"]) == (expected.low, expected.high, 3)
    assert (baseline["num_passed"], baseline["num_tasks"]) == (1, 4)


POINTS = {"ask": ("asks", "guesses"), "stop": ("stops", "goes on"), "never": ("met", "unmet")}


def test_the_habit_table_counts_lapses_of_chances() -> None:
    weights = HabitWeights.with_lapses(POINTS, 0.5)
    kept, lapsed, stopped, went_on = 1, 2, 3, 4
    rollouts = [
        rollout([turn(0, segment([0], [kept, lapsed])), turn(1, segment([0], [stopped], continues=True))]),
        rollout([turn(0, segment([0], [lapsed])), turn(1, None), turn(2, segment([0], [went_on, kept]))], trial=1),
        rollout([turn(0, segment([0], [lapsed, lapsed]), actor="user")], trial=2),
    ]
    table = card_of(rollouts, decode=weights.decisions)["habits"]
    assert list(table) == ["ask", "stop"], "what never came up has no rate"
    assert (table["ask"]["lapses"], table["ask"]["chances"], table["ask"]["estimate"]) == (2, 4, 0.5)
    assert (table["stop"]["lapses"], table["stop"]["chances"], table["stop"]["estimate"]) == (1, 2, 0.5)
    assert (table["ask"]["n"], table["ask"]["low"]) == (1, None), "one task says nothing about others"
    assert habit_table([], weights.decisions) == {}
    other = dataclasses.replace(rollouts[0], task=dataclasses.replace(rollouts[0].task, index=7))
    both = habit_table([rollouts[1], other], weights.decisions)
    expected = clustered_interval([[1.0, 0.0], [0.0, 1.0]], method="wilson")
    assert (both["ask"]["n"], both["ask"]["low"], both["ask"]["high"]) == (2, expected.low, expected.high)
    assert card_of(rollouts)["habits"] == {}, "without a way to read decisions there are none"


def test_habits_are_looked_for_in_every_scored_episode_where_they_can_come_up() -> None:
    habits = {
        "long": Habit("talks on", lambda one: len(one.turns) > 1 if one.turns else None),
        "never": Habit("never comes up", lambda one: None),
    }
    rollouts = [
        rollout([turn(0), turn(1)], of=task(0)),
        rollout([turn(0)], of=task(0), trial=1),
        rollout([], of=task(1)),
        rollout([turn(0), turn(1)], of=task(2)),
        rollout([turn(0), turn(1)], of=task(3), cause="infrastructure"),
    ]
    table = card_of(rollouts, habits=habits)["habits"]
    expected = clustered_interval([[1.0, 0.0], [1.0]], method="wilson")
    assert list(table) == ["long"], "what never came up has no rate"
    assert (table["long"]["lapse"], table["long"]["lapses"], table["long"]["chances"]) == ("talks on", 2, 3)
    assert (table["long"]["estimate"], table["long"]["low"], table["long"]["high"]) == (
        expected.estimate,
        expected.low,
        expected.high,
    )
    decided = rollout([turn(0, segment([0], [2]))])
    weights = HabitWeights.with_lapses(POINTS, 0.5)
    exact = card_of([decided], decode=weights.decisions, habits={"ask": Habit("guesses aloud", lambda one: False)})
    assert exact["habits"]["ask"]["lapse"] == "guesses aloud"
    assert exact["habits"]["ask"]["lapses"] == 1, "a policy's own decisions count, not what shows of them"
    named = card_of([decided], decode=weights.decisions, words={"ask": "guesses"})
    assert named["habits"]["ask"]["lapse"] == "guesses"


def test_a_card_of_a_real_evaluation_is_worked_out_again() -> None:
    faults = frozenset(f"{TASKSET.task('test', index).id}#{trial}" for index, trial in [(0, 1), (3, 0), (3, 2), (7, 3)])
    policy = Guesser(TASKSET, 0.75, faults)
    rollouts = asyncio.run(evaluate(PLAN, TASKSET, Cast(policy)))
    baselines = asyncio.run(run_baselines(PLAN, TASKSET))
    data = card_of(rollouts, baselines=baselines)
    rows = [rollouts[start : start + 4] for start in range(0, 48, 4)]
    scored = [[bool(each.outcome.success) for each in row if each.status != "errored"] for row in rows]
    assert [len(row) for row in scored] == [3, 4, 4, 2, 4, 4, 4, 3, 4, 4, 4, 4]
    assert data["success"]["estimate"] == pytest.approx(sum(sum(row) / len(row) for row in scored) / 12)
    assert list(data["pass_hat"]) == ["1", "2"], "the task with two scored trials caps k"
    assert data["pass_hat"]["2"]["estimate"] == pytest.approx(sum(all_share(row, 2) for row in scored) / 12)
    assert (data["num_episodes"], data["num_scored"], data["causes"]) == (48, 44, {"infrastructure": 4})
    assert data["behaviour"]["turns_per_episode"] == 2.0
    assert data["components"]["right"] == pytest.approx(
        sum(each.outcome.components["right"] or 0.0 for each in rollouts if each.scored) / 44
    )
    assert data["baselines"]["do-nothing"]["estimate"] == 0.0
    assert data["tasks"][0]["public"]["kind"] in ("odd", "even")


def without_clock(data: dict[str, Any]) -> dict[str, Any]:
    manifest = {key: value for key, value in data["manifest"].items() if key != "started"}
    cost = {key: value for key, value in data["cost"].items() if not key.endswith("_s")}
    return {**data, "manifest": manifest, "cost": cost}


def test_the_same_rollouts_make_the_same_card_also_from_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "rollouts")
    rollouts = asyncio.run(evaluate(PLAN, TASKSET, Cast(Guesser(TASKSET)), store))
    first = card_of(rollouts)
    assert without_clock(card_of(rollouts)) == without_clock(first)
    assert list(card_of(rollouts)) == list(first)
    resumed = asyncio.run(evaluate(PLAN, TASKSET, Cast(Guesser(TASKSET)), store))
    assert without_clock(card_of(resumed)) == without_clock(first)
    again = asyncio.run(evaluate(PLAN, TASKSET, Cast(Guesser(TASKSET))))
    assert without_clock(card_of(again)) == without_clock(first)


def test_gold_is_not_on_the_card() -> None:
    secret = dataclasses.replace(task(0), data={"answer": "gold-4711"})
    data = card_of([dataclasses.replace(rollout([], True), task=secret)])
    assert "gold-4711" not in json.dumps(data)


# Reading.


def test_a_card_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    made = make_card(IDENTITY, trials(0, [True, False]) + trials(1, [True, True]), {}, 1.0)
    write_json(tmp_path / "card.json", made.data)
    for path in (tmp_path, tmp_path / "card.json", str(tmp_path)):
        card = read_card(path)
        assert card.data == made.data
        assert card.title == "someone on toy/guessing test"
        assert card.successes == [[1.0, 0.0], [1.0, 1.0]]
        assert card.success == made.success
        assert card.success.estimate == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a result card"),
        ('{"format": "banty-card-1", ', "not a result card"),
        ("[]", "its format is 'list'"),
        ("3", "its format is 'int'"),
        ("{}", "its format is None"),
        ('{"format": "banty-card-2"}', f"its format is 'banty-card-2', not '{FORMAT}'"),
        ('{"format": "banty-card-1"}', "damaged result card: it has no identity, success, tasks"),
        ('{"format": "banty-card-1", "identity": {}, "tasks": []}', "it has no success"),
    ],
)
def test_what_is_no_card_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_card(tmp_path)
    assert str(tmp_path / "card.json") in str(caught.value)


def test_a_missing_card_is_answered_with_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "card.json"):
        with pytest.raises(InputError, match=r"no result card at .*; run banty eval"):
            read_card(path)


def test_a_binary_file_is_no_card(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(InputError, match="not a result card"):
        read_card(tmp_path)


def test_a_card_never_divides_by_the_number_of_errors() -> None:
    """Adding failures that are nobody's to a result moves no figure."""
    plain = [each for index in range(4) for each in trials(index, [index % 2 == 0, True])]
    more = [*plain, *(rollout([], of=task(index), trial=2, cause="judge") for index in range(4))]
    before, after = card_of(plain), card_of(more)
    for name in ("success", "pass_at", "pass_hat", "minimum_detectable_effect", "components", "behaviour"):
        assert before[name] == after[name]
    assert math.isclose(Card(after).success.estimate or 0.0, 0.75)
    assert after["num_episodes"] - after["num_scored"] == 4
