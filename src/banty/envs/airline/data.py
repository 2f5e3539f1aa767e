"""The airline's world: tau2-bench's `db.json`, parsed once and shared read-only by every episode."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from banty.envs.airline.shapes import fault_text, typed_database
from banty.envs.state import State, World
from banty.errors import InputError

NOW = "2024-05-15T15:00:00"
"""The desk's clock, which never moves (EST)."""

TODAY = "2024-05-15"
CABINS = ("basic_economy", "economy", "business")
NEW_RESERVATION_IDS = ("HATHAT", "HATHAU", "HATHAV")
NEW_CERTIFICATE_IDS = ("certificate_3221322", "certificate_3221323", "certificate_3221324")

AIRPORTS = {
    "SFO": "San Francisco",
    "JFK": "New York",
    "LAX": "Los Angeles",
    "ORD": "Chicago",
    "DFW": "Dallas",
    "DEN": "Denver",
    "SEA": "Seattle",
    "ATL": "Atlanta",
    "MIA": "Miami",
    "BOS": "Boston",
    "PHX": "Phoenix",
    "IAH": "Houston",
    "LAS": "Las Vegas",
    "MCO": "Orlando",
    "EWR": "Newark",
    "CLT": "Charlotte",
    "MSP": "Minneapolis",
    "DTW": "Detroit",
    "PHL": "Philadelphia",
    "LGA": "LaGuardia",
}
"""City by airport code, in the order `list_all_airports` gives them."""

TABLES = ("flights", "users", "reservations")


def cell_key(flight_number: str, date: str) -> str:
    return f"{flight_number}|{date}"


class AirlineWorld(World):
    """Tables `users`, `reservations`, `flights` (the timetable) and `cells` (one flight on one date).

    A cell's key is `HAT001|2024-05-16`; it holds the status, and seats and prices by cabin where seats are for sale.
    Records are plain dictionaries in typed form, see `shapes`. What the agent reads of an untouched record is made
    once and kept.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Any]], tag: str) -> None:
        super().__init__(tables, tag)
        self._texts: dict[tuple[str, str], str] = {}
        self._legs: dict[tuple[str, bool], str] = {}
        self._direct: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self._leaving: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._dates: dict[str, list[str]] = {number: [] for number in tables["flights"]}
        for key, cell in tables["cells"].items():
            number, _, date = key.rpartition("|")
            self._dates[number].append(date)
            if cell["status"] == "available":
                flight = tables["flights"][number]
                self._direct.setdefault((flight["origin"], flight["destination"], date), []).append((number, date))
                self._leaving.setdefault((flight["origin"], date), []).append((number, date))

    @classmethod
    def from_json(cls, db: Any, tag: str) -> AirlineWorld:
        """A world from the object of a `db.json`, which may be changed afterwards.

        Raises InputError, naming table, record and field, for anything that is not a whole airline database.
        """
        if not isinstance(db, dict) or any(not isinstance(db.get(table), dict) for table in TABLES):
            found = ", ".join(sorted(map(str, db))[:6]) if isinstance(db, dict) else f"a {type(db).__name__}"
            raise InputError(
                f"this is not an airline database: it needs the objects flights, users and reservations, and holds "
                f"{found or 'nothing'}. Give the db.json of tau2-bench's airline domain"
            )
        try:
            typed = typed_database(db)
        except ValidationError as wrong:
            raise InputError(
                f"the airline database is damaged or cut off at {fault_text(wrong)}. "
                f"Give the unchanged db.json of tau2-bench's airline domain"
            ) from wrong
        cells = {}
        for number, flight in typed["flights"].items():
            for date, cell in flight.pop("dates").items():
                cells[cell_key(number, date)] = cell
        return cls({**typed, "cells": cells}, tag)

    def text(self, table: str, key: str) -> str:
        """The output text of an untouched record."""
        place = (table, key)
        found = self._texts.get(place)
        if found is None:
            found = self._texts[place] = json.dumps(self.tables[table][key])
        return found

    def leg_text(self, state: State, number: str, date: str, *, dated: bool) -> str:
        """An available flight as a search shows it; only a one-stop search fills in the date."""
        key = cell_key(number, date)
        cell = state.get("cells", key)
        untouched = cell is self.tables["cells"].get(key)
        if untouched and (found := self._legs.get((key, dated))) is not None:
            return found
        assert cell is not None, f"no cell {key}"
        flight = self.tables["flights"][number]
        shown = {
            "flight_number": flight["flight_number"],
            "origin": flight["origin"],
            "destination": flight["destination"],
            "status": "available",
            "scheduled_departure_time_est": flight["scheduled_departure_time_est"],
            "scheduled_arrival_time_est": flight["scheduled_arrival_time_est"],
            "date": date if dated else None,
            "available_seats": cell["available_seats"],
            "prices": cell["prices"],
        }
        text = json.dumps(shown)
        if untouched:
            self._legs[key, dated] = text
        return text

    def departures(self, origin: Any, destination: Any, date: Any) -> list[tuple[str, str]]:
        """(flight number, date) of flights for sale, in the timetable's order. None for an airport stands for any.

        Takes raw arguments. As in the reference, one that no airport or date can equal finds nothing, and a date that
        cannot be looked up raises TypeError, but only where a flight is on the route.
        """
        if isinstance(origin, str) and isinstance(date, str):
            if isinstance(destination, str):
                return self._direct.get((origin, destination, date), [])
            if destination is None:
                return self._leaving.get((origin, date), [])
        found = []
        for number, flight in self.tables["flights"].items():
            if (origin is None or flight["origin"] == origin) and (
                destination is None or flight["destination"] == destination
            ):
                hash(date)
                cell = self.tables["cells"].get(cell_key(number, date)) if isinstance(date, str) else None
                if cell is not None and cell["status"] == "available":
                    found.append((number, date))
        return found

    def dates(self, number: str) -> list[str]:
        """The dates of one flight, as the database orders them."""
        return self._dates[number]


def airline_world(state: State) -> AirlineWorld:
    assert isinstance(state.world, AirlineWorld), "the airline's tools need an AirlineWorld"
    return state.world


def to_json(state: State) -> dict[str, Any]:
    """The whole database as it stands, in the shape of `db.json`. Shares its records: copy before changing any."""
    world = airline_world(state)
    flights = {}
    for number in state.keys("flights"):
        dates = {date: state.get("cells", cell_key(number, date)) for date in world.dates(number)}
        flights[number] = {**state.get("flights", number), "dates": dates}
    users = {key: state.get("users", key) for key in state.keys("users")}
    reservations = {key: state.get("reservations", key) for key in state.keys("reservations")}
    return {"flights": flights, "users": users, "reservations": reservations}


DATA_VARIABLE = "TAU2_DATA_DIR"
_INSIDE = ("", "domains/airline", "tau2/domains/airline", "data/tau2/domains/airline")
_DOMAINS = ("tasks.json", *(f"{inside}domains/*/tasks.json" for inside in ("", "tau2/", "data/tau2/")))
_WORLDS: dict[Path, tuple[tuple[int, int], AirlineWorld]] = {}


def airline_folder(path: str | Path) -> Path:
    """The folder with `db.json`, given it, a tau2-bench `data` folder or a tau2-bench checkout."""
    root = Path(path).expanduser()
    for inside in _INSIDE:
        if (root / inside / "db.json").is_file():
            return root / inside
    others = sorted(place.parent.name for pattern in _DOMAINS for place in root.glob(pattern))
    hint = f"; it has tasks of {', '.join(dict.fromkeys(others))}" if others else ""
    raise InputError(
        f"no airline db.json in {root}{hint}. Give a tau2-bench checkout, its data folder, or the folder or file "
        f"db.json; looked in {', '.join(str(root / inside) for inside in _INSIDE)}"
    )


def benchmark_data(given: str | Path | None) -> Path:
    """The place of the benchmark's data: what was given, else what its own variable TAU2_DATA_DIR names."""
    found = given or os.environ.get(DATA_VARIABLE)
    if not found:
        raise InputError(
            "airline/tau2 needs tau2-bench's data; give data=FOLDER (a checkout, its data folder or a db.json), or set "
            f"{DATA_VARIABLE}"
        )
    return Path(found).expanduser()


def load_world(path: str | Path) -> AirlineWorld:
    """The world of a `db.json`, or of a folder that `airline_folder` understands; parsed once per process.

    A file changed on disk (time or size) is read again. The world's tag holds the sha256 of the file.
    """
    given = Path(path).expanduser()
    file = (given if given.is_file() else airline_folder(given) / "db.json").resolve()
    stat = file.stat()
    version = (stat.st_mtime_ns, stat.st_size)
    known = _WORLDS.get(file)
    if known is not None and known[0] == version:
        return known[1]
    raw = file.read_bytes()
    try:
        db = json.loads(raw)
    except (ValueError, RecursionError) as wrong:
        raise InputError(f"{file} is not whole JSON ({wrong}): it may be cut off, fetch it again") from wrong
    try:
        world = AirlineWorld.from_json(db, f"airline-{hashlib.sha256(raw).hexdigest()[:16]}")
    except InputError as wrong:
        raise InputError(f"{file}: {wrong}") from wrong
    _WORLDS[file] = (version, world)
    return world
