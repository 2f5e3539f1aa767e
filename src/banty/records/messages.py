"""What is said: messages, tool calls and what went wrong while reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = Any
"""A value that `json.dumps` accepts and `json.loads` gives back."""

Role = Literal["system", "user", "assistant", "tool"]
Effect = Literal["read", "write", "terminal", "unknown"]
"""What a call may do. `unknown` stands in imported records alone, whose log does not say: nothing may be concluded from
it. A tool of an environment declares one of the other three."""
FaultKind = Literal["malformed", "truncated", "unknown_tool", "unknown_parameter", "missing_parameter", "bad_value"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the policy made, parsed and with the types its schema asks for."""

    name: str
    arguments: Mapping[str, JSON]
    id: str = ""

    def to_json(self) -> JSON:
        return {"name": self.name, "arguments": dict(self.arguments), "id": self.id}

    @classmethod
    def from_json(cls, data: JSON) -> ToolCall:
        return cls(data["name"], data["arguments"], data.get("id", ""))


@dataclass(frozen=True, slots=True)
class CallFault:
    """A call the policy tried to make and that cannot be executed as written.

    `order` is its place among all the calls of the message, parsed and broken together, so that answers come back
    in the order the policy wrote. `position` is the character of the message's raw text where the trouble is, and
    `raw` the text of the block, so that nothing the policy wrote is lost.
    """

    kind: FaultKind
    message: str
    order: int = 0
    position: int = 0
    raw: str = ""
    name: str = ""

    def to_json(self) -> JSON:
        return {name: getattr(self, name) for name in ("kind", "message", "order", "position", "raw", "name")}

    @classmethod
    def from_json(cls, data: JSON) -> CallFault:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat entry.

    An assistant message holds visible `content`, `reasoning` (never a source of calls), executable `calls` and
    `faults`. A tool message answers the call `call_id`.
    """

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    faults: tuple[CallFault, ...] = ()
    reasoning: str = ""
    call_id: str = ""

    def to_json(self) -> JSON:
        """Keys with empty values are left out."""
        data: dict[str, JSON] = {"role": self.role, "content": self.content}
        if self.calls:
            data["calls"] = [call.to_json() for call in self.calls]
        if self.faults:
            data["faults"] = [fault.to_json() for fault in self.faults]
        if self.reasoning:
            data["reasoning"] = self.reasoning
        if self.call_id:
            data["call_id"] = self.call_id
        return data

    @classmethod
    def from_json(cls, data: JSON) -> Message:
        return cls(
            role=data["role"],
            content=data.get("content", ""),
            calls=tuple(ToolCall.from_json(call) for call in data.get("calls", ())),
            faults=tuple(CallFault.from_json(fault) for fault in data.get("faults", ())),
            reasoning=data.get("reasoning", ""),
            call_id=data.get("call_id", ""),
        )


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the policy is told of it: a name, what it does, and a JSON Schema object of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, JSON] = field(default_factory=lambda: {"type": "object", "properties": {}})
    effect: Effect = "read"

    def to_openai(self) -> JSON:
        """The function form that chat templates and OpenAI-compatible endpoints take; the effect is not shown."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
            "effect": self.effect,
        }

    @classmethod
    def from_json(cls, data: JSON) -> ToolSchema:
        return cls(**data)
