"""Both graders side by side in a card and on the terminal."""

from __future__ import annotations

import dataclasses
from io import StringIO
from typing import Any

from rich.console import Console
from tests.rollouts_by_hand import task

from banty.cli.show import show_card
from banty.evals import Card, grader_table, make_card
from banty.records import Outcome, Rollout

REASON = "tau2: db; semantic passes and tau2 fails: reservations/RES001.flights: another order"


def rollout(index: int, trial: int, tau2: float, semantic: float, reason: str = "", **more: Any) -> Rollout:
    outcome = Outcome(tau2 == 1.0, tau2, {"tau2": tau2, "semantic": semantic}, reason)
    pinned = dataclasses.replace(task(index), public={"task_id": str(index)})
    return Rollout(f"r{index}#{trial}", pinned, "completed", outcome=outcome, trial=trial, **more)


ROLLOUTS = [
    rollout(0, 0, 1.0, 1.0),
    rollout(0, 1, 0.0, 1.0, REASON),
    rollout(1, 0, 0.0, 0.0, "tau2: db"),
    rollout(1, 1, 0.0, 1.0, REASON),
]


def test_each_grader_has_its_rate_and_disagreements_are_listed_by_task() -> None:
    table = grader_table(ROLLOUTS)
    assert (table["tau2"]["estimate"], table["semantic"]["estimate"]) == (0.25, 0.75)
    assert (table["num_judged"], table["num_disagree"], table["num_tasks_disagree"]) == (4, 2, 2)
    assert table["disagreements"][0] == {
        "task": task(0).id,
        "public": {"task_id": "0"},
        "trial": 1,
        "rollout": "r0#1",
        "tau2": 0.0,
        "semantic": 1.0,
        "reason": REASON,
    }


def test_what_was_not_scored_or_has_one_grader_is_left_out() -> None:
    errored = dataclasses.replace(ROLLOUTS[1], status="errored", cause="infrastructure", outcome=Outcome())
    single = dataclasses.replace(ROLLOUTS[1], outcome=Outcome(True, 1.0, {"right": 1.0}))
    assert grader_table([errored, single]) == {}
    assert grader_table([errored, single, ROLLOUTS[0]])["num_judged"] == 1


def shown(card: Card) -> str:
    out = StringIO()
    show_card(Console(file=out, width=200), card)
    return out.getvalue()


def identity() -> dict[str, Any]:
    return {
        **{"policy": "p", "env": "airline/tau2", "split": "base", "seed": 0, "num_trials": 2, "roles": {}},
        **{"provenance": {"grader": "tau2"}, "params": {"temperature": 0.0}, "tasks_sha256": "ab" * 32},
    }


def test_the_terminal_shows_both_and_why_they_differ() -> None:
    card = make_card(identity(), ROLLOUTS, {}, 1.0)
    text = shown(card)
    assert "under tau2" in text
    assert "over 2 of 4 episodes, in 2 tasks" in text
    assert f"task 1, trial 1: {REASON.removeprefix('tau2: db; ')}" in text
    many = [rollout(index, 0, 0.0, 1.0, REASON) for index in range(25)]
    assert "... and 5 more, in the card" in shown(make_card(identity(), many, {}, 1.0))


def test_a_card_from_before_has_no_graders_and_is_shown() -> None:
    card = make_card(identity(), ROLLOUTS, {}, 1.0)
    old = Card({key: value for key, value in card.data.items() if key != "graders"})
    assert "under tau2" not in shown(old)
