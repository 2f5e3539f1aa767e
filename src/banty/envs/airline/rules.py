"""The policy as code: what an airline agent may do. The tools enforce almost none of it.

Source: tau2-bench's airline policy (specs/tau.md section 4). Used to make tasks with known right endings and by the
scripted expert; never shown to a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from banty.envs.airline.data import TODAY
from banty.envs.airline.trips import Profile, Trip

RECENT_SINCE = "2024-05-14T15:00:00"
COVERED_REASONS = ("health", "weather")
BAG_PRICE = 50

FREE_BAGS: Mapping[str, Mapping[str, int]] = {
    "regular": {"basic_economy": 0, "economy": 1, "business": 2},
    "silver": {"basic_economy": 1, "economy": 2, "business": 3},
    "gold": {"basic_economy": 2, "economy": 3, "business": 4},
}


class Ruling(NamedTuple):
    """What the policy says of a request, and the reason an agent gives for it."""

    verdict: str
    reason: str = ""


def flown(trip: Trip) -> bool:
    """True when any leg left before today.

    Legs of today, and legs that the airline cancelled, depend on their status: the generator avoids both.
    """
    return any(leg.date < TODAY for leg in trip.legs)


def recently_booked(trip: Trip) -> bool:
    """Booked within 24 hours of now; a booking date without a time counts when it is today."""
    since = RECENT_SINCE if "T" in trip.booked_on else TODAY
    return trip.booked_on >= since


def may_cancel(trip: Trip, reason: str) -> Ruling:
    if flown(trip):
        return Ruling("transfer", "part of it has been flown")
    if recently_booked(trip) or trip.cabin == "business":
        return Ruling("do")
    if trip.insured and reason in COVERED_REASONS:
        return Ruling("do")
    if trip.insured:
        return Ruling("refuse", "the insurance covers only health and weather")
    return Ruling("refuse", f"it is {trip.cabin}, not insured and not booked in the last 24 hours")


def may_change_flights(trip: Trip) -> Ruling:
    if trip.cabin == "basic_economy":
        return Ruling("refuse", "basic economy flights cannot be changed")
    return Ruling("do")


def may_change_cabin(trip: Trip) -> Ruling:
    return Ruling("refuse", "part of it has been flown") if flown(trip) else Ruling("do")


def compensation(trip: Trip, profile: Profile, cancelled_leg: bool) -> tuple[Ruling, int]:
    """The ruling on a certificate for a cancelled flight, and its amount in dollars."""
    if not cancelled_leg:
        return Ruling("refuse", "no flight of it was cancelled by the airline"), 0
    if profile.membership == "regular" and not trip.insured and trip.cabin != "business":
        return Ruling("refuse", "regular members without insurance or a business seat are not compensated"), 0
    return Ruling("do"), 100 * trip.num_passengers


def paid_bags(trip: Trip, membership: str, total: int) -> int:
    """How many of `total` checked bags are not free."""
    return max(0, total - FREE_BAGS[membership][trip.cabin] * trip.num_passengers)
