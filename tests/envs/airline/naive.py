"""The airline of specs/tau.md written a second time, the slow and obvious way, to compare ours with.

Nothing of `banty` is used. The database is one tree of pydantic models that every desk copies whole, and the hash dumps
all of it. A refusal in the benchmark's own words is a `Refused`; whatever else a call raises has Python's or pydantic's
words, which are nobody's contract.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Seats = dict[Literal["business", "economy", "basic_economy"], int]
WRITES = ("book", "cancel", "send", "update")


class Refused(Exception):
    """A tool's refusal in its own words."""


class Item(BaseModel):
    flight_number: str
    date: str


class Person(BaseModel):
    first_name: str
    last_name: str
    dob: str


class Paid(BaseModel):
    payment_id: str
    amount: int


class Leg(BaseModel):
    flight_number: str
    origin: str
    destination: str
    date: str
    price: int


class Reservation(BaseModel):
    reservation_id: str
    user_id: str
    origin: str
    destination: str
    flight_type: Literal["round_trip", "one_way"]
    cabin: Literal["business", "economy", "basic_economy"]
    flights: list[Leg]
    passengers: list[Person]
    payment_history: list[Paid]
    created_at: str
    total_baggages: int
    nonfree_baggages: int
    insurance: Literal["yes", "no"]
    status: Literal["cancelled"] | None = None


class Card(BaseModel):
    source: Literal["credit_card"]
    id: str
    brand: str
    last_four: str


class Gift(BaseModel):
    source: Literal["gift_card"]
    id: str
    amount: float


class Voucher(BaseModel):
    source: Literal["certificate"]
    id: str
    amount: float


class Name(BaseModel):
    first_name: str
    last_name: str


class Address(BaseModel):
    address1: str
    address2: str | None = None
    city: str
    country: str
    state: str
    zip: str


class User(BaseModel):
    user_id: str
    name: Name
    address: Address
    email: str
    dob: str
    payment_methods: dict[str, Annotated[Card | Gift | Voucher, Field(discriminator="source")]]
    saved_passengers: list[Person]
    membership: Literal["gold", "silver", "regular"]
    reservations: list[str]


class OnSale(BaseModel):
    status: Literal["available"]
    available_seats: Seats
    prices: Seats


class Landed(BaseModel):
    status: Literal["landed"]
    actual_departure_time_est: str
    actual_arrival_time_est: str


class Cancelled(BaseModel):
    status: Literal["cancelled"]


class Expected(BaseModel):
    status: Literal["delayed", "on time"]
    estimated_departure_time_est: str
    estimated_arrival_time_est: str


class Flying(BaseModel):
    status: Literal["flying"]
    actual_departure_time_est: str
    estimated_arrival_time_est: str


Day = Annotated[OnSale | Landed | Cancelled | Expected | Flying, Field(discriminator="status")]


class Flight(BaseModel):
    flight_number: str
    origin: str
    destination: str
    scheduled_departure_time_est: str
    scheduled_arrival_time_est: str
    dates: dict[str, Day]


class Database(BaseModel):
    flights: dict[str, Flight]
    users: dict[str, User]
    reservations: dict[str, Reservation]


class NaiveDesk:
    """One database that calls change."""

    def __init__(self, db: Mapping[str, Any] | Database) -> None:
        self.db = copy.deepcopy(db) if isinstance(db, Database) else Database.model_validate(copy.deepcopy(dict(db)))

    def hash(self) -> str:
        dumped = self.db.model_dump(warnings=False)
        return hashlib.sha256(json.dumps(dumped, sort_keys=True, default=str).encode()).hexdigest()

    def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[bool, str, bool]:
        """Whether it succeeded, the text, and whether the text's words are the benchmark's own."""
        if name not in TOOLS:
            return False, f"Error: Tool '{name}' not found.", True
        try:
            result = TOOLS[name](self, **copy.deepcopy(dict(arguments)))
        except Refused as refused:
            return False, f"Error: {refused}", True
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent reads it
            return False, f"Error: {error}", isinstance(error, KeyError)
        return True, result if isinstance(result, str) else json.dumps(_dumped(result)), True

    # Look-ups.

    def user(self, user_id: Any) -> User:
        if user_id not in self.db.users:
            raise Refused(f"User {user_id} not found")
        return self.db.users[user_id]

    def reservation(self, key: Any) -> Reservation:
        if key not in self.db.reservations:
            raise Refused(f"Reservation {key} not found")
        return self.db.reservations[key]

    def flight(self, number: Any) -> Flight:
        if number not in self.db.flights:
            raise Refused(f"Flight {number} not found")
        return self.db.flights[number]

    def day(self, number: Any, date: Any) -> Any:
        flight = self.flight(number)
        if date not in flight.dates:
            raise Refused(f"Flight {number} not found on date {date}")
        return flight.dates[date]

    def seat(self, item: Item, cabin: Any, people: int) -> Leg:
        flight, day = self.flight(item.flight_number), self.day(item.flight_number, item.date)
        if day.status != "available":
            raise Refused(f"Flight {item.flight_number} not available on date {item.date}")
        if day.available_seats[cabin] < people:
            raise Refused(f"Not enough seats on flight {item.flight_number}")
        return Leg(
            flight_number=item.flight_number,
            origin=flight.origin,
            destination=flight.destination,
            date=item.date,
            price=day.prices[cabin],
        )

    def on_sale(self, origin: Any, destination: Any, date: Any, after: str = "") -> list[dict[str, Any]]:
        found = []
        for flight in self.db.flights.values():
            if origin is not None and flight.origin != origin:
                continue
            if destination is not None and flight.destination != destination:
                continue
            day = flight.dates.get(date)
            if day is None or day.status != "available" or flight.scheduled_departure_time_est < after:
                continue
            found.append(
                {
                    "flight_number": flight.flight_number,
                    "origin": flight.origin,
                    "destination": flight.destination,
                    "status": "available",
                    "scheduled_departure_time_est": flight.scheduled_departure_time_est,
                    "scheduled_arrival_time_est": flight.scheduled_arrival_time_est,
                    "date": None,
                    "available_seats": dict(day.available_seats),
                    "prices": dict(day.prices),
                }
            )
        return found

    # Money.

    def pay_for_update(self, user: User, payment_id: Any, price: Any) -> list[Paid]:
        if payment_id not in user.payment_methods:
            raise Refused("Payment method not found")
        method = user.payment_methods[payment_id]
        if method.source == "certificate":
            raise Refused("Certificate cannot be used to update reservation")
        if isinstance(method, Gift):
            if method.amount < price:
                raise Refused("Gift card balance is not enough")
            method.amount -= price
        return [Paid(payment_id=payment_id, amount=price)] if price != 0 else []


def _dumped(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(warnings=False)
    return [_dumped(each) for each in value] if isinstance(value, (list, tuple)) else value


def _items(model: Callable[..., Any], items: Any) -> Any:
    """Typed when all of them are objects, and otherwise as they came."""
    return [model(**each) for each in items] if all(isinstance(each, dict) for each in items) else items


def book_reservation(
    desk: NaiveDesk,
    user_id: Any,
    origin: Any,
    destination: Any,
    flight_type: Any,
    cabin: Any,
    flights: Any,
    passengers: Any,
    payment_methods: Any,
    total_baggages: Any,
    nonfree_baggages: Any,
    insurance: Any,
) -> Reservation:
    flights, people, payments = _items(Item, flights), _items(Person, passengers), _items(Paid, payment_methods)
    user = desk.user(user_id)
    free = [key for key in ("HATHAT", "HATHAU", "HATHAV") if key not in desk.db.reservations]
    if not free:
        raise Refused("Too many reservations")
    made = Reservation(
        reservation_id=free[0],
        user_id=user_id,
        origin=origin,
        destination=destination,
        flight_type=flight_type,
        cabin=cabin,
        flights=[],
        passengers=copy.deepcopy(people),
        payment_history=copy.deepcopy(payments),
        created_at="2024-05-15T15:00:00",
        total_baggages=total_baggages,
        nonfree_baggages=nonfree_baggages,
        insurance=insurance,
    )
    price = 0
    for item in flights:
        leg = desk.seat(item, cabin, len(people))
        made.flights.append(leg)
        price += leg.price * len(people)
    if insurance == "yes":
        price += 30 * len(people)
    price += 50 * nonfree_baggages
    for payment in payments:
        if payment.payment_id not in user.payment_methods:
            raise Refused(f"Payment method {payment.payment_id} not found")
        method = user.payment_methods[payment.payment_id]
        if isinstance(method, (Gift, Voucher)) and method.amount < payment.amount:
            raise Refused(f"Not enough balance in payment method {payment.payment_id}")
    paid = sum(payment.amount for payment in payments)
    if paid != price:
        raise Refused(f"Payment amount does not add up, total price is {price}, but paid {paid}")
    for payment in payments:
        method = user.payment_methods[payment.payment_id]
        if isinstance(method, Gift):
            method.amount -= payment.amount
        elif isinstance(method, Voucher):
            del user.payment_methods[payment.payment_id]
    for leg in made.flights:
        desk.day(leg.flight_number, leg.date).available_seats[cabin] -= len(people)
    desk.db.reservations[made.reservation_id] = made
    user.reservations.append(made.reservation_id)
    return made


def cancel_reservation(desk: NaiveDesk, reservation_id: Any) -> Reservation:
    found = desk.reservation(reservation_id)
    back = [Paid(payment_id=paid.payment_id, amount=-paid.amount) for paid in found.payment_history]
    found.payment_history += back
    found.status = "cancelled"
    return found


def send_certificate(desk: NaiveDesk, user_id: Any, amount: Any) -> str:
    user = desk.user(user_id)
    for number in (3221322, 3221323, 3221324):
        key = f"certificate_{number}"
        if key not in user.payment_methods:
            user.payment_methods[key] = Voucher(source="certificate", id=key, amount=amount)
            return f"Certificate {key} added to user {user_id} with amount {amount}."
    raise Refused("Too many certificates")


def update_reservation_baggages(
    desk: NaiveDesk, reservation_id: Any, total_baggages: Any, nonfree_baggages: Any, payment_id: Any
) -> Reservation:
    found = desk.reservation(reservation_id)
    user = desk.user(found.user_id)
    price = 50 * max(0, nonfree_baggages - found.nonfree_baggages)
    found.payment_history += desk.pay_for_update(user, payment_id, price)
    found.total_baggages, found.nonfree_baggages = total_baggages, nonfree_baggages
    return found


def update_reservation_flights(
    desk: NaiveDesk, reservation_id: Any, cabin: Any, flights: Any, payment_id: Any
) -> Reservation:
    flights = _items(Item, flights)
    found = desk.reservation(reservation_id)
    user = desk.user(found.user_id)
    people = len(found.passengers)
    legs = []
    for item in flights:
        same = [leg for leg in found.flights if (leg.flight_number, leg.date) == (item.flight_number, item.date)]
        legs.append(same[0] if same and cabin == found.cabin else desk.seat(item, cabin, people))
    price = sum(leg.price for leg in legs) * people - sum(leg.price for leg in found.flights) * people
    found.payment_history += desk.pay_for_update(user, payment_id, price)
    found.flights, found.cabin = legs, cabin
    return found


def update_reservation_passengers(desk: NaiveDesk, reservation_id: Any, passengers: Any) -> Reservation:
    people = _items(Person, passengers)
    found = desk.reservation(reservation_id)
    if len(people) != len(found.passengers):
        raise Refused("Number of passengers does not match")
    found.passengers = copy.deepcopy(people)
    return found


def search_onestop_flight(desk: NaiveDesk, origin: Any, destination: Any, date: Any) -> list[Any]:
    pairs = []
    for first in desk.on_sale(origin, None, date):
        lands = first["scheduled_arrival_time_est"]
        onward = f"2024-05-{int(date[-2:]) + 1}" if "+1" in lands else date
        pairs += [
            [first | {"date": date}, second | {"date": onward}]
            for second in desk.on_sale(first["destination"], destination, onward, lands)
        ]
    return pairs


def calculate(desk: NaiveDesk, expression: Any) -> str:
    if any(letter not in "0123456789+-*/(). " for letter in expression):
        raise Refused("Invalid characters in expression")
    return str(round(float(eval(expression, {"__builtins__": None}, {})), 2))


def get_flight_status(desk: NaiveDesk, flight_number: Any, date: Any) -> str:
    status: str = desk.day(flight_number, date).status
    return status


def search_direct_flight(desk: NaiveDesk, origin: Any, destination: Any, date: Any) -> list[dict[str, Any]]:
    return desk.on_sale(origin, destination, date)


def get_user_details(desk: NaiveDesk, user_id: Any) -> User:
    return desk.user(user_id)


def get_reservation_details(desk: NaiveDesk, reservation_id: Any) -> Reservation:
    return desk.reservation(reservation_id)


def transfer_to_human_agents(desk: NaiveDesk, summary: Any) -> str:
    return "Transfer successful"


TOOLS: dict[str, Callable[..., Any]] = {
    tool.__name__: tool
    for tool in (
        book_reservation,
        calculate,
        cancel_reservation,
        get_flight_status,
        get_reservation_details,
        get_user_details,
        search_direct_flight,
        search_onestop_flight,
        send_certificate,
        transfer_to_human_agents,
        update_reservation_baggages,
        update_reservation_flights,
        update_reservation_passengers,
    )
}


def naive_reward(
    db: Database, messages: Sequence[Mapping[str, Any]], criteria: Mapping[str, Any], ended_by: str
) -> tuple[float, dict[str, float]]:
    """The reward and its breakdown, of messages of the benchmark's form."""
    if ended_by not in ("agent_stop", "user_stop"):
        return 0.0, {}
    played, wanted = NaiveDesk(db), NaiveDesk(db)
    for message in messages:
        for call in message.get("tool_calls") or () if message["role"] == "assistant" else ():
            if call["name"].startswith(WRITES):
                played.call(call["name"], call["arguments"])
    for action in criteria["actions"]:
        wanted.call(action["name"], action["arguments"])
    said = [
        message["content"].lower().replace(",", "")
        for message in messages
        if message["role"] == "assistant" and (message["content"] or "").strip()
    ]
    parts = {
        "DB": float(played.hash() == wanted.hash()),
        "COMMUNICATE": float(all(any(needle.lower() in text for text in said) for needle in _needles(criteria))),
    }
    return min(parts.values()), parts


def _needles(criteria: Mapping[str, Any]) -> Iterable[str]:
    return criteria.get("communicate_info") or ()
