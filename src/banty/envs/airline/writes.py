"""What the desk can change, over raw arguments; every function gives the text the agent reads.

The order of checks and changes is the reference's, and so are its gaps: almost no policy is enforced, and a call that
fails half-way leaves what it has changed (specs/tau.md, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from banty.envs.airline.data import NEW_CERTIFICATE_IDS, NEW_RESERVATION_IDS, NOW, cell_key
from banty.envs.airline.reads import find_cell, find_flight, find_reservation, find_user, refusing
from banty.envs.airline.shapes import BALANCE, BOOKING, DOLLARS, FLIGHTS, PASSENGERS, PAYMENTS, fault_text
from banty.envs.state import State
from banty.errors import ToolError

BAG_FEE = 50
INSURANCE_FEE = 30
_MOST_PAYMENTS = 1024

WRITE_TOOLS = frozenset(
    {
        "book_reservation",
        "cancel_reservation",
        "send_certificate",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
    }
)
"""The tools that change the database; grading re-applies these and no others."""


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _typed(shape: TypeAdapter[Any], name: str, value: Any) -> Any:
    try:
        return shape.validate_python(value)
    except ValidationError as wrong:
        raise ToolError(fault_text(wrong, name)) from wrong


def _items(shape: TypeAdapter[Any], name: str, items: Any) -> list[Any] | None:
    """Items in typed form, unknown keys dropped; None where they are not all objects and stay as given."""
    return _typed(shape, name, list(items)) if all(isinstance(item, dict) for item in items) else None


def _leg(state: State, item: Mapping[str, str], cabin: Any, passengers: int) -> dict[str, Any]:
    """A leg at today's price. Raises ToolError unless enough seats are for sale."""
    number, date = item["flight_number"], item["date"]
    flight = find_flight(state, number)
    cell = find_cell(state, number, date)
    if cell["status"] != "available":
        raise ToolError(f"Flight {number} not available on date {date}")
    if cell["available_seats"][cabin] < passengers:
        raise ToolError(f"Not enough seats on flight {number}")
    return {
        "flight_number": number,
        "origin": flight["origin"],
        "destination": flight["destination"],
        "date": date,
        "price": cell["prices"][cabin],
    }


@refusing
def book_reservation(
    state: State,
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
) -> str:
    items = _items(FLIGHTS, "flights", flights)
    people = _items(PASSENGERS, "passengers", passengers)
    payments = _items(PAYMENTS, "payment_methods", payment_methods)
    user = find_user(state, user_id)
    reservation_id = next((name for name in NEW_RESERVATION_IDS if state.get("reservations", name) is None), None)
    if reservation_id is None:
        raise ToolError("Too many reservations")
    terms = BOOKING.validate_python(
        {
            "origin": origin,
            "destination": destination,
            "flight_type": flight_type,
            "cabin": cabin,
            "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages,
            "insurance": insurance,
        }
    )
    if items is None or people is None or payments is None:
        raise ToolError("flights, passengers and payment_methods must be lists of objects")
    legs = [_leg(state, item, cabin, len(people)) for item in items]
    price = sum(leg["price"] for leg in legs) * len(people)
    price += INSURANCE_FEE * len(people) if insurance == "yes" else 0
    # The raw count, not the typed one: a count given as text is refused here, after having been typed without fault.
    price += BAG_FEE * nonfree_baggages
    _check_payments(user, payments, price)
    _deduct(state, user_id, payments)
    for leg in legs:
        seats = find_cell(state, leg["flight_number"], leg["date"])["available_seats"]
        left = {**seats, cabin: seats[cabin] - len(people)}
        state.replace("cells", cell_key(leg["flight_number"], leg["date"]), available_seats=left)
    reservation = {
        "reservation_id": reservation_id,
        "user_id": user_id,
        "origin": terms["origin"],
        "destination": terms["destination"],
        "flight_type": terms["flight_type"],
        "cabin": terms["cabin"],
        "flights": legs,
        "passengers": people,
        "payment_history": payments,
        "created_at": NOW,
        "total_baggages": terms["total_baggages"],
        "nonfree_baggages": terms["nonfree_baggages"],
        "insurance": terms["insurance"],
        "status": None,
    }
    state.put("reservations", reservation_id, reservation)
    state.replace("users", user_id, reservations=[*find_user(state, user_id)["reservations"], reservation_id])
    return json.dumps(reservation)


def _check_payments(user: Mapping[str, Any], payments: list[dict[str, Any]], price: Any) -> None:
    """Each payment alone against its balance, then the sum: a gift card given twice can be overdrawn."""
    methods = user["payment_methods"]
    for payment in payments:
        payment_id = payment["payment_id"]
        if payment_id not in methods:
            raise ToolError(f"Payment method {payment_id} not found")
        method = methods[payment_id]
        if method["source"] in ("gift_card", "certificate") and method["amount"] < payment["amount"]:
            raise ToolError(f"Not enough balance in payment method {payment_id}")
    paid = sum(payment["amount"] for payment in payments)
    if paid != price:
        raise ToolError(f"Payment amount does not add up, total price is {price}, but paid {paid}")


def _deduct(state: State, user_id: str, payments: list[dict[str, Any]]) -> None:
    """A certificate goes whole; given twice, the second is missing, the call fails and the first is gone."""
    for payment in payments:
        payment_id = payment["payment_id"]
        methods = find_user(state, user_id)["payment_methods"]
        source = methods[payment_id]["source"]
        if source == "gift_card":
            _charge(state, user_id, payment_id, payment["amount"])
        elif source == "certificate":
            left = {name: method for name, method in methods.items() if name != payment_id}
            state.replace("users", user_id, payment_methods=left)


def _charge(state: State, user_id: str, payment_id: str, price: Any) -> None:
    methods = find_user(state, user_id)["payment_methods"]
    charged = {**methods[payment_id], "amount": methods[payment_id]["amount"] - price}
    state.replace("users", user_id, payment_methods={**methods, payment_id: charged})


@refusing
def cancel_reservation(state: State, reservation_id: Any) -> str:
    history = find_reservation(state, reservation_id)["payment_history"]
    # Every cancellation doubles the history, so an agent that never stops cancelling would take all memory.
    if 2 * len(history) > _MOST_PAYMENTS:
        raise ToolError("the payment history is too long")
    refunds = [{"payment_id": entry["payment_id"], "amount": -entry["amount"]} for entry in history]
    cancelled = state.replace("reservations", reservation_id, payment_history=[*history, *refunds], status="cancelled")
    return json.dumps(cancelled)


@refusing
def send_certificate(state: State, user_id: Any, amount: Any) -> str:
    methods = find_user(state, user_id)["payment_methods"]
    payment_id = next((name for name in NEW_CERTIFICATE_IDS if name not in methods), None)
    if payment_id is None:
        raise ToolError("Too many certificates")
    certificate = {"source": "certificate", "id": payment_id, "amount": _typed(BALANCE, "amount", amount)}
    state.replace("users", user_id, payment_methods={**methods, payment_id: certificate})
    return f"Certificate {payment_id} added to user {user_id} with amount {amount}."


def _settle(state: State, user_id: str, payment_id: Any, price: Any) -> list[dict[str, Any]]:
    """Pay (or, negative, refund) a change with one method; the entries this adds to the payment history.

    A gift card is charged before the amount is typed: a fraction of a dollar fails with the card already charged.
    """
    methods = find_user(state, user_id)["payment_methods"]
    if payment_id not in methods:
        raise ToolError("Payment method not found")
    method = methods[payment_id]
    if method["source"] == "certificate":
        raise ToolError("Certificate cannot be used to update reservation")
    if method["source"] == "gift_card" and method["amount"] < price:
        raise ToolError("Gift card balance is not enough")
    if price == 0:
        return []
    str(price)  # a number with more digits than Python writes is refused here, before it is in a record
    if method["source"] == "gift_card":
        _charge(state, user_id, payment_id, price)
    return [{"payment_id": payment_id, "amount": _typed(DOLLARS, "amount", price)}]


@refusing
def update_reservation_baggages(
    state: State, reservation_id: Any, total_baggages: Any, nonfree_baggages: Any, payment_id: Any
) -> str:
    before = find_reservation(state, reservation_id)
    find_user(state, before["user_id"])
    price = BAG_FEE * max(0, nonfree_baggages - before["nonfree_baggages"])
    entries = _settle(state, before["user_id"], payment_id, price)
    changed = state.replace(
        "reservations",
        reservation_id,
        payment_history=[*before["payment_history"], *entries],
        total_baggages=_copied(total_baggages),
        nonfree_baggages=nonfree_baggages,
    )
    return json.dumps(changed)


@refusing
def update_reservation_flights(state: State, reservation_id: Any, cabin: Any, flights: Any, payment_id: Any) -> str:
    items = _items(FLIGHTS, "flights", flights)
    before = find_reservation(state, reservation_id)
    find_user(state, before["user_id"])
    if items is None:
        raise ToolError("flights must be a list of objects")
    passengers = len(before["passengers"])
    kept = {}
    if cabin == before["cabin"]:
        kept = {(leg["flight_number"], leg["date"]): leg for leg in reversed(before["flights"])}
    legs = []
    for item in items:
        old = kept.get((item["flight_number"], item["date"]))
        legs.append(old if old is not None else _leg(state, item, cabin, passengers))
    difference = sum(leg["price"] for leg in legs) - sum(leg["price"] for leg in before["flights"])
    entries = _settle(state, before["user_id"], payment_id, difference * passengers)
    changed = state.replace(
        "reservations",
        reservation_id,
        payment_history=[*before["payment_history"], *entries],
        flights=legs,
        cabin=_copied(cabin),
    )
    return json.dumps(changed)


@refusing
def update_reservation_passengers(state: State, reservation_id: Any, passengers: Any) -> str:
    """A list that is not all objects is stored as it came: the reference types only a list that is."""
    people = _items(PASSENGERS, "passengers", passengers)
    if len(passengers) != len(find_reservation(state, reservation_id)["passengers"]):
        raise ToolError("Number of passengers does not match")
    stored = _copied(passengers) if people is None else people
    return json.dumps(state.replace("reservations", reservation_id, passengers=stored))
