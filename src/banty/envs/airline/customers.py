"""Who the agent talks to: a scripted customer, one played by any policy, and one that does not talk.

All keep one contract (`Customer`): an opening message, then a reply to each message of the agent, until one of the
benchmark's stop words ends the conversation (specs/tau.md section 7).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from banty.envs.airline.phrases import say, templates
from banty.envs.airline.scenario import Request, Scenario, Slot
from banty.envs.usercheck import Ending, check_answer, ending_of
from banty.errors import SimulatorFault
from banty.records import Host, Message

GREETING = "Hi! How can I help you today?"
"""What the agent is taken to have said first; the customer's opening answers it."""


class CustomerReply(NamedTuple):
    text: str
    ending: Ending = ""


class Customer(Protocol):
    """The other side of the conversation; one instance is one episode's."""

    async def open(self, host: Host) -> str: ...

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        """The answer to the agent's `text`; `transferred` says that a transfer to a human has been made."""


class Heard(NamedTuple):
    """What a customer makes of an agent's message.

    `greets` asks what they want at all, `unclear` anything they have no answer to: neither a slot nor whether there is
    something else.
    """

    asks: tuple[Slot, ...]
    proposes: bool
    refuses: bool
    waits: bool
    greets: bool
    unclear: bool


_ASKS: Mapping[Slot, str] = {
    "user_id": r"user ?(id|name)|account (id|name|number)|your id\b",
    "reservation_id": r"(reservation|booking|confirmation) (id|number|code|reference)|which (reservation|booking|trip)",
    "date": r"\bdate\b(?! of birth)|which day|what day|\bwhen (would|do|should)",
    "bags": r"how many .*(bag|suitcase|luggage)|number of (checked )?bags|bags in total",
    "payment": r"payment|pay (with|by|for)|(gift|credit) card|refund (method|to)",
    "reason": r"\breason\b|\bwhy\b",
    "cabin": r"\bcabin\b|which class|what class",
    "passenger": r"passenger|full name|date of birth|correct name",
    "route": r"\bfrom where|\bwhere (from|to|would|do)|origin|destination|route",
}
_REQUESTS = re.compile(
    r"\?|\b(please|kindly|could you|can you|may i have|(i|we)('ll| will| would|'d)?( also| first| just| still)? need"
    r"|provide|share|tell me|let me know|reply|respond)\b",
    re.I,
)
_NOTES = re.compile(r"please note|let me know if|feel free", re.I)
_PROPOSES = re.compile(
    r"\(yes|yes ?/ ?no|\byes\b|\bconfirm|shall i|should i|may i\b|can i go|go ahead|proceed"
    r"|(would you|do you) (like|want) me to"
    r"|\b(is|are) (that|this|it|these|those|the details) (right|correct|ok)|\b(right|correct|ok|okay) ?\?",
    re.I,
)
_NO_PROPOSAL = re.compile(
    r"(?<!like )(?<!want )\b(to|before (i|we)( can)?|so (that )?(i|we) can) (proceed|go ahead|confirm)\b"
    r"|how (would|do) you (like|want) to proceed"
    r"|\bconfirm (your|the|which) (user|account|(full )?name|date|(reservation|booking|confirmation) (id|code|number))"
    r"|\bmay i (have|ask|know|get)\b|\bgo ahead and (share|tell|give|provide|send)",
    re.I,
)
_REFUSES = re.compile(
    r"\b(cannot|can't|can not|unable|not able|against .{0,20}policy|must decline|won't be able"
    r"|(not|isn't|aren't) (allowed|possible|permitted|eligible)|sorry(?! (to hear|for|about)))\b",
    re.I,
)
_WAITS = re.compile(r"\b(one moment|let me (check|look|see)|please hold|hold on|i will (now )?(check|look))\b", re.I)
_CLOSES = re.compile(
    r"\b(any|some)(thing| other| further| more)\b|\belse\b|\bfurther\b|more (i|we) can|have a (nice|great|good)", re.I
)
_GREETS = re.compile(r"(how|what) (can|may|could) (i|we) (help|do|assist)|what do you need", re.I)
_YES = re.compile(
    r"\W*(yes|yeah|yep|sure|correct|right|ok|okay|certainly|absolutely|please do|please go ahead|go ahead|confirmed?"
    r"|i confirm|that's (right|correct)|that is (right|correct)|do it|sounds good)\b",
    re.I,
)
RESERVATION_CODE = re.compile(r"\b(?=[A-Z0-9]*\d)(?=[A-Z0-9]*[A-Z])(?!HAT\d{3}\b)[A-Z0-9]{6}\b")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")


_TAKEN_BACK = re.compile(r"\b(but|not|don't|wait|no(?! (problem|worries)))\b|\b(what|how|which|when|why)\b.*\?", re.I)
_SECOND_THOUGHT = re.compile(r"\W*(but|no|wait|actually|however|hold on)\b", re.I)


def is_yes(text: str) -> bool:
    """True for a customer's message that agrees to what was proposed.

    A `but` or a question in the sentence of the yes takes it back, and so does a second thought right after it.
    """
    first, *rest = re.split(r"(?<=[.!?])\s+", text.strip(), maxsplit=1)
    return bool(_YES.match(first)) and not _TAKEN_BACK.search(first) and not any(map(_SECOND_THOUGHT.match, rest))


def hear(text: str) -> Heard:
    """What a message asks for, proposes or refuses. Works on the sentences that want an answer."""
    text = re.sub(r"\s*\n\s*([-*•]|\d+[.)])\s+", " ", text)  # the items of a list belong to what introduces it
    questions = [
        sentence
        for sentence in re.split(r"(?<=[.!?])(?<!\b\d\.)\s+|\n+", text)
        if _REQUESTS.search(sentence) and not _NOTES.search(sentence)
    ]
    wanted = " ".join(questions)
    proposes = bool(_PROPOSES.search(_NO_PROPOSAL.sub(" ", wanted)))
    asks = () if proposes else tuple(slot for slot, words in _ASKS.items() if re.search(words, wanted, re.I))
    greets = bool(_GREETS.search(wanted)) and not _CLOSES.search(wanted)
    open_ended = any("?" in sentence and not _CLOSES.search(sentence) for sentence in questions)
    unclear = open_ended and not (proposes or asks or greets)
    return Heard(asks, proposes, bool(_REFUSES.search(text)), bool(_WAITS.search(text)), greets, unclear)


class ScriptedCustomer:
    """A customer who follows a scenario by rule: says what is asked for, agrees to what they want, pushes back.

    Deterministic given the scenario and the task's seed. Understands agents by key words, so a policy that never asks
    a recognisable question meets a customer who nudges and, past their patience, leaves.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._current = 0
        self._insists = scenario.requests[0].insists
        self._slipped = False
        self._turn = 0
        self._previous = ""
        self._repeats = 0

    @property
    def _request(self) -> Request:
        return self._scenario.requests[self._current]

    async def open(self, host: Host) -> str:
        return self._present(host)

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        self._turn += 1
        self._repeats = self._repeats + 1 if text == self._previous else 0
        self._previous = text
        if transferred:
            return CustomerReply("###TRANSFER###", "transfer")
        if self._turn > self._scenario.patience or self._repeats >= 2:
            return CustomerReply(self._say("leave", host), "stop")
        return self._respond(text, host)

    def _respond(self, text: str, host: Host) -> CustomerReply:
        heard = hear(text)
        if not text.strip():
            return CustomerReply(self._say("nudge", host))
        if heard.proposes:
            return CustomerReply(self._say("yes", host) if self._fits(text) else self._object(host))
        if heard.asks:
            return CustomerReply(self._answer(heard.asks, host))
        if self._slipped and self._request.slip in text:
            return CustomerReply(self._tell("reservation_id", host))
        if heard.refuses and self._insists > 0:
            self._insists -= 1
            self._repeats = 0  # insisting invites the same refusal again
            return CustomerReply(self._say("insist", host))
        if heard.waits:
            return CustomerReply(self._say("wait", host))
        if heard.greets:
            return CustomerReply(self._present(host))
        if heard.unclear and not heard.refuses:
            return CustomerReply(self._say("only_that", host))
        if self._current + 1 < len(self._scenario.requests):
            self._current += 1
            self._insists, self._slipped = self._request.insists, False
            self._repeats = 0  # another request may well get the same answer
            return CustomerReply(f"{self._say('next', host)} {self._present(host)}")
        return CustomerReply(self._say("bye", host), "stop")

    def _present(self, host: Host) -> str:
        request = self._request
        act = f"{request.intent}:{request.detail}" if request.intent == "out_of_scope" else request.intent
        parts = [self._say(act, host)]
        parts += [self._tell(slot, host) for slot in request.says if slot in request.volunteered]
        return " ".join(parts)

    def _answer(self, asks: tuple[Slot, ...], host: Host) -> str:
        told = [answer for slot in asks if (answer := self._tell(slot, host))]
        return " ".join(told) if told else self._say("dont_know", host)

    def _tell(self, slot: Slot, host: Host) -> str:
        request = self._request
        if slot == "user_id":
            return self._say("tell:user_id", host, self._scenario.user_id)
        if slot == "reason" and "reason" in request.says:
            return self._say(f"reason:{request.says['reason']}", host)
        if slot == "reservation_id" and request.slip and not self._slipped:
            self._slipped = True
            return self._say("tell:reservation_id", host, request.slip)
        if slot in request.says:
            return self._say(f"tell:{slot}", host, request.says[slot])
        if slot == "reservation_id" and request.hint:
            return self._say("hint", host, request.hint)
        return ""

    def _fits(self, text: str) -> bool:
        """False when the proposal names another reservation or date than the customer has in mind."""
        request = self._request
        reservations = set(RESERVATION_CODE.findall(text))
        if request.reservation_id and reservations and request.reservation_id not in reservations:
            return False
        wanted = request.says.get("date")
        dates = set(_DATE.findall(text))
        return not (wanted and dates and wanted not in dates)

    def _object(self, host: Host) -> str:
        repeated: tuple[Slot, ...] = ("reservation_id", "date")
        known = [slot for slot in repeated if slot in self._request.says]
        return " ".join([self._say("object", host), *(self._tell(slot, host) for slot in known)])

    def _say(self, act: str, host: Host, value: str = "") -> str:
        return say(act, self._scenario.phrasing, host.rng(f"customer:{act}", self._turn), value)


class ModelCustomer:
    """A customer played by whatever policy the run placed in the role `user`.

    The policy sees the guidelines and its scenario, the conversation with sides swapped, and none of the agent's tool
    calls, in the benchmark's own layout: blanks at the ends of both texts stay. What it does wrong for sure
    (`envs.usercheck`) is the simulator's fault, never the agent's.
    """

    def __init__(self, guidelines: str, scenario: str) -> None:
        self._messages = [Message("system", f"{guidelines}\n\n<scenario>\n{scenario}\n</scenario>")]

    async def open(self, host: Host) -> str:
        return (await self.reply(GREETING, False, host)).text

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        self._messages.append(Message("user", text))
        answer = await host.ask("user", self._messages)
        for found in check_answer(self._messages, answer):
            if found.sure:
                raise SimulatorFault(found.told)
        self._messages.append(Message("assistant", answer.content))
        return CustomerReply(answer.content, ending_of(answer.content))


class SilentCustomer:
    """States the request and leaves at the agent's first message; for baselines on tasks that have no script."""

    def __init__(self, request: str) -> None:
        self._request = request

    async def open(self, host: Host) -> str:
        return self._request

    async def reply(self, text: str, transferred: bool, host: Host) -> CustomerReply:
        return CustomerReply("###TRANSFER###", "transfer") if transferred else CustomerReply("###STOP###", "stop")


def describe(scenario: Scenario) -> str:
    """A generated scenario in words, for a customer played by a policy. Holds nothing of the right ending."""
    lines = [f"Your user id is {scenario.user_id}."]
    for number, request in enumerate(scenario.requests, 1):
        act = f"{request.intent}:{request.detail}" if request.intent == "out_of_scope" else request.intent
        first = templates(act, scenario.phrasing)[0]
        lines.append(f"Request {number}: {first}")
        lines += [f"  {slot.replace('_', ' ')}: {value}" for slot, value in request.says.items()]
        late = [slot.replace("_", " ") for slot in request.says if slot not in request.volunteered]
        if late:
            lines.append(f"  Only when asked, tell: {', '.join(late)}.")
        if request.hint:
            lines.append(f"  You do not have the reservation code; the trip goes to {request.hint}.")
        if request.slip:
            lines.append(f"  By mistake you first give the reservation code {request.slip}, which does not exist.")
        if request.insists:
            lines.append(f"  If refused, insist {request.insists} more time(s), then accept it.")
    if len(scenario.requests) > 1:
        lines.append("Bring up the next request once the one before is settled.")
    return "\n".join(lines)
