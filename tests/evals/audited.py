"""Tasks to be audited, written by hand: benchmarks' task files and sets of tasks with as much in common as asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banty.evals.audit import AuditedTask, TaskSet
from banty.records import TaskContent, ToolCall, generator

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in ("ra", "ti", "so", "ne", "lu")]


def task(name: str, text: str = "", customer: str = "", writes: Sequence[ToolCall] | None = None) -> AuditedTask:
    content = TaskContent(
        customers=frozenset({customer}) if customer else None,
        text=text,
        writes=None if writes is None else tuple(writes),
    )
    return AuditedTask(name, content)


def words(seed: int, count: int = 30) -> list[str]:
    """Words at random, the same for the same seed."""
    return [str(one) for one in generator(seed, "words").choice(VOCABULARY, size=count)]


def strangers(count: int, first: int = 0, who: str = "guest") -> list[AuditedTask]:
    """Tasks with nothing in common but the language: customers, records and words of their own."""
    return [
        task(str(place), " ".join(words(place)), f"{who}_{place}", [cancel(f"R{place:05d}")])
        for place in range(first, first + count)
    ]


def cancel(reservation: str) -> ToolCall:
    return ToolCall("cancel_reservation", {"reservation_id": reservation})


def tasks(name: str, listed: Sequence[AuditedTask]) -> TaskSet:
    return TaskSet(name, listed)


def published_pair(folder: Path) -> tuple[Path, Path]:
    """A v1 task file in Python and a rephrased task file of tau2, alike as the airline's published ones are: 50 tasks
    of the same 50 customers, in another order; 46 have the same golden writes (20 write nothing in either); and of an
    instruction's distinct words about eight in ten are in both."""
    old, new = [], []
    for place in range(50):
        customer, said = f"mia_li_{place + 1000}", words(place, 40)
        writes = [] if place < 20 else [cancel(f"ABC{place:03d}")]
        later = [cancel(f"XYZ{place:03d}")] if place >= 46 else writes
        old.append((customer, f"Your user id is {customer}. You want {' '.join(said)}.", writes))
        replaced = list(generator(place, "rephrased").choice(40, size=5, replace=False))
        other = [f"new{word}" if at in replaced else word for at, word in enumerate(said)]
        new.append((customer, f"Your user id is {customer}. You want {' '.join(other)}.", later))
    order = np.roll(np.arange(50), 7)
    python = folder / "tasks_test.py"
    python.write_text(
        "from tau_bench.types import Action, Task\n\nTASKS = [\n"
        + "".join(
            f'    Task(annotator="0", user_id={customer!r}, instruction=("" {said!r}), actions=[{_actions(calls)}], '
            "outputs=[]),\n"
            for customer, said, calls in old
        )
        + "]\n"
    )
    listed = folder / "tasks.json"
    rephrased = [new[place] for place in order]
    listed.write_text(
        json.dumps([tau2_task(str(at), said, calls) for at, (_, said, calls) in enumerate(rephrased)], indent=1)
    )
    return python, listed


def tau2_task(name: str, said: str, calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
    actions = [{"name": "get_user_details", "arguments": {"user_id": said.split("id is ")[-1].split(".")[0]}}]
    actions += [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
    return {
        "id": name,
        "user_scenario": {"instructions": {"domain": "airline", "reason_for_call": said, "known_info": None}},
        "evaluation_criteria": {"actions": actions},
    }


def _actions(calls: Sequence[ToolCall]) -> str:
    return ", ".join(f"Action(name={call.name!r}, kwargs={dict(call.arguments)!r})" for call in calls)
