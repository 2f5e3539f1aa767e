"""Where one rollout left the reference calls. Built from its record alone: nothing is asked of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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
    "handed_off": "ended by another call",
    "left_out": "needed call left out",
    "judged": "changes right, verdict not",
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
        return self.call.name == call.name and (self.ends or self.wanted.score(call.name, given) == 1.0)


def find_cause(rollout: Rollout, reference: Reference) -> Finding:
    """The first departure from the reference calls, as it would explain a failure; of a success too.

    A call departs where it changed the state (of a tool whose effect a log does not say nobody knows) and is not a
    reference call that is still to be made. Any reading is as good as any other, and so is the order of changes.
    """
    golden = reference.golden(rollout.task) if rollout.depth == 0 else None
    needs = None if golden is None else _needs(rollout, golden, reference)
    if needs is None:
        return _without_reference(rollout)
    open_needs, departure = _followed(rollout, needs, reference)
    stages, on_path = _stages(rollout, needs, open_needs, departure), not open_needs and departure is None
    found = _cut_off(rollout) or departure or _missing(rollout, needs, open_needs) or _judged(rollout, "judged")
    return Finding(found.cause, found.turn, found.about, found.told, stages, on_path)


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


def _followed(rollout: Rollout, needs: Sequence[_Need], reference: Reference) -> tuple[list[_Need], Finding | None]:
    """The needs that were never met, and the first change that met none."""
    still, first = list(needs), None
    for turn, call in _made(rollout):
        if call.error and not changed_state(call):
            continue
        given = arguments_of(call.name, call.arguments, reference.matching)
        met = next((need for need in still if need.is_met(call, given)), None)
        if met is not None and not call.error:
            still.remove(met)
        elif first is None and changed_state(call) and call.effect != "terminal":
            first = _departure(turn, call, given, needs)
    return still, first


def _departure(turn: int, call: CallResult, given: Arguments, needs: Sequence[_Need]) -> Finding:
    alike = [need for need in needs if need.call.name == call.name]
    if not alike:
        return Finding("other_change", turn, call.name, f"called {call.name}, which the reference does not")
    nearest = max(alike, key=lambda need: need.wanted.score(call.name, given))
    wrong = nearest.wanted.differing(given)
    if call.error:
        return Finding("other_change", turn, call.name, f"{call.name} failed half-way and left a change behind")
    if not wrong:
        return Finding("made_twice", turn, call.name, f"called {call.name} again, with the same arguments")
    told = "; ".join(
        f"{name} is {_value(call.arguments, name)}, the reference has {_value(nearest.call.arguments, name)}"
        for name in wrong
    )
    return Finding("wrong_arguments", turn, f"{call.name}: {', '.join(wrong)}", told)


def _value(arguments: Mapping[str, object], name: str) -> str:
    return repr(arguments[name]) if name in arguments else "not given"


def _stages(rollout: Rollout, needs: Sequence[_Need], still: Sequence[_Need], departure: Finding | None) -> int | None:
    if not needs:
        return None
    tried = {call.name for _, call in _made(rollout)}
    worked = {call.name for _, call in _made(rollout) if not call.error}
    names = {need.call.name for need in needs}
    reached = (names <= tried, names <= worked, not still, departure is None)
    return next((count for count, yes in enumerate(reached) if not yes), len(reached))


def _cut_off(rollout: Rollout) -> Finding | None:
    if rollout.status != "truncated":
        return None
    return Finding("cut_off", None, rollout.cause or "a cap", f"truncated: {rollout.detail or rollout.cause}")


def _missing(rollout: Rollout, needs: Sequence[_Need], still: Sequence[_Need]) -> Finding | None:
    if not still:
        return None
    made = _made(rollout)
    missing = still[0].call.name
    failed = [(turn, call) for turn, call in made if call.name == missing and call.error]
    if failed:
        turn, call = failed[-1]
        return Finding("refused", turn, missing, call.output)
    if not any(not call.error for _, call in made):
        return Finding(
            "nothing_worked", None, missing, f"of {len(made)} calls none worked" if made else "no call at all"
        )
    ends = {need.call.name for need in needs if need.ends}
    ended = [(turn, call) for turn, call in made if call.effect == "terminal" and not call.error]
    if ended and ended[-1][1].name not in ends:
        turn, call = ended[-1]
        return Finding("handed_off", turn, f"{call.name} for {missing}", f"ended with {call.name}, without {missing}")
    return Finding("left_out", None, missing, f"ended without {missing}")


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
