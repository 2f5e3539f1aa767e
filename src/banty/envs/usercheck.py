"""Whether a simulated user stays a user: the faults of one answer, sure ones and suspicions.

A sure finding ends the episode as the simulator's fault, unscored. What may also be an honest answer is a suspicion:
counted, with examples, and never excluded. Each check is a pure function of what the simulator was shown and what it
answered, so a stored rollout gives the same findings again. docs/users.md says of each what it may take wrongly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from banty.envs import userwords
from banty.envs.userwords import clipped, sentences, shared_runs, squeezed, unquoted, words
from banty.records import Message, Rollout

Ending = Literal["", "stop", "transfer", "out_of_scope"]
STOP_WORDS: Mapping[str, Ending] = {
    "###STOP###": "stop",
    "###TRANSFER###": "transfer",
    "###OUT-OF-SCOPE###": "out_of_scope",
}
Kind = Literal[
    "empty",
    "tool_call",
    "too_long",
    "refuses",
    "role_flip",
    "narrates",
    "transcript",
    "stop_word",
    "never_stops",
    "repeats",
    "reveals",
    "identity",
    "cut_off",
]
CHECKS_VERSION = 2
"""Raise when a check excludes other answers than before: results on either side exclude differently."""

MOST_CHARACTERS = 4000
MOST_REPEATS = 3
LEAST_STATEMENT = 4
MOST_FAREWELLS = 3
MOST_THANKS = 5
MOST_LOOPS = 5
ECHO_WORDS = 6
ECHO_SHARE = 0.8
INSTRUCTION_WORDS = 12
SCENARIO_WORDS = 8
LONG_SCENARIO_WORDS = 15


class Finding(NamedTuple):
    """What is wrong with an answer, in a sentence that quotes it; `sure` says that nothing honest looks like this."""

    kind: Kind
    sure: bool
    told: str


@dataclass(frozen=True)
class _Spoken:
    """One answer of a simulated user, and all it was shown: its part, what it heard, what it said before."""

    part: str
    heard: Sequence[str]
    said: Sequence[str]
    text: str

    @cached_property
    def own(self) -> str:
        """The answer without quotations and stop words."""
        return unquoted(_without_stop_words(self.text))

    @cached_property
    def guidelines(self) -> str:
        return self.part.partition("<scenario>")[0]

    @cached_property
    def scenario(self) -> str:
        return self.part.partition("<scenario>")[2] or self.part

    @cached_property
    def known(self) -> str:
        """All it may have an identity from, squeezed."""
        return squeezed(" ".join((self.scenario, *self.heard)))


def check_answer(shown: Sequence[Message], answer: Message) -> tuple[Finding, ...]:
    """What is wrong with the `answer` of a simulated user who was `shown` these messages, one finding a kind.

    `shown` begins with a system message, its part (guidelines, then `<scenario>`); the agent speaks as `user` and the
    simulator as `assistant`.
    """
    if answer.calls or answer.faults:
        names = [*(call.name for call in answer.calls), *(fault.name for fault in answer.faults)]
        named = ", ".join(repr(clipped(name, 40)) for name in names if name)
        made = f"the simulated user made a tool call{f' of {named}' if named else ''}; it has no tools"
        return (Finding("tool_call", True, made),)
    if not answer.content.strip():
        thought = " but its thoughts; leave it more tokens, or turn its thinking off" if answer.reasoning else ""
        return (Finding("empty", True, f"the simulated user said nothing{thought}"),)
    length = len(answer.content.strip())
    if length > MOST_CHARACTERS:
        told = f"the simulated user wrote {length} characters; {MOST_CHARACTERS} at most"
        return (Finding("too_long", True, told),)
    spoken = _Spoken(
        "\n".join(message.content for message in shown if message.role == "system"),
        [message.content.strip() for message in shown if message.role == "user"],
        [message.content.strip() for message in shown if message.role == "assistant"],
        answer.content.strip(),
    )
    found: dict[Kind, Finding] = {}
    for check in _CHECKS:
        for finding in check(spoken):
            if finding.kind not in found or (finding.sure and not found[finding.kind].sure):
                found[finding.kind] = finding
    return tuple(sorted(found.values(), key=lambda finding: not finding.sure))


def findings_of(rollout: Rollout) -> list[tuple[int, Finding]]:
    """Everything found in the simulated user's turns of a rollout, with the turns' indices."""
    turns = [turn for turn in rollout.turns if turn.actor == "user"]
    found = [(turn.index, finding) for turn in turns for finding in check_answer(turn.request, turn.message)]
    for turn in turns:
        if turn.finish == "length" and turn.message.content.strip():
            told = f"the simulated user was cut off in the middle: {clipped(turn.message.content[-60:])!r}"
            found.append((turn.index, Finding("cut_off", False, told)))
    if (
        rollout.status == "truncated"
        and rollout.cause == "turns"
        and _num_farewells([t.message.content for t in turns])
    ):
        told = "the episode met its cap of turns after the simulated user had said goodbye"
        found.append((turns[-1].index, Finding("never_stops", False, told)))
    return found


def ending_of(text: str) -> Ending:
    """How a user's message ends the conversation: by the first of the stop words it holds, as the benchmark has it."""
    return next((ending for word, ending in STOP_WORDS.items() if word in text), "")


def _without_stop_words(text: str) -> str:
    for word in STOP_WORDS:
        text = text.replace(word, " ")
    return text


def _maybe(kind: Kind, told: str) -> Finding:
    return Finding(kind, False, told)


def _sure(kind: Kind, told: str) -> Finding:
    return Finding(kind, True, told)


# The checks.


def _calls_as_text(spoken: _Spoken) -> Iterator[Finding]:
    if userwords.TEXT_CALL.search(spoken.text):
        yield _sure("tool_call", f"the simulated user wrote a tool call: {clipped(spoken.text)!r}")


def _role(spoken: _Spoken) -> Iterator[Finding]:
    own = spoken.own
    if "###TRANSFER###" in spoken.text:  # the announcement, read out to end the conversation as it should
        own = userwords.TRANSFER_SENTENCE.sub(" ", own)
    if said := userwords.ONLY_AGENTS_SAY.search(own):
        reports = "your " in said.group().lower() and userwords.REPORTS.search(own[: said.start()]) is not None
        speaks = "may be speaking" if reports else "speaks"
        yield Finding("role_flip", not reports, f"the simulated user {speaks} as the agent: {clipped(said.group())!r}")
    elif said := userwords.AGENTS_OFTEN_SAY.search(own):
        yield _maybe("role_flip", f"the simulated user may be speaking as the agent: {clipped(said.group())!r}")
    told = {tuple(words(sentence)) for text in spoken.heard for sentence in sentences(text)}
    told -= {tuple(words(sentence)) for text in spoken.said for sentence in sentences(text)}  # the agent's own echo
    echoes = [part for part in sentences(own) if _echoes(part, told)]
    if echoes:
        share = sum(len(words(part)) for part in echoes) / len(words(own))
        echoed = f"the simulated user says what the agent had said to it: {clipped(echoes[0])!r}"
        yield Finding("role_flip", share >= ECHO_SHARE, echoed)


def _echoes(sentence: str, told: Collection[tuple[str, ...]]) -> bool:
    again = tuple(words(sentence))
    speaks_to_it = {"you", "your"} & set(again) and not userwords.COURTESY.search(sentence)
    return bool(len(again) >= ECHO_WORDS and again in told and speaks_to_it)


def _part(spoken: _Spoken) -> Iterator[Finding]:
    if userwords.REFUSES_TO_PLAY.search(spoken.own):
        yield _sure("refuses", f"the simulated user refuses to play: {clipped(spoken.text)!r}")
    if said := userwords.OUT_OF_PART.search(spoken.own):
        yield _sure(
            "narrates", f"the simulated user tells of its part instead of playing it: {clipped(said.group())!r}"
        )


def _transcript(spoken: _Spoken) -> Iterator[Finding]:
    if markup := userwords.MARKUP.search(spoken.text):
        told = "the simulated user wrote its model's own markup"
        yield _sure("transcript", f"{told}: {markup.group()!r}; check the server's chat template and reasoning parser")
    labels = list(userwords.SPEAKER.finditer(spoken.text))
    agent, customer = (any(label[side] for label in labels) for side in ("agent", "customer"))
    if agent and customer:
        yield _sure("transcript", f"the simulated user wrote both sides: {clipped(spoken.text)!r}")
    elif labels:
        yield _maybe("transcript", f"the simulated user labels who speaks: {clipped(spoken.text)!r}")


def _stop_words(spoken: _Spoken) -> Iterator[Finding]:
    held = [word for word in STOP_WORDS if word in spoken.text]
    if held and not spoken.said:
        told = f"the simulated user ended the conversation in its first message: {clipped(spoken.text)!r}"
        yield _sure("stop_word", told)
    for word in held:
        line = next(line for line in spoken.text.splitlines() if word in line)
        before, _, after = line.partition(word)
        if userwords.NAMES_A_STOP_WORD.search(before):
            yield _sure("stop_word", f"the simulated user speaks about a stop word: {clipped(line)!r}")
        elif re.search(r"[\w,;]\W*$", before) and re.match(r"\W*[a-z]", after) and before.rstrip()[-1] not in ".!?":
            yield _maybe("stop_word", f"a stop word stands inside a sentence: {clipped(line)!r}")
    if len(held) > 1:
        yield _maybe("stop_word", f"the simulated user ended the conversation in {len(held)} ways: {' '.join(held)}")
    if held and "?" in spoken.own:
        yield _maybe("stop_word", f"the simulated user asks and leaves at once: {clipped(spoken.text)!r}")
    if "###STOP###" in held and _agrees_to_a_question(spoken):
        yield _maybe("stop_word", f"the simulated user agrees and leaves before it is done: {clipped(spoken.text)!r}")
    if "###TRANSFER###" in held and not any("transfer" in text.lower() for text in spoken.heard):
        yield _maybe("stop_word", "the simulated user says it was transferred; the agent never spoke of that")
    if not held and userwords.BROKEN_STOP.search(spoken.text):
        yield _maybe("stop_word", f"the simulated user misspelt a stop word: {clipped(spoken.text[-60:])!r}")


def _agrees_to_a_question(spoken: _Spoken) -> bool:
    agrees = userwords.AGREES.search(spoken.own) and "?" in "".join(spoken.heard[-1:])
    return bool(agrees) and not any(ends.search(spoken.own) for ends in (userwords.FAREWELL, userwords.THANKS))


def _endless(spoken: _Spoken) -> Iterator[Finding]:
    said = [*spoken.said, spoken.text]
    if ending_of(spoken.text):
        return
    if _num_farewells(said) >= MOST_FAREWELLS:
        yield _sure("never_stops", f"the simulated user said goodbye {MOST_FAREWELLS} times and did not stop")
    elif _num_in_a_row(said, lambda text: bool(_says_farewell(text) or _only_thanks(text))) >= MOST_THANKS:
        yield _sure("never_stops", f"the simulated user gave thanks {MOST_THANKS} times in a row and did not stop")


def _num_farewells(said: Sequence[str]) -> int:
    return _num_in_a_row(said, _says_farewell)


def _num_in_a_row(said: Sequence[str], such: Callable[[str], bool]) -> int:
    """How many of the last messages are such, without a gap."""
    return next((count for count, text in enumerate(reversed(said)) if not such(text)), len(said))


def _says_farewell(text: str) -> bool:
    return bool(userwords.FAREWELL.search(text)) and "?" not in text and len(words(text)) <= 30


def _only_thanks(text: str) -> bool:
    return bool(userwords.THANKS.search(text)) and "?" not in text and len(words(text)) <= 10


def _repetition(spoken: _Spoken) -> Iterator[Finding]:
    said, heard = [*spoken.said, spoken.text], spoken.heard
    in_a_row = 0
    for place, text in enumerate(said):
        # The same answer to the same words is what a person would give; going in circles is then the agent's doing.
        new_words = place > 0 and heard[place - 1 : place] != heard[place : place + 1]
        parrots = heard[place : place + 1] == [text] or (new_words and said[place - 1] == text)
        in_a_row = in_a_row + 1 if parrots else 0
    # Four proposals or questions in a row get "Yes, please proceed." or "I don't know." from a person too.
    brief = userwords.AGREES.search(spoken.text) or len(words(spoken.text)) < LEAST_STATEMENT
    answers = brief and heard[-1:] != [spoken.text] and in_a_row < 2 * MOST_REPEATS
    if in_a_row >= MOST_REPEATS:
        told = f"the simulated user only repeats what was said: {clipped(spoken.text, 80)!r}"
        yield Finding("repeats", not answers, told)
    elif len(words(spoken.text)) >= SCENARIO_WORDS and spoken.text in spoken.said:
        yield _maybe("repeats", f"the simulated user says this again, word for word: {clipped(spoken.text)!r}")
    parts = Counter(tuple(words(part)) for part in sentences(spoken.text) if len(words(part)) > 1)
    if parts and max(parts.values()) >= MOST_LOOPS:
        looped = " ".join(parts.most_common(1)[0][0])
        yield _sure("repeats", f"the simulated user's message goes in circles: {clipped(looped)!r}")


def _revelation(spoken: _Spoken) -> Iterator[Finding]:
    own = spoken.own
    for run in shared_runs(own, spoken.guidelines, INSTRUCTION_WORDS):
        yield _sure("reveals", f"the simulated user tells its guidelines: {clipped(run)!r}")
    for run in shared_runs(own, unquoted(spoken.scenario), SCENARIO_WORDS):
        if userwords.TO_THE_SIMULATOR.search(run) and not userwords.OWN_VOICE.search(run):
            yield _sure("reveals", f"the simulated user reads its instructions out: {clipped(run)!r}")
        elif len(run.split()) >= LONG_SCENARIO_WORDS:
            yield _maybe("reveals", f"the simulated user speaks in its scenario's own words: {clipped(run)!r}")
    headings = userwords.SCENARIO_HEADINGS.findall(own)
    if len(headings) > 1:
        yield _sure("reveals", f"the simulated user shows its scenario's headings: {', '.join(headings[:3])!r}")
    elif headings or userwords.SPEAKS_OF_SCENARIO.search(own):
        yield _maybe("reveals", f"the simulated user speaks of its instructions: {clipped(spoken.text)!r}")


def _identity(spoken: _Spoken) -> Iterator[Finding]:
    for user_id in userwords.USER_ID.findall(spoken.text):
        if squeezed(user_id) not in spoken.known:
            yield _sure("identity", f"the simulated user gives a user id that its scenario does not have: {user_id}")
    for code in userwords.RECORD_CODE.findall(spoken.text):
        if squeezed(code) in spoken.known or code.isdigit():
            continue
        told = f"the simulated user gives a reservation that nobody told it of: {code}"
        # Six capitals may be a word said loudly.
        yield Finding("identity", any(letter.isdigit() for letter in code), told)
    if left := userwords.PLACEHOLDER.search(spoken.own):
        yield _sure("identity", f"the simulated user left a placeholder in: {clipped(left.group())!r}")
    for first, last in userwords.MY_NAME.findall(spoken.text):
        missing = sum(squeezed(name) not in spoken.known for name in (first, last))
        if missing:
            told = f"the simulated user calls itself {first} {last}, as its scenario does not"
            given = userwords.GIVEN_NAME.search(spoken.scenario) is not None
            yield Finding("identity", given and missing == 2, told)


_CHECKS: tuple[Callable[[_Spoken], Iterator[Finding]], ...] = (
    _calls_as_text,
    _role,
    _part,
    _transcript,
    _stop_words,
    _endless,
    _repetition,
    _revelation,
    _identity,
)
