"""The customers: one by script, one played by any policy, one that does not talk."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from tests.envs.airline.players import DONE, READ, SHALL_I, FakeHost, drawn, handmade, one, request, requests_of

from banty.envs.airline.customers import (
    CustomerReply,
    ScriptedCustomer,
    SilentCustomer,
    describe,
    is_yes,
)
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.guidelines import GUIDELINES
from banty.envs.airline.phrases import PHRASES, SPLITS
from banty.envs.airline.scenario import Request, Scenario, Slot
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.usercheck import MOST_REPEATS
from banty.errors import InputError
from banty.policies.scripted import FunctionPolicy, ScriptedPolicy
from banty.records import Message, Policy, Rollout, ToolCall, take

CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"})
SORRY = "I am sorry, that is not possible."


def is_a(act: str, text: str) -> bool:
    """Whether one of the act's templates, of whatever split, is in the text."""
    filled = (re.escape(each).replace(re.escape("{value}"), r"[\w-]+(?: (?:to )?\w+)?") for each in PHRASES[act])
    return any(re.search(each, text) for each in filled)


def talk(scenario: Scenario | Request, *lines: str, transferred: bool = False) -> list[CustomerReply]:
    """A scripted customer's opening, and the replies to these lines up to the end."""
    made = scenario if isinstance(scenario, Scenario) else Scenario("ann_lee_1", (scenario,))
    customer = ScriptedCustomer(made)

    async def run() -> list[CustomerReply]:
        host = FakeHost()
        replies = [CustomerReply(await customer.open(host))]  # type: ignore[arg-type]
        for line in lines:
            if not replies[-1].ending:
                replies.append(await customer.reply(line, transferred, host))  # type: ignore[arg-type]
        return replies

    return asyncio.run(run())


def change(*volunteered: Slot, **more: Any) -> Request:
    says: dict[Slot, str] = {"user_id": "ann_lee_1", "reservation_id": "RES001", "date": "2024-05-21"}
    fields: dict[str, Any] = {"intent": "change_date", "right": "do", "reservation_id": "RES001"}
    return Request(**{**fields, "says": says, "volunteered": frozenset(volunteered), **more})


# The scripted customer.


def test_what_is_not_volunteered_is_told_when_asked_and_only_then() -> None:
    opening, user, code, date, both = talk(
        change(),
        "What is your user id?",
        "Which reservation is it?",
        "Which date do you want to fly?",
        "Could you give me your user id and the reservation code again?",
    )
    assert is_a("change_date", opening.text)
    for value in ("ann_lee_1", "RES001", "2024-05-21"):
        assert value not in opening.text
    assert "ann_lee_1" in user.text
    assert "RES001" not in user.text
    assert "RES001" in code.text
    assert "2024-05-21" in date.text
    assert "ann_lee_1" in both.text
    assert "RES001" in both.text
    assert "2024-05-21" not in both.text


def test_what_is_volunteered_is_told_at_once() -> None:
    (opening,) = talk(change("reservation_id", "date"))
    assert "RES001" in opening.text
    assert "2024-05-21" in opening.text
    assert "ann_lee_1" not in opening.text


@pytest.mark.parametrize("split", SPLITS)
def test_generated_customers_keep_what_is_late_to_themselves(taskset: GeneratedTasks, split: str) -> None:
    for task in drawn(taskset, split)[:80]:
        first = task.data.scenario.requests[0]
        (opening,) = talk(task.data.scenario)
        for slot, value in first.says.items():
            if slot == "reason":
                assert is_a(f"reason:{value}", opening.text) == (slot in first.volunteered)
            elif slot == "reservation_id" and first.slip:
                assert value not in opening.text
                assert (first.slip in opening.text) == (slot in first.volunteered)
            elif slot != "bags":
                assert (value in opening.text) == (slot in first.volunteered), f"{slot}: {opening.text}"


def test_a_customer_without_the_code_says_where_the_trip_goes() -> None:
    hinting = change(hint="SFO", says={"user_id": "ann_lee_1"})
    opening, reply = talk(hinting, "What is the reservation code?")
    assert "SFO" not in opening.text
    assert is_a("hint", reply.text)
    assert "SFO" in reply.text


def test_a_customer_does_not_know_what_is_not_theirs_to_know() -> None:
    _, reply = talk(change(), "How many bags do you want in total?")
    assert is_a("dont_know", reply.text)


def test_a_misread_code_is_put_right_when_asked_again() -> None:
    opening, again, and_again = talk(
        change("reservation_id", slip="RES0O1"), "Which reservation is it?", "Which booking code?"
    )
    assert "RES0O1" in opening.text
    assert "RES001" not in opening.text
    for reply in (again, and_again):
        assert "RES001" in reply.text


def test_a_misread_code_is_put_right_when_it_is_named() -> None:
    _, reply = talk(change("reservation_id", slip="RES0O1"), "I cannot find RES0O1.")
    assert "RES001" in reply.text
    _, reply = talk(change("reservation_id", slip="RES0O1"), f"I will cancel RES0O1. {SHALL_I}")
    assert not is_yes(reply.text)
    assert "RES001" in reply.text


def test_each_request_has_its_own_misread_code() -> None:
    second = change("reservation_id", slip="RES0O2")
    scenario = Scenario("ann_lee_1", (change("reservation_id", slip="RES0O1"), second))
    opening, then, right = talk(scenario, DONE, "Which reservation is it?")
    assert "RES0O1" in opening.text
    assert "RES0O2" in then.text
    assert "RES001" in right.text


@pytest.mark.parametrize(
    ("proposal", "agrees"),
    [
        ("I will move RES001 to HAT001 on 2024-05-21.", True),
        ("I will move it from 2024-05-20 to 2024-05-21.", True),
        ("I will do that.", True),
        ("I will move RES002 to HAT001 on 2024-05-21.", False),
        ("I will move RES001 to HAT001 on 2024-05-22.", False),
        ("I will move it to 2024-05-20.", False),
        ("I will cancel RES001 and RES002.", True),
    ],
)
def test_a_proposal_with_another_reservation_or_date_is_objected_to(proposal: str, agrees: bool) -> None:
    _, reply = talk(change(), f"{proposal} {SHALL_I}")
    assert is_yes(reply.text) is agrees
    if not agrees:
        assert is_a("object", reply.text)
        assert "RES001" in reply.text
        assert "2024-05-21" in reply.text


@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("right", ["refuse", "do"])
def test_a_refusal_is_pushed_back_on_so_many_times_and_then_accepted(times: int, right: str) -> None:
    replies = talk(change(right=right, insists=times), *[SORRY] * (times + 1))
    assert [is_a("insist", reply.text) for reply in replies] == [False, *[True] * times, False]
    assert replies[-1].ending == "stop"
    assert is_a("bye", replies[-1].text)


def test_each_request_is_insisted_on_by_itself() -> None:
    scenario = Scenario("ann_lee_1", (change(insists=1), change(insists=1)))
    replies = talk(scenario, SORRY, SORRY, SORRY, SORRY)
    assert [is_a("insist", reply.text) for reply in replies] == [False, True, False, True, False]
    assert is_a("next", replies[2].text)


def test_requests_come_one_after_the_other() -> None:
    scenario = Scenario("ann_lee_1", (change(), Request("cancel", "do", "RES002", {"user_id": "ann_lee_1"})))
    opening, second, end = talk(scenario, DONE, DONE)
    assert not is_a("cancel", opening.text)
    assert is_a("next", second.text)
    assert is_a("cancel", second.text)
    assert (second.ending, end.ending) == ("", "stop")
    assert "###STOP###" in end.text


def test_a_customer_leaves_when_the_same_is_said_three_times() -> None:
    replies = talk(change(), *["Which date do you want to fly?"] * 5)
    assert len(replies) == 4
    assert is_a("leave", replies[-1].text)
    assert replies[-1].ending == "stop"


def test_a_customer_leaves_when_out_of_patience() -> None:
    questions = [f"Which date do you want to fly, attempt {number}?" for number in range(30)]
    replies = talk(Scenario("ann_lee_1", (change(),), patience=4), *questions)
    assert [bool(reply.ending) for reply in replies] == [False] * 5 + [True]
    assert is_a("leave", replies[-1].text)


def test_a_transferred_customer_goes() -> None:
    assert talk(change(), "Please hold on.", transferred=True)[-1] == CustomerReply("###TRANSFER###", "transfer")


@pytest.mark.parametrize(
    ("line", "act"),
    [
        ("", "nudge"),
        (" \n", "nudge"),
        ("One moment please.", "wait"),
        ("Do you want travel insurance?", "only_that"),
        ("Hello! How can I help you?", "change_date"),
        ("I will change it now.", "bye"),
    ],
)
def test_how_other_messages_are_answered(line: str, act: str) -> None:
    _, reply = talk(change(), line)
    assert is_a(act, reply.text), reply.text


def test_words_depend_on_the_turn_and_nothing_else() -> None:
    scenario = change("reservation_id")
    first = talk(scenario, "What is your user id?", "Which date do you want to fly?")
    other = talk(scenario, "One moment please.", "Which date do you want to fly?")
    assert first[2] == other[2]
    assert talk(scenario, "What is your user id?", "Which date do you want to fly?") == first


# The customer played by a policy.


def model(*answers: Message | str) -> Policy:
    return ScriptedPolicy(answers, "user")


def with_user(world: AirlineWorld, user: Policy, *lines: str | ToolCall) -> Rollout:
    return one(handmade(world, request(CANCEL), customer="model"), *lines, user=user)


@pytest.mark.parametrize(
    "last",
    ["###STOP###", "Thanks! ###STOP### bye", "###TRANSFER###", "Well. ###OUT-OF-SCOPE###", "###STOP### ###TRANSFER###"],
)
def test_stop_words_end_the_conversation(small_world: AirlineWorld, last: str) -> None:
    user = model("I want to cancel RES001.", "Yes.", last)
    rollout = with_user(small_world, user, READ, SHALL_I, CANCEL, DONE)
    assert rollout.status == "completed"
    assert rollout.outcome.success is True
    assert rollout.transcript[-1].content == last


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["I want to cancel.", ""], "said nothing"),
        (["I want to cancel.", "  \n"], "said nothing"),
        ([""], "said nothing"),
        (["I want to cancel.", Message("assistant", "Let me do it.", calls=(CANCEL,))], "made a tool call"),
        (["I want to cancel.", "very" * 1001], "4004 characters"),
        (["###STOP###"], "ended the conversation in its first message"),
        (["I want to cancel."], "the script of user has 1 answers"),
    ],
)
def test_a_user_who_leaves_the_role_is_a_simulators_fault(
    small_world: AirlineWorld, answers: list[Message | str], told: str
) -> None:
    rollout = with_user(small_world, model(*answers), "What is your user id?")
    assert (rollout.status, rollout.cause) == ("errored", "simulator")
    assert told in rollout.detail
    assert (rollout.outcome.success, rollout.outcome.reward) == (None, None)


def test_a_user_who_says_the_same_for_ever_is_a_simulators_fault(small_world: AirlineWorld) -> None:
    rollout = with_user(small_world, FunctionPolicy(lambda asked: "I want to cancel."), *map(str, range(20)))
    assert (rollout.status, rollout.cause) == ("errored", "simulator")
    assert len(rollout.agent_turns) == MOST_REPEATS


def test_a_user_who_parrots_the_agent_is_a_simulators_fault(small_world: AirlineWorld) -> None:
    parrot = FunctionPolicy(lambda asked: "Hello." if len(asked.messages) == 2 else asked.messages[-1].content)
    rollout = with_user(small_world, parrot, *(f"Question {number}?" for number in range(20)))
    assert (rollout.status, rollout.cause) == ("errored", "simulator")
    assert "repeats" in rollout.detail
    assert len(rollout.agent_turns) == MOST_REPEATS


def test_saying_yes_again_is_no_parroting(small_world: AirlineWorld) -> None:
    answers = ["I want to cancel RES001.", "Yes.", "Yes.", "Yes.", "No.", "Yes.", "###STOP###"]
    rollout = with_user(small_world, model(*answers), *(f"Sure {number}?" for number in range(20)))
    assert rollout.status == "completed"


def test_the_user_sees_what_is_said_with_sides_swapped_and_no_call(small_world: AirlineWorld) -> None:
    user = model("I want to cancel RES001.", "Yes.", "###STOP###")
    rollout = with_user(small_world, user, READ, SHALL_I, CANCEL, DONE)
    asked = [turn for turn in rollout.turns if turn.actor == "user"]
    assert len(asked) == 3
    last: Sequence[Message] = asked[-1].request
    assert [message.role for message in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message.content for message in last[1:]] == [
        "Hi! How can I help you today?",
        "I want to cancel RES001.",
        SHALL_I,
        "Yes.",
        DONE,
    ]
    assert not any(message.calls or message.role == "tool" for turn in asked for message in turn.request)
    text = "\n".join(message.content for message in last)
    assert "cancel_reservation" not in text
    assert "payment_history" not in text
    assert last[0].content.startswith(GUIDELINES)


def test_a_run_without_a_user_is_told_to_place_one(small_world: AirlineWorld) -> None:
    with pytest.raises(InputError, match="place one, for example with --user URL"):
        one(handmade(small_world, request(CANCEL), customer="model"), DONE)


def test_the_scenario_in_words_says_what_the_customer_knows_and_wants(taskset: GeneratedTasks) -> None:
    for task in drawn(taskset, "test")[:100]:
        scenario: Scenario = task.data.scenario
        text = describe(scenario)
        assert scenario.user_id in text
        for each in scenario.requests:
            assert all(value in text for value in each.says.values())
            assert (not each.hint) or each.hint in text
            assert (not each.slip) or each.slip in text
            assert f"Request {scenario.requests.index(each) + 1}: " in text


def test_the_scenario_in_words_is_the_same_whatever_is_right(taskset: GeneratedTasks) -> None:
    """All that decides the right ending is changed, and not a word of the scenario with it."""
    rights: tuple[Literal["do", "refuse", "transfer"], ...] = ("do", "refuse", "transfer")
    for _, scenario, each in requests_of(drawn(taskset, "train")):
        told = describe(Scenario(scenario.user_id, (each,), scenario.phrasing))
        for right in rights:
            other = dataclasses.replace(
                each, right=right, reservation_id="", writes=(CANCEL,), tells=("12345",), looks_up=("X",)
            )
            assert describe(Scenario(scenario.user_id, (other,), scenario.phrasing)) == told


# The customer who does not talk.


def test_the_silent_customer_states_the_request_and_leaves(small_world: AirlineWorld) -> None:
    customer = SilentCustomer("I want to cancel.")

    async def run() -> list[object]:
        host: Any = FakeHost()
        return [
            await customer.open(host),
            await customer.reply("Hello", False, host),
            await customer.reply("Hello", True, host),
        ]

    assert asyncio.run(run()) == ["I want to cancel.", ("###STOP###", "stop"), ("###TRANSFER###", "transfer")]


def test_silent_customers_never_ask_a_host_for_anything(mini_tasks: GeneratedTasks) -> None:
    taskset = GeneratedTasks("mini", customer="silent")
    assert taskset.roles == frozenset()
    rollouts = [one(taskset, "Hello")]
    assert [rollout.status for rollout in rollouts] == ["completed"]
    assert take(taskset, "test", 1)[0].data.scenario == drawn(mini_tasks, "test")[0].data.scenario


def test_an_empty_message_costs_a_turn_and_nothing_else(small_world: AirlineWorld) -> None:
    rollout = one(handmade(small_world, request(CANCEL)), "", READ, SHALL_I, CANCEL, DONE)
    assert rollout.outcome.success is True
