"""The scripted customer of published tasks, whose scenario is prose: it tells the prose, a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from banty.envs.airline.customers import CustomerReply, hear
from banty.records import JSON, Host

TELLING_VERSION = 1
YES = "Yes, please go ahead."
LEAVES = "That is all, thank you. ###STOP###"
_PATIENCE = 30
_REPEATS = 2

_PERSONS = (
    (r"\byou are\b", "I am"),
    (r"\byou're\b", "I'm"),
    (r"\byou were\b", "I was"),
    (r"\byourself\b", "myself"),
    (r"\byours\b", "mine"),
    (r"\byour\b", "my"),
    (r"\b(to|for|with|tells?|told|offers?|gives?|asks?) you\b", r"\1 me"),
    (r"\byou\b", "I"),
)


class TellingCustomer:
    """A customer without a model, for a scenario in words: states the reason for the call, says who they are when asked
    anything, agrees to every proposal, tells what else the scenario has when asked more or refused, and leaves.

    Deterministic, and no judge of anything: it neither withholds, negotiates nor notices a wrong proposal. It makes the
    published tasks playable without a second model; figures under it compare with those of no other user.
    """

    def __init__(self, instructions: Mapping[str, JSON] | str) -> None:
        told = {"reason_for_call": instructions} if isinstance(instructions, str) else instructions
        self._reason = in_first_person(str(told.get("reason_for_call") or ""))
        details = [told.get("known_info"), told.get("unknown_info"), *_pieces(told.get("task_instructions"))]
        self._left = [in_first_person(str(each)) for each in details if each]
        self._turn = 0
        self._previous = ""
        self._repeats = 0

    async def open(self, host: Host) -> str:
        return self._reason or "Hello."

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        self._turn += 1
        self._repeats = self._repeats + 1 if text == self._previous else 0
        self._previous = text
        if transferred:
            return CustomerReply("###TRANSFER###", "transfer")
        if self._turn > _PATIENCE or self._repeats >= _REPEATS:
            return CustomerReply(LEAVES, "stop")
        heard = hear(text)
        if heard.proposes:
            return CustomerReply(YES)
        if heard.waits and not heard.asks:
            return CustomerReply("Thank you.")
        if heard.greets:
            return CustomerReply(self._reason)
        return CustomerReply(self._left.pop(0)) if self._left else CustomerReply(LEAVES, "stop")


def in_first_person(text: str) -> str:
    """A scenario's "you want" as the customer's own "I want", in one line."""
    said = " ".join(text.split())
    for pattern, words in _PERSONS:
        said = re.sub(pattern, words, said, flags=re.I)
    return re.sub(r"(^|[.!?] )([a-z])", lambda found: found[1] + found[2].upper(), said)


def _pieces(instructions: JSON) -> list[str]:
    """The paragraphs that say what is wanted; those on how to behave are not for the agent's ears."""
    paragraphs = re.split(r"\n\s*\n", str(instructions or ""))
    return [each for each in paragraphs if re.match(r"\s*(you|your|if)\b", each, re.I)]
