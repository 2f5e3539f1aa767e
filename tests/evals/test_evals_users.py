"""Who the user of a result was: in the card, in comparisons, and several of them under one agent."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from tests.evals.test_evals_compare import PLAN, card_of, changed
from tests.evals.toy_desk import Guesser, GuessingTasks

from banty.errors import InputError
from banty.evals import Card, EvalPlan, compare_cards, compare_users, evaluate, make_card, user_of, user_words
from banty.evals.several import holm
from banty.evals.users import simulator_report, without_user
from banty.records import Message, Rollout, SamplingParams, Task, Turn
from banty.records.rollouts import Outcome
from banty.rollout import Cast

SHA = "ab" * 32
PROVENANCE = {"grader": "semantic", "user": "model", "user_version": 1, "user_guidelines_sha256": SHA, "user_checks": 1}
PLAYED = {
    "roles": {"user": "gpt@host, temperature 0.7"},
    "role_params": {"user": {"temperature": 0.7}},
    "role_details": {"user": {"name": "gpt", "kind": "endpoint", "model": "gpt"}},
    "provenance": PROVENANCE,
}


def card_under(user: str, skill: float = 0.6, **identity: Any) -> Card:
    """The same agent, `guesser`, at a skill that stands for what `user` makes of it."""
    played = copy.deepcopy(PLAYED)
    played["role_details"]["user"] |= {"name": user, "model": user}  # type: ignore[index]
    desk = GuessingTasks()
    rollouts = asyncio.run(evaluate(PLAN, desk, Cast(Guesser(desk, skill))))
    found = {**PLAN.identity(desk, "guesser"), **played, **identity}
    return make_card(found, rollouts, {}, 1.0)


def test_a_scripted_user_has_a_version_and_no_temperature() -> None:
    user = user_of({"provenance": {"user": "scripted", "user_version": 1}, "roles": {}})
    assert (user["name"], user["kind"], user["version"], user["temperature"]) == (
        "scripted",
        "scripted",
        "generator 1",
        None,
    )
    assert user_words(user) == "scripted (generator 1)"
    assert user_of({"provenance": {}})["name"] == "the environment's own"


def test_a_model_as_the_user_is_named_by_what_answered_and_what_it_was_told() -> None:
    user = user_of(PLAYED, {"served": ["gpt-0613"], "asked_again": {"no text": 2}})
    assert (user["name"], user["kind"], user["temperature"]) == ("gpt", "endpoint", 0.7)
    assert user["version"] == f"served gpt-0613, guidelines {SHA[:12]}, generator 1, checks 1"
    assert user["asked_again"] == {"no text": 2}
    assert str(user_of(PLAYED)["version"]).startswith("asked for gpt,"), "nobody has answered yet"
    local = {**PLAYED, "role_details": {"user": {"name": "nano", "kind": "model", "weights_sha256": SHA}}}
    assert user_of(local)["version"] == f"weights {SHA[:12]}, guidelines {SHA[:12]}, generator 1, checks 1"
    bare = user_of({"provenance": {}, "roles": {"user": "x"}, "role_params": {"user": {"temperature": 0.0}}})
    assert (bare["name"], bare["kind"], bare["temperature"]) == ("x", "policy", 0.0)


def test_the_card_names_its_user() -> None:
    card = card_under("gpt")
    assert card.data["user"]["name"] == "gpt"
    assert card.data["simulator"] == {
        "faults": {},
        "suspicions": {},
        "num_excluded": 0,
        "num_suspicious": 0,
        "examples": [],
    }


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("temperature", {"role_params": {"user": {"temperature": 0.0}}}),
        ("model", {"role_details": {"user": {"name": "gpt", "kind": "endpoint", "model": "gpt-5"}}}),
        ("guidelines_sha256", {"provenance": {**PROVENANCE, "user_guidelines_sha256": "cd" * 32}}),
        ("checks_version", {"provenance": {**PROVENANCE, "user_checks": 2}}),
        ("generator_version", {"provenance": {**PROVENANCE, "user_version": 2}}),
        ("kind", {"roles": {}, "role_params": {}, "role_details": {}}),
    ],
)
def test_cards_under_different_users_are_compared_only_when_asked_for(what: str, other: dict[str, Any]) -> None:
    first, second = card_under("gpt"), card_under("gpt", **other)
    with pytest.raises(InputError, match=f"different users .*{what}.*--across-users"):
        compare_cards(first, second)
    comparison = compare_cards(first, second, across_users=True)
    assert comparison.notes[0].startswith("the users differ")
    assert what in comparison.notes[0]
    assert not any("roles" in note or "provenance" in note for note in comparison.notes), "said once"
    assert comparison.to_json()["users"][0]["name"] == "gpt"


def test_the_same_user_on_another_host_is_the_same_and_one_whose_server_changed_its_model_is_not() -> None:
    moved = card_under("gpt", roles={"user": "gpt@elsewhere, temperature 0.7"})
    compare_cards(card_under("gpt"), moved)

    def served(*names: str) -> Card:
        data = copy.deepcopy(dict(card_under("gpt").data))
        data["user"]["served"] = list(names)
        return Card(data)

    compare_cards(served("gpt-0613"), served("gpt-0613"))
    compare_cards(served("gpt-0613"), served())
    with pytest.raises(InputError, match="different users"):
        compare_cards(served("gpt-0613"), served("gpt-1106"))


def test_cards_from_before_they_named_a_user_are_compared_as_they_were() -> None:
    def older(card: Card) -> Card:
        return Card({name: value for name, value in card.data.items() if name not in ("user", "simulator")})

    compare_cards(older(card_of(0.5)), card_of(0.7))
    with pytest.raises(InputError, match="different users"):
        compare_cards(
            older(card_of(0.5)), older(changed(card_of(0.5), **{**PLAYED, "provenance": {"grader": "exact"}}))
        )


def test_the_agent_is_the_identity_without_its_user() -> None:
    desk = GuessingTasks()
    plain = EvalPlan().identity(desk, "guesser")
    assert without_user({**plain, **PLAYED, "provenance": {**PROVENANCE, **plain["provenance"]}}) == without_user(plain)
    hotter = EvalPlan(params=SamplingParams(temperature=0.5)).identity(desk, "guesser")
    assert without_user(hotter) != without_user(plain)
    judged = {**plain, "roles": {"judge": "j", "user": "u"}}
    assert without_user(judged)["roles"] == {"judge": "j"}


def test_role_details_are_part_of_the_identity_and_absent_without_any() -> None:
    desk = GuessingTasks()
    details = {"user": {"name": "gpt"}}
    assert EvalPlan().identity(desk, "g", role_details=details)["role_details"] == details
    assert EvalPlan().identity(desk, "g") == EvalPlan().identity(desk, "g", role_details={})
    assert "role_details" not in EvalPlan().identity(desk, "g")


# Several users.


def test_users_are_compared_in_pairs_over_the_same_tasks() -> None:
    cards = {"easy": card_under("easy", 0.98), "hard": card_under("hard", 0.3), "twin": card_under("twin", 0.98)}
    found = compare_users(cards)
    verdicts = {(pair.first, pair.second): pair.verdict for pair in found.pairs}
    assert verdicts == {("easy", "hard"): "lower", ("easy", "twin"): "not resolved", ("hard", "twin"): "higher"}
    rates = [card.success.estimate for card in cards.values()]
    assert None not in rates
    assert found.spread.num_tasks == 12
    assert found.spread.range == pytest.approx(max(rates) - min(rates))  # type: ignore[type-var,operator]
    assert 0.2 < (found.spread.sd_between_users or 0.0) < (found.spread.range or 0.0)
    told = found.to_json()
    assert [pair["verdict"] for pair in told["pairs"]] == ["lower", "not resolved", "higher"]
    assert told["spread"]["num_tasks"] == 12


def with_successes(card: Card, *successes: Sequence[float | None]) -> Card:
    data = copy.deepcopy(dict(card.data))
    data["tasks"] = [
        {**task, "successes": values} for task, values in zip(data["tasks"][: len(successes)], successes, strict=True)
    ]
    return Card(data)


def test_the_spread_is_what_a_hand_finds() -> None:
    a = with_successes(card_under("a"), [1.0], [1.0], [0.0], [1.0], [None])
    b = with_successes(card_under("b"), [0.0], [1.0], [0.0], [0.0], [1.0])
    spread = compare_users({"a": a, "b": b}).spread
    # Four tasks under both: 0.75 and 0.25. Differences -1 0 0 -1: mean -1/2, variance 1/3, over 4 tasks 1/12.
    assert (spread.range, spread.num_tasks) == (0.5, 4)
    assert spread.sd_between_users == pytest.approx(((0.25 - 1 / 12) / 2) ** 0.5)
    same = with_successes(card_under("c"), [1.0], [0.0], [1.0], [1.0], [1.0])
    assert compare_users({"a": a, "c": same}).spread.sd_between_users == 0.0, "noise explains it"


def test_users_without_a_task_in_common_have_no_spread() -> None:
    nothing = with_successes(card_under("a"), [None], [1.0])
    other = with_successes(card_under("b"), [1.0], [None])
    found = compare_users({"a": nothing, "b": other})
    assert dataclasses.astuple(found.spread) == (None, None, 0)
    assert found.pairs[0].verdict == "not resolved"
    assert found.pairs[0].to_json()["difference"]["estimate"] is None


def test_what_is_not_the_same_agent_is_refused() -> None:
    with pytest.raises(InputError, match="no results of one agent under two users: policy is 'guesser' and 'other'"):
        compare_users({"a": card_under("a"), "b": card_under("b", policy="other")})


def test_holms_p_values_are_those_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2, None, 0.6]) == [0.4, None, 0.6]
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_many_pairs_make_a_verdict_harder() -> None:
    weak = with_successes(card_under("a"), *([[0.0]] * 6), *([[1.0]] * 6))
    strong = with_successes(card_under("b"), *([[1.0]] * 6), *([[1.0]] * 6))
    two = compare_users({"a": weak, "b": strong})
    assert (two.pairs[0].result.p_value, two.pairs[0].p_holm) == pytest.approx((2 / 64, 2 / 64))
    three = compare_users({"a": weak, "b": strong, "c": strong})
    assert [pair.p_holm for pair in three.pairs] == pytest.approx([6 / 64, 6 / 64, 1.0])
    assert {pair.verdict for pair in three.pairs} == {"not resolved"}


# What simulators did wrong.


def rollout_of(number: int, *said: str, status: str = "completed", cause: str = "", detail: str = "") -> Rollout:
    part = Message("system", "Be a customer.\n\n<scenario>\nYour user id is ann_lee_1234.\n</scenario>")
    lines: list[Message] = [part]
    turns = []
    for place, text in enumerate(said):
        lines.append(Message("user", f"What then, {place}?"))
        turns.append(Turn(place, "user", Message("assistant", text), request=tuple(lines)))
        lines.append(Message("assistant", text))
    outcome = Outcome(True, 1.0) if status != "errored" else Outcome()
    task = Task("toy/guessing", "test", number, 0)
    return Rollout(f"r{number}", task, status, cause, detail, outcome, turns=tuple(turns))  # type: ignore[arg-type]


def test_faults_and_suspicions_are_counted_by_episode_with_examples() -> None:
    flips = [
        rollout_of(n, "Hi.", "How may I help you?", status="errored", cause="simulator", detail=f"flip {n}")
        for n in range(5)
    ]
    silent = rollout_of(5, "Hi.", status="errored", cause="simulator", detail="status 429: slow down")
    sorry = rollout_of(6, "Sorry for the inconvenience.", "I apologize for the inconvenience.", "QWERTZ?")
    agents = rollout_of(7, "Sorry for the inconvenience.", status="errored", cause="infrastructure")
    report = simulator_report([*flips, silent, sorry, agents, rollout_of(8, "ann_lee_1234")])
    assert (report["faults"], report["num_excluded"]) == ({"no_answer": 1, "role_flip": 5}, 6)
    assert (report["suspicions"], report["num_suspicious"]) == ({"role_flip": 1}, 1)
    examples = report["examples"]
    assert isinstance(examples, list)
    assert [(e["kind"], e["excluded"], e["rollout_id"], e["turn"], e["told"]) for e in examples[:4]] == [
        ("role_flip", True, "r0", 1, "flip 0"),
        ("role_flip", True, "r1", 1, "flip 1"),
        ("role_flip", True, "r2", 1, "flip 2"),
        ("no_answer", True, "r5", None, "status 429: slow down"),
    ]
    assert (examples[4]["excluded"], examples[4]["turn"]) == (False, 0), "the first place it shows"
    assert len(examples) == 5
