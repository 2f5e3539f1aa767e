"""When two databases are the same to tau2-bench: by its hash, or, much faster, by the records that were touched."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from banty.envs.airline.data import TABLES, AirlineWorld, airline_world, cell_key
from banty.envs.state import State
from banty.errors import InputError

_encode = json.JSONEncoder(sort_keys=True, default=str).encode


def tau2_hash(state: State) -> str:
    """The reference's hash of the whole database: sha256 over its JSON with sorted keys.

    The order of a list counts, and so does the type of a number: 250 and 250.0 differ. The first hash over a world
    takes as long as the reference's (60 ms) and keeps the JSON of untouched records; those after it take some 5 ms.
    """
    kept = _kept(airline_world(state))
    changed: dict[str, set[str]] = {table: set() for table in TABLES}
    for table, key in state.touched():
        if table == "cells":
            changed["flights"].add(key.partition("|")[0])
        else:
            changed[table].add(key)
    tables = [_table_json(state, kept[table], changed[table], table) for table in sorted(TABLES)]
    return hashlib.sha256(f"{{{', '.join(tables)}}}".encode()).hexdigest()


def same_database(state_a: State, state_b: State) -> bool:
    """True exactly when `tau2_hash` is equal; costs only the records that either state has touched."""
    if state_a.world is not state_b.world:
        raise InputError("these states are over two worlds; compare the tau2_hash of each")
    for place in {*state_a.touched(), *state_b.touched()}:
        if not same_record(state_a.get(*place), state_b.get(*place)):
            return False
    return True


def same_record(one: Any, other: Any) -> bool:
    """True when two records, or parts of them, are the same letter by letter in the hash."""
    return one is other or _encode(one) == _encode(other)


class _Kept(NamedTuple):
    """A table of the untouched database: the JSON of each record, and of the whole."""

    records: dict[str, str]
    whole: str


_KEPT: WeakKeyDictionary[AirlineWorld, dict[str, _Kept]] = WeakKeyDictionary()


def _kept(world: AirlineWorld) -> dict[str, _Kept]:
    if world not in _KEPT:
        untouched = State(world)
        found = {}
        for table in TABLES:
            records = {key: _encode(_record(untouched, table, key)) for key in sorted(world.tables[table])}
            found[table] = _Kept(records, _joined(table, records))
        _KEPT[world] = found
    return _KEPT[world]


def _table_json(state: State, kept: _Kept, changed: set[str], table: str) -> str:
    if not changed:
        return kept.whole
    records = dict(kept.records)
    for key in changed:
        records[key] = _encode(_record(state, table, key))
    return _joined(table, records if len(records) == len(kept.records) else dict(sorted(records.items())))


def _joined(table: str, records: dict[str, str]) -> str:
    return f'"{table}": {{{", ".join(f"{json.dumps(key)}: {text}" for key, text in records.items())}}}'


def _record(state: State, table: str, key: str) -> Any:
    """A record as db.json has it: a flight with its dates."""
    record = state.get(table, key)
    assert record is not None, f"the desk's tools delete no record, and {table} has no {key}"
    if table != "flights":
        return record
    dates = {date: state.get("cells", cell_key(key, date)) for date in airline_world(state).dates(key)}
    return {**record, "dates": dates}
