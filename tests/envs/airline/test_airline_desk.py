"""The desk as an agent meets it: what each preset shows and accepts, and how conversations run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest
from tests.envs.airline.players import DONE, READ, SHALL_I, drawn, expert, handmade, one, play, request

from banty.envs.airline.customers import GREETING
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.env import MINI_TOOLS, preset
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.airline.tools import AirlineTools
from banty.envs.airline.trips import compact, offers_of, profile_of, read_offers, read_profile, read_trip, trip_of
from banty.envs.airline.worlds import make_small_world
from banty.envs.state import State
from banty.policies.scripted import ScriptedPolicy
from banty.records import Message, Rollout, ToolCall

CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"})
HAND_OVER = ToolCall("transfer_to_human_agents", {"summary": "The customer asks for help."})


def outputs(rollout: Rollout) -> list[str]:
    return [call.output for turn in rollout.agent_turns for call in turn.calls]


# What is shown.


def test_mini_opens_with_the_short_policy_and_the_customer(mini_tasks: GeneratedTasks) -> None:
    rollout = one(mini_tasks, "Hello")
    assert [message.role for message in rollout.opening] == ["system", "user"]
    assert rollout.opening[0].content == preset("mini").policy
    assert [tool.name for tool in rollout.tools] == list(MINI_TOOLS)


def test_full_opens_with_the_whole_policy_and_a_greeting(full_tasks: GeneratedTasks) -> None:
    rollout = one(full_tasks, "Hello")
    assert [message.role for message in rollout.opening] == ["system", "assistant", "user"]
    assert rollout.opening[1] == Message("assistant", GREETING)
    assert {tool.name for tool in rollout.tools} == set(AirlineTools.tools)
    assert len(rollout.tools) == 14


@pytest.mark.parametrize("name", sorted(set(AirlineTools.tools) - set(MINI_TOOLS)))
def test_mini_has_no_other_tool(small_world: AirlineWorld, name: str) -> None:
    rollout = one(handmade(small_world, request(CANCEL), size="mini"), ToolCall(name, {}), DONE)
    assert outputs(rollout) == [f"Error: Tool '{name}' not found."]
    assert rollout.agent_turns[0].calls[0].error == "unknown_tool"


def test_the_tools_of_mini_take_the_arguments_of_the_same_tools_of_full(
    mini_tasks: GeneratedTasks, full_tasks: GeneratedTasks
) -> None:
    full = {tool.name: tool for tool in one(full_tasks, "Hello").tools}
    for tool in one(mini_tasks, "Hello").tools:
        assert tool == dataclasses.replace(full[tool.name], description=MINI_TOOLS[tool.name])


def test_mini_answers_in_short_and_full_in_full(small_world: AirlineWorld) -> None:
    lines = (READ, ToolCall("get_user_details", {"user_id": "ann_lee_1"}), SHALL_I, CANCEL, READ, DONE)
    short = outputs(one(handmade(small_world, request(CANCEL), size="mini"), *lines))
    assert short == [
        "RES001 economy JFK-SFO HAT001 2024-05-20 $80; passengers 2; bags 1; insurance no; booked 2024-05-01; "
        "paid $160 by card_1",
        "ann_lee_1 gold; reservations RES001, RES002; pays by card_1, gift_1, certificate_1",
        "ok",
        "RES001 economy JFK-SFO HAT001 2024-05-20 $80; passengers 2; bags 1; insurance no; booked 2024-05-01; "
        "paid $0 by card_1; cancelled",
    ]
    whole = outputs(one(handmade(small_world, request(CANCEL), size="full"), *lines))
    assert [json.loads(text)["reservation_id"] for text in (whole[0], whole[2], whole[3])] == ["RES001"] * 3


def test_errors_read_the_same_in_both(small_world: AirlineWorld) -> None:
    call = ToolCall("get_reservation_details", {"reservation_id": "NOSUCH"})
    told = [outputs(one(handmade(small_world, request(CANCEL), size=size), call, DONE)) for size in ("mini", "full")]
    assert told == [["Error: Reservation NOSUCH not found"]] * 2


# The compact view holds what its readers need, and nothing is lost between the two.


def worlds(tau2_world: AirlineWorld) -> Iterator[AirlineWorld]:
    yield tau2_world
    for seed in range(40):
        yield AirlineWorld.from_json(make_small_world(seed, "train"), f"small-{seed}")


def test_a_compact_reservation_reads_back(tau2_world: AirlineWorld) -> None:
    for world in worlds(tau2_world):
        for record in world.tables["reservations"].values():
            text = compact("get_reservation_details", record)
            assert text is not None
            wanted = trip_of(record)
            legs = tuple(dataclasses.replace(leg, origin="", destination="") for leg in wanted.legs)
            wanted = dataclasses.replace(wanted, legs=legs, booked_on=wanted.booked_on[:10], passengers=())
            assert read_trip(text) == wanted
            assert read_trip(json.dumps(record)) == trip_of(record)


def test_a_compact_user_reads_back(tau2_world: AirlineWorld) -> None:
    for world in worlds(tau2_world):
        for record in world.tables["users"].values():
            text = compact("get_user_details", record)
            assert text is not None
            wanted = profile_of(record)
            assert read_profile(text) == dataclasses.replace(wanted, first_name="", last_name="", dob="")
            assert read_profile(json.dumps(record)) == wanted


def test_a_compact_search_reads_back(tau2_world: AirlineWorld) -> None:
    num_found = 0
    for world in worlds(tau2_world):
        desk = AirlineTools(world, State(world))
        for flight in list(world.tables["flights"].values())[:40]:
            place = {"origin": flight["origin"], "destination": flight["destination"], "date": "2024-05-20"}
            result = json.loads(desk.execute("search_direct_flight", place)[1])
            text = compact("search_direct_flight", result)
            assert text is not None
            offers = offers_of(result)
            num_found += len(offers)
            sold = [{cabin: offer.prices[cabin] for cabin in offer.prices if offer.seats[cabin]} for offer in offers]
            assert [(offer.number, dict(offer.prices)) for offer in read_offers(text)] == [
                (offer.number, prices) for offer, prices in zip(offers, sold, strict=True)
            ]
    assert num_found > 100


def test_odd_records_read_back(small_world: AirlineWorld) -> None:
    empty = {**small_world.tables["reservations"]["RES001"], "flights": [], "payment_history": []}
    found = read_trip(compact("get_reservation_details", empty) or "")
    assert found is not None
    assert (found.legs, found.paid, found.payment_id) == ((), 0, "")
    alone = read_profile(compact("get_user_details", small_world.tables["users"]["bob_ray_2"]) or "")
    assert alone is not None
    assert (alone.reservations, alone.payment_ids) == ((), ())
    assert compact("search_direct_flight", []) == "no flights"
    assert read_offers("no flights") == ()


@pytest.mark.parametrize("text", ["", "ok", "Error: x", "{", '{"a": 1}', "[]", "[1]", "RES001 economy", "null"])
def test_what_is_no_record_reads_as_none(text: str) -> None:
    assert read_trip(text) is None
    assert read_profile(text) is None
    assert read_offers(text) == ()


# How conversations run.


def test_a_transfer_ends_mini_and_leaves_the_last_word_in_full(small_world: AirlineWorld) -> None:
    asked = request(right="transfer", looks_up=(), says={})
    short = one(handmade(small_world, asked, size="mini"), HAND_OVER, "Hold on.")
    assert (len(short.agent_turns), short.outcome.success) == (1, True)
    whole = one(handmade(small_world, asked, size="full"), HAND_OVER, "Hold on.")
    assert (len(whole.agent_turns), whole.outcome.success) == (2, True)
    assert whole.transcript[-1] == Message("user", "###TRANSFER###")


def test_text_beside_a_call_is_said_and_answered_by_nobody(small_world: AirlineWorld) -> None:
    taskset = handmade(small_world, request(intent="total_paid", tells=("160",)))
    beside = Message("assistant", "You paid $160.", calls=(READ,))
    (rollout,) = play(taskset, [taskset.task("test", 0)], ScriptedPolicy([beside, DONE]))
    assert [message.role for message in rollout.agent_turns[0].observation] == ["tool"]
    assert rollout.outcome.success is True


def test_every_call_is_recorded_with_the_state_around_it(mini_tasks: GeneratedTasks) -> None:
    for rollout in play(mini_tasks, drawn(mini_tasks, "dev")[:40], expert()):
        state = ""
        for turn in rollout.agent_turns:
            for call in turn.calls:
                assert call.state_before == (state or call.state_before)
                assert (call.state_before != call.state_after) == (call.effect == "write" and not call.error)
                state = call.state_after
            assert turn.state_after == (state or turn.state_after)


def test_episodes_of_one_task_do_not_touch_each_other(small_world: AirlineWorld) -> None:
    before = json.dumps(small_world.tables["reservations"])
    taskset = handmade(small_world, request(CANCEL))
    first, second = (one(taskset, READ, SHALL_I, CANCEL, DONE) for _ in range(2))
    assert first.transcript == second.transcript
    assert json.dumps(small_world.tables["reservations"]) == before
