"""What the desk can look up, over raw arguments; every function gives the text the agent reads."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

from banty.envs.airline import arithmetic
from banty.envs.airline.data import AIRPORTS, airline_world, cell_key
from banty.envs.airline.shapes import fault_text
from banty.envs.state import State
from banty.errors import ToolError

Params = ParamSpec("Params")
Result = TypeVar("Result")

_PYTHON_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    RecursionError,
    MemoryError,
)


def refusing(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Turn what Python says to a call's raw arguments into a ToolError, as the reference turns it into an error.

    A change made before the error stays made: several traps of specs/tau.md, section 3, rest on that.
    """

    @functools.wraps(function)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except ValidationError as wrong:
            raise ToolError(fault_text(wrong)) from wrong
        except _PYTHON_ERRORS as wrong:
            raise ToolError(str(wrong) or type(wrong).__name__) from wrong

    return guarded


def find_user(state: State, user_id: Any) -> dict[str, Any]:
    """The user's record, not to be mutated."""
    user: dict[str, Any] | None = state.get("users", user_id)
    if user is None:
        raise ToolError(f"User {user_id} not found")
    return user


def find_reservation(state: State, reservation_id: Any) -> dict[str, Any]:
    """The reservation's record, not to be mutated."""
    reservation: dict[str, Any] | None = state.get("reservations", reservation_id)
    if reservation is None:
        raise ToolError(f"Reservation {reservation_id} not found")
    return reservation


def find_flight(state: State, number: Any) -> dict[str, Any]:
    flight: dict[str, Any] | None = state.get("flights", number)
    if flight is None:
        raise ToolError(f"Flight {number} not found")
    return flight


def find_cell(state: State, number: Any, date: Any) -> dict[str, Any]:
    """One flight on one date, not to be mutated."""
    find_flight(state, number)
    cell: dict[str, Any] | None = state.get("cells", cell_key(number, date)) if isinstance(date, str) else None
    if cell is None:
        raise ToolError(f"Flight {number} not found on date {date}")
    return cell


def _text(state: State, table: str, key: str, record: dict[str, Any]) -> str:
    world = airline_world(state)
    return world.text(table, key) if record is world.tables[table].get(key) else json.dumps(record)


@refusing
def get_user_details(state: State, user_id: Any) -> str:
    return _text(state, "users", user_id, find_user(state, user_id))


@refusing
def get_reservation_details(state: State, reservation_id: Any) -> str:
    return _text(state, "reservations", reservation_id, find_reservation(state, reservation_id))


@refusing
def get_flight_status(state: State, flight_number: Any, date: Any) -> str:
    status: str = find_cell(state, flight_number, date)["status"]
    return status


_AIRPORTS_TEXT = json.dumps([{"iata": iata, "city": city} for iata, city in AIRPORTS.items()])


def list_all_airports() -> str:
    return _AIRPORTS_TEXT


@refusing
def search_direct_flight(state: State, origin: Any, destination: Any, date: Any) -> str:
    world = airline_world(state)
    found = world.departures(origin, destination, date)
    return f"[{', '.join(world.leg_text(state, number, day, dated=False) for number, day in found)}]"


@refusing
def search_onestop_flight(state: State, origin: Any, destination: Any, date: Any) -> str:
    """Pairs of legs. The second leaves at or after the first arrives, compared as text, "01:30:00+1" included."""
    world = airline_world(state)
    timetable = world.tables["flights"]
    pairs = []
    for first, day in world.departures(origin, None, date):
        lands = timetable[first]["scheduled_arrival_time_est"]
        # The reference writes the next day without padding and always in May; kept, since it decides what is found.
        onward = f"2024-05-{int(day[-2:]) + 1}" if "+1" in lands else day
        for second, next_day in world.departures(timetable[first]["destination"], destination, onward):
            if timetable[second]["scheduled_departure_time_est"] >= lands:
                leg = world.leg_text(state, first, day, dated=True)
                pairs.append(f"[{leg}, {world.leg_text(state, second, next_day, dated=True)}]")
    return f"[{', '.join(pairs)}]"


@refusing
def calculate(expression: Any) -> str:
    return arithmetic.calculate(expression)
