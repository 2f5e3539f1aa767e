"""Two results on the same tasks, compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.evals.card import Card
from banty.evals.users import differing_users, user_of_card, user_words, without_user
from banty.stats import Comparison, compare_on_tasks

_MUST_AGREE = ("env", "split", "seed", "grader", "tasks_sha256")
_NOTED = ("params", "limits", "num_trials", "roles", "provenance")


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
            "users": [dict(user_of_card(card.data)) for card in (self.first, self.second)],
            "notes": list(self.notes),
        }


def compare_cards(first: Card, second: Card, *, across_users: bool = False) -> CardComparison:
    """The paired comparison of two cards.

    Raises InputError unless both were measured on the same tasks under the same grader, and with the same user: other
    figures differ for reasons that have nothing to do with the policies. `across_users` lets users differ, and the
    notes say so.
    """
    a, b = _measured(first), _measured(second)
    for name in _MUST_AGREE:
        if a.get(name) != b.get(name):
            raise InputError(
                f"the cards were not measured on the same tasks: {name} is {a.get(name)!r} and {b.get(name)!r}. "
                "Evaluate both with the same --env, --option, --split, --tasks and --seed"
            )
    users = differing_users(first.data, second.data)
    if users and not across_users:
        raise InputError(
            f"the cards were measured under different users ({', '.join(users)}): {_user(first)}, and {_user(second)}. "
            "Evaluate both with the same --user, or add --across-users to compare all the same"
        )
    by_task = {task["id"]: task["successes"] for task in second.data["tasks"]}
    shared = [task["id"] for task in first.data["tasks"] if task["id"] in by_task]
    if len(shared) != len(by_task) or len(shared) != len(first.data["tasks"]):
        raise InputError("the cards hold different tasks; evaluate both with the same --tasks")
    result = compare_on_tasks([by_task[task] for task in shared], first.successes)
    notes = []
    if users:
        notes.append(f"the users differ ({', '.join(users)}): {_user(first)}, and {_user(second)}")
        a, b = without_user(a), without_user(b)
    notes += [f"{name} differs: {a.get(name)} and {b.get(name)}" for name in _NOTED if a.get(name) != b.get(name)]
    return CardComparison(first, second, result, tuple(notes))


def _measured(card: Card) -> Mapping[str, Any]:
    """What was measured, the grader beside the rest."""
    identity = card.data["identity"]
    return {**identity, "grader": identity.get("provenance", {}).get("grader")}


def _user(card: Card) -> str:
    return user_words(user_of_card(card.data))
