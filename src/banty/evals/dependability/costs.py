"""Tokens, seconds and money: what an episode took, and what a solved task would cost at somebody's price."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from banty.evals.dependability.figures import ratio, trials_by_task
from banty.evals.dependability.results import User
from banty.records import Rollout, Turn
from banty.stats import interval_over_tasks, ratio_interval, task_means


class Price(NamedTuple):
    """Dollars per million tokens."""

    name: str
    prompt: float
    sampled: float

    def of(self, prompt_tokens: float, sampled_tokens: float) -> float:
        return (self.prompt * prompt_tokens + self.sampled * sampled_tokens) / 1e6


def cost_json(user: User, prices: Sequence[Price]) -> dict[str, Any]:
    """Means over scored episodes, and each price's cost per solved task; from the cards' totals without rollouts."""
    rollouts = user.scored
    if not rollouts:
        return _from_cards(user, prices)
    means = {
        "prompt_tokens": _mean(rollouts, lambda one: sum(turn.prompt_tokens for turn in one.agent_turns)),
        "sampled_tokens": _mean(rollouts, lambda one: sum(turn.sampled_tokens for turn in one.agent_turns)),
        "others_prompt_tokens": _mean(rollouts, lambda one: sum(turn.prompt_tokens for turn in _others(one))),
        "others_sampled_tokens": _mean(rollouts, lambda one: sum(turn.sampled_tokens for turn in _others(one))),
        "episode_s": _mean(rollouts, lambda one: one.duration_s),
        "policy_s": _mean(rollouts, lambda one: sum(turn.policy_s for turn in one.agent_turns)),
        "turns": _mean(rollouts, lambda one: len(one.agent_turns)),
    }
    paid = sum(turn.cost_usd for one in rollouts for turn in one.turns)
    rows = [_priced(rollouts, price) for price in prices]
    if paid > 0.0:
        rows.insert(0, _row("as paid", None, rollouts, lambda one: sum(turn.cost_usd for turn in one.turns)))
    return {"source": user.source, "per_episode": means, "per_solved": rows}


def _priced(rollouts: Sequence[Rollout], price: Price) -> dict[str, Any]:
    def cost(one: Rollout) -> float:
        turns = one.agent_turns
        return price.of(sum(turn.prompt_tokens for turn in turns), sum(turn.sampled_tokens for turn in turns))

    return _row(price.name, price, rollouts, cost)


def _row(
    name: str, price: Price | None, rollouts: Sequence[Rollout], cost: Callable[[Rollout], float]
) -> dict[str, Any]:
    spent = trials_by_task(rollouts, cost)
    solved = trials_by_task(rollouts, lambda one: bool(one.outcome.success))
    # One mean a task on both sides, so that a task counts once however many of its trials were scored.
    found = ratio_interval(task_means(list(spent.values())), task_means(list(solved.values())))
    episodes = [one for trials in spent.values() for one in trials]
    terms = None if price is None else {"prompt": price.prompt, "sampled": price.sampled}
    per_episode = sum(episodes) / len(episodes)
    return {"name": name, "price": terms, "per_episode": per_episode, **found.to_json()}


def _from_cards(user: User, prices: Sequence[Price]) -> dict[str, Any]:
    totals = {"prompt_tokens": 0.0, "sampled_tokens": 0.0}
    episodes = solved = 0
    for result in user.results:
        cost = result.card.data.get("cost")
        for name in totals:
            value = cost.get(name) if isinstance(cost, Mapping) else None
            totals[name] += value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
        trials = [value for found in result.successes.values() for value in found]
        episodes += len(trials)
        solved += sum(value == 1.0 for value in trials)
    rows = []
    for price in prices:
        spent = price.of(totals["prompt_tokens"], totals["sampled_tokens"])
        rows.append(
            {
                "name": price.name,
                "price": {"prompt": price.prompt, "sampled": price.sampled},
                "per_episode": ratio(spent, episodes),
                "estimate": ratio(spent, solved),
                "low": None,
                "high": None,
                "method": "totals of the cards, the user's tokens and unscored episodes included: no interval",
            }
        )
    means = {name: {"estimate": ratio(total, episodes), "low": None, "high": None} for name, total in totals.items()}
    source = "card: its totals over all episodes, scored or not, of the agent and the user together"
    return {"source": source, "per_episode": means, "per_solved": rows}


def _others(rollout: Rollout) -> tuple[Turn, ...]:
    """The turns of whoever else was asked: the user simulator, a judge."""
    return tuple(turn for turn in rollout.turns if turn.actor != "agent")


def _mean(rollouts: Sequence[Rollout], value: Callable[[Rollout], float]) -> dict[str, Any]:
    means = task_means(list(trials_by_task(rollouts, value).values()))
    return interval_over_tasks(means, bounds=None).to_json()
