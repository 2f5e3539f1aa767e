"""Every trap of specs/tau.md, sections 3 and 10, on the handmade world."""

from __future__ import annotations

import json
from typing import Any

import pytest

from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import NOW, AirlineWorld
from banty.envs.airline.tools import AirlineTools
from banty.envs.state import State


def leg(number: str, date: str = "2024-05-20") -> dict[str, str]:
    return {"flight_number": number, "date": date}


def done(desk: AirlineTools, name: str, **arguments: Any) -> dict[str, Any]:
    ok, text = desk.execute(name, arguments)
    assert ok, text
    result: dict[str, Any] = json.loads(text)
    return result


def refused(desk: AirlineTools, name: str, **arguments: Any) -> str:
    before = tau2_hash(desk.state)
    ok, text = desk.execute(name, arguments)
    assert not ok, text
    assert tau2_hash(desk.state) == before, "a refused call changed the database"
    return text.removeprefix("Error: ")


def methods(desk: AirlineTools) -> dict[str, Any]:
    found = desk.state.get("users", "ann_lee_1")
    assert found is not None
    held: dict[str, Any] = found["payment_methods"]
    return held


def seats(desk: AirlineTools, key: str = "HAT001|2024-05-20") -> dict[str, int]:
    cell = desk.state.get("cells", key)
    assert cell is not None
    left: dict[str, int] = cell["available_seats"]
    return left


# book_reservation


def test_a_booking_takes_seats_and_money_and_is_stored_as_given(desk: AirlineTools, booking: dict[str, Any]) -> None:
    booking |= {
        "origin": "LGA",
        "flight_type": "round_trip",
        "cabin": "business",
        "flights": [leg("HAT001"), leg("HAT002")],
        "passengers": booking["passengers"] * 2,
        "payment_methods": [
            {"payment_id": "gift_1", "amount": 110},
            {"payment_id": "certificate_1", "amount": 60},
            {"payment_id": "card_1", "amount": 1190},
        ],
        "total_baggages": 9,
        "nonfree_baggages": 2,
        "insurance": "yes",
    }
    made = done(desk, "book_reservation", **booking)
    assert made["reservation_id"] == "HATHAT"
    assert made["created_at"] == NOW
    assert (made["origin"], made["flight_type"], made["total_baggages"]) == ("LGA", "round_trip", 9)
    assert [each["price"] for each in made["flights"]] == [300, 300]
    assert list(made)[-1] == "status"
    assert methods(desk)["gift_1"]["amount"] == 10.0
    assert "certificate_1" not in methods(desk), "a certificate is used up whole"
    assert seats(desk) == {"basic_economy": 5, "economy": 5, "business": 3}
    assert seats(desk, "HAT002|2024-05-20")["business"] == 3
    assert done(desk, "get_user_details", user_id="ann_lee_1")["reservations"] == ["RES001", "RES002", "HATHAT"]
    assert done(desk, "get_reservation_details", reservation_id="HATHAT") == made


def test_three_bookings_and_no_more(desk: AirlineTools, booking: dict[str, Any]) -> None:
    ids = [done(desk, "book_reservation", **booking)["reservation_id"] for _ in range(3)]
    assert ids == ["HATHAT", "HATHAU", "HATHAV"]
    assert refused(desk, "book_reservation", **booking) == "Too many reservations"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user_id": "nobody"}, "User nobody not found"),
        ({"flights": [leg("HAT999")]}, "Flight HAT999 not found"),
        ({"flights": [leg("HAT001", "2024-06-01")]}, "Flight HAT001 not found on date 2024-06-01"),
        ({"flights": [leg("HAT001", "2024-05-14")]}, "Flight HAT001 not available on date 2024-05-14"),
        (
            {
                "flights": [leg("HAT001", "2024-05-21")],
                "passengers": [{"first_name": "A", "last_name": "B", "dob": "C"}] * 2,
            },
            "Not enough seats on flight HAT001",
        ),
        ({"payment_methods": [{"payment_id": "card_9", "amount": 100}]}, "Payment method card_9 not found"),
        ({"payment_methods": [{"payment_id": "gift_1", "amount": 121}]}, "Not enough balance in payment method gift_1"),
        (
            {"payment_methods": [{"payment_id": "card_1", "amount": 99}]},
            "Payment amount does not add up, total price is 100, but paid 99",
        ),
        ({"payment_methods": []}, "Payment amount does not add up, total price is 100, but paid 0"),
        (
            {"nonfree_baggages": 1.0},
            "Payment amount does not add up, total price is 150.0, but paid 100",
        ),
    ],
)
def test_refused_bookings_say_why_and_change_nothing(
    desk: AirlineTools, booking: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    assert refused(desk, "book_reservation", **booking | change) == said


def test_checks_come_in_the_references_order(desk: AirlineTools, booking: dict[str, Any]) -> None:
    wrong = booking | {
        "payment_methods": [{"payment_id": "card_9", "amount": 1}],
        "flights": [leg("HAT999")],
        "cabin": "first",
        "user_id": "nobody",
        "passengers": [{"first_name": "A"}],
    }
    assert "passengers.0.last_name" in refused(desk, "book_reservation", **wrong)
    wrong["passengers"] = booking["passengers"]
    assert refused(desk, "book_reservation", **wrong) == "User nobody not found"
    wrong["user_id"] = "ann_lee_1"
    assert "cabin" in refused(desk, "book_reservation", **wrong)
    wrong["cabin"] = "economy"
    assert refused(desk, "book_reservation", **wrong) == "Flight HAT999 not found"
    wrong["flights"] = booking["flights"]
    assert refused(desk, "book_reservation", **wrong) == "Payment method card_9 not found"


@pytest.mark.parametrize(
    "change",
    [
        {"cabin": "first"},
        {"flight_type": "return"},
        {"insurance": "maybe"},
        {"origin": 5},
        {"total_baggages": None},
        {"total_baggages": 1.5},
        {"nonfree_baggages": "1"},  # typed without fault, then multiplied as given
        {"flights": 7},
        {"flights": ["HAT001"]},
        {"flights": [leg("HAT001"), "HAT002"]},
        {"flights": "HAT001"},
        {"flights": [{"flight_number": "HAT001"}]},
        {"passengers": "Ann"},
        {"passengers": [{"first_name": 1, "last_name": "B", "dob": "C"}]},
        {"payment_methods": [{"payment_id": "card_1", "amount": 100.5}]},
        {"payment_methods": [{"payment_id": "card_1", "amount": "a lot"}]},
        {"payment_methods": {"payment_id": "card_1", "amount": 100}},
    ],
)
def test_bookings_that_cannot_be_typed_are_refused(
    desk: AirlineTools, booking: dict[str, Any], change: dict[str, Any]
) -> None:
    assert refused(desk, "book_reservation", **booking | change)


@pytest.mark.parametrize("amount", [100, 100.0, "100", " 100 "])
def test_amounts_and_bags_of_a_booking_are_typed_and_extra_keys_dropped(
    desk: AirlineTools, booking: dict[str, Any], amount: Any
) -> None:
    booking["payment_methods"] = [{"payment_id": "card_1", "amount": amount, "currency": "USD"}]
    booking["passengers"][0]["seat"] = "1A"
    booking["flights"][0]["price"] = 1
    made = done(desk, "book_reservation", **booking | {"total_baggages": "3", "nonfree_baggages": 0.0})
    assert json.dumps(made["payment_history"]) == '[{"payment_id": "card_1", "amount": 100}]'
    assert list(made["passengers"][0]) == ["first_name", "last_name", "dob"]
    assert json.dumps([made["total_baggages"], made["nonfree_baggages"]]) == "[3, 0]"


def test_a_certificate_listed_twice_is_gone_though_the_booking_fails(
    desk: AirlineTools, booking: dict[str, Any]
) -> None:
    twice = [{"payment_id": "certificate_1", "amount": 50}] * 2
    assert desk.execute("book_reservation", booking | {"payment_methods": twice}) == (
        False,
        "Error: 'certificate_1'",
    )
    assert "certificate_1" not in methods(desk)
    assert seats(desk)["economy"] == 5
    assert desk.state.get("reservations", "HATHAT") is None


def test_a_gift_card_listed_twice_is_overdrawn(desk: AirlineTools, booking: dict[str, Any]) -> None:
    twice = [{"payment_id": "gift_1", "amount": 100}] * 2
    done(desk, "book_reservation", **booking | {"payment_methods": twice, "flights": [leg("HAT001"), leg("HAT002")]})
    assert methods(desk)["gift_1"]["amount"] == -80.0


def test_a_flight_listed_twice_can_sell_more_seats_than_there_are(desk: AirlineTools, booking: dict[str, Any]) -> None:
    booking["flights"] = [leg("HAT001", "2024-05-21")] * 2
    booking["payment_methods"][0]["amount"] = 200
    done(desk, "book_reservation", **booking)
    assert seats(desk, "HAT001|2024-05-21")["economy"] == -1


def test_a_booking_of_nothing_is_accepted(desk: AirlineTools, booking: dict[str, Any]) -> None:
    made = done(desk, "book_reservation", **booking | {"flights": [], "passengers": "", "payment_methods": {}})
    assert (made["flights"], made["passengers"], made["payment_history"]) == ([], [], [])


# cancel_reservation, send_certificate


def test_cancelling_twice_doubles_the_payments_and_restores_nothing(desk: AirlineTools) -> None:
    once = done(desk, "cancel_reservation", reservation_id="RES001")
    assert once["status"] == "cancelled"
    assert [each["amount"] for each in once["payment_history"]] == [160, -160]
    twice = done(desk, "cancel_reservation", reservation_id="RES001")
    assert [each["amount"] for each in twice["payment_history"]] == [160, -160, -160, 160]
    assert seats(desk)["economy"] == 5
    assert refused(desk, "cancel_reservation", reservation_id="RES009") == "Reservation RES009 not found"


def test_certificates_are_floats_named_in_turn_and_at_most_three(desk: AirlineTools) -> None:
    said = []
    for amount in (100, "50", 25.5):
        ok, text = desk.execute("send_certificate", {"user_id": "ann_lee_1", "amount": amount})
        assert ok
        said.append(text)
    assert said == [
        "Certificate certificate_3221322 added to user ann_lee_1 with amount 100.",
        "Certificate certificate_3221323 added to user ann_lee_1 with amount 50.",
        "Certificate certificate_3221324 added to user ann_lee_1 with amount 25.5.",
    ]
    assert json.dumps(methods(desk)["certificate_3221323"]) == (
        '{"source": "certificate", "id": "certificate_3221323", "amount": 50.0}'
    )
    assert refused(desk, "send_certificate", user_id="ann_lee_1", amount="x") == "Too many certificates"
    assert refused(desk, "send_certificate", user_id="bob_ray_2", amount="x")
    assert refused(desk, "send_certificate", user_id="nobody", amount=1) == "User nobody not found"


# update_reservation_flights


def test_a_kept_leg_keeps_its_price_and_a_new_one_has_todays(desk: AirlineTools) -> None:
    changed = done(
        desk,
        "update_reservation_flights",
        reservation_id="RES001",
        cabin="economy",
        flights=[leg("HAT001"), leg("HAT002")],
        payment_id="card_1",
    )
    assert [each["price"] for each in changed["flights"]] == [80, 100]
    assert changed["payment_history"][-1] == {"payment_id": "card_1", "amount": 200}
    assert (changed["origin"], changed["destination"]) == ("JFK", "SFO"), "the route is neither checked nor changed"
    assert seats(desk)["economy"] == 5, "seats are left alone"


def test_a_change_of_cabin_reprices_all_legs_and_is_stored(desk: AirlineTools) -> None:
    changed = done(
        desk,
        "update_reservation_flights",
        reservation_id="RES001",
        cabin="basic_economy",
        flights=[leg("HAT001")],
        payment_id="gift_1",
    )
    assert (changed["cabin"], changed["flights"][0]["price"]) == ("basic_economy", 50)
    assert changed["payment_history"][-1] == {"payment_id": "gift_1", "amount": -60}
    assert methods(desk)["gift_1"]["amount"] == 180.0, "a refund is added to the gift card"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reservation_id": "RES009"}, "Reservation RES009 not found"),
        ({"flights": [leg("HAT009")]}, "Flight HAT009 not found"),
        ({"flights": [leg("HAT001", "2024-05-10")]}, "Flight HAT001 not available on date 2024-05-10"),
        ({"flights": [leg("HAT001", "2024-05-21")]}, "Not enough seats on flight HAT001"),
        ({"cabin": "first"}, "'first'"),
        ({"payment_id": "card_9"}, "Payment method not found"),
        ({"payment_id": "certificate_1"}, "Certificate cannot be used to update reservation"),
        ({"payment_id": "gift_1", "cabin": "business"}, "Gift card balance is not enough"),
    ],
)
def test_refused_changes_of_flights_say_why(desk: AirlineTools, change: dict[str, Any], said: str) -> None:
    arguments = {
        "reservation_id": "RES001",
        "cabin": "economy",
        "flights": [leg("HAT001")],
        "payment_id": "card_1",
    }
    assert refused(desk, "update_reservation_flights", **arguments | change) == said


def test_no_flights_at_all_is_accepted_with_any_cabin(desk: AirlineTools) -> None:
    changed = done(
        desk,
        "update_reservation_flights",
        reservation_id="RES001",
        cabin="first",
        flights=[],
        payment_id="card_1",
    )
    assert (changed["cabin"], changed["flights"]) == ("first", [])
    assert changed["payment_history"][-1]["amount"] == -160


def test_the_same_flights_again_change_nothing_and_flown_legs_are_kept_unchecked(desk: AirlineTools) -> None:
    before = done(desk, "get_reservation_details", reservation_id="RES002")
    after = done(
        desk,
        "update_reservation_flights",
        reservation_id="RES002",
        cabin="economy",
        flights=[leg("HAT001", "2024-05-10"), leg("HAT005", "2024-05-25")],
        payment_id="gift_1",
    )
    assert after == before
    assert tau2_hash(desk.state) == tau2_hash(State(desk.world))


# update_reservation_baggages, update_reservation_passengers


def test_paid_bags_cost_fifty_each_and_fewer_are_not_refunded(desk: AirlineTools) -> None:
    more = done(
        desk,
        "update_reservation_baggages",
        reservation_id="RES001",
        total_baggages=3,
        nonfree_baggages=2,
        payment_id="gift_1",
    )
    assert more["payment_history"][-1] == {"payment_id": "gift_1", "amount": 100}
    assert methods(desk)["gift_1"]["amount"] == 20.0
    fewer = done(
        desk,
        "update_reservation_baggages",
        reservation_id="RES001",
        total_baggages=1,
        nonfree_baggages=0,
        payment_id="card_1",
    )
    assert len(fewer["payment_history"]) == 2, "nothing to pay, no entry"
    assert fewer["total_baggages"] == 1


def test_bags_of_an_update_are_stored_as_given(desk: AirlineTools) -> None:
    changed = done(
        desk,
        "update_reservation_baggages",
        reservation_id="RES001",
        total_baggages="3",
        nonfree_baggages=1.0,
        payment_id="card_1",
    )
    assert json.dumps([changed["total_baggages"], changed["nonfree_baggages"]]) == '["3", 1.0]'
    assert json.dumps(changed["payment_history"][-1]) == '{"payment_id": "card_1", "amount": 50}'
    assert refused(
        desk,
        "update_reservation_baggages",
        reservation_id="RES001",
        total_baggages=3,
        nonfree_baggages="3",
        payment_id="card_1",
    )


def test_a_certificate_cannot_pay_even_nothing(desk: AirlineTools) -> None:
    arguments = {"reservation_id": "RES001", "total_baggages": 1, "nonfree_baggages": 0}
    said = refused(desk, "update_reservation_baggages", **arguments, payment_id="certificate_1")
    assert said == "Certificate cannot be used to update reservation"
    assert refused(desk, "update_reservation_baggages", **arguments, payment_id="x") == "Payment method not found"


def test_a_fraction_of_a_dollar_fails_after_the_gift_card_is_charged(desk: AirlineTools) -> None:
    arguments = {"reservation_id": "RES001", "total_baggages": 2, "nonfree_baggages": 1.25}
    refused(desk, "update_reservation_baggages", **arguments, payment_id="card_1")
    assert not desk.execute("update_reservation_baggages", arguments | {"payment_id": "gift_1"})[0]
    assert methods(desk)["gift_1"]["amount"] == 57.5
    assert desk.state.get("reservations", "RES001") is desk.world.tables["reservations"]["RES001"]


def test_a_count_with_more_digits_than_can_be_written_is_refused_and_stays_out_of_the_database(
    desk: AirlineTools,
) -> None:
    counts = {"total_baggages": 1, "nonfree_baggages": 10**4299}
    said = refused(desk, "update_reservation_baggages", reservation_id="RES001", payment_id="card_1", **counts)
    assert "4300" in said
    assert done(desk, "get_reservation_details", reservation_id="RES001")["nonfree_baggages"] == 0


def test_passengers_keep_their_number_and_lose_extra_keys(desk: AirlineTools) -> None:
    new = [{"dob": "1970-01-01", "first_name": "X", "last_name": "Y", "age": 9}] * 2
    changed = done(desk, "update_reservation_passengers", reservation_id="RES001", passengers=new)
    assert json.dumps(changed["passengers"][1]) == '{"first_name": "X", "last_name": "Y", "dob": "1970-01-01"}'
    said = refused(desk, "update_reservation_passengers", reservation_id="RES001", passengers=new[:1])
    assert said == "Number of passengers does not match"
    assert refused(desk, "update_reservation_passengers", reservation_id="RES001", passengers=[{"first_name": "X"}] * 2)


def test_a_list_that_is_not_all_passengers_is_stored_as_it_came(desk: AirlineTools) -> None:
    mixed = [{"first_name": "X", "age": 9}, "Ann Lee"]
    changed = done(desk, "update_reservation_passengers", reservation_id="RES001", passengers=mixed)
    assert changed["passengers"] == mixed
    mixed.clear()
    assert done(desk, "get_reservation_details", reservation_id="RES001") == changed


def test_an_unknown_owner_is_an_error_of_updates(small_db: dict[str, Any]) -> None:
    del small_db["users"]["ann_lee_1"]
    desk = AirlineTools(AirlineWorld.from_json(small_db, "orphan"))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("update_reservation_baggages", {"total_baggages": 1, "nonfree_baggages": 0}),
        ("update_reservation_flights", {"cabin": "economy", "flights": []}),
    ]
    for name, more in calls:
        said = refused(desk, name, reservation_id="RES001", payment_id="card_1", **more)
        assert said == "User ann_lee_1 not found"
