"""A few episodes to read, chosen by a rule and not by eye, with what went wrong marked turn by turn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty.errors import StoreError
from banty.records import CallFault, CallResult, Message, Rollout, Turn
from banty.report.source import Source, last_roots_of, roots_of
from banty.report.wording import count, number


@dataclass(frozen=True)
class CallView:
    """A call and what came back. One that could not be read has no name, and as `arguments` the text as written."""

    name: str
    arguments: str
    output: str
    tags: tuple[str, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """One line of a conversation: who spoke, what was said and called, and what a reader should notice."""

    role: str
    text: str = ""
    turn: str = ""
    reasoning: str = ""
    calls: tuple[CallView, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    tokens: str = ""

    @property
    def marked(self) -> bool:
        return bool(self.tags or self.faults or any(call.tags for call in self.calls))


@dataclass(frozen=True)
class EpisodeView:
    """An episode as it is shown. `side` is before, after or empty."""

    rollout_id: str
    side: str
    heading: str
    entries: tuple[Entry, ...]
    verdict: str
    solved: bool
    reason: str
    components: tuple[tuple[str, str, bool], ...]
    summary: str


@dataclass(frozen=True)
class Reading:
    """Episodes that belong together, and how they were chosen."""

    title: str
    how: str
    episodes: tuple[EpisodeView, ...]


def chosen_episodes(source: Source) -> tuple[list[Reading], list[str]]:
    """What to read of a run or an evaluation, and notes about rollouts that cannot be read."""
    notes: list[str] = []

    def roots(name: str) -> list[Rollout]:
        try:
            return roots_of(source.path / name if name else source.path)
        except StoreError as error:
            notes.append(f"Episodes cannot be shown: {error}.")
            return []

    if source.is_eval or source.is_import:
        readings = _contrast(roots(""), "in the order of the tasks")
    elif source.evaluations or (source.path / "eval-before").is_dir():
        before, after = roots("eval-before"), roots("eval-after")
        readings = _mended(before, after) if after else _contrast(before, "before training, in the order of the tasks")
    else:
        try:
            last = last_roots_of(source.path)
        except StoreError as error:
            last = []
            notes.append(f"Episodes cannot be shown: {error}.")
        readings = _contrast(last, "among the episodes of the last training step, in the order of the tasks")
    return readings, notes


def _mended(before: Sequence[Rollout], after: Sequence[Rollout]) -> list[Reading]:
    """One that failed before and is solved after, in both versions, and one that still fails."""
    earlier = {one.rollout_id: one for one in before if one.scored}
    readings = []
    mended = [
        (earlier[one.rollout_id], one)
        for one in after
        if one.outcome.success and one.rollout_id in earlier and not earlier[one.rollout_id].outcome.success
    ]
    if mended:
        first, second = mended[0]
        how = f"The first trial, in the order of the tasks, that failed before and succeeds after; one of {len(mended)}"
        readings.append(
            Reading("Failed before, solved after", f"{how}.", (_view(first, "before"), _view(second, "after")))
        )
    seen = mended[0][0].task.id if mended else ""
    failing = [one for one in after if one.scored and not one.outcome.success]
    failing = [one for one in failing if one.task.id != seen] or failing
    if failing:
        how = "The first trial, in the order of the tasks, that fails after training"
        other = ", of another task than the one above" if mended and failing[0].task.id != seen else ""
        readings.append(Reading("Still fails", f"{how}{other}.", (_view(failing[0], "after"),)))
    elif after:
        readings += _contrast(after, "after training (none of its trials failed), in the order of the tasks")[:1]
    return readings


def _contrast(rollouts: Sequence[Rollout], where: str) -> list[Reading]:
    """The first that failed and the first that was solved."""
    readings = []
    for title, wanted in (("Failed", False), ("Solved", True)):
        found = [one for one in rollouts if one.scored and bool(one.outcome.success) == wanted]
        if found:
            how = f"The first that {'succeeded' if wanted else 'failed'}, {where}; one of {len(found)}."
            readings.append(Reading(title, how, (_view(found[0], ""),)))
    if not readings and rollouts:
        readings.append(Reading("Not scored", f"The first, {where}; none was scored.", (_view(rollouts[0], ""),)))
    return readings


def _view(rollout: Rollout, side: str) -> EpisodeView:
    outcome = rollout.outcome
    verdict = {True: "success", False: "failure", None: "not scored"}[outcome.success]
    status = " ".join(filter(None, [rollout.status, rollout.cause]))
    turns, sampled = len(rollout.agent_turns), sum(turn.sampled_tokens for turn in rollout.agent_turns)
    components = sorted(outcome.components.items(), key=lambda item: (not _unmet(item[1]), item[0]))
    return EpisodeView(
        rollout_id=rollout.rollout_id,
        side=side,
        heading=f"{rollout.policy}" if rollout.policy else "episode",
        entries=tuple(_entries(rollout)),
        verdict=verdict,
        solved=bool(outcome.success),
        reason=outcome.reason or rollout.detail,
        components=tuple((name, number(value, 1), _unmet(value)) for name, value in components),
        summary=f"{status}, {turns} turn{'s' if turns != 1 else ''}, {_tokens(sampled)}",
    )


def _tokens(amount: int, kind: str = "sampled ") -> str:
    return f"{count(amount)} {kind}token{'s' if amount != 1 else ''}"


def _unmet(value: float | None) -> bool:
    return value is not None and value <= 0.0


def _entries(rollout: Rollout) -> list[Entry]:
    opening, turns = entries_by_turn(rollout)
    return [*opening, *(entry for entries in turns for entry in entries)]


def entries_by_turn(rollout: Rollout) -> tuple[list[Entry], list[list[Entry]]]:
    """A conversation's opening, and for each of its turns what was said and what came back."""
    turns: list[list[Entry]] = []
    called: dict[str, int] = {}
    spoken: dict[str, int] = {}
    for turn in rollout.turns:
        if turn.actor != "agent":
            asked = _said(turn.message)
            turns.append([Entry(f"{turn.actor} was asked", asked.text, calls=asked.calls)])
            continue
        # A tool message and the result of its call say the same; it is shown once, beside the call.
        answered = len(turn.calls) == sum(message.role == "tool" for message in turn.observation)
        replies = [_said(message) for message in turn.observation if not (answered and message.role == "tool")]
        turns.append([_answer(turn, called, spoken), *replies])
    return [_said(message) for message in rollout.opening], turns


def _answer(turn: Turn, called: dict[str, int], spoken: dict[str, int]) -> Entry:
    tags = ["cut at the token limit"] if turn.finish == "length" else []
    words = " ".join(turn.message.content.split())
    if words and words in spoken:
        tags.append(f"same words as turn {spoken[words]}")
    elif words:
        spoken[words] = turn.index
    faults = list(turn.message.faults)
    calls = []
    for call in turn.calls:
        # A broken call that was answered is told once, as it was written, with its answer.
        fault = next((one for one in faults if one.kind == call.error and one.name in ("", call.name)), None)
        if fault is not None:
            faults.remove(fault)
        calls.append(_result_view(call, turn.index, called, fault))
    if not turn.calls:
        calls = [CallView(call.name, _json(call.arguments), "") for call in turn.message.calls]
    return Entry(
        role=turn.message.role,
        text=turn.message.content,
        turn=str(turn.index),
        reasoning=turn.message.reasoning,
        calls=tuple(calls),
        faults=tuple((f"{fault.kind}: {fault.message}", fault.raw) for fault in faults),
        tags=tuple(tags),
        tokens=_tokens(turn.sampled_tokens, "") if turn.sampled_tokens else "",
    )


def _result_view(call: CallResult, turn: int, called: dict[str, int], fault: CallFault | None) -> CallView:
    if fault is not None:
        return CallView("", fault.raw or call.name, call.output, (f"broken call: {fault.kind}",), True)
    key = json.dumps([call.name, dict(call.arguments)], sort_keys=True, default=str)
    tags = []
    if call.error:
        tags.append("the tool refused" if call.error == "tool" else f"error: {call.error}")
    if key in called:
        tags.append(f"same call as in turn {called[key]}" if called[key] != turn else "same call twice in this turn")
    called.setdefault(key, turn)
    return CallView(call.name, _json(call.arguments), call.output, tuple(tags), bool(call.error))


def _said(message: Message) -> Entry:
    calls = tuple(CallView(call.name, _json(call.arguments), "") for call in message.calls)
    return Entry(message.role, message.content, reasoning=message.reasoning, calls=calls)


def _json(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
