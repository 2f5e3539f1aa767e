"""Two results on the same tasks, compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.evals.card import Card
from banty.stats import Comparison, compare_on_tasks

_MUST_AGREE = ("env", "split", "seed", "tasks_sha256")


@dataclass(frozen=True)
class CardComparison:
    """B against A: the difference is B's success minus A's. `notes` say what else differs between the two."""

    first: Card
    second: Card
    result: Comparison
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        difference = self.result.difference
        return {
            "a": self.first.title,
            "b": self.second.title,
            "difference": {name: getattr(difference, name) for name in ("estimate", "low", "high", "level", "n")},
            "p_value": self.result.p_value,
            "test": self.result.test,
            "num_tasks": self.result.num_tasks,
            "num_left_out": self.result.num_left_out,
            "minimum_detectable_effect": self.result.mde,
            "verdict": self.result.verdict,
            "notes": list(self.notes),
        }


def compare_cards(first: Card, second: Card) -> CardComparison:
    """The paired comparison of two cards.

    Raises InputError unless both were measured on the same tasks under the same grader: other figures differ for
    reasons that have nothing to do with the policies.
    """
    a, b = first.data["identity"], second.data["identity"]
    for name in _MUST_AGREE:
        if a[name] != b[name]:
            raise InputError(
                f"the cards were not measured on the same tasks: {name} is {a[name]!r} and {b[name]!r}. "
                "Evaluate both with the same --env, --split, --tasks and --seed"
            )
    by_task = {task["id"]: task["successes"] for task in second.data["tasks"]}
    shared = [task["id"] for task in first.data["tasks"] if task["id"] in by_task]
    if len(shared) != len(by_task) or len(shared) != len(first.data["tasks"]):
        raise InputError("the cards hold different tasks; evaluate both with the same --tasks")
    result = compare_on_tasks([by_task[task] for task in shared], first.successes)
    notes = [
        f"{name} differs: {a[name]} and {b[name]}"
        for name in ("params", "limits", "num_trials", "provenance")
        if a[name] != b[name]
    ]
    return CardComparison(first, second, result, tuple(notes))
