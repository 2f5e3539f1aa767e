"""Making requests a customer could have of a given reservation, each with its right ending.

`make_request` answers None where a reservation cannot carry the wanted request; callers try another one. What is right
comes from `rules`, never from running an agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from banty.envs.airline import rules
from banty.envs.airline.data import TODAY, AirlineWorld, cell_key
from banty.envs.airline.scenario import Intent, Request, Slot
from banty.envs.airline.trips import Offer, Profile, Trip, profile_of, trip_of
from banty.records import ToolCall

Right = Literal["do", "refuse", "transfer"]
Plan = tuple[Intent, Right]

TOPICS = ("pet", "lost", "miles", "meal")
_LAST_DAY = 30


@dataclass(frozen=True)
class Subject:
    """The customer and reservation a request is about, in the world it is about."""

    world: AirlineWorld
    profile: Profile
    trip: Trip
    asks_payment: bool

    @classmethod
    def of(cls, world: AirlineWorld, reservation_id: str, asks_payment: bool) -> Subject:
        record = world.tables["reservations"][reservation_id]
        user = world.tables["users"][record["user_id"]]
        return cls(world, profile_of(user), trip_of(record), asks_payment)

    def offers(self, origin: str, destination: str, date: str) -> list[Offer]:
        """What is for sale on a direct route on a date."""
        cells = self.world.tables["cells"]
        found = []
        for number, _ in self.world.departures(origin, destination, date):
            cell = cells[cell_key(number, date)]
            found.append(Offer(number, cell["prices"], cell["available_seats"]))
        return found

    def funds(self, payment_id: str) -> float:
        """What a payment method can pay for an update; certificates pay for none."""
        method = self.world.tables["users"][self.profile.user_id]["payment_methods"][payment_id]
        funds = {"credit_card": float("inf"), "gift_card": float(method.get("amount", 0.0))}
        return funds.get(method["source"], -1.0)

    def payment(self, rng: np.random.Generator, amount: float) -> str | None:
        """A method of the customer's that can pay `amount`; without a choice to make, the one used before."""
        able = [key for key in self.profile.payment_ids if self.funds(key) >= max(amount, 0)]
        if not self.asks_payment:
            return self.trip.payment_id if self.trip.payment_id in able else None
        return str(rng.choice(able)) if able else None

    @property
    def changeable(self) -> bool:
        """Upcoming, not cancelled, and one direct leg: what a change of date is made for."""
        trip = self.trip
        return len(trip.legs) == 1 and not trip.cancelled and trip.legs[0].date > TODAY

    @property
    def airline_cancelled_a_leg(self) -> bool:
        cells = self.world.tables["cells"]
        places = [cell_key(leg.number, leg.date) for leg in self.trip.legs]
        return any(cells.get(place, {}).get("status") == "cancelled" for place in places)

    def only_trip_to_destination(self) -> bool:
        trips = [trip_of(self.world.tables["reservations"][key]) for key in self.profile.reservations]
        return [trip.destination for trip in trips].count(self.trip.destination) == 1


def make_request(plan: Plan, subject: Subject, rng: np.random.Generator) -> Request | None:
    """The request `plan` names, about this reservation, or None where it cannot be made of it."""
    intent, right = plan
    if intent != "out_of_scope" and subject.trip.cancelled:
        return None
    if subject.trip.id.isalpha() or subject.trip.id.isdigit():
        return None  # a code of letters or digits alone could be taken for a word or an amount
    if any(leg.date == TODAY for leg in subject.trip.legs):
        return None  # whether today's flight has left is a matter of its status, which no request should hinge on
    if intent != "compensation" and subject.airline_cancelled_a_leg:
        return None  # such a leg was not flown, whatever its date, and may be cancelled whatever the fare
    return _MAKERS[intent](right, subject, rng)


def _cancel(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    reason = str(rng.choice(["change_of_plan", "health", "weather"]))
    if rules.may_cancel(subject.trip, reason).verdict != right:
        return None
    writes = (ToolCall("cancel_reservation", {"reservation_id": subject.trip.id}),) if right == "do" else ()
    return _about("cancel", right, subject, rng, {"reason": reason}, writes)


def _change_date(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip = subject.trip
    if not subject.changeable or rules.may_change_flights(trip).verdict != right:
        return None
    date = f"2024-05-{rng.integers(16, _LAST_DAY + 1):02d}"
    if date == trip.legs[0].date:
        return None
    if right == "refuse":
        return _about("change_date", right, subject, rng, {"date": date})
    offers = [
        offer
        for offer in subject.offers(trip.origin, trip.destination, date)
        if offer.seats[trip.cabin] >= trip.num_passengers
    ]
    prices = sorted(offer.prices[trip.cabin] for offer in offers)
    if not prices or prices[:2].count(prices[0]) > 1:
        return None
    best = min(offers, key=lambda offer: offer.prices[trip.cabin])
    payment = subject.payment(rng, (prices[0] - trip.legs[0].price) * trip.num_passengers)
    if payment is None:
        return None
    flights = [{"flight_number": best.number, "date": date}]
    return _about("change_date", right, subject, rng, {"date": date}, (_update(trip, trip.cabin, flights, payment),))


def _change_cabin(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip = subject.trip
    if rules.may_change_cabin(trip).verdict != right:
        return None
    cabin = str(rng.choice([cabin for cabin in rules.FREE_BAGS["gold"] if cabin != trip.cabin]))
    if right == "refuse":
        return _about("change_cabin", right, subject, rng, {"cabin": _spoken(cabin)})
    cells = [subject.world.tables["cells"].get(cell_key(leg.number, leg.date), {}) for leg in trip.legs]
    if any(cell.get("status") != "available" or cell["available_seats"][cabin] < trip.num_passengers for cell in cells):
        return None
    old = sum(leg.price for leg in trip.legs)
    payment = subject.payment(rng, (sum(cell["prices"][cabin] for cell in cells) - old) * trip.num_passengers)
    if payment is None:
        return None
    flights = [{"flight_number": leg.number, "date": leg.date} for leg in trip.legs]
    writes = (_update(trip, cabin, flights, payment),)
    return _about("change_cabin", right, subject, rng, {"cabin": _spoken(cabin)}, writes)


def _add_bags(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip, membership = subject.trip, subject.profile.membership
    if right != "do" or rules.flown(trip) or rules.paid_bags(trip, membership, trip.bags) > 0:
        return None
    total = trip.bags + int(rng.integers(1, 4))
    paid = rules.paid_bags(trip, membership, total)
    payment = subject.payment(rng, rules.BAG_PRICE * paid)
    if payment is None:
        return None
    arguments = {
        "reservation_id": trip.id,
        "total_baggages": total,
        "nonfree_baggages": paid,
        "payment_id": payment,
    }
    call = ToolCall("update_reservation_baggages", arguments)
    return _about("add_bags", right, subject, rng, {"bags": str(total)}, (call,))


def _remove_bags(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    if right != "refuse" or subject.trip.bags < 1:
        return None
    return _about("remove_bags", right, subject, rng)


def _total_paid(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    if right != "do" or subject.trip.paid <= 0:
        return None
    return _about("total_paid", right, subject, rng, tells=(str(subject.trip.paid),))


def _rename_passenger(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip = subject.trip
    if right != "do" or trip.num_passengers != 1:
        return None
    old = trip.passengers[0]
    first = old["first_name"][:-1] + ("e" if old["first_name"][-1] != "e" else "a")
    passenger = {"first_name": first, "last_name": old["last_name"], "dob": old["dob"]}
    arguments = {"reservation_id": trip.id, "passengers": [passenger]}
    call = ToolCall("update_reservation_passengers", arguments)
    return _about("rename_passenger", right, subject, rng, {"passenger": f"{first} {old['last_name']}"}, (call,))


def _add_passenger(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    return _about("add_passenger", right, subject, rng) if right == "refuse" else None


def _add_insurance(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    if right != "refuse" or subject.trip.insured:
        return None
    return _about("add_insurance", right, subject, rng)


def _book(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip, profile = subject.trip, subject.profile
    if right != "do" or trip.origin == trip.destination:
        return None
    date = f"2024-05-{rng.integers(16, _LAST_DAY + 1):02d}"
    cabin = str(rng.choice(list(rules.FREE_BAGS["gold"])))
    offers = [offer for offer in subject.offers(trip.origin, trip.destination, date) if offer.seats[cabin] > 0]
    prices = sorted(offer.prices[cabin] for offer in offers)
    cards = [key for key in profile.payment_ids if subject.funds(key) >= (prices or [0])[0]]
    if not prices or prices[:2].count(prices[0]) > 1 or not cards:
        return None
    best = min(offers, key=lambda offer: offer.prices[cabin])
    payment = str(rng.choice(cards))
    says: dict[Slot, str] = {
        "user_id": profile.user_id,
        "route": f"{trip.origin} to {trip.destination}",
        "date": date,
        "cabin": _spoken(cabin),
        "payment": payment,
    }
    arguments = {
        "user_id": profile.user_id,
        "origin": trip.origin,
        "destination": trip.destination,
        "flight_type": "one_way",
        "cabin": cabin,
        "flights": [{"flight_number": best.number, "date": date}],
        "passengers": [{"first_name": profile.first_name, "last_name": profile.last_name, "dob": profile.dob}],
        "payment_methods": [{"payment_id": payment, "amount": prices[0]}],
        "total_baggages": 0,
        "nonfree_baggages": 0,
        "insurance": "no",
    }
    call = ToolCall("book_reservation", arguments)
    volunteered = _volunteered(says, rng)
    return Request("book", right, says=says, volunteered=volunteered, insists=_insists(rng), writes=(call,))


def _compensation(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    trip, profile = subject.trip, subject.profile
    if not subject.airline_cancelled_a_leg:
        return None
    ruling, amount = rules.compensation(trip, profile, cancelled_leg=True)
    if ruling.verdict != right:
        return None
    call = ToolCall("send_certificate", {"user_id": profile.user_id, "amount": amount})
    return _about("compensation", right, subject, rng, writes=(call,) if right == "do" else ())


def _out_of_scope(right: Right, subject: Subject, rng: np.random.Generator) -> Request | None:
    if right != "transfer":
        return None
    says: dict[Slot, str] = {"user_id": subject.profile.user_id}
    topic = str(rng.choice(TOPICS))
    volunteered = _volunteered(says, rng)
    return Request("out_of_scope", right, says=says, volunteered=volunteered, detail=topic, insists=_insists(rng))


_MAKERS: Mapping[Intent, Callable[[Right, Subject, np.random.Generator], Request | None]] = {
    "cancel": _cancel,
    "change_date": _change_date,
    "change_cabin": _change_cabin,
    "add_bags": _add_bags,
    "remove_bags": _remove_bags,
    "total_paid": _total_paid,
    "rename_passenger": _rename_passenger,
    "add_passenger": _add_passenger,
    "add_insurance": _add_insurance,
    "book": _book,
    "compensation": _compensation,
    "out_of_scope": _out_of_scope,
}


def _about(
    intent: Intent,
    right: Right,
    subject: Subject,
    rng: np.random.Generator,
    extra: Mapping[Slot, str] | None = None,
    writes: tuple[ToolCall, ...] = (),
    tells: tuple[str, ...] = (),
) -> Request:
    trip = subject.trip
    says: dict[Slot, str] = {"user_id": subject.profile.user_id, "reservation_id": trip.id, **(extra or {})}
    hint = slip = ""
    if rng.random() < 0.25 and trip.origin != trip.destination and subject.only_trip_to_destination():
        del says["reservation_id"]
        hint = trip.destination
    elif rng.random() < 0.15:
        slip = _misread(trip.id, subject.world, rng)
    payment = writes[0].arguments.get("payment_id") if writes else None
    if payment and subject.asks_payment:
        says["payment"] = payment
    return Request(
        intent,
        right,
        trip.id,
        says,
        _volunteered(says, rng),
        hint,
        slip,
        insists=_insists(rng),
        writes=writes,
        tells=tells,
        looks_up=(trip.id,),
    )


def _volunteered(says: Mapping[Slot, str], rng: np.random.Generator) -> frozenset[Slot]:
    """What is said at once; the rest is late or only for the asking."""
    likely: Mapping[Slot, float] = {"reservation_id": 0.6, "date": 0.5, "bags": 0.5, "route": 0.7, "cabin": 0.5}
    return frozenset(slot for slot in says if rng.random() < likely.get(slot, 0.35))


def _insists(rng: np.random.Generator) -> int:
    # Drawn for every request: were it only for those to be refused, insisting would tell what is right.
    return int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))


def _misread(code: str, world: AirlineWorld, rng: np.random.Generator) -> str:
    """A code that no reservation has, one character away from this one."""
    known = world.tables["reservations"]
    places = [place for place, character in enumerate(code) if character.isalpha()]
    while True:
        place = places[int(rng.integers(len(places)))]
        letter = "ABCDEFGHJKLMNPQRSTUVWXYZ"[int(rng.integers(24))]
        slip = f"{code[:place]}{letter}{code[place + 1 :]}"
        if slip != code and slip not in known:
            return slip


def _update(trip: Trip, cabin: str, flights: list[dict[str, str]], payment: str) -> ToolCall:
    arguments = {"reservation_id": trip.id, "cabin": cabin, "flights": flights, "payment_id": payment}
    return ToolCall("update_reservation_flights", arguments)


def _spoken(cabin: str) -> str:
    return cabin.replace("_", " ")
