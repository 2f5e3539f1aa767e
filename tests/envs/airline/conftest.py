"""A handmade airline for every trap of the specification, and tau2-bench's own data where it is at hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tests.published_data import PLACE

from banty.envs.airline.data import AirlineWorld, airline_folder, load_world
from banty.envs.airline.tasks import GeneratedTasks
from banty.envs.airline.tau2tasks import Tau2Tasks, load_tasks
from banty.envs.airline.tools import AirlineTools
from banty.errors import InputError


def sale(business: int = 300, economy: int = 100, basic_economy: int = 50, seats: int = 5) -> dict[str, Any]:
    cabins = {"basic_economy": basic_economy, "economy": economy, "business": business}
    return {"status": "available", "available_seats": dict.fromkeys(cabins, seats), "prices": cabins}


def flight(number: str, route: str, departs: str, arrives: str, dates: dict[str, Any]) -> dict[str, Any]:
    origin, destination = route.split("-")
    # The field order of db.json, which is not the order the agent reads.
    return {
        "origin": origin,
        "destination": destination,
        "flight_number": number,
        "scheduled_departure_time_est": departs,
        "scheduled_arrival_time_est": arrives,
        "dates": dates,
    }


def user(user_id: str, methods: list[dict[str, Any]], reservations: list[str]) -> dict[str, Any]:
    first, last, _ = user_id.split("_")
    return {
        "user_id": user_id,
        "name": {"first_name": first.title(), "last_name": last.title()},
        "address": {
            "address1": "1 Elm St",
            "address2": "Flat 2",
            "city": "Reno",
            "country": "USA",
            "state": "NV",
            "zip": "1",
        },
        "email": f"{user_id}@example.com",
        "dob": "1990-01-01",
        "payment_methods": {method["id"]: method for method in methods},
        "saved_passengers": [{"first_name": "Bo", "last_name": "Ray", "dob": "1980-02-02"}],
        "membership": "gold",
        "reservations": reservations,
    }


def reservation(key: str, legs: list[tuple[str, str, int]], passengers: int = 1) -> dict[str, Any]:
    routes = {"HAT001": ("JFK", "SFO"), "HAT002": ("SFO", "LAX"), "HAT005": ("SFO", "JFK")}
    return {
        "reservation_id": key,
        "user_id": "ann_lee_1",
        "origin": "JFK",
        "destination": "SFO",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [
            {
                "origin": routes[number][0],
                "destination": routes[number][1],
                "flight_number": number,
                "date": date,
                "price": price,
            }
            for number, date, price in legs
        ],
        "passengers": [
            {"first_name": f"P{index}", "last_name": "Lee", "dob": "1991-03-03"} for index in range(passengers)
        ],
        "payment_history": [{"payment_id": "card_1", "amount": sum(leg[2] for leg in legs) * passengers}],
        "created_at": "2024-05-01T10:00:00",
        "total_baggages": 1,
        "nonfree_baggages": 0,
        "insurance": "no",
    }


DB: dict[str, Any] = {
    "flights": {
        each["flight_number"]: each
        for each in [
            flight(
                "HAT001",
                "JFK-SFO",
                "06:00:00",
                "09:00:00",
                {
                    "2024-05-10": {
                        "status": "landed",
                        "actual_departure_time_est": "2024-05-10T06:00:00",
                        "actual_arrival_time_est": "2024-05-10T09:00:00",
                    },
                    "2024-05-14": {"status": "cancelled"},
                    "2024-05-20": sale(),
                    "2024-05-21": sale(seats=1),
                },
            ),
            flight("HAT002", "SFO-LAX", "09:00:00", "10:00:00", {"2024-05-20": sale(), "2024-05-21": sale()}),
            flight("HAT003", "JFK-SFO", "22:00:00", "01:30:00+1", {"2024-05-20": sale(), "2024-05-30": sale()}),
            flight("HAT004", "SFO-LAX", "01:30:00", "03:00:00", {"2024-05-21": sale()}),
            flight("HAT005", "SFO-JFK", "12:00:00", "15:00:00", {"2024-05-25": sale(economy=150)}),
            flight("HAT006", "SFO-LAX", "23:30:00", "00:30:00+1", {"2024-05-21": sale()}),
        ]
    },
    "users": {
        "ann_lee_1": user(
            "ann_lee_1",
            [
                {"source": "credit_card", "id": "card_1", "brand": "visa", "last_four": "1111"},
                {"source": "gift_card", "id": "gift_1", "amount": 120.0},
                {"source": "certificate", "id": "certificate_1", "amount": 100},
            ],
            ["RES001", "RES002"],
        ),
        "bob_ray_2": user("bob_ray_2", [], []),
    },
    "reservations": {
        "RES001": reservation("RES001", [("HAT001", "2024-05-20", 80)], passengers=2),
        "RES002": reservation("RES002", [("HAT001", "2024-05-10", 90), ("HAT005", "2024-05-25", 95)]),
    },
}


@pytest.fixture
def small_db() -> dict[str, Any]:
    return copy.deepcopy(DB)


@pytest.fixture(scope="session")
def small_world() -> AirlineWorld:
    return AirlineWorld.from_json(DB, "small")


@pytest.fixture
def desk(small_world: AirlineWorld) -> AirlineTools:
    return AirlineTools(small_world)


@pytest.fixture
def booking() -> dict[str, Any]:
    """Arguments of a booking that succeeds: one passenger, economy, 100 dollars, by card."""
    return {
        "user_id": "ann_lee_1",
        "origin": "JFK",
        "destination": "SFO",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [{"flight_number": "HAT001", "date": "2024-05-20"}],
        "passengers": [{"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}],
        "payment_methods": [{"payment_id": "card_1", "amount": 100}],
        "total_baggages": 0,
        "nonfree_baggages": 0,
        "insurance": "no",
    }


@pytest.fixture(scope="session")
def tau2_folder() -> Path:
    """The folder with tau2-bench's db.json and tasks.json."""
    try:
        return airline_folder(PLACE)
    except InputError as missing:
        pytest.skip(f"tau2-bench's airline data is not at hand (set BANTY_TAU2_DATA): {missing}")


@pytest.fixture(scope="session")
def tau2_world(tau2_folder: Path) -> AirlineWorld:
    return load_world(tau2_folder)


@pytest.fixture(scope="session")
def tau2_tasks(tau2_folder: Path) -> Tau2Tasks:
    return load_tasks(tau2_folder)


@pytest.fixture(scope="session")
def verified_tasks(tau2_folder: Path) -> Tau2Tasks:
    file = tau2_folder / "tasks_amazon_verified.json"
    if not file.is_file():
        pytest.skip(f"the verified fork's tasks are not at hand: no {file}")
    return load_tasks(file)


@pytest.fixture(scope="session")
def mini_tasks() -> GeneratedTasks:
    return GeneratedTasks("mini")


@pytest.fixture(scope="session")
def full_tasks() -> GeneratedTasks:
    return GeneratedTasks("full")


@pytest.fixture(scope="session")
def real_tasks(tau2_folder: Path) -> GeneratedTasks:
    return GeneratedTasks("full", data=tau2_folder)


@pytest.fixture(scope="session", params=["mini", "full", "real"])
def taskset(request: pytest.FixtureRequest) -> GeneratedTasks:
    """Generated tasks over small worlds, over a generated world, and over tau2-bench's database."""
    tasks: GeneratedTasks = request.getfixturevalue(f"{request.param}_tasks")
    return tasks
