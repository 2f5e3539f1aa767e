"""What tau2-bench's simulation JSON has no field for: how our exports write it beside the rest and how it is read back.

The benchmark ignores all of it. Calls without an id get one, since the benchmark pairs answers by them; what could not
be read as a call stands in the list of calls under a name that no tool has. `raw_data` of an assistant message, `info`
of a simulation and the file itself hold an object `banty` for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from banty.errors import InputError
from banty.interop.places import Place
from banty.interop.reading import Ending
from banty.records import JSON, CallFault, Effect, Outcome, Rollout, Status, StatusCause, ToolSchema, Turn

OURS = "banty"
UNREADABLE_CALL = "unreadable_call"
_NO_ID = "banty-"
_UNREAD = "banty-unread-"


def given_id(call_id: str, turn: int, number: int) -> str:
    """The id to write for a call of ours, which may have none."""
    return call_id or f"{_NO_ID}{turn}-{number}"


def unread_id(turn: int, number: int) -> str:
    return f"{_UNREAD}{turn}-{number}"


def own_id(raw: Mapping[str, Any]) -> str:
    """The id of a call or an answer as it was before it was exported."""
    found = str(raw.get("id") or "")
    return "" if found.startswith(_NO_ID) else found


def is_unread(raw: Mapping[str, Any]) -> bool:
    """Whether a listed call stands for one of ours that could not be read."""
    return str(raw.get("id") or "").startswith(_UNREAD)


def _ours(raw: Mapping[str, Any], key: str, place: Place) -> Mapping[str, Any]:
    holder = raw.get(key)
    found: Mapping[str, Any] = place.optional(holder, OURS, "object", {}) if isinstance(holder, Mapping) else {}
    return found


@dataclass(frozen=True)
class Extras:
    """What a turn has beyond the benchmark's message. `errors` are those of the answers, in order."""

    reasoning: str = ""
    faults: list[CallFault] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cut: bool = False

    @classmethod
    def of_turn(cls, turn: Turn) -> Extras:
        errors = [call.error for call in turn.calls]
        plain = all(error in ("", "tool", "unknown_tool") for error in errors)
        return cls(turn.message.reasoning, list(turn.message.faults), [] if plain else errors, turn.finish == "length")

    @classmethod
    def of(cls, raw: Mapping[str, Any], place: Place) -> Extras:
        """Read back from a message. Raises InputError where it is damaged."""
        data = _ours(raw, "raw_data", place)
        if not data:
            return cls()
        place = place.part("raw_data, banty")
        try:
            faults = [CallFault.from_json(each) for each in place.optional(data, "faults", "list", [])]
        except (TypeError, ValueError):
            raise place.part("faults").wrong("what an export of banty wrote", data.get("faults")) from None
        errors = [str(error) for error in place.optional(data, "errors", "list", [])]
        reasoning = place.optional(data, "reasoning", "text", "")
        return cls(reasoning, faults, errors, place.optional(data, "cut", "yes or no", False))

    def to_json(self) -> JSON:
        """A message's `raw_data`: None where there is nothing to say."""
        data: dict[str, JSON] = {}
        if self.reasoning:
            data["reasoning"] = self.reasoning
        if self.faults:
            data["faults"] = [fault.to_json() for fault in self.faults]
        if self.errors:
            data["errors"] = self.errors
        if self.cut:
            data["cut"] = True
        return {OURS: data} if data else None


@dataclass(frozen=True)
class RolloutExtras:
    """What a rollout has beyond the benchmark's simulation. `num_given` messages were handed to the agent; `world` is
    the tag of the database it was played on, where that is known."""

    rollout_id: str
    policy: str
    num_given: int
    ending: Ending
    outcome: Outcome
    world: str = ""

    @classmethod
    def of_rollout(cls, rollout: Rollout, num_given: int, world: str) -> RolloutExtras:
        ending = Ending(status=rollout.status, cause=rollout.cause, detail=rollout.detail)
        return cls(rollout.rollout_id, rollout.policy, num_given, ending, rollout.outcome, world)

    @classmethod
    def of(cls, simulation: Mapping[str, Any], place: Place) -> RolloutExtras | None:
        """Read back from a simulation; None for one that is not an export of ours. Raises InputError for damage."""
        data = _ours(simulation, "info", place)
        if not data:
            return None
        place = place.part("info, banty")
        status, cause = place.field(data, "status", "text"), place.optional(data, "cause", "text", "")
        if status not in get_args(Status) or cause not in get_args(StatusCause):
            allowed = f"one of {', '.join(get_args(Status))}, and its cause"
            raise place.part("status").wrong(allowed, f"{status} {cause}")
        return cls(
            place.optional(data, "rollout_id", "text", ""),
            place.optional(data, "policy", "text", ""),
            max(0, int(place.field(data, "num_given", "whole number"))),
            Ending(status=status, cause=cause, detail=place.optional(data, "detail", "text", "")),
            _outcome(place.field(data, "outcome", "object"), place.part("outcome")),
            place.optional(data, "world", "text", ""),
        )

    def to_json(self) -> JSON:
        return {
            OURS: {
                "rollout_id": self.rollout_id,
                "policy": self.policy,
                "num_given": self.num_given,
                "status": self.ending.status,
                "cause": self.ending.cause,
                "detail": self.ending.detail,
                "outcome": self.outcome.to_json(),
                "world": self.world,
            }
        }


def _outcome(data: Mapping[str, Any], place: Place) -> Outcome:
    listed = place.optional(data, "components", "object", {})
    components = {str(name): place.part("components").optional(listed, name, "number") for name in listed}
    reward = place.optional(data, "reward", "number")
    success = place.optional(data, "success", "yes or no")
    return Outcome(success, reward, components, place.optional(data, "reason", "text", ""))


def tools_json(tools: Sequence[ToolSchema]) -> JSON:
    """The object that a file of ours holds beside the benchmark's: the tools, with what each may do."""
    return {"tools": [tool.to_json() for tool in tools]}


def tools_of(data: Mapping[str, Any], place: Place) -> tuple[ToolSchema, ...]:
    """The tools of an export of ours; none of a file by anybody else. Raises InputError for damage."""
    ours = place.optional(data, OURS, "object", {})
    found = []
    for raw in place.part(OURS).optional(ours, "tools", "list", []):
        where = place.part(f"{OURS}, tools")
        where.take(raw, "object")
        effect = where.field(raw, "effect", "text")
        if effect not in get_args(Effect):
            raise InputError(f"{where}: {effect!r} is no effect; one of {', '.join(get_args(Effect))}")
        name, about = where.field(raw, "name", "text"), where.optional(raw, "description", "text", "")
        found.append(ToolSchema(name, about, where.optional(raw, "parameters", "object", {}), effect))
    return tuple(found)
