"""What an airline's records and an agent's words mean, where their letters differ: the semantic grader's equality."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from banty.envs.airline.canonical import same_database
from banty.envs.state import State

UNORDERED = ("flights", "passengers", "payment_history")
"""Fields whose order has no meaning."""

BY_VALUE = ("total_baggages", "nonfree_baggages", "amount", "price")
"""Fields in which a text that spells a number is that number: the reference stores some as they were given."""


def is_told(value: str, texts: Sequence[str]) -> bool:
    """True when one message says `value`: as the same number in any spelling, or as the same words."""
    try:
        number = float(value.replace(",", "").lstrip("$"))
    except ValueError:
        return any(value.casefold() in text.casefold() for text in texts)
    return any(number in _numbers(text) for text in texts)


def _numbers(text: str) -> set[float]:
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return {float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", plain)}


def same_meaning(first: State, second: State) -> bool:
    """Equal but for order without meaning, number spelling, and which free id a new record got."""
    return same_database(first, second) or _meaning(first, second) == _meaning(second, first)


def _meaning(state: State, other: State) -> tuple[Mapping[str, str], Counter[str]]:
    """Touched records in normal form by place, and new reservations as a bag without their ids."""
    places = sorted({*state.touched(), *other.touched()})
    known = state.world.tables["reservations"]
    old: dict[str, str] = {}
    new: Counter[str] = Counter()
    for table, key in places:
        record = state.get(table, key)
        if table == "reservations" and key not in known:
            if record is not None:
                new[normal({**record, "reservation_id": ""})] += 1
            continue
        if table == "users" and record is not None:
            record = {**record, "reservations": sorted(key for key in record["reservations"] if key in known)}
        old[f"{table}/{key}"] = normal(record)
    return old, new


def normal(value: Any) -> str:
    """A record's normal form: one text for all of one meaning."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in UNORDERED else items
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) or (isinstance(value, str) and key in BY_VALUE):
        try:
            return float(value)
        except (ValueError, OverflowError):  # a whole number may be larger than any float
            return value
    return value
