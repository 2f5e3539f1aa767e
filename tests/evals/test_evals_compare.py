"""Comparing two results: only on the same tasks under the same grader, in pairs, the same from both sides."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from typing import Any

import pytest
from tests.evals.toy_desk import Guesser, GuessingTasks

from banty.envs.registry import make_taskset
from banty.errors import InputError
from banty.evals import Card, EvalPlan, compare_cards, evaluate, make_card
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.records import Limits, SamplingParams
from banty.rollout import Cast

PLAN = EvalPlan(num_trials=4)


def card_of(
    skill: float,
    plan: EvalPlan = PLAN,
    taskset: GuessingTasks | None = None,
    faults: frozenset[str] = frozenset(),
) -> Card:
    desk = taskset or GuessingTasks()
    policy = Guesser(desk, skill, faults, plan.seed)
    rollouts = asyncio.run(evaluate(plan, desk, Cast(policy)))
    return make_card(plan.identity(desk, policy.name), rollouts, {}, 1.0)


def changed(card: Card, **identity: Any) -> Card:
    data = copy.deepcopy(dict(card.data))
    data["identity"].update(identity)
    return Card(data)


def test_a_large_difference_is_found_and_a_turned_one_is_its_mirror() -> None:
    weak, strong = card_of(0.3), card_of(0.98)
    forth, back = compare_cards(weak, strong).result, compare_cards(strong, weak).result
    assert (forth.verdict, back.verdict) == ("better", "worse")
    difference = strong.success.estimate or 0.0
    assert forth.difference.estimate == pytest.approx(difference - (weak.success.estimate or 0.0))
    assert forth.difference.estimate == pytest.approx(-(back.difference.estimate or 0.0))
    assert (forth.difference.low, forth.difference.high) == pytest.approx(
        (-(back.difference.high or 0.0), -(back.difference.low or 0.0))
    )
    assert (forth.p_value, forth.mde, forth.num_tasks) == pytest.approx((back.p_value, back.mde, back.num_tasks))
    assert forth.num_tasks == 12


def test_equal_results_are_not_resolved() -> None:
    card = card_of(0.6)
    result = compare_cards(card, card).result
    assert (result.verdict, result.difference.estimate, result.p_value) == ("not resolved", 0.0, 1.0)
    result = compare_cards(card_of(0.6), changed(card_of(0.6), policy="another name")).result
    assert result.verdict == "not resolved"


def test_a_small_difference_on_few_tasks_is_not_resolved() -> None:
    result = compare_cards(card_of(0.7), card_of(0.75)).result
    assert result.verdict == "not resolved"


def test_tasks_are_paired_by_id_and_not_by_place() -> None:
    first, second = card_of(0.5), card_of(0.9)
    shuffled = copy.deepcopy(dict(second.data))
    shuffled["tasks"].reverse()
    assert compare_cards(first, Card(shuffled)).result == compare_cards(first, second).result
    flipped = compare_cards(Card(shuffled), first).result
    assert flipped.difference == compare_cards(second, first).result.difference


def test_tasks_unscored_on_either_side_are_left_out_and_counted() -> None:
    desk = GuessingTasks()
    down = [f"{desk.task('test', index).id}#{trial}" for index in (2, 5) for trial in range(4)]
    hurt = frozenset([*down, f"{desk.task('test', 8).id}#1"])
    result = compare_cards(card_of(0.4, faults=hurt), card_of(0.9)).result
    assert (result.num_tasks, result.num_left_out) == (10, 2)


OTHERS = {
    "split": card_of(0.5, dataclasses.replace(PLAN, split="train")),
    "seed": card_of(0.5, dataclasses.replace(PLAN, seed=1)),
    "tasks_sha256": card_of(0.5, dataclasses.replace(PLAN, num_tasks=6)),
    "grader": card_of(0.5, taskset=GuessingTasks("lenient")),
    "env": changed(card_of(0.5), env="toy/other"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_results_on_other_tasks_or_under_another_grader_are_refused(name: str) -> None:
    for pair in ((card_of(0.5), OTHERS[name]), (OTHERS[name], card_of(0.5))):
        with pytest.raises(InputError, match=f"not measured on the same tasks: {name} is "):
            compare_cards(*pair)


def test_a_grader_is_refused_whatever_the_fingerprint_says() -> None:
    other = changed(card_of(0.5), provenance={"grader": "lenient", "user": "scripted"})
    with pytest.raises(InputError, match="grader is 'exact' and 'lenient'"):
        compare_cards(card_of(0.5), other)


def test_cards_with_other_tasks_on_them_are_refused_whatever_their_identity_says() -> None:
    less = copy.deepcopy(dict(card_of(0.5).data))
    del less["tasks"][3]
    for pair in ((card_of(0.5), Card(less)), (Card(less), card_of(0.5))):
        with pytest.raises(InputError, match="the cards hold different tasks"):
            compare_cards(*pair)


def test_what_else_differs_is_noted() -> None:
    first = card_of(0.5)
    assert compare_cards(first, card_of(0.5)).notes == ()
    plan = dataclasses.replace(PLAN, num_trials=2, params=SamplingParams(temperature=0.5), limits=Limits(max_turns=9))
    notes = compare_cards(first, card_of(0.5, plan)).notes
    assert [note.partition(" differs")[0] for note in notes] == ["params", "limits", "num_trials"]
    other_user = changed(first, roles={"user": "another customer"})
    assert [note.partition(" differs")[0] for note in compare_cards(first, other_user).notes] == ["roles"]


def test_a_comparison_is_plain_json() -> None:
    comparison = compare_cards(card_of(0.3), card_of(0.98))
    data = comparison.to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["a"], data["b"]) == ("guesser 0.3 on toy/guessing test", "guesser 0.98 on toy/guessing test")
    assert (data["verdict"], data["num_tasks"]) == ("better", 12)
    assert data["difference"]["estimate"] == comparison.result.difference.estimate


def test_discipline_is_better_than_carelessness_on_the_airline() -> None:
    taskset = make_taskset("airline/mini")
    expert = taskset.expert()
    assert expert is not None
    plan = EvalPlan(split="dev", num_tasks=40, num_trials=2)
    cards = []
    for lapse in (0.35, 0.02):
        weights = HabitWeights.with_lapses(expert.points, lapse)
        rollouts = asyncio.run(evaluate(plan, taskset, Cast(HabitPolicy(expert, weights))))
        cards.append(make_card(plan.identity(taskset, f"habits {lapse}"), rollouts, {}, 1.0, weights.decisions))
    assert compare_cards(*cards).result.verdict == "better"
    assert compare_cards(*reversed(cards)).result.verdict == "worse"
    for point, row in cards[0].data["habits"].items():
        assert row["n"] > 0
        assert row["low"] is None or row["low"] - 0.12 <= 0.35 <= row["high"] + 0.12, point
