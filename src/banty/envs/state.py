"""Copy-on-write state over a shared world, with a hash that costs what changed.

A `World` is parsed once and shared, read-only, by every episode. A `State` is one episode's view: the records it has
touched, over the world's. Starting one costs a few empty dictionaries, whatever the size of the world.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode
_MODULUS = 1 << 128
_DELETED: Any = object()


class World:
    """Named tables of records, each record JSON-like. Never changed after it is built.

    `tag` tells worlds apart in state hashes; records must not be mutated, nor handed out to code that would.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Any]], tag: str) -> None:
        self.tables = tables
        self.tag = tag
        self._digests: dict[tuple[str, str], int] = {}

    def digest(self, table: str, key: str) -> int:
        """The digest of a base record, 0 where there is none; computed once per record."""
        place = (table, key)
        found = self._digests.get(place)
        if found is None:
            record = self.tables[table].get(key, _DELETED)
            found = self._digests[place] = 0 if record is _DELETED else record_digest(table, key, record)
        return found


def record_digest(table: str, key: str, record: Any) -> int:
    """A 128-bit digest of one record in its place; equal JSON (25 and 25.0 differ), equal digest."""
    text = _encode([table, key, record])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


class State:
    """One episode's state.

    Reading is free. To change a record call `edit` *every time*, also for a record edited before: the hash looks
    again only at what `edit`, `replace`, `put` and `delete` have named since it was last asked for.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._overlay: dict[tuple[str, str], Any] = {}
        self._shared: set[tuple[str, str]] = set()  # overlay records that share fields with others
        self._dirty: set[tuple[str, str]] = set()
        self._contribution: dict[tuple[str, str], int] = {}
        self._sum = 0
        self._hash = ""

    def get(self, table: str, key: str) -> Any:
        """The record, not to be mutated, or None."""
        record = self._overlay.get((table, key))
        if record is None:
            return self.world.tables[table].get(key)
        return None if record is _DELETED else record

    def __contains__(self, place: tuple[str, str]) -> bool:
        return self.get(*place) is not None

    def edit(self, table: str, key: str) -> Any:
        """A private copy of the record to mutate in place. Raises KeyError where there is none."""
        place = (table, key)
        record = self._overlay.get(place)
        if record is None:
            record = self._overlay[place] = copy.deepcopy(self.world.tables[table][key])
        elif record is _DELETED:
            raise KeyError(key)
        elif place in self._shared:
            record = self._overlay[place] = copy.deepcopy(record)
            self._shared.remove(place)
        self._dirty.add(place)
        return record

    def replace(self, table: str, key: str, /, **fields: Any) -> Any:
        """The record, a dictionary, with these fields exchanged or added; not to be mutated.

        Cheaper than `edit`, since the other fields are shared with the record as it was, not copied. The state owns
        what it is given. Raises KeyError where there is no record.
        """
        record = self.get(table, key)
        if record is None:
            raise KeyError(key)
        changed = {**record, **fields}
        self.put(table, key, changed)
        self._shared.add((table, key))
        return changed

    def put(self, table: str, key: str, record: Any) -> None:
        """Insert or replace a record; the state owns it from here on."""
        place = (table, key)
        self._overlay[place] = record
        self._shared.discard(place)
        self._dirty.add(place)

    def delete(self, table: str, key: str) -> None:
        if self.get(table, key) is None:
            raise KeyError(key)
        self.put(table, key, _DELETED)

    def keys(self, table: str) -> Iterator[str]:
        """All keys of a table as it stands: the world's in their order, then new ones in theirs."""
        base = self.world.tables[table]
        for key in base:
            if self._overlay.get((table, key)) is not _DELETED:
                yield key
        for (name, key), record in list(self._overlay.items()):  # the caller may edit while it walks
            if name == table and key not in base and record is not _DELETED:
                yield key

    def touched(self) -> list[tuple[str, str]]:
        """Places of all records ever edited, put or deleted, sorted; some may equal the world's again."""
        return sorted(self._overlay)

    def hash(self) -> str:
        """The state's hash: equal for equal records over the same world, whatever the order of changes."""
        for place in self._dirty:
            record = self._overlay[place]
            new = 0 if record is _DELETED else record_digest(*place, record)
            contribution = new - self.world.digest(*place)
            self._sum = (self._sum + contribution - self._contribution.get(place, 0)) % _MODULUS
            self._contribution[place] = contribution
        if self._dirty or not self._hash:
            self._dirty.clear()
            self._hash = f"{self.world.tag}:{self._sum:032x}"
        return self._hash

    def fork(self) -> State:
        """An independent copy; costs what has been touched."""
        other = State(self.world)
        other._overlay = {
            place: record if record is _DELETED else copy.deepcopy(record) for place, record in self._overlay.items()
        }
        other._dirty = set(self._dirty)
        other._contribution = dict(self._contribution)
        other._sum = self._sum
        other._hash = self._hash
        return other
