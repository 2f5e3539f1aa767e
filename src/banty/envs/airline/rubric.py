"""Scoring a conversation: the semantic grader, and both graders' verdicts side by side.

`tau2` is the benchmark's own: equal canonical databases and required words said (`grade_tau2`). `semantic` is ours: the
order of segments, passengers and payments has no meaning, numbers count by value, and for generated tasks the way
counts too: a yes before every write, the reservation read before it is decided on, a transfer exactly when due, and
nothing written, not even to be undone, where a right ending changes nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from banty.envs.airline.canonical import same_database
from banty.envs.airline.customers import is_yes
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.grade_tau2 import EndedBy, gold_state, grade_tau2
from banty.envs.airline.scenario import Scenario
from banty.envs.airline.tau2tasks import DEFAULT_BASIS, Tau2Task
from banty.envs.state import State
from banty.records import CallResult, Outcome

Grade = Literal["tau2", "semantic"]


@dataclass(frozen=True)
class Gold:
    """What a right ending is. `process` says whether the semantic grader judges the way as well."""

    task: Tau2Task
    looks_up: frozenset[str] = frozenset()
    transfers: bool = False
    process: bool = True

    @classmethod
    def of_scenario(cls, scenario: Scenario) -> Gold:
        actions = [{"name": call.name, "arguments": dict(call.arguments)} for call in scenario.writes]
        raw = {"evaluation_criteria": {"actions": actions}}
        task = Tau2Task("", "", scenario.writes, scenario.tells, DEFAULT_BASIS, raw)
        return cls(task, scenario.looks_up, scenario.transfers)


@dataclass
class Conversation:
    """What an episode has seen so far, as far as scoring goes."""

    calls: list[CallResult] = field(default_factory=list)
    agent_texts: list[str] = field(default_factory=list)
    customer_text: str = ""
    unconfirmed_writes: int = 0
    ended_by: EndedBy | None = None

    def record_call(self, call: CallResult) -> None:
        self.calls.append(call)
        if call.effect == "write" and not call.error and not is_yes(self.customer_text):
            self.unconfirmed_writes += 1

    @property
    def transferred(self) -> bool:
        return any(call.name == "transfer_to_human_agents" and not call.error for call in self.calls)

    def looked_up(self) -> set[str]:
        """Reservations whose record came back in a read before anything was written to them."""
        read: set[str] = set()
        written: set[str] = set()
        for call in self.calls:
            key = str(call.arguments.get("reservation_id"))
            if call.name == "get_reservation_details" and not call.error and key not in written:
                read.add(key)
            elif call.effect == "write" and not call.error:
                written.add(key)
        return read


def score(world: AirlineWorld, state: State, gold: Gold, talk: Conversation, grade: Grade) -> Outcome:
    """The outcome under `grade`; its components hold both graders' verdicts and each part of them.

    A conversation that nobody ended (a cap was reached) has failed under both.
    """
    ended = float(talk.ended_by in ("user_stop", "agent_stop"))
    right = gold_state(world, gold.task.actions)
    semantic: dict[str, float] = {
        "ended": ended,
        "database": float(same_meaning(state, right)),
        "told": float(all(is_told(value, talk.agent_texts) for value in gold.task.communicate)),
    }
    process = {
        "confirmed": float(talk.unconfirmed_writes == 0),
        "looked_up": float(gold.looks_up <= talk.looked_up()),
        "transferred": float(talk.transferred == gold.transfers),
        "restrained": float(set(state.touched()) <= set(right.touched())),
    }
    gates = semantic | process if gold.process else semantic
    tau2 = grade_tau2(world, talk.calls, talk.agent_texts, gold.task, talk.ended_by or "max_steps", gold=right)
    verdicts = {"semantic": float(all(gates.values())), "tau2": float(tau2.pop("reward") or 0.0)}
    success = verdicts[grade] == 1.0
    if grade == "tau2":
        failed = [name for name, value in tau2.items() if value == 0.0 and name != "action"] or ["ended"]
    else:
        failed = [name for name, value in gates.items() if not value]
    components = {**verdicts, **semantic, **process, **{f"tau2_{name}": value for name, value in tau2.items()}}
    return Outcome(success, verdicts[grade], components, "" if success else f"{grade}: {', '.join(failed)}")


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
                new[_normal({**record, "reservation_id": ""})] += 1
            continue
        if table == "users" and record is not None:
            record = {**record, "reservations": sorted(key for key in record["reservations"] if key in known)}
        old[f"{table}/{key}"] = _normal(record)
    return old, new


UNORDERED = ("flights", "passengers", "payment_history")
"""Fields whose order has no meaning."""

BY_VALUE = ("total_baggages", "nonfree_baggages", "amount", "price")
"""Fields in which a text that spells a number is that number: the reference stores some as they were given."""


def _normal(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in UNORDERED else items
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and key in BY_VALUE:
        try:
            return float(value)
        except ValueError:
            return value
    return value
