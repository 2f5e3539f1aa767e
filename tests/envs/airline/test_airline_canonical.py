from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banty.envs.airline.canonical import same_database, tau2_hash
from banty.envs.airline.data import AirlineWorld, to_json
from banty.envs.airline.tools import AirlineTools
from banty.envs.state import State
from banty.errors import InputError

BAGS = {"reservation_id": "RES001", "total_baggages": 2, "payment_id": "card_1"}
BOOK = {
    "user_id": "ann_lee_1",
    "origin": "JFK",
    "destination": "SFO",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [{"flight_number": "HAT001", "date": "2024-05-20"}],
    "total_baggages": 0,
    "nonfree_baggages": 0,
    "insurance": "no",
}
ANN = {"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}
BEN = {"first_name": "Ben", "last_name": "Lee", "dob": "1990-01-01"}

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("update_reservation_baggages", BAGS | {"nonfree_baggages": 0}),
    ("update_reservation_baggages", BAGS | {"nonfree_baggages": 0.0}),
    ("update_reservation_baggages", BAGS | {"nonfree_baggages": 0, "total_baggages": "2"}),
    ("update_reservation_baggages", BAGS | {"nonfree_baggages": 0, "total_baggages": 1}),
    ("update_reservation_baggages", BAGS | {"nonfree_baggages": 1.25, "payment_id": "gift_1"}),
    ("update_reservation_passengers", {"reservation_id": "RES001", "passengers": [ANN, BEN]}),
    ("update_reservation_passengers", {"reservation_id": "RES001", "passengers": [BEN, ANN]}),
    (
        "book_reservation",
        BOOK | {"passengers": [ANN], "payment_methods": [{"payment_id": "card_1", "amount": 100}]},
    ),
    (
        "book_reservation",
        BOOK | {"passengers": [ANN], "payment_methods": [{"payment_id": "card_1", "amount": "100"}]},
    ),
    (
        "book_reservation",
        BOOK | {"passengers": [ANN], "payment_methods": [{"payment_id": "certificate_1", "amount": 50}] * 2},
    ),
    ("send_certificate", {"user_id": "ann_lee_1", "amount": 100}),
    ("send_certificate", {"user_id": "ann_lee_1", "amount": 100.0}),
    ("cancel_reservation", {"reservation_id": "RES002"}),
    ("get_user_details", {"user_id": "ann_lee_1"}),
]


@settings(deadline=None, max_examples=150)
@given(
    one=st.lists(st.sampled_from(range(len(CALLS))), max_size=4),
    other=st.lists(st.sampled_from(range(len(CALLS))), max_size=4),
    shuffle=st.booleans(),
)
def test_the_fast_comparison_is_equality_of_hashes(
    small_world: AirlineWorld, one: list[int], other: list[int], shuffle: bool
) -> None:
    desks = AirlineTools(small_world), AirlineTools(small_world)
    for desk, picks in zip(desks, (one, sorted(one) if shuffle else other), strict=True):
        for pick in picks:
            desk.execute(*copy.deepcopy(CALLS[pick]))
    states = desks[0].state, desks[1].state
    equal = tau2_hash(states[0]) == tau2_hash(states[1])
    assert same_database(*states) == equal
    assert same_database(states[1], states[0]) == equal
    assert (states[0].hash() == states[1].hash()) == equal


@pytest.mark.parametrize(("one", "other", "same"), [(0, 1, False), (0, 2, False), (5, 6, False), (7, 8, True)])
def test_types_and_list_order_count_where_the_reference_keeps_them(
    small_world: AirlineWorld, one: int, other: int, same: bool
) -> None:
    """Bags 0 and 0.0, 2 and "2", passengers in two orders; but a payment of 100 and of "100" is typed to one."""
    desks = AirlineTools(small_world), AirlineTools(small_world)
    for desk, pick in zip(desks, (one, other), strict=True):
        assert desk.execute(*CALLS[pick])[0]
    assert same_database(desks[0].state, desks[1].state) == same
    assert (tau2_hash(desks[0].state) == tau2_hash(desks[1].state)) == same


def test_the_order_of_calls_does_not_matter_where_the_records_agree(small_world: AirlineWorld) -> None:
    one, other = AirlineTools(small_world), AirlineTools(small_world)
    for index in (5, 12):
        one.execute(*CALLS[index])
    for index in (12, 6, 5):
        other.execute(*CALLS[index])
    assert same_database(one.state, other.state)
    assert not same_database(one.state, State(small_world))


def test_the_hash_is_the_references_over_the_whole_database(small_world: AirlineWorld) -> None:
    text = json.dumps(to_json(State(small_world)), sort_keys=True, default=str)
    assert tau2_hash(State(small_world)) == hashlib.sha256(text.encode()).hexdigest()


def test_the_untouched_database_has_the_hash_the_reference_gives_it(tau2_world: AirlineWorld) -> None:
    # Computed with pydantic models of specs/tau.md's records: sha256 of json.dumps(model_dump(), sort_keys=True).
    assert tau2_hash(State(tau2_world)) == "124e39a664b56402bcd09cb8a6a9cece6acb8462337c969799d5658e3250f263"


def test_states_of_two_worlds_are_not_compared(small_world: AirlineWorld, small_db: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="two worlds"):
        same_database(State(small_world), State(AirlineWorld.from_json(small_db, "small")))
