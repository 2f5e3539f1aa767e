"""Generated airline worlds, in the shape of the published database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from banty.envs.airline.data import CABINS, TODAY
from banty.records import bucket, generator

AIRPORTS = ("ATL", "BOS", "DEN", "DFW", "JFK", "LAX", "MIA", "ORD", "SEA", "SFO")
FIRST_NAMES = [
    "Mia",
    "Noah",
    "Lena",
    "Omar",
    "Raj",
    "Anya",
    "Ivan",
    "Sofia",
    "Yara",
    "Liam",
    "Emma",
    "Kenji",
    "Aiko",
    "Luca",
    "Nora",
    "Amir",
    "Ella",
    "Juan",
    "Zoe",
    "Mateo",
    "Chen",
    "Fatima",
    "Olga",
    "Tariq",
    "Ines",
    "Pablo",
    "Greta",
    "Hugo",
    "Leila",
    "Marco",
    "Nadia",
    "Oscar",
    "Petra",
    "Quinn",
    "Rosa",
    "Samir",
    "Tessa",
    "Umar",
    "Vera",
    "Wim",
]
LAST_NAMES = [
    "Li",
    "Garcia",
    "Muller",
    "Silva",
    "Kim",
    "Rossi",
    "Khan",
    "Ito",
    "Santos",
    "Brown",
    "Kovacs",
    "Lopez",
    "Nguyen",
    "Patel",
    "Jensen",
    "Moreau",
    "Novak",
    "Okafor",
    "Weber",
    "Yilmaz",
    "Adler",
    "Bianchi",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Gomez",
    "Haddad",
    "Ivanov",
    "Jansen",
]
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_DATES = tuple(f"2024-05-{day:02d}" for day in range(1, 31))
SPLIT_BUCKETS = {"train": range(7), "dev": range(7, 8), "test": range(8, 10)}


def split_of(user_id: str) -> str:
    """The split a customer, and with them their reservations, belongs to in every world.

    Generated reservation ids fall into the same split by themselves, so that no id is seen in two.
    """
    place = bucket(user_id, 10)
    return next(split for split, buckets in SPLIT_BUCKETS.items() if place in buckets)


def make_world(seed: int, num_users: int = 500) -> dict[str, Any]:
    """A world of many customers who share flights; the same seed gives the same bytes."""
    rng = generator(seed, "airline world")
    flights: dict[str, Any] = {}
    routes = [(a, b) for a in AIRPORTS for b in AIRPORTS if a != b]
    for origin, destination in routes:
        for _ in range(2):
            number = f"HAT{len(flights) + 1:03d}"
            flights[number] = _flight(rng, number, origin, destination, _DATES)
    users: dict[str, Any] = {}
    reservations: dict[str, Any] = {}
    by_route: dict[tuple[str, str], list[str]] = {}
    for number, flight in flights.items():
        by_route.setdefault((flight["origin"], flight["destination"]), []).append(number)
    while len(users) < num_users:
        user = _user(rng)
        if user["user_id"] in users:
            continue
        users[user["user_id"]] = user
        for _ in range(int(rng.integers(2, 6))):
            origin, destination = routes[int(rng.integers(len(routes)))]
            legs = [_leg(rng, flights, by_route[origin, destination])]
            round_trip = rng.random() < 0.3
            if round_trip:
                back = [_leg(rng, flights, by_route[destination, origin]) for _ in range(4)]
                later = [leg for leg in back if leg["date"] > legs[0]["date"]]
                round_trip = bool(later)
                legs += later[:1]
            _add_reservation(rng, user, legs, reservations, flights, round_trip)
    return {"flights": flights, "users": users, "reservations": reservations}


def make_small_world(seed: int, split: str) -> dict[str, Any]:
    """A world for one task: one customer of this split, one to three one-way bookings, the flights around them."""
    rng = generator(seed, "airline small world")
    user = _user(rng, cards_only=True)
    while split_of(user["user_id"]) != split:
        user = _user(rng, cards_only=True)
    flights: dict[str, Any] = {}
    reservations: dict[str, Any] = {}
    num_reservations = int(rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25]))
    places = [str(place) for place in rng.permutation(AIRPORTS)]
    for index in range(num_reservations):
        origin, destination = places[2 * index], places[2 * index + 1]
        numbers = []
        for _ in range(int(rng.integers(2, 4))):
            number = f"HAT{int(rng.integers(1, 1000)):03d}"
            while number in flights:
                number = f"HAT{int(rng.integers(1, 1000)):03d}"
            flights[number] = _flight(rng, number, origin, destination, _DATES[15:])
            numbers.append(number)
        leg = _leg(rng, flights, numbers)
        _add_reservation(rng, user, [leg], reservations, flights, round_trip=False, most_passengers=2)
    return {"flights": flights, "users": {user["user_id"]: user}, "reservations": reservations}


def _user(rng: np.random.Generator, cards_only: bool = False) -> dict[str, Any]:
    first, last = _pick(rng, FIRST_NAMES), _pick(rng, LAST_NAMES)
    payments: dict[str, Any] = {}
    for source in ["credit_card"] if cards_only else ["credit_card", "gift_card", "certificate"]:
        if source != "credit_card" and rng.random() < 0.4:
            continue
        key = (
            f"{source}_{int(rng.integers(1_000_000, 9_999_999))}" if not cards_only else f"card_{rng.integers(10, 99)}"
        )
        payments[key] = {"source": source, "id": key}
        if source == "credit_card":
            payments[key] |= {"brand": _pick(rng, ("visa", "mastercard")), "last_four": f"{rng.integers(1000, 9999)}"}
        else:
            payments[key]["amount"] = float(rng.integers(1, 6) * 100)
    dob = f"{rng.integers(1950, 2004)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    return {
        "user_id": f"{first}_{last}_{rng.integers(1000, 9999)}".lower(),
        "name": {"first_name": first, "last_name": last},
        "address": {
            "address1": f"{rng.integers(1, 999)} Park Avenue",
            "address2": "Suite 1",
            "city": "Denver",
            "country": "USA",
            "state": "CO",
            "zip": f"{rng.integers(10000, 99999)}",
        },
        "email": f"{first}.{last}{rng.integers(10, 99)}@example.com".lower(),
        "dob": dob,
        "payment_methods": payments,
        "saved_passengers": [],
        "membership": _pick(rng, ("regular", "silver", "gold")),
        "reservations": [],
    }


def _flight(
    rng: np.random.Generator, number: str, origin: str, destination: str, dates: Sequence[str]
) -> dict[str, Any]:
    departure = int(rng.integers(5, 20))
    times = {"scheduled_departure_time_est": f"{departure:02d}:00:00"}
    times["scheduled_arrival_time_est"] = f"{departure + 3:02d}:30:00"
    return {
        "flight_number": number,
        "origin": origin,
        "destination": destination,
        **times,
        "dates": {date: _cell(rng, date, times) for date in dates},
    }


def _cell(rng: np.random.Generator, date: str, times: dict[str, str]) -> dict[str, Any]:
    if date <= TODAY:
        if date < TODAY and rng.random() < 0.12:
            return {"status": "cancelled"}
        return {
            "status": "landed",
            "actual_departure_time_est": f"{date}T{times['scheduled_departure_time_est']}",
            "actual_arrival_time_est": f"{date}T{times['scheduled_arrival_time_est']}",
        }
    low = {"basic_economy": 50, "economy": 100, "business": 200}
    high = {"basic_economy": 100, "economy": 200, "business": 500}
    return {
        "status": "available",
        # Sold out or enough for any party: the compact view shows which cabins have seats, not how many.
        "available_seats": {cabin: 0 if rng.random() < 0.15 else int(rng.integers(5, 21)) for cabin in CABINS},
        "prices": {cabin: int(rng.integers(low[cabin], high[cabin] + 1)) for cabin in CABINS},
    }


def _leg(rng: np.random.Generator, flights: dict[str, Any], numbers: Sequence[str]) -> dict[str, Any]:
    number = _pick(rng, numbers)
    flight = flights[number]
    date = _pick(rng, [date for date in flight["dates"] if date != TODAY])
    price = flight["dates"][date].get("prices")
    return {
        "flight_number": number,
        "date": date,
        "origin": flight["origin"],
        "destination": flight["destination"],
        "prices": price or dict.fromkeys(CABINS, 150),
    }


def _add_reservation(
    rng: np.random.Generator,
    user: dict[str, Any],
    legs: list[dict[str, Any]],
    reservations: dict[str, Any],
    flights: dict[str, Any],
    round_trip: bool,
    most_passengers: int = 3,
) -> None:
    key = _reservation_id(rng)
    while key in reservations or split_of(key) != split_of(user["user_id"]):
        key = _reservation_id(rng)
    cabin = str(rng.choice(CABINS, p=[0.3, 0.45, 0.25]))
    passengers = [
        {"first_name": user["name"]["first_name"], "last_name": user["name"]["last_name"], "dob": user["dob"]}
    ]
    for _ in range(int(rng.integers(0, most_passengers))):
        born = f"{rng.integers(1950, 2004)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        name = {"first_name": _pick(rng, FIRST_NAMES), "last_name": _pick(rng, LAST_NAMES)}
        passengers.append({**name, "dob": born})
    insured = rng.random() < 0.4
    first_day = min(leg["date"] for leg in legs)
    # A booking made in the last 24 hours can only be for a flight that has not left.
    recent = first_day > TODAY and rng.random() < 0.2
    created = f"2024-05-15T{rng.integers(1, 15):02d}:{rng.integers(0, 60):02d}:00"
    if not recent:
        created = f"2024-04-{rng.integers(10, 31):02d}T{rng.integers(1, 24):02d}:{rng.integers(0, 60):02d}:00"
    price = sum(leg["prices"][cabin] for leg in legs) * len(passengers) + (30 * len(passengers) if insured else 0)
    payment = next(key for key, method in user["payment_methods"].items() if method["source"] == "credit_card")
    reservations[key] = {
        "reservation_id": key,
        "user_id": user["user_id"],
        "origin": legs[0]["origin"],
        "destination": legs[0]["destination"],
        "flight_type": "round_trip" if round_trip else "one_way",
        "cabin": cabin,
        "flights": [
            {
                "origin": leg["origin"],
                "destination": leg["destination"],
                "flight_number": leg["flight_number"],
                "date": leg["date"],
                "price": leg["prices"][cabin],
            }
            for leg in legs
        ],
        "passengers": passengers,
        "payment_history": [{"payment_id": payment, "amount": price}],
        "created_at": created,
        "total_baggages": int(rng.integers(0, 3)),
        "nonfree_baggages": 0,
        "insurance": "yes" if insured else "no",
    }
    user["reservations"].append(key)


def _reservation_id(rng: np.random.Generator) -> str:
    # At least one letter and one digit, so that a code is never taken for a word or an amount.
    while True:
        key = "".join(_LETTERS[int(place)] for place in rng.integers(len(_LETTERS), size=6))
        if any(letter.isdigit() for letter in key) and any(letter.isalpha() for letter in key):
            return key


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
