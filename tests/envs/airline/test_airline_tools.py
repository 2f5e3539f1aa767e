from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tools import AirlineTools, run_calls
from banty.envs.airline.writes import WRITE_TOOLS
from banty.envs.state import State
from banty.records import Host, ToolCall


def test_the_fourteen_tools_are_the_references() -> None:
    assert list(AirlineTools.tools) == [
        "book_reservation",
        "calculate",
        "cancel_reservation",
        "get_reservation_details",
        "get_user_details",
        "list_all_airports",
        "search_direct_flight",
        "search_onestop_flight",
        "send_certificate",
        "transfer_to_human_agents",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
        "get_flight_status",
    ]
    assert {name for name, entry in AirlineTools.tools.items() if entry.schema.effect == "write"} == WRITE_TOOLS
    assert {entry.schema.effect for entry in AirlineTools.tools.values()} == {"read", "write"}
    assert all(entry.inline for entry in AirlineTools.tools.values())


def test_schemas_describe_every_argument_and_require_all() -> None:
    for entry in AirlineTools.tools.values():
        parameters = entry.schema.parameters
        assert entry.schema.description
        assert list(parameters.get("required", [])) == list(parameters["properties"])
    book = AirlineTools.tools["book_reservation"].schema.parameters
    assert set(book["$defs"]) == {"FlightItem", "PassengerItem", "PaymentItem"}
    assert book["properties"]["cabin"]["enum"] == ["business", "economy", "basic_economy"]


def test_texts_have_the_references_field_order_and_separators(desk: AirlineTools) -> None:
    ok, text = desk.execute("get_reservation_details", {"reservation_id": "RES001"})
    assert ok
    assert text.startswith('{"reservation_id": "RES001", "user_id": "ann_lee_1", "origin": "JFK", ')
    assert '"flights": [{"flight_number": "HAT001", "origin": "JFK", "destination": "SFO", "date": ' in text
    assert text.endswith('"total_baggages": 1, "nonfree_baggages": 0, "insurance": "no", "status": null}')
    ok, text = desk.execute("get_user_details", {"user_id": "ann_lee_1"})
    assert list(json.loads(text)) == [
        "user_id",
        "name",
        "address",
        "email",
        "dob",
        "payment_methods",
        "saved_passengers",
        "membership",
        "reservations",
    ]
    assert '"certificate_1": {"source": "certificate", "id": "certificate_1", "amount": 100.0}' in text
    ok, text = desk.execute("list_all_airports", {})
    assert text.startswith('[{"iata": "SFO", "city": "San Francisco"}, ')
    assert len(json.loads(text)) == 20


def test_other_letters_are_escaped_as_the_reference_does(desk: AirlineTools) -> None:
    passengers = [{"first_name": "Zoë", "last_name": "Lee", "dob": "1990-01-01"}] * 2
    ok, text = desk.execute("update_reservation_passengers", {"reservation_id": "RES001", "passengers": passengers})
    assert ok
    assert "Zo\\u00eb" in text


def test_direct_search_shows_flights_for_sale_without_date(desk: AirlineTools) -> None:
    _, text = desk.execute("search_direct_flight", {"origin": "JFK", "destination": "SFO", "date": "2024-05-20"})
    assert [found["flight_number"] for found in json.loads(text)] == ["HAT001", "HAT003"]
    assert text.startswith(
        '[{"flight_number": "HAT001", "origin": "JFK", "destination": "SFO", "status": "available", '
        '"scheduled_departure_time_est": "06:00:00", "scheduled_arrival_time_est": "09:00:00", "date": null, '
        '"available_seats": {"basic_economy": 5, "economy": 5, "business": 5}, "prices": '
    )
    for date in ("2024-05-10", "2024-05-14", "2024-06-01"):
        assert desk.execute("search_direct_flight", {"origin": "JFK", "destination": "SFO", "date": date})[1] == "[]"


def test_onestop_compares_times_as_text_and_takes_the_next_day_after_midnight(desk: AirlineTools) -> None:
    _, text = desk.execute("search_onestop_flight", {"origin": "JFK", "destination": "LAX", "date": "2024-05-20"})
    pairs = [[(leg["flight_number"], leg["date"]) for leg in pair] for pair in json.loads(text)]
    # HAT002 leaves at the minute HAT001 lands. HAT004 leaves at 01:30:00, which as text is before "01:30:00+1".
    assert pairs == [
        [("HAT001", "2024-05-20"), ("HAT002", "2024-05-20")],
        [("HAT003", "2024-05-20"), ("HAT002", "2024-05-21")],
        [("HAT003", "2024-05-20"), ("HAT006", "2024-05-21")],
    ]
    _, text = desk.execute("search_onestop_flight", {"origin": "JFK", "destination": "LAX", "date": "2024-05-30"})
    assert text == "[]", "the day after the last is not in the timetable"


def test_searches_show_seats_taken_in_this_episode_only(
    desk: AirlineTools, small_world: AirlineWorld, booking: dict[str, Any]
) -> None:
    search = {"origin": "JFK", "destination": "SFO", "date": "2024-05-20"}
    untouched = desk.execute("search_direct_flight", search)
    assert desk.execute("book_reservation", booking)[0]
    seats = json.loads(desk.execute("search_direct_flight", search)[1])[0]["available_seats"]
    assert seats == {"basic_economy": 5, "economy": 4, "business": 5}
    assert AirlineTools(small_world).execute("search_direct_flight", search) == untouched


def test_null_airports_stand_for_any(desk: AirlineTools) -> None:
    _, text = desk.execute("search_direct_flight", {"origin": None, "destination": "LAX", "date": "2024-05-21"})
    assert [found["flight_number"] for found in json.loads(text)] == ["HAT002", "HAT004", "HAT006"]
    _, text = desk.execute("search_direct_flight", {"origin": "SFO", "destination": None, "date": "2024-05-25"})
    assert [found["flight_number"] for found in json.loads(text)] == ["HAT005"]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("get_user_details", {"user_id": "nobody"}, "Error: User nobody not found"),
        ("get_user_details", {"user_id": 5}, "Error: User 5 not found"),
        ("get_reservation_details", {"reservation_id": "XXX"}, "Error: Reservation XXX not found"),
        ("get_flight_status", {"flight_number": "HAT9", "date": "2024-05-20"}, "Error: Flight HAT9 not found"),
        (
            "get_flight_status",
            {"flight_number": "HAT001", "date": "2024-06-01"},
            "Error: Flight HAT001 not found on date 2024-06-01",
        ),
        ("book_flight", {}, "Error: Tool 'book_flight' not found."),
        ("calculate", {"expression": "two"}, "Error: Invalid characters in expression"),
        ("calculate", {"expression": "1/0"}, "Error: division by zero"),
    ],
)
def test_errors_are_worded_as_the_reference_words_them(
    desk: AirlineTools, name: str, arguments: dict[str, Any], said: str
) -> None:
    assert desk.execute(name, arguments) == (False, said)
    assert desk.state.touched() == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_user_details", {}),
        ("get_user_details", {"user_id": "ann_lee_1", "verbose": True}),
        ("get_user_details", {"user_id": ["ann_lee_1"]}),
        ("get_flight_status", {"flight_number": {}, "date": "2024-05-20"}),
        ("get_flight_status", {"flight_number": "HAT001", "date": []}),
        ("search_direct_flight", {"origin": "JFK", "destination": "SFO", "date": ["2024-05-20"]}),
        ("cancel_reservation", {"reservation_id": {}}),
        ("calculate", {"expression": None}),
        ("calculate", {"expression": 4}),
        ("calculate", {"expression": ""}),
        ("calculate", {"expression": "2 3"}),
        ("calculate", {"expression": "..."}),
        ("calculate", {"expression": "()"}),
        ("calculate", {"expression": "1(2)"}),
        ("calculate", {"expression": "9**9**9**9"}),
        ("calculate", {"expression": "10**400"}),
        ("calculate", {"expression": "(-8)**.5"}),
        ("calculate", {"expression": "-" * 3000 + "1"}),
        ("calculate", {"expression": "(" * 3000}),
    ],
)
def test_odd_arguments_are_errors_and_never_exceptions(
    desk: AirlineTools, name: str, arguments: dict[str, Any]
) -> None:
    ok, text = desk.execute(name, arguments)
    assert not ok
    assert text.startswith("Error: ")
    assert len(text) > len("Error: ")


def test_a_date_that_cannot_be_looked_up_only_matters_on_a_route_that_exists(desk: AirlineTools) -> None:
    assert desk.execute("search_direct_flight", {"origin": "LAX", "destination": "JFK", "date": []}) == (True, "[]")
    assert desk.execute("search_direct_flight", {"origin": ["JFK"], "destination": "SFO", "date": "2024-05-20"}) == (
        True,
        "[]",
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4.0"),
        ("  1", "1.0"),
        ("(1+2)*3.555", "10.67"),
        ("2**10", "1024.0"),
        ("7//2", "3.0"),
        ("1**99999999", "1.0"),
        ("(-1)**99999999", "-1.0"),
        ("0**99999999", "0.0"),
        ("-2**2", "-4.0"),
        ("--+1", "1.0"),
        ("10**400/10**399", "10.0"),
        ("2**-1", "0.5"),
        ("1.005*1000", "1005.0"),
    ],
)
def test_calculate_rounds_and_gives_a_floats_text(desk: AirlineTools, expression: str, value: str) -> None:
    assert desk.execute("calculate", {"expression": expression}) == (True, value)


def test_statuses_and_transfer_are_bare_words(desk: AirlineTools) -> None:
    for date, status in [("2024-05-10", "landed"), ("2024-05-14", "cancelled"), ("2024-05-20", "available")]:
        assert desk.execute("get_flight_status", {"flight_number": "HAT001", "date": date}) == (True, status)
    assert desk.execute("transfer_to_human_agents", {"summary": "x"}) == (True, "Transfer successful")


def test_the_synchronous_door_records_what_the_event_loops_door_records(
    small_world: AirlineWorld, booking: dict[str, Any]
) -> None:
    calls = [
        ToolCall("get_user_details", {"user_id": "ann_lee_1"}, "1"),
        ToolCall("book_reservation", booking),
        ToolCall("book_reservation", booking | {"cabin": "first"}),
        ToolCall("cancel_reservation", {"reservation": "RES001"}),
        ToolCall("fly", {}),
        ToolCall("cancel_reservation", {"reservation_id": "RES001"}),
    ]
    desk = AirlineTools(small_world)

    async def through_the_loop() -> list[Any]:
        return [await desk.call(call, cast(Host, None)) for call in calls]

    records = run_calls(small_world, calls)
    assert records == asyncio.run(through_the_loop())
    assert [record.error for record in records] == ["", "", "tool", "arguments", "unknown_tool", ""]
    assert records[1].state_before != records[1].state_after == records[2].state_after


def test_run_calls_goes_on_from_a_given_state(small_world: AirlineWorld) -> None:
    state = State(small_world)
    cancel = ToolCall("cancel_reservation", {"reservation_id": "RES002"})
    run_calls(small_world, [cancel], state)
    (again,) = run_calls(small_world, [cancel], state)
    assert len(json.loads(again.output)["payment_history"]) == 4
