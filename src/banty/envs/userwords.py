"""Reading what a simulated user wrote: words, sentences, runs of words taken from elsewhere, and telling phrases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"[a-z0-9]+(?:[_'’][a-z0-9]+)*")
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|`[^`\n]*`|(?<!\w)['‘][^\n]*?['’](?!\w)|^[ \t]*>.*$", re.M)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def unquoted(text: str) -> str:
    """The text without what stands in quotation marks or behind a `>`: those words are somebody else's."""
    return _QUOTED.sub(" ", text)


def sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE.split(text) if part.strip()]


def squeezed(text: str) -> str:
    """Letters and digits only, in lower case: `Mia Li, 3668` is `mia_li_3668`."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def shared_runs(text: str, source: str, length: int) -> Iterator[str]:
    """The longest runs of at least `length` words of `text` that stand in `source`, word for word."""
    spoken, written = words(text), words(source)
    places: dict[tuple[str, ...], list[int]] = {}
    for start in range(len(written) - length + 1):
        places.setdefault(tuple(written[start : start + length]), []).append(start)
    at = 0
    while at <= len(spoken) - length:
        starts = places.get(tuple(spoken[at : at + length]), ())
        if not starts:
            at += 1
            continue
        run = max(_common(spoken[at:], written[start:]) for start in starts)
        yield " ".join(spoken[at : at + run])
        at += run


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def clipped(text: str, most: int = 100) -> str:
    """The text on one line, shortened; what a finding quotes."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"


_RECORD = r"(?:reservation|booking|account|profile)"
_DONE = r"(?:cancell?ed|updated|processed|modified|confirmed|upgraded|issued)"
_ACTS = r"(?:process|cancel|change|modify|issue|approve|waive|refund)"
_ASKED = r"(?:user id|reservation (?:id|number|code)|booking (?:number|code|reference)|date of birth)"
_NOT_SAID = r"(?<!that )(?<!says )(?<!saying )(?<!said )(?<!told me )"

ONLY_AGENTS_SAY = re.compile(
    "|".join(
        (
            r"\bhow (?:can|may) i (?:help|assist) you(?: today| further)?\s*(?:[?!.]|$)",
            r"\banything else (?:that )?i (?:can|may|could) (?:help|assist) (?:you )?with(?: today)?\s*\?",
            rf"\bi(?:'ve|’ve| have) (?:successfully |now |just )*{_DONE} your {_RECORD}\b",
            rf"\bi(?:'ve|’ve| have) (?:located|found|pulled up|retrieved) your {_RECORD}\b(?! (?:page|form|system))",
            rf"{_NOT_SAID}\byour (?:{_RECORD}|refund|flight) (?:has|have) (?:now )?been (?:successfully )?{_DONE}",
            r"\b(?:reply|respond|answer|type) (?:with )?yes to (?:continue|proceed|confirm)\b",
            r"\b(?:please|could you|can you|would you|may i|can i)(?: please)? "
            rf"(?:provide|share|have|get|confirm|give|verify)(?: me)?(?: with)? your {_ASKED}\b",
            rf"\blet me (?:check|look up|pull up|verify|review) your {_RECORD}\b",
            rf"\bi(?:'m|’m| am) (?:unable|not able) to {_ACTS} your (?:{_RECORD}|flight|request|cancellation|ticket)\b",
            r"\byou are being transferred to a human agent\b",
            r"\bas an ai(?: language)?(?: model| assistant)?,? i\b",
            r"\bi(?:'m|’m| am) (?:just |only )?an? (?:ai|(?:large )?language model|ai assistant|virtual assistant)\b",
        )
    ),
    re.I,
)
"""What no customer says of an agent's records and duties. Quoted words are taken out before this is looked for."""

REPORTS = re.compile(
    r"\b(?:e-?mails?|messages?|sms|letters?|notifications?|web ?sites?|app|page|screen|says?|said|saying|tells?|told"
    r"|reads?|states?|stated|wrote|writes)\b",
    re.I,
)
"""Before other people's words that stand there without quotation marks."""

REFUSES_TO_PLAY = re.compile(
    r"\A\W*(?:(?:i(?:['’]m| am) )?sorry\W+(?:but )?)?i (?:can(?:['’]t|not)|am unable to|['’]m unable to) "
    r"(?:help|assist)(?: you)?(?: with (?:that|this)(?: request)?)?\W*\Z"
    r"|\bi (?:can(?:['’]t|not)|won['’]t|will not|am unable to) (?:role-?\s?play|impersonate|play the role|simulate)\b",
    re.I,
)
OUT_OF_PART = re.compile(
    r"\b(?:the|this) (?:customer|user) (?:sighs|nods|pauses|waits|replies|responds|provides|confirms|agrees|thanks"
    r"|types|hangs up|ends|leaves)\b"
    r"|\A\W*[\[(*][^\])*]*\b(?:user|customer|agent|wait(?:s|ing)|respon(?:d|se)|conversation)\b[^\])*]*[\])*]\W*\Z"
    r"|\bas the (?:simulated )?(?:user|customer),? i\b"
    r"|\bhere(?:['’]s| is) (?:a|the|my)(?: [\w-]+){0,3} (?:customer|user)(?:['’]s)? (?:message|response|reply)\b"
    r"|\b(?:i|we) (?:should|need to|must|have to) (?:respond|reply|answer|act) (?:naturally|as the (?:user|customer))\b"
    r"|\bthe scenario (?:does(?:n['’]t| not)|did(?:n['’]t| not)) (?:provide|say|specify|mention|give|include)\b",
    re.I,
)
"""A narrator's words, and those of somebody who thinks about a part; a customer is nobody's narrator."""
PLACEHOLDER = re.compile(
    r"[\[<{](?:insert|your|my)\b[\w '’/-]{2,40}[\]>}]|\{(?:user_?id|name|reservation_?\w+)\}", re.I
)
AGREES = re.compile(r"\A\W*(?:yes|yeah|yep|sure|ok|okay|go ahead|please (?:proceed|go ahead|do)|i confirm)\b", re.I)
THANKS = re.compile(
    r"\A\W*(?:(?:ok|okay|great|perfect)\W+)?(?:many )?(?:thank|thanks|i appreciate|you too|you['’]re welcome)\b", re.I
)

TRANSFER_SENTENCE = re.compile(r"you are being transferred to a human agent\W*(?:please hold on\W*)?", re.I)

AGENTS_OFTEN_SAY = re.compile(
    r"\b(?:apologi[sz]e|sorry) for (?:the|any) inconvenience\b|\bour (?:policy|policies|system|records)\b"
    r"|\bi(?:'d|’d| would) be happy to (?:help|assist)\b|\bi understand your (?:frustration|concern)"
    r"|\bthank you for (?:contacting|choosing|calling|your patience)\b|\bhow would you like to proceed\b"
    r"|\bwould you like me to\b|\bshall i (?:proceed|go ahead)\b|\blet me check your (?:details|information)\b"
    r"|\banything else (?:that )?i (?:can|may|could) (?:help|assist) (?:you )?with\b|\byour account number\b",
    re.I,
)
COURTESY = re.compile(
    r"^\W*(?:thank|thanks|sorry|i(?:'m|’m| am) sorry|have a|hope|hello|hi\b|good (?:morning|day))", re.I
)
FAREWELL = re.compile(
    r"\b(?:good ?bye|bye|take care|have a (?:great|good|nice|wonderful|lovely)"
    r"|that(?:'s|’s| is| will be) (?:all|it|everything)(?! (?:i (?:have|know|remember)|the info\w*|my)\b)"
    r"|nothing (?:else|more)|no(?:thing)? further|all set)\b",
    re.I,
)
SPEAKER = re.compile(
    r"(?:^|\n|(?<=[.!?])\s)[\s*\[(#]{0,4}"
    r"(?:(?P<agent>agent|assistant|representative|customer service|service agent|system)"
    r"|(?P<customer>user|customer|human|me|myself))[*\])]{0,3}\s?:",
    re.I,
)
MARKUP = re.compile(r"<\|\w+\|>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|</?think(?:ing)?>", re.I)
TEXT_CALL = re.compile(
    r"</?tool_calls?>|<function=|\A\s*(?:```(?:json)?\s*)?\{\s*\"name\"\s*:.*\"arguments\"\s*:"
    r"|\{\s*\"name\"\s*:\s*\"\w+\"\s*,\s*\"arguments\"\s*:\s*\{|\A\s*[a-z]+(?:_[a-z]+)+\([^()]*\)\s*\Z",
    re.S,
)
SCENARIO_HEADINGS = re.compile(
    r"\b(?:task instructions|reason for call|known info|unknown info|only when asked, tell)\s*:|</?scenario>", re.I
)
SPEAKS_OF_SCENARIO = re.compile(
    r"\b(?:my|the) (?:scenario|instructions|persona)\b|\buser simulat\w+"
    r"|\bthe (?:service )?agent (?:says|asks|tells)\b",
    re.I,
)
TO_THE_SIMULATOR = re.compile(
    r"\byou (?:are|were|want|wish|need|will|would|do|don['’]t|should|must|only|also|just|recently|prefer|know)\b"
    r"|\byour (?:user id|name|date of birth|goal)\b|\b(?:the|an) (?:service |customer service )?agent\b",
    re.I,
)
"""How instructions speak to whoever follows them."""
OWN_VOICE = re.compile(r"\b(?:i|i['’]\w+|my|me)\b", re.I)
NAMES_A_STOP_WORD = re.compile(
    r"\b(?:write|say|saying|generate|output|type|send|emit|use|using|reply|respond|end|with|the|token|word)\W*$", re.I
)
BROKEN_STOP = re.compile(
    r"(?:^|\n)\W*(?:stop|transfer|out[- _]of[- _]scope)\W*$|[#\[<*]+\s*(?:stop|transfer)\s*[#\]>*]+", re.I
)
USER_ID = re.compile(r"\b(?!(?:gift|credit|debit|travel)_)[a-z]+_[a-z]+_\d{2,6}\b(?!@)", re.I)
RECORD_CODE = re.compile(
    r"\b(?i:reservation|booking|confirmation)(?:\s+(?i:id|number|code|reference))?(?:\s+(?i:is|was))?[\s:#,'\"(]{1,3}"
    r"(?!HAT\d{3}\b)([A-Z0-9]{6})\b"
)
MY_NAME = re.compile(r"\b(?i:my name is|my name's) ([A-Z][a-z]+) ([A-Z][a-z]+)\b")
GIVEN_NAME = re.compile(r"\b(?i:you are|your name is|name:) ([A-Z][a-z]+) ([A-Z][a-z]+)\b")
