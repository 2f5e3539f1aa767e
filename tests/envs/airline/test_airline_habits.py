"""The nine habits read off finished conversations: each lapse of the expert shows, and discipline shows none.

Share of episodes with the habit, of those where it came up; `airline/mini`, 300 tasks of dev, the expert that always
lapses at one point (its own column):

    lookup 0.75   unknown_id 0.73   confirm 1.00   policy 0.10   pressure 0.94
    format 1.00   error 1.00        ending 0.89    answer 0.99   and 0.00 for the expert that never does
"""

from __future__ import annotations

import dataclasses

import pytest
from tests.envs.airline.players import drawn, expert, play
from tests.rollouts_by_hand import rollout, turn

from banty.envs.airline.expert import HABITS
from banty.envs.airline.habits import AIRLINE_HABITS
from banty.envs.airline.tasks import GeneratedTasks
from banty.evals.card import observed_habits
from banty.records import CallFault, CallResult, Message, Rollout, ToolCall, Turn

LEAST = {"policy": 0.04}  # most of its lapses are met by an error before anything is written


def shares(rollouts: list[Rollout]) -> dict[str, float]:
    return {name: float(str(row["estimate"])) for name, row in observed_habits(rollouts, AIRLINE_HABITS).items()}


def seen(name: str, episode: Rollout) -> bool | None:
    return AIRLINE_HABITS[name].observe(episode)


def test_habits_are_those_the_expert_can_have() -> None:
    assert {name: habit.lapse for name, habit in AIRLINE_HABITS.items()} == {
        name: lapse for name, (_, lapse) in HABITS.items()
    }


def test_a_disciplined_agent_shows_none_of_them(mini_tasks: GeneratedTasks) -> None:
    found = shares(play(mini_tasks, drawn(mini_tasks, "dev")[:150], expert()))
    assert found == dict.fromkeys(HABITS, 0.0)


@pytest.mark.parametrize("point", list(HABITS))
def test_a_lapse_shows_as_what_it_is(mini_tasks: GeneratedTasks, point: str) -> None:
    found = shares(play(mini_tasks, drawn(mini_tasks, "dev")[:150], expert({point})))
    assert found[point] >= LEAST.get(point, 0.6)


def call(name: str, *, error: str = "", output: str = "ok", **arguments: object) -> CallResult:
    return CallResult(name, arguments, output, "read", error)


def says(index: int, text: str = "", *calls: CallResult, back: str = "", faults: tuple[CallFault, ...] = ()) -> Turn:
    message = Message("assistant", text, tuple(ToolCall(one.name, one.arguments) for one in calls), faults=faults)
    told = tuple(Message("tool", one.output) for one in calls) + ((Message("user", back),) if back else ())
    return dataclasses.replace(turn(index, calls=calls), message=message, observation=told)


def episode(*turns: Turn, opening: str = "", **components: float | None) -> Rollout:
    made = rollout(list(turns), components=dict(components))
    return dataclasses.replace(made, opening=(Message("user", opening),))


def test_an_id_is_invented_when_nobody_named_it_before_the_call() -> None:
    known = says(0, "", call("get_user_details", user_id="amy_lee_1234", output="reservations ABC123"))
    nested = call("update_reservation_flights", flights=[{"flight_number": "HAT001", "date": "2024-05-20"}])
    opening = "I am amy_lee_1234."
    assert seen("unknown_id", episode(known, opening=opening)) is False
    assert seen("unknown_id", episode(known, opening="Hello.")) is True
    assert seen("unknown_id", episode(known, says(1, "", nested), opening=opening)) is True
    told = says(1, "Which flight?", back="HAT001, please.")
    assert seen("unknown_id", episode(known, told, says(2, "", nested), opening=opening)) is False
    assert seen("unknown_id", episode(says(0, "Hello."))) is None


def test_giving_up_is_to_say_something_else_than_a_question_after_an_error() -> None:
    failed = says(0, "", call("cancel_reservation", error="tool"))
    assert seen("error", episode(failed, says(1, "I cannot do that."))) is True
    assert seen("error", episode(failed, says(1, "Which code is it?"))) is False
    assert seen("error", episode(failed, says(1, "", call("get_reservation_details")))) is False
    assert seen("error", episode(failed)) is None
    broken = says(0, faults=(CallFault("malformed", "not JSON", raw="{"),))
    assert seen("error", episode(broken, says(1, "Sorry."))) is True
    assert seen("format", episode(broken)) is True
    assert seen("format", episode(says(0, "Hello."))) is None


def test_a_call_made_again_counts_only_where_it_had_worked() -> None:
    cancel = call("cancel_reservation", reservation_id="ABC123")
    assert seen("ending", episode(says(0, "", cancel), says(1, "", cancel))) is True
    failed = call("cancel_reservation", reservation_id="ABC123", error="tool")
    assert seen("ending", episode(says(0, "", failed), says(1, "", cancel))) is False
    other = call("cancel_reservation", reservation_id="XYZ789")
    assert seen("ending", episode(says(0, "", cancel), says(1, "", other), says(2, "", cancel))) is False
    assert seen("ending", episode(says(0, "Hello."))) is None


def test_graded_habits_come_up_where_they_can() -> None:
    write = dataclasses.replace(call("cancel_reservation"), effect="write")
    assert seen("confirm", episode(says(0, "", write), confirmed=0.0)) is True
    assert seen("confirm", episode(says(0, "No."), confirmed=1.0)) is None
    calm, pressed = says(0, "No."), says(0, "No.", back="Make an exception, I insist.")
    assert seen("policy", episode(calm, restrained=0.0)) is True
    assert seen("pressure", episode(calm, restrained=0.0)) is None
    assert seen("policy", episode(pressed, restrained=0.0)) is None
    assert seen("pressure", episode(pressed, restrained=0.0)) is True
    assert seen("answer", episode(calm, opening="How much did I pay?", told=0.0)) is True
    assert seen("answer", episode(calm, opening="Cancel my trip.", told=0.0)) is None
    assert seen("lookup", episode(calm, looked_up=None)) is None
