"""A scripted customer for published tasks: says what its instructions say, in the first person, by simple rules.

Published scenarios are prose for a language model, and no rule follows all of it. This customer costs nothing, is the
same every time and plays any task file through, so that tools, graders and agents can be tried on real tasks. Figures
under it are no figures of the benchmark, whose users are models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from banty.envs.airline.customers import CustomerReply, hear
from banty.envs.userwords import sentences
from banty.records import JSON, Host

PATIENCE = 12
"""Replies after which the customer leaves."""

_QUOTED = re.compile(r"(\"[^\"\n]*\"|“[^”\n]*”)")
_PERSON = re.compile(
    r"\b(?P<agent>(?:(?:the|an) )?(?:customer |service |support )*agent\b(?P<agents_is> is\b)?)"
    r"|\byou(?P<be> are| were|['’]re)\b|\byou(?=['’](?:ve|d|ll)\b)|\byour(?P<own>s|self)?\b"
    r"|\b(?P<object>to|for|with|from|of|about|gives?|tells?|told|asks?|offers?|lets?|helps?|charges?|costs?|caused?"
    r"|upgrades?|refunds?) you\b"
    r"|\byou\b",
    re.I,
)
_BE = {" are": "I am", " were": "I was", "'re": "I'm", "’re": "I'm"}
_OWN = {None: "my", "s": "mine", "self": "myself"}
_CONDITION = re.compile(
    r"^(?:even |and |only )*if\b[^,]*\b(?:you|asked|not possible|can(?:not|['’]t))\b[^,]*,\s*", re.I
)
_SAYING = re.compile(r"^(?:mention|say|explain|state|insist)\b(?: that\b)?[\s:]*", re.I)


def in_first_person(text: str) -> str:
    """Instructions as the customer says them: `You want your bags` is `I want my bags`, the agent is `you`.

    What stands in quotation marks stays as it is.
    """
    parts = _QUOTED.split(text)
    return "".join(part if place % 2 else _PERSON.sub(_turned, part) for place, part in enumerate(parts))


def _turned(found: re.Match[str]) -> str:
    if found["agent"]:
        said = "you are" if found["agents_is"] else "you"
    elif found["be"]:
        return _BE[found["be"].lower()]
    elif found["object"]:
        return f"{found['object']} me"
    elif found.group().lower().startswith("your"):
        said = _OWN[found["own"].lower() if found["own"] else None]
    else:
        return "I"
    return said.capitalize() if found.group()[0].isupper() else said


class RecitingCustomer:
    """Opens with the reason for the call, tells what is known at the first question and what else is wanted at the
    next, meets refusals with what the instructions keep for them, agrees to every proposal, and leaves when nothing is
    left to say."""

    def __init__(self, instructions: Mapping[str, JSON] | str) -> None:
        given = {"reason_for_call": instructions} if isinstance(instructions, str) else instructions
        self._reason = _spoken(given.get("reason_for_call")) or ["I need help with a reservation."]
        self._known = [*_spoken(given.get("known_info")), *_spoken(given.get("unknown_info"))]
        told = _spoken(given.get("task_instructions"))
        self._kept = [_SAYING.sub("", _CONDITION.sub("", line)) for line in told if _CONDITION.match(line)]
        self._wishes = [line for line in told if not _CONDITION.match(line)]
        self._untold = [lines for lines in (self._known, self._wishes) if lines]
        self._turn = 0

    async def open(self, host: Host) -> str:
        return " ".join(self._reason)

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        self._turn += 1
        if transferred:
            return CustomerReply("###TRANSFER###", "transfer")
        if self._turn > PATIENCE:
            return CustomerReply("I have to go. ###STOP###", "stop")
        heard = hear(text)
        if heard.proposes:
            return CustomerReply("Yes, please go ahead.")
        if heard.refuses and self._kept:
            return CustomerReply(_capital(self._kept.pop(0)))
        if self._untold:
            return CustomerReply(" ".join(self._untold.pop(0)))
        if heard.greets:
            return CustomerReply(" ".join(self._reason))
        if heard.asks or heard.unclear:
            return CustomerReply(" ".join([*self._known, *self._wishes]) or "I do not know.")
        if heard.waits:
            return CustomerReply("Sure.")
        return CustomerReply("Thank you. ###STOP###", "stop")


def _spoken(text: JSON) -> list[str]:
    unwrapped = re.sub(r"(?<=\S)[ \t]*\n(?=\S)", " ", str(text or ""))  # a line break alone ends no sentence
    return [line.strip() for line in sentences(in_first_person(unwrapped))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
