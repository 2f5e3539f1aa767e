"""Why the benchmark's grader and the semantic one come to different verdicts, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from banty.envs.airline.canonical import same_record
from banty.envs.airline.meaning import UNORDERED, normal
from banty.envs.state import State

_MOST_NAMED = 3


def database_words(state: State, right: State) -> str:
    """What sets two databases of one meaning apart under the benchmark's hash: places, and whether it is the order of a
    list, the spelling of a number, or which free id a new record got."""
    found = list(_differences(state, right))
    more = f", and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"{'; '.join(found[:_MOST_NAMED])}{more}"


def _differences(state: State, right: State) -> Iterator[str]:
    for table, key in sorted({*state.touched(), *right.touched()}):
        one, other = state.get(table, key), right.get(table, key)
        if same_record(one, other):
            continue
        if one is None or other is None or normal(one) != normal(other):
            yield f"{table}/{key}: a new record under another id"
            continue
        yield from (f"{table}/{key}.{name}: {words}" for name, words in _fields(one, other))


def _fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in sorted({*one, *other}):
        if same_record(one.get(name), other.get(name)):
            continue
        if name in UNORDERED and sorted(map(json.dumps, one[name])) == sorted(map(json.dumps, other[name])):
            yield name, "another order"
        else:
            yield name, f"{_short(one.get(name))} for {_short(other.get(name))}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def told_words(needles: Sequence[str], said: Mapping[str, bool], told: Mapping[str, bool]) -> str:
    """For which of the words that had to be said the graders disagree: `said` as letters, `told` by meaning."""
    parts = [
        f"{needle!r} stands only inside other words or numbers"
        if said[needle]
        else f"{needle!r} is said, in another spelling"
        for needle in needles
        if said[needle] != told[needle]
    ]
    return "; ".join(parts)
