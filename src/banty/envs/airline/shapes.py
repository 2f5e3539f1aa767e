"""What airline records and arguments look like: the typed form of tau2-bench's database (specs/tau.md, sections 2, 3).

Plain dictionaries throughout. The order of the fields is the order the agent reads them in, and `typed` values are
what the reference's models would hold: amounts of a user float, prices and bag counts int.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Discriminator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Cabin = Literal["business", "economy", "basic_economy"]
FlightType = Literal["round_trip", "one_way"]
Insurance = Literal["yes", "no"]


class FlightItem(TypedDict):
    """One leg, by flight number and date."""

    flight_number: Annotated[str, Field(description="such as HAT001")]
    date: Annotated[str, Field(description="YYYY-MM-DD")]


class PassengerItem(TypedDict):
    """One traveller."""

    first_name: str
    last_name: str
    dob: Annotated[str, Field(description="date of birth, YYYY-MM-DD")]


class PaymentItem(TypedDict):
    """A payment method of the user and the dollars it pays."""

    payment_id: Annotated[str, Field(description="id of a payment method in the user's profile")]
    amount: int


class BookedLeg(TypedDict):
    flight_number: str
    origin: str
    destination: str
    date: str
    price: int


class ReservationRecord(TypedDict):
    reservation_id: str
    user_id: str
    origin: str
    destination: str
    flight_type: FlightType
    cabin: Cabin
    flights: list[BookedLeg]
    passengers: list[PassengerItem]
    payment_history: list[PaymentItem]
    created_at: str
    total_baggages: int
    nonfree_baggages: int
    insurance: Insurance
    status: NotRequired[Literal["cancelled"] | None]


class BookingTerms(TypedDict):
    """The arguments of a booking that are typed before its price is worked out."""

    origin: str
    destination: str
    flight_type: FlightType
    cabin: Cabin
    total_baggages: int
    nonfree_baggages: int
    insurance: Insurance


class NameRecord(TypedDict):
    first_name: str
    last_name: str


class AddressRecord(TypedDict):
    address1: str
    address2: NotRequired[str | None]
    city: str
    country: str
    state: str
    zip: str


class CreditCard(TypedDict):
    source: Literal["credit_card"]
    id: str
    brand: str
    last_four: str


class GiftCard(TypedDict):
    source: Literal["gift_card"]
    id: str
    amount: float


class Certificate(TypedDict):
    source: Literal["certificate"]
    id: str
    amount: float


class UserRecord(TypedDict):
    user_id: str
    name: NameRecord
    address: AddressRecord
    email: str
    dob: str
    payment_methods: dict[str, Annotated[CreditCard | GiftCard | Certificate, Discriminator("source")]]
    saved_passengers: list[PassengerItem]
    membership: Literal["gold", "silver", "regular"]
    reservations: list[str]


class AvailableCell(TypedDict):
    status: Literal["available"]
    available_seats: dict[Cabin, int]
    prices: dict[Cabin, int]


class LandedCell(TypedDict):
    status: Literal["landed"]
    actual_departure_time_est: str
    actual_arrival_time_est: str


class CancelledCell(TypedDict):
    status: Literal["cancelled"]


class DelayedCell(TypedDict):
    status: Literal["delayed"]
    estimated_departure_time_est: str
    estimated_arrival_time_est: str


class FlyingCell(TypedDict):
    status: Literal["flying"]
    actual_departure_time_est: str
    estimated_arrival_time_est: str


class OnTimeCell(TypedDict):
    status: Literal["on time"]
    estimated_departure_time_est: str
    estimated_arrival_time_est: str


AnyCell = AvailableCell | LandedCell | CancelledCell | DelayedCell | FlyingCell | OnTimeCell


class FlightRecord(TypedDict):
    flight_number: str
    origin: str
    destination: str
    scheduled_departure_time_est: str
    scheduled_arrival_time_est: str
    dates: dict[str, Annotated[AnyCell, Discriminator("status")]]


class Database(TypedDict):
    flights: dict[str, FlightRecord]
    users: dict[str, UserRecord]
    reservations: dict[str, ReservationRecord]


DATABASE: TypeAdapter[Any] = TypeAdapter(Database)
BOOKING: TypeAdapter[Any] = TypeAdapter(BookingTerms)
FLIGHTS: TypeAdapter[Any] = TypeAdapter(list[FlightItem])
PASSENGERS: TypeAdapter[Any] = TypeAdapter(list[PassengerItem])
PAYMENTS: TypeAdapter[Any] = TypeAdapter(list[PaymentItem])
DOLLARS: TypeAdapter[int] = TypeAdapter(int)
BALANCE: TypeAdapter[float] = TypeAdapter(float)


def typed_database(db: Mapping[str, Any]) -> dict[str, Any]:
    """A whole database in typed form, one pass, unknown fields dropped. Raises pydantic's ValidationError.

    No record of the result is shared with `db`, and fields the file may leave out (`status`, `address2`) are None.
    """
    typed: dict[str, Any] = DATABASE.validate_python(db)
    for reservation in typed["reservations"].values():
        reservation.setdefault("status", None)
    for user in typed["users"].values():
        address = user["address"]
        if "address2" not in address:
            user["address"] = {"address1": address["address1"], "address2": None} | address
    return typed


def fault_text(wrong: ValidationError, inside: str = "") -> str:
    """Where the first fault is and what it is, in one line without the validator's web addresses."""
    first = wrong.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in ((inside,) if inside else ()) + first["loc"])
    more = f" (and {wrong.error_count() - 1} more)" if wrong.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"
