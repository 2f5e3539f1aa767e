"""The airline desk: the tools, a customer, a policy text and a verdict, as one episode."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from banty.envs.airline.customers import GREETING, Customer
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.rubric import Conversation, Gold, Grade, score
from banty.envs.airline.tools import AirlineTools
from banty.envs.airline.trips import compact
from banty.records import (
    JSON,
    CallResult,
    Completion,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    ToolCall,
    ToolSchema,
)

AGENT_STOP = "###STOP###"

MINI_TOOLS: dict[str, str] = {
    "get_user_details": "member level, reservations, payment",
    "get_reservation_details": "one reservation",
    "search_direct_flight": "flights with prices",
    "cancel_reservation": "cancel all of it",
    "update_reservation_flights": "new flights",
    "update_reservation_baggages": "new bag counts",
    "transfer_to_human_agents": "hand over",
}
"""The tools `airline/mini` offers, each with the few words it is described by there."""


@dataclass(frozen=True)
class Preset:
    """What an agent is shown: the policy, which tools (None for all, in our words), how results read, and whether a
    transfer, or an answer with neither text nor a call, ends the episode.

    With `instructions` the system message is the benchmark's frame around both texts, without them the policy alone.
    """

    policy: str
    greeting: bool
    tools: tuple[ToolSchema, ...] | None
    compact: bool
    transfer_ends: bool
    silence_ends: bool = False
    instructions: str = ""

    @property
    def system(self) -> str:
        if not self.instructions:
            return self.policy
        return f"<instructions>\n{self.instructions}\n</instructions>\n<policy>\n{self.policy}\n</policy>"


@cache
def preset(name: str) -> Preset:
    """`mini` (small prompt, compact results) or `full` (all tools, full results)."""
    text = resources.files("banty.envs.airline").joinpath(f"policy_{name}.md").read_text().strip()
    if name == "mini":
        return Preset(text, greeting=False, tools=_mini_schemas(), compact=True, transfer_ends=True)
    return Preset(text, greeting=True, tools=None, compact=False, transfer_ends=False)


class AirlineDesk(AirlineTools):
    """One conversation with one customer."""

    def __init__(self, world: AirlineWorld, customer: Customer, gold: Gold, shown: Preset, grade: Grade) -> None:
        super().__init__(world)
        self._customer = customer
        self._gold = gold
        self._shown = shown
        self._grade = grade
        self._talk = Conversation()

    async def start(self, host: Host) -> Opening:
        first = await self._customer.open(host)
        self._talk.customer_text = first
        messages = [Message("system", self._shown.system)]
        if self._shown.greeting:
            messages.append(Message("assistant", GREETING))
            self._talk.agent_texts.append(GREETING)
        return self.opening(*messages, Message("user", first))

    def offered(self) -> tuple[ToolSchema, ...]:
        return super().offered() if self._shown.tools is None else self._shown.tools

    def accepts(self, name: str) -> bool:
        return name in self.tools if self._shown.tools is None else super().accepts(name)

    def view(self, name: str, result: JSON) -> str:
        text = super().view(name, result)
        if not self._shown.compact or not text.startswith(("{", "[")):
            return text
        short = compact(name, json.loads(text))
        return text if short is None else short

    async def call(self, call: ToolCall, host: Host) -> CallResult:
        result = await super().call(call, host)
        self._talk.record_call(result)
        return result

    async def step(self, completion: Completion, host: Host) -> Observation:
        message = completion.message
        if message.content.strip() and (message.calls or message.faults):
            self._talk.agent_texts.append(message.content)
        seen = await super().step(completion, host)
        if self._shown.transfer_ends and self._talk.transferred:
            self._talk.ended_by = "user_stop"
            return dataclasses.replace(seen, done=True)
        return seen

    async def reply(self, text: str, host: Host) -> Observation:
        if self._shown.silence_ends and not text.strip():
            self._talk.ended_by = "agent_error"
            return Observation(done=True)
        self._talk.agent_texts.append(text)
        if AGENT_STOP in text:
            self._talk.ended_by = "agent_stop"
            return Observation(done=True)
        answer = await self._customer.reply(text, self._talk.transferred, host)
        self._talk.customer_text = answer.text
        if answer.ending:
            self._talk.ended_by = "user_stop"
        return Observation((Message("user", answer.text),), done=bool(answer.ending))

    def outcome(self) -> Outcome:
        return score(self.world, self.state, self._gold, self._talk, self._grade)


@cache
def _mini_schemas() -> tuple[ToolSchema, ...]:
    return tuple(
        dataclasses.replace(AirlineTools.tools[name].schema, description=words) for name, words in MINI_TOOLS.items()
    )
