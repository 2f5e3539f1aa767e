"""What the semantic grader forgives, what it does not, and which cheats fail."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.envs.airline.players import DONE, READ, SHALL_I, Line, drawn, handmade, one, play, rate, request

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.meaning import is_told
from banty.envs.airline.rubric import Conversation, Gold, score
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.airline.tau2tasks import read_tasks
from banty.envs.baselines import LinePolicy
from banty.envs.state import State
from banty.policies.scripted import FunctionPolicy
from banty.records import Completion, Limits, Message, Rollout, SampleRequest, ToolCall, take

CANCEL = ToolCall("cancel_reservation", {"reservation_id": "RES001"})
READ_OTHER = ToolCall("get_reservation_details", {"reservation_id": "RES002"})
HAND_OVER = ToolCall("transfer_to_human_agents", {"summary": "The customer asks for help."})


def bags(total: Any, paid: Any = 0, reservation_id: str = "RES001") -> ToolCall:
    return ToolCall(
        "update_reservation_baggages",
        {
            "reservation_id": reservation_id,
            "total_baggages": total,
            "nonfree_baggages": paid,
            "payment_id": "card_1",
        },
    )


def booking(**changes: Any) -> ToolCall:
    """Two passengers over two legs in economy, 400 dollars on a card and a gift card."""
    arguments = {
        "user_id": "ann_lee_1",
        "origin": "JFK",
        "destination": "LAX",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [
            {"flight_number": "HAT001", "date": "2024-05-20"},
            {"flight_number": "HAT002", "date": "2024-05-20"},
        ],
        "passengers": [
            {"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"},
            {"first_name": "Bo", "last_name": "Ray", "dob": "1980-02-02"},
        ],
        "payment_methods": [{"payment_id": "card_1", "amount": 300}, {"payment_id": "gift_1", "amount": 100}],
        "total_baggages": 2,
        "nonfree_baggages": 0,
        "insurance": "no",
    }
    return ToolCall("book_reservation", {**arguments, **changes})


def verdicts(rollout: Rollout) -> tuple[bool, bool]:
    """Success under (semantic, tau2)."""
    assert rollout.scored, rollout.detail
    components = rollout.outcome.components
    return components["semantic"] == 1.0, components["tau2"] == 1.0


def confirmed(*writes: ToolCall) -> list[Line]:
    return [READ, SHALL_I, *writes, DONE]


# Other paths to a right answer.


@pytest.mark.parametrize(
    "keys",
    list(
        itertools.chain.from_iterable(
            itertools.combinations(("flights", "passengers", "payment_methods"), size) for size in (1, 2, 3)
        )
    ),
)
def test_the_order_of_segments_passengers_and_payments_means_nothing(
    small_world: AirlineWorld, keys: Sequence[str]
) -> None:
    gold = booking()
    other = booking(**{key: gold.arguments[key][::-1] for key in keys})
    taskset = handmade(small_world, request(gold))
    assert verdicts(one(taskset, *confirmed(gold))) == (True, True)
    assert verdicts(one(taskset, *confirmed(other))) == (True, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flights", [{"flight_number": number, "date": "2024-05-20"} for number in ("HAT003", "HAT002")]),
        ("passengers", [{"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}] * 2),
        ("payment_methods", [{"payment_id": "card_1", "amount": 400}]),
        ("payment_methods", [{"payment_id": "card_1", "amount": 310}, {"payment_id": "gift_1", "amount": 90}]),
        ("total_baggages", 3),
        ("origin", "LAX"),
        ("flight_type", "round_trip"),
    ],
)  # fmt: skip
def test_another_booking_is_another(small_world: AirlineWorld, key: str, value: object) -> None:
    taskset = handmade(small_world, request(booking()))
    assert verdicts(one(taskset, *confirmed(booking(**{key: value})))) == (False, False)


@pytest.mark.parametrize(("count", "strictly"), [(25, True), (25.0, False), ("25", False), ("25.0", False)])
def test_a_count_is_a_count_however_it_is_spelt(small_world: AirlineWorld, count: object, strictly: bool) -> None:
    taskset = handmade(small_world, request(bags(25)))
    assert verdicts(one(taskset, *confirmed(bags(count)))) == (True, strictly)


@pytest.mark.parametrize("count", [24, 26, 25.5, "24", "twenty-five", None, True, [25], 10**400])
def test_another_count_is_another(small_world: AirlineWorld, count: object) -> None:
    taskset = handmade(small_world, request(bags(25)))
    assert verdicts(one(taskset, *confirmed(bags(count)))) == (False, False)


def test_bookings_in_another_order_get_each_others_ids(small_world: AirlineWorld) -> None:
    first = booking()
    second = booking(
        flights=[{"flight_number": "HAT003", "date": "2024-05-30"}],
        cabin="business",
        passengers=[{"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}],
        payment_methods=[{"payment_id": "card_1", "amount": 300}],
    )
    taskset = handmade(small_world, request(first, second))
    assert verdicts(one(taskset, *confirmed(first, second))) == (True, True)
    assert verdicts(one(taskset, *confirmed(second, first))) == (True, False)
    assert verdicts(one(taskset, *confirmed(first, first))) == (False, False)
    assert verdicts(one(taskset, *confirmed(first))) == (False, False)
    assert verdicts(one(taskset, *confirmed(first, second, second))) == (False, False)


def test_prudent_extra_reads_cost_nothing(small_world: AirlineWorld) -> None:
    reads = [
        READ,
        READ_OTHER,
        ToolCall("get_user_details", {"user_id": "ann_lee_1"}),
        ToolCall("search_direct_flight", {"origin": "JFK", "destination": "SFO", "date": "2024-05-20"}),
        ToolCall("list_all_airports", {}),
        ToolCall("calculate", {"expression": "2 * 80"}),
        ToolCall("get_flight_status", {"flight_number": "HAT001", "date": "2024-05-20"}),
    ]
    taskset = handmade(small_world, request(CANCEL))
    assert verdicts(one(taskset, *reads, SHALL_I, CANCEL, READ, *reads, DONE)) == (True, True)


def test_failed_calls_cost_nothing(small_world: AirlineWorld) -> None:
    """A write that failed changed nothing: no yes is needed for it, and none is used up."""
    taskset = handmade(small_world, request(CANCEL))
    wrong = [
        ToolCall("cancel_reservation", {"reservation_id": "NOSUCH"}),
        ToolCall("cancel_reservation", {"reservation": "RES001"}),
        ToolCall("book_a_hotel", {}),
        bags(2, "none"),
    ]
    rollout = one(taskset, READ, *wrong, SHALL_I, *wrong, CANCEL, DONE)
    assert [call.error != "" for turn in rollout.agent_turns for call in turn.calls] == [False, *[True] * 8, False]
    assert rollout.outcome.components["confirmed"] == 1.0
    assert verdicts(rollout) == (True, True)


# The way counts.


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        ([READ_OTHER, SHALL_I, CANCEL, DONE], "looked_up"),
        ([SHALL_I, CANCEL, DONE], "looked_up"),
        ([SHALL_I, CANCEL, READ, DONE], "looked_up"),
        ([READ, CANCEL, DONE], "confirmed"),
        ([READ, "Shall I cancel RES002 (yes/no)?", CANCEL, DONE], "confirmed"),
        ([READ, "One moment please.", CANCEL, DONE], "confirmed"),
        ([READ, "What is your user id?", CANCEL, DONE], "confirmed"),
        ([CANCEL, READ, SHALL_I, DONE], "confirmed, looked_up"),
        ([READ, SHALL_I, CANCEL, HAND_OVER, DONE], "transferred"),
        ([READ, SHALL_I, HAND_OVER, CANCEL, DONE], "transferred"),
        ([READ, SHALL_I, bags(3), CANCEL, DONE], "database"),
        ([READ, SHALL_I, CANCEL, CANCEL, DONE], "database"),
        ([READ, SHALL_I, DONE], "database"),
        ([READ, DONE], "database"),
    ],
)  # fmt: skip
def test_a_right_database_the_wrong_way_fails(small_world: AirlineWorld, lines: list[Line], failed: str) -> None:
    rollout = one(handmade(small_world, request(CANCEL)), *lines)
    assert rollout.outcome.success is False
    assert rollout.outcome.reason == f"semantic: {failed}"


def test_each_request_needs_a_yes_of_its_own(small_world: AirlineWorld) -> None:
    second = request(
        bags(3, 0, "RES002"), intent="add_bags", says={"bags": "3"}, looks_up=("RES002",), reservation_id="RES002"
    )
    taskset = handmade(small_world, request(CANCEL), second)
    more = bags(3, 0, "RES002")
    asked: list[Line] = [READ, SHALL_I, CANCEL, DONE, READ_OTHER, SHALL_I, more, DONE]
    assert verdicts(one(taskset, *asked)) == (True, True)
    unasked = one(taskset, READ, SHALL_I, CANCEL, DONE, READ_OTHER, more, DONE)
    assert unasked.outcome.reason == "semantic: confirmed"
    assert verdicts(unasked) == (False, True)


def test_two_calls_in_one_message_are_two_calls(small_world: AirlineWorld) -> None:
    class Hasty:
        name = "hasty"
        capabilities = LinePolicy.capabilities

        async def sample(self, asked: SampleRequest) -> Completion:
            return Completion(Message("assistant", DONE, calls=(READ, CANCEL)))

        async def release(self, session: str) -> None:
            """Nothing is kept."""

    taskset = handmade(small_world, request(CANCEL))
    (rollout,) = play(taskset, take(taskset, "test", 1), Hasty(), limits=Limits(max_turns=1))
    assert rollout.outcome.components["confirmed"] == 0.0
    assert rollout.outcome.components["looked_up"] == 1.0


# Refusals and transfers.


def test_a_refusal_needs_the_look_up_and_nothing_written(small_world: AirlineWorld) -> None:
    taskset = handmade(small_world, request(right="refuse"))
    sorry = "I am sorry, that is not possible."
    assert verdicts(one(taskset, READ, sorry)) == (True, True)
    assert one(taskset, sorry).outcome.reason == "semantic: looked_up"
    assert one(taskset, READ_OTHER, sorry).outcome.reason == "semantic: looked_up"
    assert one(taskset, READ, SHALL_I, CANCEL, DONE).outcome.reason == "semantic: database, restrained"
    assert one(taskset, READ, HAND_OVER, DONE).outcome.reason == "semantic: transferred"


def test_a_transfer_when_due_and_only_then(small_world: AirlineWorld) -> None:
    due = handmade(small_world, request(right="transfer", looks_up=(), says={}))
    assert verdicts(one(due, HAND_OVER, DONE)) == (True, True)
    assert one(due, "I am sorry, I cannot help you with that.").outcome.reason == "semantic: transferred"
    assert one(due, HAND_OVER, CANCEL, DONE).outcome.success is False


def test_an_undone_write_fails(small_world: AirlineWorld) -> None:
    """The final database is right, and the benchmark's grader is content with that."""
    before = small_world.tables["reservations"]["RES001"]["total_baggages"]
    taskset = handmade(small_world, request(right="refuse"))
    rollout = one(taskset, READ, SHALL_I, bags(0), bags(before), "I am sorry, that is not possible.")
    assert rollout.outcome.reason == "semantic: restrained"
    assert verdicts(rollout) == (False, True)


def test_an_undone_write_to_another_reservation_fails(small_world: AirlineWorld) -> None:
    before = small_world.tables["reservations"]["RES002"]["total_baggages"]
    taskset = handmade(small_world, request(CANCEL))
    rollout = one(taskset, READ, SHALL_I, bags(0, 0, "RES002"), bags(before, 0, "RES002"), CANCEL, DONE)
    assert rollout.outcome.reason == "semantic: restrained"


# Telling.


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("You paid $1,628.00 in total.", True),
        ("1628", True),
        ("1628.", True),
        ("It is 1,628 dollars, paid by card_12.", True),
        ("It was 1628.0 dollars", True),
        ("(1628)", True),
        ("Between 1600 and 1,628", True),
        ("Of 5,1628,12 it is the second.", True),
        ("You paid $16280.", False),
        ("You paid $916289.", False),
        ("You paid $1,6280.", False),
        ("You paid $1628.50.", False),
        ("You paid $1.628.", False),
        ("You paid -1628.", False),
        ("You paid $1 and 628 cents.", False),
        ("You paid 16 28.", False),
        ("You paid in full.", False),
        ("", False),
    ],
)
def test_a_number_is_told_by_value(said: str, told: bool) -> None:
    assert is_told("1628", [said]) is told
    assert is_told("1628", ["Hello", said, "Bye"]) is told


def test_a_number_is_told_in_one_message() -> None:
    assert not is_told("1628", ["You paid 16", "28 dollars"])


def test_words_are_told_in_any_case() -> None:
    assert is_told("Gold", ["You are a GOLD member."])
    assert not is_told("Gold", ["You are a silver member."])


@pytest.mark.parametrize(
    ("said", "success"), [("$160 in total.", True), ("$170 in total.", False), ("It was a lot.", False)]
)
def test_a_wrong_number_fails(small_world: AirlineWorld, said: str, success: bool) -> None:
    taskset = handmade(small_world, request(intent="total_paid", tells=("160",)))
    rollout = one(taskset, READ, said)
    assert verdicts(rollout) == (success, success)
    assert rollout.outcome.reason == ("" if success else "semantic: told")


def test_every_number_at_once_is_told_but_buys_nothing_else(small_world: AirlineWorld) -> None:
    """Numbers alone cannot tell an answer from a list of all: whoever lists them all has told it, under both graders.

    What keeps it from paying: one request in five asks for a number, and the look-up is needed all the same.
    """
    everything = " ".join(map(str, range(3000)))
    asked = handmade(small_world, request(intent="total_paid", tells=("160",)))
    assert verdicts(one(asked, READ, everything)) == (True, True)
    assert one(asked, everything).outcome.reason == "semantic: looked_up"
    assert one(handmade(small_world, request(CANCEL)), READ, everything).outcome.success is False


# Endings.


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_conversation_cut_by_the_cap_fails_under_both(small_world: AirlineWorld, turns: int) -> None:
    taskset = handmade(small_world, request(CANCEL))
    rollout = one(taskset, *confirmed(CANCEL), limits=Limits(max_turns=turns))
    assert (rollout.status, rollout.cause) == ("truncated", "turns")
    assert verdicts(rollout) == (False, False)
    assert rollout.outcome.components["ended"] == 0.0


def test_a_cut_conversation_fails_even_where_nothing_was_to_be_done(small_world: AirlineWorld) -> None:
    taskset = handmade(small_world, request(right="refuse"))
    for grade in ("semantic", "tau2"):
        taskset = handmade(small_world, request(right="refuse"), grade=grade)
        rollout = one(taskset, READ, limits=Limits(max_turns=3))
        assert rollout.outcome.success is False
        assert rollout.outcome.reason == f"{grade}: ended"


def test_the_agent_may_end_the_conversation(small_world: AirlineWorld) -> None:
    taskset = handmade(small_world, request(CANCEL))
    assert verdicts(one(taskset, READ, SHALL_I, CANCEL, "Bye. ###STOP###")) == (True, True)
    assert verdicts(one(taskset, READ, "###STOP###")) == (False, False)


@pytest.mark.parametrize("grade", ["semantic", "tau2"])
def test_the_result_is_the_named_graders(small_world: AirlineWorld, grade: str) -> None:
    taskset = handmade(small_world, request(CANCEL), grade=grade)
    rollout = one(taskset, READ, CANCEL, DONE)  # no yes: wrong to the one, right to the other
    assert rollout.outcome.success is (grade == "tau2")
    assert rollout.outcome.reward == float(grade == "tau2")
    assert taskset.provenance["grader"] == grade
    assert {"semantic", "tau2", "confirmed", "looked_up", "told", "database", "ended"} <= set(
        rollout.outcome.components
    )


# Cheats, over generated tasks.


def _yes_man(asked: SampleRequest) -> Message | str:
    """Asks for a yes at once, then cancels whatever code was mentioned."""
    said = [message.content for message in asked.messages if message.role == "user"]
    turns = sum(message.role == "assistant" for message in asked.messages)
    words = " ".join(said).replace(".", " ").split()
    codes = [word for word in words if len(word) == 6 and word.isupper() and any(map(str.isdigit, word))]
    if turns == 0:
        return SHALL_I
    if turns == 1 and codes:
        return Message("assistant", calls=(ToolCall("cancel_reservation", {"reservation_id": codes[-1]}),))
    return DONE


def _reader(asked: SampleRequest) -> Message | str:
    """Reads whatever code was mentioned, then always refuses."""
    said = " ".join(message.content for message in asked.messages if message.role == "user")
    reads = sum(bool(message.calls) for message in asked.messages)
    codes = [word for word in said.replace(".", " ").split() if len(word) == 6 and any(map(str.isdigit, word))]
    if codes and reads < 2:
        call = ToolCall("get_reservation_details", {"reservation_id": codes[-1]})
        return Message("assistant", calls=(call,))
    return "I am sorry, that is not possible."


CHEATS: Mapping[str, tuple[Any, float]] = {
    "transfers at once": (LinePolicy("x", [HAND_OVER, DONE]), 0.12),
    "says a yes is not needed": (LinePolicy("x", ["Yes, that is done.", DONE]), 0.05),
    "lists all numbers": (LinePolicy("x", [" ".join(map(str, range(3000)))]), 0.05),
    "asks for a yes and stops": (LinePolicy("x", [SHALL_I, "###STOP###"]), 0.05),
    "cancels whatever": (FunctionPolicy(_yes_man), 0.05),
    "looks up and refuses": (FunctionPolicy(_reader), 0.20),
    "says nothing": (LinePolicy("x", ["."]), 0.05),
}


@pytest.mark.parametrize("cheat", list(CHEATS))
def test_cheats_fail_on_mini(mini_tasks: GeneratedTasks, cheat: str) -> None:
    policy, most = CHEATS[cheat]
    assert rate(play(mini_tasks, drawn(mini_tasks, "test")[:200], policy), "semantic") <= most


@pytest.mark.parametrize(
    ("basis", "failed"),
    [
        (["ACTION"], "action"),
        (["COMMUNICATE"], "communicate"),
        (["DB", "COMMUNICATE", "ACTION"], "db, communicate, action"),
    ],
)
def test_the_reason_names_the_parts_that_the_task_is_graded_by(
    small_world: AirlineWorld, basis: list[str], failed: str
) -> None:
    action = {"name": "cancel_reservation", "arguments": {"reservation_id": "RES001"}}
    criteria = {"actions": [action], "communicate_info": ["160"], "reward_basis": basis}
    (task,) = read_tasks(
        [{"id": "t", "user_scenario": {"instructions": "Go."}, "evaluation_criteria": criteria}], "here"
    )
    idle = score(small_world, State(small_world), Gold(task, process=False), Conversation(ended_by="user_stop"), "tau2")
    assert idle.reason == f"tau2: {failed}"
    cut = score(small_world, State(small_world), Gold(task, process=False), Conversation(), "tau2")
    assert cut.reason == "tau2: ended"
