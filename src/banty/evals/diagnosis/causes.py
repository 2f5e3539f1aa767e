"""Where one rollout left the reference calls. Built from its record alone: nothing is asked of any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from banty.records import CallResult, Rollout, Task, ToolCall
from banty.rubrics import STRICT, Arguments, Matching, Wanted, arguments_of, changed_state, wanted_of

Cause = Literal[
    "cut_off",
    "other_change",
    "wrong_arguments",
    "made_twice",
    "refused",
    "nothing_worked",
    "handed_off",
    "left_out",
    "judged",
    "last_call_failed",
    "unexplained",
]
CAUSES: Mapping[Cause, str] = {
    "cut_off": "cut off",
    "other_change": "changed something else",
    "wrong_arguments": "other arguments",
    "made_twice": "made a change twice",
    "refused": "needed call failed",
    "nothing_worked": "no call worked",
    "handed_off": "handed over instead",
    "left_out": "needed call left out",
    "judged": "the reference's changes, yet failed",
    "last_call_failed": "last call failed",
    "unexplained": "calls do not tell",
}
"""In words. The last two are for rollouts whose reference calls nobody knows."""

STAGES = ("tried every needed tool", "each of them worked", "with the right arguments", "changed nothing else")
"""How far towards the reference a rollout came; each counts only after those before it."""


@dataclass(frozen=True)
class Reference:
    """`golden` gives a task's reference calls, None where nobody knows them; `matching` is how arguments compare."""

    golden: Callable[[Task], Sequence[ToolCall] | None]
    matching: Matching = STRICT


@dataclass(frozen=True)
class Finding:
    """Why a rollout failed: the cause, at which turn it shows (None for the end), what about (a tool, arguments, parts
    of the verdict), and the evidence in words. `stages` is how many of STAGES it reached, None where no change was
    needed or nobody knows; `on_path` is whether it made the changes of the reference and no other."""

    cause: Cause
    turn: int | None
    about: str
    told: str
    stages: int | None = None
    on_path: bool | None = None


@dataclass(frozen=True)
class _Need:
    """A reference call that does more than read."""

    call: ToolCall
    wanted: Wanted
    ends: bool

    def is_met(self, call: CallResult, given: Arguments) -> bool:
        """By equal arguments; an ending, whose arguments are words, by any."""
        return self.call.name == call.name and (self.ends or self.wanted.is_met(call.name, given))


def find_cause(rollout: Rollout, reference: Reference) -> Finding:
    """The first departure from the reference calls, as it would explain a failure; of a success too.

    A call departs where it changed the state (of a tool whose effect a log does not say nobody knows) and is not a
    reference call that is still to be made. Any reading is as good as any other, and so is the order of changes.
    """
    golden = reference.golden(rollout.task) if rollout.depth == 0 else None
    needs = None if golden is None else _needs(rollout, golden, reference)
    if golden is None or needs is None:
        return _without_reference(rollout)
    path = _followed(rollout, needs, reference)
    found = (
        _cut_off(rollout)
        or path.departure
        or _refused(rollout, path.still, reference)
        or _in_vain(path)
        or _nothing_worked(rollout, golden, path.still)
        or _handed_off(rollout, golden, path.still)
        or _left_out(path.still)
        or _judged(rollout, "judged")
    )
    on_path = not path.still and path.departure is None
    return dataclasses.replace(found, stages=_stages(rollout, needs, path), on_path=on_path)


def _needs(rollout: Rollout, golden: Sequence[ToolCall], reference: Reference) -> list[_Need] | None:
    """None where the log does not say what the tool of a reference call does."""
    effects = {schema.name: schema.effect for schema in rollout.tools}
    effects |= {call.name: call.effect for _, call in _made(rollout) if call.effect != "none"}
    known = [effects.get(call.name, "unknown") for call in golden]
    if "unknown" in known:
        return None
    return [
        _Need(call, wanted_of(call, reference.matching), effect == "terminal")
        for call, effect in zip(golden, known, strict=True)
        if effect != "read"
    ]


class _Path(NamedTuple):
    """The needs that were never met, the first change that met none, and the calls that worked, met none and changed
    nothing, each beside what of its arguments counts."""

    still: list[_Need]
    departure: Finding | None
    in_vain: list[tuple[int, CallResult, Arguments]]


def _followed(rollout: Rollout, needs: Sequence[_Need], reference: Reference) -> _Path:
    still, first = list(needs), None
    in_vain: list[tuple[int, CallResult, Arguments]] = []
    for turn, call in _made(rollout):
        changed = changed_state(call)
        if call.error and not changed:
            continue
        given = arguments_of(call.name, call.arguments, reference.matching)
        met = next((need for need in still if need.is_met(call, given)), None)
        if met is not None and not call.error:
            still.remove(met)
        elif changed is False:
            in_vain.append((turn, call, given))
        elif first is None and changed and call.effect != "terminal":
            first = _departure(turn, call, given, needs, still)
    return _Path(still, first, in_vain)


def _departure(
    turn: int, call: CallResult, given: Arguments, needs: Sequence[_Need], still: Sequence[_Need]
) -> Finding:
    alike = [need for need in needs if need.call.name == call.name]
    if not alike:
        return Finding("other_change", turn, call.name, f"called {call.name}, which the reference does not")
    if call.error:
        return Finding("other_change", turn, call.name, f"{call.name} failed half-way and left a change behind")
    if any(not need.wanted.differing(given) for need in alike):
        return Finding("made_twice", turn, call.name, f"called {call.name} again, with the same arguments")
    open_ones = [need for need in alike if need in still]
    if not open_ones:
        told = f"called {call.name} once more than the reference, with {dict(call.arguments)}"
        return Finding("other_change", turn, call.name, told)
    return _other_arguments(turn, call, given, open_ones)


def _other_arguments(turn: int, call: CallResult, given: Arguments, alike: Sequence[_Need]) -> Finding:
    """In which arguments a call differs from the reference call of its tool that is nearest to it."""
    nearest = max(alike, key=lambda need: need.wanted.score(call.name, given))
    wrong = nearest.wanted.differing(given)
    told = "; ".join(
        f"{name} is {_value(call.arguments, name)}, the reference has {_value(nearest.call.arguments, name)}"
        for name in wrong
    )
    return Finding("wrong_arguments", turn, f"{call.name}: {', '.join(wrong)}", told)


def _value(arguments: Mapping[str, object], name: str) -> str:
    return repr(arguments[name]) if name in arguments else "not given"


def _stages(rollout: Rollout, needs: Sequence[_Need], path: _Path) -> int | None:
    if not needs:
        return None
    tried = {call.name for _, call in _made(rollout)}
    worked = {call.name for _, call in _made(rollout) if not call.error}
    names = {need.call.name for need in needs}
    reached = (names <= tried, names <= worked, not path.still, path.departure is None)
    return next((count for count, yes in enumerate(reached) if not yes), len(reached))


def _cut_off(rollout: Rollout) -> Finding | None:
    if rollout.status != "truncated":
        return None
    return Finding("cut_off", None, rollout.cause or "a cap", f"truncated: {rollout.detail or rollout.cause}")


def _refused(rollout: Rollout, still: Sequence[_Need], reference: Reference) -> Finding | None:
    """A needed call's last try. A failure that a later call of the same tool made good was a try at that one, unless
    it had all the arguments of the needed call."""
    for need in still:
        tries = [(turn, call) for turn, call in _made(rollout) if call.name == need.call.name]
        worked = max((place for place, (_, call) in enumerate(tries) if not call.error), default=-1)
        matching = reference.matching
        own = [one for one in tries if need.is_met(one[1], arguments_of(need.call.name, one[1].arguments, matching))]
        if failed := tries[worked + 1 :] or own:
            turn, call = failed[-1]
            return Finding("refused", turn, call.name, call.output)
    return None


def _in_vain(path: _Path) -> Finding | None:
    """A call of a needed tool that worked, with other arguments, and changed nothing."""
    for turn, call, given in path.in_vain:
        if alike := [need for need in path.still if need.call.name == call.name]:
            return _other_arguments(turn, call, given, alike)
    return None


def _nothing_worked(rollout: Rollout, golden: Sequence[ToolCall], still: Sequence[_Need]) -> Finding | None:
    made = _made(rollout)
    if not golden or any(not call.error for _, call in made):
        return None
    first = still[0].call.name if still else golden[0].name
    return Finding("nothing_worked", None, first, f"of {len(made)} calls none worked" if made else "no call at all")


def _handed_off(rollout: Rollout, golden: Sequence[ToolCall], still: Sequence[_Need]) -> Finding | None:
    named = {call.name for call in golden}
    ended = [(turn, call) for turn, call in _made(rollout) if hands_off(call) and call.name not in named]
    if not ended:
        return None
    turn, call = ended[-1]
    if not still:
        return Finding("handed_off", turn, call.name, f"called {call.name}, which the reference does not")
    missing = still[0].call.name
    return Finding("handed_off", turn, f"{call.name} for {missing}", f"called {call.name}, and never {missing}")


def hands_off(call: CallResult) -> bool:
    """Whether a call gave the conversation away: it ended the episode, or it is tau2-bench's transfer, which is no
    ending there (the words after it are) and changes nothing."""
    return not call.error and (call.effect == "terminal" or call.name == _TRANSFER)


_TRANSFER = "transfer_to_human_agents"


def _left_out(still: Sequence[_Need]) -> Finding | None:
    if not still:
        return None
    missing = still[0].call.name
    return Finding("left_out", None, missing, f"ended without {' and '.join(need.call.name for need in still)}")


def _without_reference(rollout: Rollout) -> Finding:
    if cut := _cut_off(rollout):
        return cut
    made = _made(rollout)
    if made and made[-1][1].error:
        turn, call = made[-1]
        return Finding("last_call_failed", turn, call.name, call.output)
    return _judged(rollout, "unexplained")


def _judged(rollout: Rollout, cause: Cause) -> Finding:
    """What the verdict itself says: its reason up to the first semicolon, or the parts of it that were missed."""
    missed = ", ".join(name for name, value in rollout.outcome.components.items() if value == 0.0)
    reason = rollout.outcome.reason
    about = reason.partition(";")[0] if reason else missed
    return Finding(cause, None, about[:_LONGEST_ABOUT], reason or missed or "no reason is stored")


_LONGEST_ABOUT = 80


def _made(rollout: Rollout) -> list[tuple[int, CallResult]]:
    return [(turn.index, call) for turn in rollout.agent_turns for call in turn.calls]
