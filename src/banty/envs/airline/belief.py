"""What an agent can know from the conversation so far, read anew from its messages at every turn.

Nothing here sees the scenario: only what the customer said and what tools returned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from banty.envs.airline.customers import RESERVATION_CODE, is_yes
from banty.envs.airline.scenario import Intent
from banty.envs.airline.trips import Offer, Profile, Trip, read_offers, read_profile, read_trip
from banty.records import Message, ToolCall

CLOSING = "Anything else?"
GO_AHEAD = "Shall I go ahead (yes/no)?"
SORRY = "I am sorry,"

_INTENTS: Sequence[tuple[Intent, str]] = (
    ("out_of_scope", r"\b(dog|cat|pet|lost|never arrived|miles|meal)\b"),
    ("compensation", r"compensat"),
    ("add_insurance", r"insur"),
    ("rename_passenger", r"(correct|fix|change|replace|wrong|misspelled).*\b(name|passenger)|name.*(misspelled|wrong)"),
    ("add_passenger", r"(add|another|one more) (a )?(passenger|person|my son)|add my son"),
    ("remove_bags", r"\b(remove|fewer)\b.*\b(bags?|luggage|suitcases)\b|\btake (a|one|them)\b.*\boff\b"),
    ("add_bags", r"\b(bags?|luggage|suitcases?)\b"),
    ("total_paid", r"how much|what (was|i paid|did i pay)|total (price|cost|amount)|\bpaid\b"),
    ("change_cabin", r"upgrade|cabin"),
    ("cancel", r"cancel|call off"),
    ("change_date", r"reschedul|another (day|date)|different (day|date)|\bdate of\b"),
    ("book", r"\bbook\b|new flight|new booking|new one way"),
)
_INSISTS = re.compile(r"exception|insist|do it anyway|unacceptable|ridiculous", re.I)
_USER_ID = re.compile(r"\b[a-z]+_[a-z]+_\d{4}\b")
_REASONS = (
    ("health", r"\b(ill|sick|health|doctor)\b"),
    ("weather", r"weather|storm"),
    ("change_of_plan", r"\bplans?\b|don't want to go|not to go|stay home"),
)


def classify(text: str) -> Intent | None:
    """The intent of a customer's request, by key words."""
    return next((intent for intent, words in _INTENTS if re.search(words, text, re.I)), None)


def insists(text: str) -> bool:
    return bool(_INSISTS.search(text))


@dataclass
class Belief:
    """What is known at the agent's turn. `request` holds the customer's messages since the current request began."""

    full_desk: bool = False
    user_id: str = ""
    profile: Profile | None = None
    trips: dict[str, Trip] = field(default_factory=dict)
    offers: dict[tuple[str, str, str], tuple[Offer, ...]] = field(default_factory=dict)
    statuses: dict[tuple[str, str], str] = field(default_factory=dict)
    wrong_codes: set[str] = field(default_factory=set)
    transferred: bool = False
    request: list[str] = field(default_factory=list)
    intent: Intent | None = None
    last_call: ToolCall | None = None
    last_failed: bool = False
    num_failures: int = 0
    wrote: bool = False
    searched: bool = False
    asked: list[str] = field(default_factory=list)
    last_agent_text: str = ""
    last_customer_text: str = ""
    customer_speaks: bool = True

    @property
    def said(self) -> str:
        return " ".join(self.request)

    @property
    def proposed(self) -> bool:
        """The customer is answering a proposal."""
        return self.customer_speaks and GO_AHEAD in self.last_agent_text

    @property
    def agreed(self) -> bool:
        return self.proposed and is_yes(self.last_customer_text)

    @property
    def pressed(self) -> bool:
        """The customer pushes back on a refusal."""
        return self.customer_speaks and self.last_agent_text.startswith(SORRY) and insists(self.last_customer_text)

    @property
    def reservation_id(self) -> str:
        """The reservation the request is about: the code last said, unless the desk knows none of that code, or the
        only trip known to go where they say."""
        codes = [code for code in RESERVATION_CODE.findall(self.said) if code not in self.wrong_codes]
        if codes:
            return str(codes[-1])
        place = self.hint
        found = [trip.id for trip in self.trips.values() if place and trip.destination == place]
        return found[0] if found else ""

    @property
    def hint(self) -> str:
        """The destination by which a customer without a code describes the trip."""
        for text in self.request[1:]:
            match = re.search(r"\bto ([A-Z]{3})\b", text)
            if match and not re.search(r"[A-Z]{3} to [A-Z]{3}", text):
                return match[1]
        return ""

    @property
    def trip(self) -> Trip | None:
        return self.trips.get(self.reservation_id)

    @property
    def date(self) -> str:
        return _last(r"\b\d{4}-\d{2}-\d{2}\b", self.said)

    @property
    def bags(self) -> str:
        return _last(r"\b(\d+) (?:checked )?bags\b", self.said)

    @property
    def payment(self) -> str:
        return _last(r"\b(?:credit_card|gift_card|certificate|card)_\d+\b", self.said)

    @property
    def cabin(self) -> str:
        return _last(r"\b(basic economy|economy|business)\b", self.said.lower()).replace(" ", "_")

    @property
    def passenger(self) -> str:
        return _last(r"\b([A-Z][a-z]+ [A-Z][a-z]+)\b", self.said)

    @property
    def route(self) -> tuple[str, str] | None:
        found = re.findall(r"\b([A-Z]{3}) to ([A-Z]{3})\b", self.said)
        return found[-1] if found else None

    @property
    def reason(self) -> str:
        return next((reason for reason, words in _REASONS if re.search(words, self.said, re.I)), "")


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return str(found[-1]) if found else ""


def read(messages: Sequence[Message], full_desk: bool) -> Belief:
    """The belief after these messages."""
    belief = Belief(full_desk)
    pending: list[ToolCall | None] = []
    for message in messages:
        if message.role == "assistant":
            pending = _in_order(message)
            if not pending:
                belief.last_agent_text = message.content
                belief.asked.append(message.content)
            belief.customer_speaks = False
        elif message.role == "tool":
            _hear_tool(belief, pending.pop(0) if pending else None, message.content)
        elif message.role == "user":
            _hear_customer(belief, message.content)
    return belief


def _in_order(message: Message) -> list[ToolCall | None]:
    """The calls of a message in the order they are answered; None for one that could not be read."""
    broken = {fault.order for fault in message.faults}
    calls = iter(message.calls)
    return [None if order in broken else next(calls) for order in range(len(message.calls) + len(broken))]


def _hear_customer(belief: Belief, text: str) -> None:
    settled = CLOSING in belief.last_agent_text or belief.last_agent_text.startswith(SORRY)
    if not belief.request or (settled and not insists(text)):
        belief.request, belief.asked = [], []
        belief.intent = classify(text)
        belief.wrote = belief.searched = False
        belief.num_failures = 0
        belief.last_call = None
    elif belief.intent is None:
        belief.intent = classify(text)
    belief.request.append(text)
    belief.last_customer_text = text
    belief.customer_speaks = True
    belief.last_failed = False
    if found := _USER_ID.findall(text):
        belief.user_id = str(found[-1])


_WRITES = ("book_reservation", "cancel_reservation", "send_certificate")


def _hear_tool(belief: Belief, call: ToolCall | None, text: str) -> None:
    belief.last_failed = text.startswith("Error")
    if call is None or belief.last_failed:
        belief.num_failures += 1
        belief.last_failed = True
        belief.wrong_codes |= set(re.findall(r"Reservation (\w+) not found", text))
        return
    belief.last_call = call
    arguments: Mapping[str, str] = call.arguments
    if call.name == "get_user_details":
        belief.profile = read_profile(text) or belief.profile
    elif call.name == "get_reservation_details":
        if trip := read_trip(text):
            belief.trips[trip.id] = trip
    elif call.name == "search_direct_flight":
        place = (arguments["origin"], arguments["destination"], arguments["date"])
        belief.offers[place] = read_offers(text)
        belief.searched = True
    elif call.name == "get_flight_status":
        belief.statuses[arguments["flight_number"], arguments["date"]] = text
    elif call.name == "transfer_to_human_agents":
        belief.transferred = True
    elif call.name in _WRITES or call.name.startswith("update_"):
        belief.wrote = True
