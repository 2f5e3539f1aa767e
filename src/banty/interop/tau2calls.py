"""What tool calls do to an airline database, call by call, in terms any implementation can be compared by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from banty.envs.airline.canonical import tau2_hash
from banty.envs.airline.data import AirlineWorld, load_world
from banty.envs.airline.tools import AirlineTools
from banty.envs.state import State
from banty.errors import InputError
from banty.interop.places import Place, described
from banty.records import JSON, ToolCall

FRESH = "calls"
"""What a sequence is called in a file that holds only one."""


@dataclass(frozen=True)
class Tau2Call:
    """What became of a call: whether it succeeded, the text the agent reads, and the benchmark's hash of the whole
    database after it. A call that failed may have changed the database all the same."""

    name: str
    arguments: Mapping[str, JSON]
    ok: bool
    text: str
    database: str

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "arguments": dict(self.arguments),
            "ok": self.ok,
            "text": self.text,
            "database": self.database,
        }


def run_tau2_calls(
    calls: Sequence[ToolCall | Mapping[str, Any]], database: AirlineWorld | State | str | Path
) -> list[Tau2Call]:
    """Run calls one after the other as tau2-bench's airline domain does.

    A call is a `ToolCall` or a mapping with `name` and `arguments`. `database` is a `db.json`, a folder with one or a
    world, and then each run begins with it fresh; or a State to go on from, which the calls change. The hash is sha256
    over the JSON of the typed database with sorted keys, as the benchmark's evaluator compares it.

    Raises InputError for a database that is none and for what is no call.
    """
    world = load_world(database) if isinstance(database, (str, Path)) else database
    state = State(world) if isinstance(world, AirlineWorld) else world
    assert isinstance(state.world, AirlineWorld), "the airline's tools need an airline's state"
    desk = AirlineTools(state.world, state)
    place = Path("calls")
    made = [each if isinstance(each, ToolCall) else _call(each, Place(place, n)) for n, each in enumerate(calls, 1)]
    done = []
    known, at = "", ""
    for call in made:
        ok, text = desk.execute(call.name, call.arguments)
        if state.hash() != at or not known:  # which costs only what has changed
            known, at = tau2_hash(state), state.hash()
        done.append(Tau2Call(call.name, call.arguments, ok, text, known))
    return done


def read_calls(file: Path) -> dict[str, list[ToolCall]]:
    """Sequences of calls by name: from a JSON list of `{name, arguments}`, JSON lines of them, or an object of lists.

    Raises InputError naming the file and the call.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {file}; give a file of calls: JSON of [{{name, arguments}}]") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    found, place = (
        _parsed(text, file),
        Place(file, advice="Give a list of {name, arguments}, or an object of such lists"),
    )
    if isinstance(found, Mapping) and "name" not in found:
        return {str(name): _calls(listed, replace(place, what=f"sequence {name!r}")) for name, listed in found.items()}
    return {FRESH: _calls([found] if isinstance(found, Mapping) else found, place)}


def _parsed(text: str, file: Path) -> Any:
    try:
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not whole JSON ({error}); give a list of {{name, arguments}}, or lines") from error


def _calls(listed: Any, place: Place) -> list[ToolCall]:
    if not isinstance(listed, list):
        raise InputError(f"{place}: expected a list of calls, found {described(listed)}")
    return [_call(raw, replace(place, record=number)) for number, raw in enumerate(listed, 1)]


def _call(raw: Any, place: Place) -> ToolCall:
    place.take(raw, "object")
    return ToolCall(place.field(raw, "name", "text"), place.field(raw, "arguments", "object"), str(raw.get("id") or ""))
