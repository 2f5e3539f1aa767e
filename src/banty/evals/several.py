"""The same agent on the same tasks under several users."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.evals.card import Card
from banty.evals.compare import compare_cards
from banty.evals.users import without_user
from banty.stats import Comparison, paired_differences, variance_over_tasks

_LEVEL = 0.95
_WORDS = {"better": "higher", "worse": "lower"}


@dataclass(frozen=True)
class UserPair:
    """Success under the second user minus success under the first, paired by task.

    `p_holm` is the p-value with all pairs taken into account; `verdict` (higher, lower, not resolved) holds to it.
    """

    first: str
    second: str
    result: Comparison
    p_holm: float | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        difference = self.result.difference
        return {
            "a": self.first,
            "b": self.second,
            "difference": {name: getattr(difference, name) for name in ("estimate", "low", "high", "level", "n")},
            "p_value": self.result.p_value,
            "p_holm": self.p_holm,
            "minimum_detectable_effect": self.result.mde,
            "num_left_out": self.result.num_left_out,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class UserComparison:
    """All pairs of users, and how far they lie apart.

    `range` is the largest success rate minus the smallest, over tasks that were scored under every user; noise alone
    makes one. `sd_between_users` is the standard deviation of users' true rates that the paired differences suggest once
    their own sampling variance is taken off: rough with few users, 0 where noise explains everything.
    """

    pairs: tuple[UserPair, ...]
    range: float | None
    sd_between_users: float | None

    def to_json(self) -> dict[str, Any]:
        spread = {"range": self.range, "sd_between_users": self.sd_between_users}
        return {"pairs": [pair.to_json() for pair in self.pairs], "spread": spread}


def compare_users(cards: Mapping[str, Card]) -> UserComparison:
    """The cards of one agent under the users they are named after.

    Raises InputError unless their identities are equal but for the user.
    """
    check_same_agent(cards)
    named = list(itertools.combinations(cards, 2))
    results = [compare_cards(cards[a], cards[b], across_users=True).result for a, b in named]
    adjusted = holm([result.p_value for result in results])
    pairs = tuple(
        UserPair(a, b, result, p_holm, _verdict(result, p_holm))
        for (a, b), result, p_holm in zip(named, results, adjusted, strict=True)
    )
    return UserComparison(pairs, _range(list(cards.values())), _sd_between(cards, named))


def check_same_agent(cards: Mapping[str, Card]) -> None:
    """Raises InputError for cards whose identities differ in more than the user."""
    (first, reference), *others = ((name, without_user(card.data["identity"])) for name, card in cards.items())
    for name, identity in others:
        differing = [key for key in {**reference, **identity} if reference.get(key) != identity.get(key)]
        if differing:
            key = differing[0]
            raise InputError(
                f"{first} and {name} are no results of one agent under two users: {key} is {reference.get(key)!r} and "
                f"{identity.get(key)!r}"
            )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and counts as no test."""
    tested = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(tested):
        largest = max(largest, min((len(tested) - rank) * value, 1.0))
        adjusted[place] = largest
    return adjusted


def _verdict(result: Comparison, p_holm: float | None) -> str:
    if p_holm is None or p_holm > 1.0 - _LEVEL:
        return "not resolved"
    return _WORDS.get(result.verdict, result.verdict)


def _by_task(cards: Sequence[Card]) -> list[list[list[float | None]]]:
    """For each card its trials by task, tasks in the order of the first card."""
    order = [task["id"] for task in cards[0].data["tasks"]]
    found = [{task["id"]: task["successes"] for task in card.data["tasks"]} for card in cards]
    return [[tasks[task_id] for task_id in order] for tasks in found]


def _range(cards: Sequence[Card]) -> float | None:
    means = [
        [_mean(trials) for trials in tasks]
        for tasks in zip(*_by_task(cards), strict=True)
        if all(any(value is not None for value in trials) for trials in tasks)
    ]
    rates = [sum(column) / len(column) for column in zip(*means, strict=True)]
    return max(rates) - min(rates) if rates else None


def _mean(trials: Sequence[float | None]) -> float:
    values = [value for value in trials if value is not None]
    return sum(values) / len(values)


def _sd_between(cards: Mapping[str, Card], named: Sequence[tuple[str, str]]) -> float | None:
    """From E[(difference)^2] = 2 (variance between users) + (sampling variance), averaged over pairs."""
    successes = dict(zip(cards, _by_task(list(cards.values())), strict=True))
    found = []
    for a, b in named:
        differences = paired_differences(successes[b], successes[a])
        used = [float(value) for value in differences if not math.isnan(value)]
        if used:
            noise = (variance_over_tasks(used) or 0.0) / len(used)
            found.append(((sum(used) / len(used)) ** 2 - noise) / 2.0)
    return math.sqrt(max(sum(found) / len(found), 0.0)) if found else None
