"""The nine habits as they show in a finished conversation, whoever the agent was.

The scripted agent's own decisions are exact and its own; these are read off what was said, called and graded, an
episode at a time, so that a language model can be held to the same list.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping

from banty.envs.airline.belief import classify, insists
from banty.envs.airline.expert import HABITS
from banty.records import CallResult, Habit, Rollout, Turn

_IDS = ("user_id", "reservation_id", "payment_id", "flight_number")


def _graded(rollout: Rollout, component: str) -> bool | None:
    """Whether a part of the verdict is missing; None where nobody judged it."""
    value = rollout.outcome.components.get(component)
    return None if value is None else value == 0.0


def _calls(rollout: Rollout) -> Iterator[CallResult]:
    return (call for turn in rollout.agent_turns for call in turn.calls)


def _customer_says(rollout: Rollout) -> list[str]:
    messages = [*rollout.opening, *(message for turn in rollout.agent_turns for message in turn.observation)]
    return [message.content for message in messages if message.role == "user"]


def skips_look_up(rollout: Rollout) -> bool | None:
    return _graded(rollout, "looked_up")


def invents_id(rollout: Rollout) -> bool | None:
    """An id in a call that nobody had said and no tool had returned."""
    seen = "\n".join(message.content for message in rollout.opening)
    used = False
    invented = False
    for turn in rollout.agent_turns:
        for call in turn.calls:
            for value in _ids(call.arguments):
                used = True
                invented = invented or value not in seen
        seen += "\n".join(("", *(message.content for message in turn.observation)))
    return invented if used else None


def _ids(arguments: object) -> Iterator[str]:
    if isinstance(arguments, Mapping):
        for name, value in arguments.items():
            if name in _IDS and isinstance(value, str):
                yield value
            else:
                yield from _ids(value)
    elif isinstance(arguments, (list, tuple)):
        for value in arguments:
            yield from _ids(value)


def writes_without_yes(rollout: Rollout) -> bool | None:
    wrote = any(call.effect == "write" and not call.error for call in _calls(rollout))
    return _graded(rollout, "confirmed") if wrote else None


def ignores_policy(rollout: Rollout) -> bool | None:
    """Something was written that a right ending does not change, and nobody had insisted on it."""
    return None if _insisted(rollout) else _graded(rollout, "restrained")


def caves_in(rollout: Rollout) -> bool | None:
    return _graded(rollout, "restrained") if _insisted(rollout) else None


def _insisted(rollout: Rollout) -> bool:
    return any(map(insists, _customer_says(rollout)))


def malformed_call(rollout: Rollout) -> bool | None:
    faults = any(turn.message.faults for turn in rollout.agent_turns)
    return faults if faults or any(_calls(rollout)) else None


def gives_up(rollout: Rollout) -> bool | None:
    """Right after a call that failed, a message that neither tries again nor asks."""
    turns = rollout.agent_turns
    after = [later for turn, later in itertools.pairwise(turns) if _failed(turn)]
    said = [turn.message for turn in after]
    gave_up = any(not message.calls and not message.faults and "?" not in message.content for message in said)
    return gave_up if after else None


def _failed(turn: Turn) -> bool:
    return bool(turn.message.faults) or any(call.error for call in turn.calls)


def never_stops(rollout: Rollout) -> bool | None:
    """The call just made, made again although it had worked."""
    last = ""
    repeated = called = False
    for call in _calls(rollout):
        called = True
        text = f"{call.name} {json.dumps(dict(call.arguments), sort_keys=True)}"
        repeated = repeated or text == last
        last = "" if call.error else text
    return repeated if called else None


def keeps_answer(rollout: Rollout) -> bool | None:
    asked = any(classify(text) == "total_paid" for text in _customer_says(rollout))
    return _graded(rollout, "told") if asked else None


AIRLINE_HABITS: Mapping[str, Habit] = {
    name: Habit(HABITS[name][1], observe)
    for name, observe in {
        "lookup": skips_look_up,
        "unknown_id": invents_id,
        "confirm": writes_without_yes,
        "policy": ignores_policy,
        "pressure": caves_in,
        "format": malformed_call,
        "error": gives_up,
        "ending": never_stops,
        "answer": keeps_answer,
    }.items()
}
