"""Evaluation folders written by hand, with rollouts whose every figure a test can count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import rollouts_by_hand as by_hand
from tests.evals.toy_desk import GuessingTasks

from banty.evals import EvalPlan, make_card
from banty.records import CallResult, Rollout
from banty.rollout import Store
from banty.runs import RunFolder
from banty.runs.folder import write_json

GOOD = CallResult("find", {}, "found", "read")
BAD = CallResult("find", {}, "Error: no", "read", "tool")
WRITE = CallResult("book", {}, "booked", "write")
BROKEN = CallResult("fnd", {}, "Error: no such tool", "none", "unknown_tool")


def episode(index: int, trial: int, success: bool | None, *calls: CallResult, **components: float) -> Rollout:
    """One turn a call, ten prompt tokens and two sampled ones each; errored for None."""
    turns = [
        dataclasses.replace(by_hand.turn(at, calls=(call,), prompt_tokens=10), sampled_tokens=2)
        for at, call in enumerate(calls or (GOOD,))
    ]
    of = dataclasses.replace(by_hand.task(index), public={"number": index, "intents": ["odd" if index % 2 else "even"]})
    given: dict[str, float | None] = dict(components)
    cause = "simulator" if success is None else ""
    made = by_hand.rollout(turns, success, of=of, trial=trial, components=given, cause=cause)  # type: ignore[arg-type]
    return dataclasses.replace(made, duration_s=3.0)


def episodes(successes: Sequence[Sequence[int | None]]) -> list[Rollout]:
    return [
        episode(index, trial, None if value is None else bool(value))
        for index, trials in enumerate(successes)
        for trial, value in enumerate(trials)
    ]


def identity(policy: str = "nano", **changes: Any) -> dict[str, Any]:
    plan = EvalPlan(num_trials=2)
    made = plan.identity(GuessingTasks(), policy, details={"weights_sha256": "w0"})
    return {**made, "env": "hand/made", **changes}


def write(
    folder: Path, rollouts: Sequence[Rollout], who: Mapping[str, Any] | None = None, *, stored: bool = True
) -> Path:
    """An evaluation's folder; without `stored` only its card, as one would send it."""
    who = dict(who or identity())
    made = make_card(who, rollouts, {}, 2.5)
    if stored:
        RunFolder.create(folder, {"kind": "eval", "options": {}, **who})
        Store(folder / "rollouts").write("shard-000000", rollouts)
    else:
        folder.mkdir(parents=True)
    write_json(folder / "card.json", made.data)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change what a folder's card says."""
    file = folder / "card.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
