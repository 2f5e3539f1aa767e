"""What can be seen in any conversation, whoever had it and whatever was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from banty.evals.dependability.calls import calls_of, erred, num_mended
from banty.evals.diagnosis.causes import hands_off
from banty.records import CallResult, Rollout


def _key(call: CallResult) -> str:
    return json.dumps([call.name, dict(call.arguments)], sort_keys=True, default=str)


def _repeats(rollout: Rollout, failed: bool) -> bool:
    """Whether a call was made again that had got the same answer before, a failure or not."""
    seen: set[tuple[str, str]] = set()
    for call in calls_of(rollout):
        made = (_key(call), call.output)
        if bool(call.error) == failed:
            if made in seen:
                return True
            seen.add(made)
    return False


def _same_words(rollout: Rollout) -> bool:
    said = [" ".join(turn.message.content.split()) for turn in rollout.agent_turns]
    spoken = [words for words in said if words]
    return len(spoken) > len(set(spoken))


SYMPTOMS: Mapping[str, tuple[str, Callable[[Rollout], bool]]] = {
    "failed_call": ("a call failed", erred),
    "unmended": (
        "a failed call was never made good",
        lambda one: num_mended(one) < sum(bool(call.error) for call in calls_of(one)),
    ),
    "same_failure": ("a failed call was repeated unchanged", lambda one: _repeats(one, failed=True)),
    "broken_call": (
        "a call could not be read, or is of no known tool",
        lambda one: (
            any(turn.message.faults for turn in one.agent_turns) or any(call.effect == "none" for call in calls_of(one))
        ),
    ),
    "same_call": ("a call was repeated for the same answer", lambda one: _repeats(one, failed=False)),
    "same_words": ("the same words were said twice", _same_words),
    "no_call": ("no call at all", lambda one: not any(True for _ in calls_of(one))),
    "cut_answer": (
        "an answer was cut at the token limit",
        lambda one: any(turn.finish == "length" for turn in one.agent_turns),
    ),
    "handed_off": ("handed over, or ended by a call", lambda one: any(map(hands_off, calls_of(one)))),
}
"""By name: what it is, and whether a rollout shows it."""
