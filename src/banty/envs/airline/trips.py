"""A reservation as a reader of tool results knows it, and the compact view that `airline/mini` shows.

Written and read here side by side, so that what the view says and what a reader takes from it cannot drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leg:
    number: str
    date: str
    price: int
    origin: str = ""
    destination: str = ""


@dataclass(frozen=True)
class Trip:
    """The facts of a reservation that decisions rest on. `paid` is the sum of its payment history."""

    id: str
    cabin: str
    legs: tuple[Leg, ...]
    origin: str
    destination: str
    num_passengers: int
    bags: int
    insured: bool
    booked_on: str
    paid: int
    payment_id: str
    cancelled: bool = False
    passengers: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Profile:
    """The facts of a customer that decisions rest on."""

    user_id: str
    membership: str
    reservations: tuple[str, ...]
    payment_ids: tuple[str, ...]
    first_name: str = ""
    last_name: str = ""
    dob: str = ""


@dataclass(frozen=True)
class Offer:
    """A direct flight that can be booked: price and seats of each cabin."""

    number: str
    prices: Mapping[str, int]
    seats: Mapping[str, int]


def trip_of(record: Mapping[str, Any]) -> Trip:
    """The facts of a reservation record, or of the JSON that `get_reservation_details` gives."""
    history = record["payment_history"]
    return Trip(
        id=record["reservation_id"],
        cabin=record["cabin"],
        legs=tuple(
            Leg(leg["flight_number"], leg["date"], int(leg["price"]), leg["origin"], leg["destination"])
            for leg in record["flights"]
        ),
        origin=record["origin"],
        destination=record["destination"],
        num_passengers=len(record["passengers"]),
        bags=int(record["total_baggages"]),
        insured=record["insurance"] == "yes",
        booked_on=record["created_at"],
        paid=sum(int(entry["amount"]) for entry in history),
        payment_id=history[0]["payment_id"] if history else "",
        cancelled=record.get("status") == "cancelled",
        passengers=tuple(record["passengers"]),
    )


def profile_of(record: Mapping[str, Any]) -> Profile:
    """The facts of a user record, or of the JSON that `get_user_details` gives."""
    return Profile(
        user_id=record["user_id"],
        membership=record["membership"],
        reservations=tuple(record["reservations"]),
        payment_ids=tuple(record["payment_methods"]),
        first_name=record["name"]["first_name"],
        last_name=record["name"]["last_name"],
        dob=record["dob"],
    )


def offers_of(flights: Sequence[Mapping[str, Any]]) -> tuple[Offer, ...]:
    """The offers in the JSON that `search_direct_flight` gives."""
    return tuple(Offer(flight["flight_number"], flight["prices"], flight["available_seats"]) for flight in flights)


def compact(name: str, result: Any) -> str | None:
    """The compact text of a tool's result (as decoded JSON), or None where the full text is short already."""
    if name == "get_user_details":
        profile = profile_of(result)
        reservations, payments = (", ".join(listed) or "none" for listed in (profile.reservations, profile.payment_ids))
        return f"{profile.user_id} {profile.membership}; reservations {reservations}; pays by {payments}"
    if name == "search_direct_flight":
        lines = [f"{offer.number} {_prices(offer)}" for offer in offers_of(result)]
        return "; ".join(lines) or "no flights"
    if isinstance(result, Mapping) and "reservation_id" in result:
        trip = trip_of(result)
        if name != "get_reservation_details":
            return "ok"
        legs = ", ".join(f"{leg.number} {leg.date} ${leg.price}" for leg in trip.legs)
        return (
            f"{trip.id} {trip.cabin} {trip.origin}-{trip.destination} {legs}; passengers {trip.num_passengers}; "
            f"bags {trip.bags}; insurance {'yes' if trip.insured else 'no'}; booked {trip.booked_on[:10]}; "
            f"paid ${trip.paid} by {trip.payment_id}{'; cancelled' if trip.cancelled else ''}"
        )
    return None


def _prices(offer: Offer) -> str:
    return ", ".join(f"{cabin} ${price}" for cabin, price in offer.prices.items() if offer.seats[cabin] > 0)


_TRIP = re.compile(
    r"(?P<id>[A-Z0-9]{6}) (?P<cabin>\w+) (?P<origin>[A-Z]{3})-(?P<destination>[A-Z]{3}) (?P<legs>[^;]*); "
    r"passengers (?P<passengers>\d+); bags (?P<bags>\d+); insurance (?P<insurance>yes|no); booked (?P<booked>[\d-]+); "
    r"paid \$(?P<paid>-?\d+) by (?P<payment>\w*)(?P<cancelled>; cancelled)?"
)
_LEG = re.compile(r"(HAT\d+) ([\d-]{10}) \$(\d+)")
_PROFILE = re.compile(r"(\w+) (regular|silver|gold); reservations (.*); pays by (.*)")


def read_trip(text: str) -> Trip | None:
    """The trip in a result of `get_reservation_details`, in either view; None when it is something else."""
    if text.startswith("{"):
        trip: Trip | None = _decoded(text, trip_of)
        return trip
    match = _TRIP.fullmatch(text)
    if match is None:
        return None
    legs = tuple(Leg(number, date, int(price)) for number, date, price in _LEG.findall(match["legs"]))
    return Trip(
        id=match["id"],
        cabin=match["cabin"],
        legs=legs,
        origin=match["origin"],
        destination=match["destination"],
        num_passengers=int(match["passengers"]),
        bags=int(match["bags"]),
        insured=match["insurance"] == "yes",
        booked_on=match["booked"],
        paid=int(match["paid"]),
        payment_id=match["payment"],
        cancelled=match["cancelled"] is not None,
    )


def read_profile(text: str) -> Profile | None:
    """The profile in a result of `get_user_details`, in either view."""
    if text.startswith("{"):
        profile: Profile | None = _decoded(text, profile_of)
        return profile
    match = _PROFILE.fullmatch(text)
    if match is None:
        return None
    reservations, payments = (() if listed == "none" else tuple(listed.split(", ")) for listed in (match[3], match[4]))
    return Profile(match[1], match[2], reservations, payments)


def read_offers(text: str) -> tuple[Offer, ...]:
    """The offers in a result of `search_direct_flight`, in either view. The compact view lists cabins with seats."""
    if text.startswith("["):
        return _decoded(text, offers_of) or ()
    offers = []
    for line in text.split("; "):
        number, _, listed = line.partition(" ")
        prices = {cabin: int(price) for cabin, price in re.findall(r"(\w+) \$(\d+)", listed)}
        if number.startswith("HAT"):
            offers.append(Offer(number, prices, dict.fromkeys(prices, 9)))
    return tuple(offers)


def _decoded(text: str, read: Any) -> Any:
    try:
        return read(json.loads(text))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
