"""Reference calls beside an imported store: `golden.json`, task id to the calls of one path to the goal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.interop.effects import named, read_json_file
from banty.interop.places import Place, described
from banty.interop.tau2 import golden_call, golden_of_tasks
from banty.records import JSON, ToolCall, compared_of

GOLDEN = "golden.json"


def read_golden(path: Path, option: str = "--golden") -> dict[str, tuple[ToolCall, ...]]:
    """The reference calls in a file, by its own keys: an object of lists of `{name, arguments}`, or a task file of
    tau2-bench. A call may name in `compare_args` the arguments that count; without it all do. An empty list means that
    a right ending makes no call; a task that is missing, that nobody knows. Errors name the `option` that the file was
    given with, if any.

    Raises InputError for anything else.
    """
    found = read_json_file(path, option)
    if isinstance(found, list):
        return golden_of_tasks(found, path)
    if not isinstance(found, Mapping):
        raise InputError(
            f"{named(path, option)} holds {described(found)} instead of an object of lists of calls by task"
        )
    return {str(key): _calls(value, Place(path, 0, f"task {key!r}")) for key, value in found.items()}


def _calls(listed: Any, place: Place) -> tuple[ToolCall, ...]:
    parts = [(raw, place.part(f"call {number}")) for number, raw in enumerate(place.take(listed, "list"), 1)]
    return tuple(golden_call(where.take(raw, "object"), where) for raw, where in parts)


def golden_json(golden: Mapping[str, tuple[ToolCall, ...]]) -> JSON:
    return {key: [_plain(call) for call in calls] for key, calls in golden.items()}


def _plain(call: ToolCall) -> dict[str, JSON]:
    plain: dict[str, JSON] = {"name": call.name, "arguments": dict(call.arguments)}
    compared = compared_of(call)
    return plain if compared is None else plain | {"compare_args": list(compared)}
