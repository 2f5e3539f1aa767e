"""Two graders of the same episodes side by side: what each says, and where they disagree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from banty.records import Rollout
from banty.stats import clustered_interval

GRADERS = ("tau2", "semantic")
"""Components that are verdicts of a grader, in the order they are shown: the benchmark's, and ours."""
MOST_LISTED = 200
_DISAGREES = re.compile(r"(?:tau2 passes and semantic|semantic passes and tau2) fails: .*", re.S)
"""How an outcome says why its graders disagree."""


def disagreement_in(reason: str) -> str:
    """What an outcome's reason says of the two graders, without what else it says; empty where it says nothing."""
    found = _DISAGREES.search(reason)
    return found[0] if found else ""


def grader_table(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Success under each grader, and the episodes over which they disagree; empty where episodes have one grader only.

    `num_disagree` counts episodes; `disagreements` lists at most MOST_LISTED of them, by task, with each verdict and
    the reason that the outcome gives.
    """
    judged = [one for one in rollouts if one.scored and all(_verdict(one, name) is not None for name in GRADERS)]
    if not judged:
        return {}
    differ = [one for one in judged if len({_verdict(one, name) for name in GRADERS}) > 1]
    return {
        **{name: _rate(judged, name) for name in GRADERS},
        "num_judged": len(judged),
        "num_disagree": len(differ),
        "num_tasks_disagree": len({one.task.id for one in differ}),
        "disagreements": [_listed(one) for one in differ[:MOST_LISTED]],
    }


def _verdict(rollout: Rollout, grader: str) -> float | None:
    return rollout.outcome.components.get(grader)


def _rate(rollouts: Sequence[Rollout], grader: str) -> dict[str, Any]:
    by_task: dict[str, list[float]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(float(_verdict(rollout, grader) or 0.0))
    return clustered_interval(list(by_task.values()), method="wilson").to_json()


def _listed(rollout: Rollout) -> dict[str, Any]:
    return {
        "task": rollout.task.id,
        "public": dict(rollout.task.public),
        "trial": rollout.trial,
        "rollout": rollout.rollout_id,
        **{name: _verdict(rollout, name) for name in GRADERS},
        "reason": rollout.outcome.reason,
    }
