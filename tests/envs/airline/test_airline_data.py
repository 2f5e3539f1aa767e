from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from banty.envs.airline.data import AIRPORTS, AirlineWorld, airline_folder, load_world, to_json
from banty.envs.airline.tools import AirlineTools
from banty.envs.state import State
from banty.errors import InputError


def test_the_worlds_counts_are_the_published_ones(tau2_world: AirlineWorld) -> None:
    tables = tau2_world.tables
    flights, users, reservations = tables["flights"], tables["users"], tables["reservations"]
    assert (len(flights), len(users), len(reservations), len(tables["cells"])) == (300, 500, 2000, 9000)
    assert {flight["origin"] for flight in flights.values()} == set(AIRPORTS)
    assert len({(flight["origin"], flight["destination"]) for flight in flights.values()}) == 108
    assert sum("+1" in flight["scheduled_arrival_time_est"] for flight in flights.values()) == 36
    assert Counter(cell["status"] for cell in tables["cells"].values()) == {
        "available": 4500,
        "landed": 3981,
        "cancelled": 373,
        "on time": 57,
        "flying": 47,
        "delayed": 42,
    }
    assert Counter(user["membership"] for user in users.values()) == {"silver": 182, "gold": 175, "regular": 143}
    methods = [method for user in users.values() for method in user["payment_methods"].values()]
    assert Counter(method["source"] for method in methods) == {
        "gift_card": 516,
        "credit_card": 503,
        "certificate": 467,
    }
    assert all(isinstance(method.get("amount", 0.0), float) for method in methods)
    assert sum(each["origin"] == each["destination"] for each in reservations.values()) == 68
    assert {each["status"] for each in reservations.values()} == {None}
    assert all(reservation in reservations for user in users.values() for reservation in user["reservations"])


def test_every_route_and_date_is_indexed_as_a_scan_finds_it(tau2_world: AirlineWorld) -> None:
    flights, cells = tau2_world.tables["flights"], tau2_world.tables["cells"]
    for date in ("2024-05-15", "2024-05-16", "2024-05-30", "2024-05-31"):
        for origin in AIRPORTS:
            leaving = [
                (number, date)
                for number, flight in flights.items()
                if flight["origin"] == origin and cells.get(f"{number}|{date}", {}).get("status") == "available"
            ]
            assert list(tau2_world.departures(origin, None, date)) == leaving
            for destination in AIRPORTS:
                direct = [place for place in leaving if flights[place[0]]["destination"] == destination]
                assert list(tau2_world.departures(origin, destination, date)) == direct


def test_records_are_typed_in_the_order_the_agent_reads(small_db: dict[str, Any]) -> None:
    small_db["reservations"]["RES001"]["total_baggages"] = "2"
    small_db["reservations"]["RES001"]["note"] = "dropped"
    del small_db["users"]["ann_lee_1"]["address"]["address2"]
    world = AirlineWorld.from_json(small_db, "typed")
    reservation = world.tables["reservations"]["RES001"]
    assert list(reservation)[-2:] == ["insurance", "status"]
    assert reservation["status"] is None
    assert reservation["total_baggages"] == 2
    assert "note" not in reservation
    assert list(reservation["flights"][0]) == ["flight_number", "origin", "destination", "date", "price"]
    user = world.tables["users"]["ann_lee_1"]
    assert list(user["address"]) == ["address1", "address2", "city", "country", "state", "zip"]
    assert repr(user["payment_methods"]["certificate_1"]["amount"]) == "100.0"


def test_a_world_does_not_follow_changes_of_what_it_was_made_from(small_db: dict[str, Any]) -> None:
    world = AirlineWorld.from_json(small_db, "apart")
    small_db["flights"]["HAT001"]["dates"]["2024-05-20"]["prices"]["economy"] = 1
    small_db["reservations"].clear()
    assert world.tables["cells"]["HAT001|2024-05-20"]["prices"]["economy"] == 100
    assert "RES001" in world.tables["reservations"]


def test_to_json_gives_the_database_back_with_the_episodes_changes(small_world: AirlineWorld) -> None:
    desk = AirlineTools(small_world)
    assert desk.execute("send_certificate", {"user_id": "bob_ray_2", "amount": 50})[0]
    exported = to_json(desk.state)
    again = AirlineWorld.from_json(json.loads(json.dumps(exported)), "again")
    assert to_json(State(again)) == exported
    assert exported["users"]["bob_ray_2"]["payment_methods"]["certificate_3221322"]["amount"] == 50.0
    assert small_world.tables["users"]["bob_ray_2"]["payment_methods"] == {}
    assert list(exported["flights"]["HAT001"]["dates"]) == ["2024-05-10", "2024-05-14", "2024-05-20", "2024-05-21"]


def _retail(db: dict[str, Any]) -> Any:
    return {"products": {}, "users": db["users"], "orders": {}}


def _no_cabin(db: dict[str, Any]) -> Any:
    del db["reservations"]["RES002"]["cabin"]
    return db


def _odd_status(db: dict[str, Any]) -> Any:
    db["flights"]["HAT002"]["dates"]["2024-05-20"]["status"] = "boarding"
    return db


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_retail, "needs the objects flights, users and reservations, and holds orders, products, users"),
        (lambda db: [], "holds a list"),
        (lambda db: {}, "holds nothing"),
        (_no_cabin, "reservations.RES002.cabin: Field required"),
        (_odd_status, "flights.HAT002.dates.2024-05-20"),
    ],
)
def test_what_is_not_an_airline_database_is_refused_by_name(
    small_db: dict[str, Any], damage: Callable[[dict[str, Any]], Any], said: str
) -> None:
    with pytest.raises(InputError, match="airline") as refused:
        AirlineWorld.from_json(damage(small_db), "bad")
    assert said in str(refused.value)


@pytest.mark.parametrize("inside", ["", "tau2/domains/airline", "data/tau2/domains/airline"])
def test_a_world_loads_from_file_folder_data_folder_and_checkout(
    tmp_path: Path, small_db: dict[str, Any], inside: str
) -> None:
    folder = tmp_path / inside
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "db.json").write_text(json.dumps(small_db))
    world = load_world(tmp_path)
    assert len(world.tables["reservations"]) == 2
    assert load_world(folder / "db.json") is world, "parsed once per process"
    assert airline_folder(tmp_path) == folder


def test_a_changed_file_is_read_again(tmp_path: Path, small_db: dict[str, Any]) -> None:
    file = tmp_path / "db.json"
    file.write_text(json.dumps(small_db))
    first = load_world(file)
    del small_db["reservations"]["RES002"]
    file.write_text(json.dumps(small_db))
    second = load_world(file)
    assert "RES002" not in second.tables["reservations"]
    assert first.tag != second.tag
    os.utime(file, ns=(1, 1))
    assert load_world(file) is not second
    assert load_world(file).tag == second.tag


def test_missing_and_cut_off_files_are_named(tmp_path: Path, small_db: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"no airline db\.json in .*looked in"):
        load_world(tmp_path)
    file = tmp_path / "db.json"
    file.write_text(json.dumps(small_db)[:-200])
    with pytest.raises(InputError, match=r"db\.json is not whole JSON .*cut off"):
        load_world(file)
    file.write_text("[]")
    with pytest.raises(InputError, match=r"db\.json: this is not an airline database"):
        load_world(file)


def test_states_of_one_world_do_not_see_each_other(small_world: AirlineWorld, booking: dict[str, Any]) -> None:
    before = copy.deepcopy(small_world.tables)
    desk = AirlineTools(small_world)
    assert desk.execute("book_reservation", booking)[0]
    assert desk.execute("cancel_reservation", {"reservation_id": "RES001"})[0]
    assert small_world.tables == before
    assert AirlineTools(small_world).execute("get_reservation_details", {"reservation_id": "HATHAT"})[0] is False
