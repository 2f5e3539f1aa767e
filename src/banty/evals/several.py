"""The same agent on the same tasks under several users."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.evals.card import Card
from banty.evals.compare import compare_cards
from banty.evals.users import without_user
from banty.stats import Comparison, variance_over_tasks

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
class Spread:
    """How far users lie apart, over the `num_tasks` tasks that were scored under every one; None where there is none.

    `range` is the largest success rate minus the smallest; noise alone makes one. `sd_between_users` is the standard
    deviation of users' true rates that the paired differences suggest once their own sampling variance is taken off:
    rough with few users, 0 where noise explains everything.
    """

    range: float | None
    sd_between_users: float | None
    num_tasks: int


@dataclass(frozen=True)
class UserComparison:
    """All pairs of users, and their spread."""

    pairs: tuple[UserPair, ...]
    spread: Spread

    def to_json(self) -> dict[str, Any]:
        return {"pairs": [pair.to_json() for pair in self.pairs], "spread": dataclasses.asdict(self.spread)}


def compare_users(cards: Mapping[str, Card]) -> UserComparison:
    """The cards of one agent under the users they are named after.

    Raises InputError unless their identities are equal but for the user.
    """
    check_same_agent(cards)
    named = list(itertools.combinations(cards, 2))
    results = [compare_cards(cards[a], cards[b], across_users=True).result for a, b in named]
    pairs = pairs_of(named, results)
    return UserComparison(pairs, _spread(_shared_means(list(cards.values()))))


def pairs_of(named: Sequence[tuple[str, str]], results: Sequence[Comparison]) -> tuple[UserPair, ...]:
    """The pairs of users of these names and comparisons, each verdict held to Holm's p-value over all of them."""
    adjusted = holm([result.p_value for result in results])
    return tuple(
        UserPair(a, b, result, p_holm, _verdict(result, p_holm))
        for (a, b), result, p_holm in zip(named, results, adjusted, strict=True)
    )


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


def _shared_means(cards: Sequence[Card]) -> list[list[float]]:
    """The mean success of each task under each user, for tasks scored under all of them."""
    by_id = [{task["id"]: task["successes"] for task in card.data["tasks"]} for card in cards]
    found = []
    for task_id in by_id[0]:
        trials = [[value for value in tasks[task_id] if value is not None] for tasks in by_id]
        if all(trials):
            found.append([sum(values) / len(values) for values in trials])
    return found


def _spread(means: Sequence[Sequence[float]]) -> Spread:
    if not means:
        return Spread(None, None, 0)
    rates = [sum(column) / len(means) for column in zip(*means, strict=True)]
    # E[difference^2] = 2 (variance between users) + (sampling variance of the difference)
    between = []
    for a, b in itertools.combinations(range(len(rates)), 2):
        noise = (variance_over_tasks([task[b] - task[a] for task in means]) or 0.0) / len(means)
        between.append(((rates[b] - rates[a]) ** 2 - noise) / 2.0)
    return Spread(max(rates) - min(rates), math.sqrt(max(sum(between) / len(between), 0.0)), len(means))
