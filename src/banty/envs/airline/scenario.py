"""What a customer wants, what they can tell, and what a right ending is. Private to the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from banty.records import JSON, ToolCall

Intent = Literal[
    "cancel",
    "change_date",
    "add_bags",
    "remove_bags",
    "total_paid",
    "change_cabin",
    "rename_passenger",
    "add_passenger",
    "add_insurance",
    "book",
    "compensation",
    "out_of_scope",
]
Slot = Literal["user_id", "reservation_id", "date", "bags", "payment", "reason", "cabin", "passenger", "route"]


@dataclass(frozen=True)
class Request:
    """One thing a customer wants.

    `says` holds what the customer can tell, as text, by slot; what is in `volunteered` is said at once, the rest only
    when asked. `hint` is what they say when asked for a reservation id they do not have; `slip` is a code that no
    reservation has, which they say the first time instead of the right one. A refusal, right or wrong, is pushed back
    on `insists` times. `right` is what a right agent does: carry it out (`do`), say why not (`refuse`), or hand over
    (`transfer`). `writes` are the calls of a right ending, `tells` the values the agent has to say, `looks_up` the
    reservations to be read before anything is decided.
    """

    intent: Intent
    right: Literal["do", "refuse", "transfer"]
    reservation_id: str = ""
    says: Mapping[Slot, str] = field(default_factory=dict)
    volunteered: frozenset[Slot] = frozenset()
    hint: str = ""
    slip: str = ""
    detail: str = ""
    insists: int = 0
    writes: tuple[ToolCall, ...] = ()
    tells: tuple[str, ...] = ()
    looks_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """One customer's conversation: who they are and their requests, in order.

    `phrasing` is the split whose paraphrase templates the customer speaks in.
    """

    user_id: str
    requests: tuple[Request, ...]
    phrasing: str = "train"
    patience: int = 12

    @property
    def writes(self) -> tuple[ToolCall, ...]:
        return tuple(call for request in self.requests for call in request.writes)

    @property
    def tells(self) -> tuple[str, ...]:
        return tuple(value for request in self.requests for value in request.tells)

    @property
    def looks_up(self) -> frozenset[str]:
        return frozenset(place for request in self.requests for place in request.looks_up)

    @property
    def transfers(self) -> bool:
        return any(request.right == "transfer" for request in self.requests)

    def to_json(self) -> JSON:
        """Everything that decides what is asked and how it is scored; for fingerprints, never for an agent."""
        return {
            "user_id": self.user_id,
            "phrasing": self.phrasing,
            "patience": self.patience,
            "requests": [
                {
                    "intent": request.intent,
                    "right": request.right,
                    "reservation_id": request.reservation_id,
                    "says": dict(request.says),
                    "volunteered": sorted(request.volunteered),
                    "hint": request.hint,
                    "slip": request.slip,
                    "detail": request.detail,
                    "insists": request.insists,
                    "writes": [call.to_json() for call in request.writes],
                    "tells": list(request.tells),
                    "looks_up": list(request.looks_up),
                }
                for request in self.requests
            ],
        }
