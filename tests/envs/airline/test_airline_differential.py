"""Our desk against a naive one, call by call: success, text, and the hash of the whole database (specs/tau.md)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.envs.airline.conftest import DB
from tests.envs.airline.naive import Database, NaiveDesk

from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.grade_tau2 import gold_state
from banty.envs.airline.tau2tasks import Tau2Tasks
from banty.envs.airline.tools import AirlineTools
from banty.envs.state import State
from banty.records import ToolCall

# One of these is the right kind of thing; the others are what models send in its place.
NUMBERS: list[Any] = [0, 1, 2, 2.0, 1.25, -1, "1", "2.0", "two", None, True, [], 10**30]
KEYS: dict[str, list[Any]] = {
    "user_id": ["ann_lee_1", "ann_lee_1", "bob_ray_2", "Ann_Lee_1", "nobody", "", 5, None, ["ann_lee_1"], {}],
    "reservation_id": ["RES001", "RES002", "RES001", "HATHAT", "res001", "RES009", 1, None, {}],
    "origin": ["JFK", "SFO", "jfk", None, 5, ["JFK"]],
    "destination": ["SFO", "LAX", "", None, 5],
    "date": ["2024-05-20", "2024-05-21", "2024-05-30", "2024-05-14", "2024-06-01", "20", "", None, 20, []],
    "flight_number": ["HAT001", "HAT005", "HAT999", None, {}],
    "flight_type": ["one_way", "round_trip", "return", None, 1],
    "cabin": ["economy", "economy", "business", "basic_economy", "first", None, 3, []],
    "insurance": ["no", "yes", "maybe", True, None],
    "total_baggages": NUMBERS,
    "nonfree_baggages": NUMBERS,
    "amount": [100, 50, 12.5, "70", "a lot", None, -5, True],
    "payment_id": ["card_1", "gift_1", "certificate_1", "certificate_3221322", "card_9", "", None, 7, []],
    "expression": ["2 + 2", "10/3", "2**10", "7//2", "1/0", "two", "", "2 +", "-(3.5)", " 4", None, 4],
    "summary": ["help", None, 3],
}


def leg(number: Any = "HAT001", date: Any = "2024-05-20", **more: Any) -> dict[str, Any]:
    return {"flight_number": number, "date": date, **more}


def person(name: Any = "Ann", **more: Any) -> dict[str, Any]:
    return {"first_name": name, "last_name": "Lee", "dob": "1990-01-01", **more}


def paid(key: Any = "card_1", amount: Any = 100, **more: Any) -> dict[str, Any]:
    return {"payment_id": key, "amount": amount, **more}


LISTS: dict[str, list[Any]] = {
    "flights": [
        *(
            [leg()],
            [leg(), leg("HAT002")],
            [leg("HAT002"), leg()],
            [leg(date="2024-05-10"), leg("HAT005", "2024-05-25")],
        ),
        *([leg("HAT005", "2024-05-25"), leg(date="2024-05-10")], [leg(), leg()], [leg(price=1, cabin="x")]),
        *([], "", {}, None, 7, [leg(), "HAT002"], ["HAT001"], [{"flight_number": "HAT001"}], [leg(5)]),
        *([leg(date="2024-05-14")], [leg(date="2024-05-21")], [leg("HAT999")], "HAT001"),
    ],
    "passengers": [
        *([person()], [person(), person("Ben")], [person("Ben"), person()], [person(age=9)], [person("Zoë")]),
        *([], "", None, ["Ann"], [person(), "Ben"], [{"first_name": "Ann"}], [person(1)], {}, "ab"),
    ],
    "payment_methods": [
        *([paid()], [paid(amount=200)], [paid("gift_1", 60), paid(amount=40)], [paid(amount=40), paid("gift_1", 60)]),
        *([paid("certificate_1", 50)] * 2, [paid("gift_1")] * 2, [paid("certificate_1", 100)], [paid(amount=100.0)]),
        *([[paid("certificate_1", 50), paid("certificate_1", 50)], [paid("gift_1", 100), paid("gift_1", 100)]]),
        *([[paid("gift_1", 20), paid("certificate_1", 40), paid("certificate_1", 40)]]),
        *([paid(amount="100")], [paid(amount=100.5)], [paid(amount=None)], [paid(amount=130)], [paid(amount=150)]),
        *([], None, "card_1", [paid(), "gift_1"], [{"payment_id": "card_1"}], [paid("gift_1", 121)], paid()),
    ],
}
WRITES = ("book_reservation", "update_reservation_flights", "update_reservation_baggages")
NAMES = [*AirlineTools.tools, *WRITES * 3, "think", "book_flight"]
BOOKING: dict[str, Any] = {
    "user_id": "ann_lee_1",
    "origin": "JFK",
    "destination": "SFO",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [leg()],
    "passengers": [person()],
    "payment_methods": [paid()],
    "total_baggages": 0,
    "nonfree_baggages": 0,
    "insurance": "no",
}


@st.composite
def calls(draw: st.DrawFn) -> ToolCall:
    """A call that is right but for a few arguments, now and then with one too few or too many."""
    name = draw(st.sampled_from(NAMES))
    known = AirlineTools.tools[name].schema.parameters["properties"] if name in AirlineTools.tools else ()
    arguments = {key: BOOKING.get(key, ({**KEYS, **LISTS}[key])[0]) for key in known}
    for key in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=3)) if arguments else ():
        arguments[key] = draw(st.sampled_from({**KEYS, **LISTS}[key]))
    odd = draw(st.integers(0, 19))
    if odd == 0 and arguments:
        arguments.pop(sorted(arguments)[0])
    elif odd == 1:
        arguments["verbose"] = True
    return ToolCall(name, arguments)


@settings(deadline=None, max_examples=400)
@given(listed=st.lists(calls(), min_size=1, max_size=6))
def test_every_call_answers_and_changes_what_the_naive_desk_does(small_world: AirlineWorld, listed: list[Any]) -> None:
    ours, naive = AirlineTools(small_world), NaiveDesk(NAIVE)
    for call in listed:
        if call.name == "list_all_airports":
            continue
        ok, text = ours.execute(call.name, call.arguments)
        wanted, words, exact = naive.call(call.name, call.arguments)
        assert ok == wanted, (call, text, words)
        if exact:
            assert text == words, call
        assert tau2_hash(ours.state) == naive.hash(), call


NAIVE = Database.model_validate(DB)


GOLD_HASHES = Path(__file__).parent / "gold_hashes.json"
"""The naive desk's hash after the golden actions of each published task, by task id."""


def test_the_golden_databases_of_all_published_tasks(tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks) -> None:
    known = json.loads(GOLD_HASHES.read_text())
    assert {task.id: tau2_hash(gold_state(tau2_world, task.actions)) for task in tau2_tasks.tasks} == known["tasks"]
    assert tau2_hash(State(tau2_world)) == known["untouched"]
    unchanged = [task.id for task in tau2_tasks.tasks if known["tasks"][task.id] == known["untouched"]]
    assert len(unchanged) == 24, "the tasks without a write (specs/tau.md, section 5)"


@pytest.fixture(scope="module")
def published_db(tau2_folder: Path) -> Database:
    return Database.model_validate_json((tau2_folder / "db.json").read_text())


@pytest.mark.parametrize("task_id", ["7", "18", "33"])
def test_the_published_database_call_by_call(
    tau2_world: AirlineWorld, tau2_tasks: Tau2Tasks, published_db: Database, task_id: str
) -> None:
    """The golden actions, and then each again with its lists turned around and its counts as floats."""
    ours, naive = AirlineTools(tau2_world), NaiveDesk(published_db)
    actions = tau2_tasks.task(task_id).actions
    for call in [*actions, *map(_turned_around, actions)]:
        ok, text = ours.execute(call.name, call.arguments)
        assert (ok, text) == naive.call(call.name, call.arguments)[:2]
    assert tau2_hash(ours.state) == naive.hash()


def _turned_around(call: ToolCall) -> ToolCall:
    changed = {
        key: value[::-1] if isinstance(value, list) else float(value) if key.endswith("_baggages") else value
        for key, value in call.arguments.items()
    }
    return dataclasses.replace(call, arguments=changed)
