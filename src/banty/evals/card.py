"""The result card: one JSON file that says what was measured, on what, how surely, and at what cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.evals.graders import grader_table
from banty.evals.users import simulator_report, user_of
from banty.records import JSON, Habit, Rollout
from banty.runs.folder import manifest
from banty.stats import (
    Interval,
    clustered_interval,
    detectable_shift,
    interval_over_tasks,
    largest_k,
    pass_at_k,
    pass_hat_k,
)

FORMAT = "banty-card-1"
_MOST_NAMES = 10
_MOST_CHARACTERS = 80
Decode = Callable[[Sequence[int]], Sequence[tuple[str, bool]]]


@dataclass(frozen=True)
class Card:
    """A result. `data` is the card's JSON; the properties are what comparisons need."""

    data: Mapping[str, Any]

    @property
    def title(self) -> str:
        identity = self.data["identity"]
        return f"{identity['policy']} on {identity['env']} {identity['split']}"

    @property
    def successes(self) -> list[list[float | None]]:
        """One list of trials per task, 1.0, 0.0 or None where the episode errored."""
        return [task["successes"] for task in self.data["tasks"]]

    @property
    def success(self) -> Interval:
        return Interval(**self.data["success"])


def make_card(
    identity: Mapping[str, JSON],
    rollouts: Sequence[Rollout],
    baselines: Mapping[str, Sequence[Rollout]],
    wall_s: float,
    decode: Decode | None = None,
    habits: Mapping[str, Habit] | None = None,
    words: Mapping[str, str] | None = None,
    user_notes: Mapping[str, Any] | None = None,
) -> Card:
    """The card of an evaluation's root rollouts.

    `habits` are looked for in each episode; where `decode` reads a habit policy's own decisions out of token ids, those
    are counted instead. `words` say what a lapse at a decision is, `user_notes` what `user_of` takes.
    """
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(rollout)
    successes = [[_success(rollout) for rollout in trials] for trials in by_task.values()]
    most = largest_k(successes) or 0
    tasks = [
        {"id": task_id, "public": dict(trials[0].task.public), "successes": [_success(rollout) for rollout in trials]}
        for task_id, trials in by_task.items()
    ]
    data: dict[str, Any] = {
        "format": FORMAT,
        "identity": dict(identity),
        "user": user_of(identity, user_notes),
        "simulator": simulator_report(rollouts),
        "success": clustered_interval(successes, method="wilson").to_json(),
        "pass_at": {str(k): _over_tasks(pass_at_k(successes, k)).to_json() for k in range(1, most + 1)},
        "pass_hat": {str(k): _over_tasks(pass_hat_k(successes, k)).to_json() for k in range(1, most + 1)},
        "minimum_detectable_effect": detectable_shift(successes),
        "num_episodes": len(rollouts),
        "num_scored": sum(rollout.scored for rollout in rollouts),
        "statuses": dict(Counter(rollout.status for rollout in rollouts)),
        "causes": dict(Counter(rollout.cause for rollout in rollouts if rollout.cause)),
        "components": _component_means(rollouts),
        "graders": grader_table(rollouts),
        "baselines": {name: _baseline(trials) for name, trials in baselines.items()},
        "behaviour": _behaviour(rollouts),
        "unknown_tools": _unknown_tools(rollouts),
        "habits": _habits(rollouts, decode, habits or {}, words or {}),
        "cost": _cost(rollouts, wall_s),
        "tasks": tasks,
        "manifest": manifest(),
    }
    return Card(data)


def read_card(path: str | Path) -> Card:
    """A card from its file, or from the evaluation folder it lies in."""
    file = Path(path)
    file = file / "card.json" if file.is_dir() else file
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"no result card at {file}; run banty eval ... --out FOLDER first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a result card: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{file} is not a result card of this Banty: its format is {found!r}, not {FORMAT!r}")
    missing = [name for name in ("identity", "success", "tasks") if name not in data]
    if missing:
        raise InputError(f"{file} is a damaged result card: it has no {', '.join(missing)}")
    card = Card(data)
    try:
        _ = card.title, card.success, [task["id"] for task in data["tasks"]], card.successes
        _ = [str(one) for one in data["identity"].get("without") or ()]
        _ = [data["identity"][name] for name in ("env", "split", "seed", "tasks_sha256", "params", "provenance")]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is a damaged result card: {type(error).__name__} {error}") from error
    return card


def _habits(
    rollouts: Sequence[Rollout], decode: Decode | None, habits: Mapping[str, Habit], words: Mapping[str, str]
) -> dict[str, dict[str, JSON]]:
    table = observed_habits(rollouts, habits) if decode is None else habit_table(rollouts, decode)
    known = {**words, **{name: habit.lapse for name, habit in habits.items()}}
    return {name: {"lapse": known[name], **row} if name in known else row for name, row in table.items()}


def observed_habits(rollouts: Sequence[Rollout], habits: Mapping[str, Habit]) -> dict[str, dict[str, JSON]]:
    """How many of the scored episodes where a habit came up had it: the mean over tasks, clustered by task."""
    table: dict[str, dict[str, JSON]] = {}
    for name, habit in habits.items():
        by_task: dict[str, list[float]] = {}
        for rollout in rollouts:
            seen = habit.observe(rollout) if rollout.scored else None
            if seen is not None:
                by_task.setdefault(rollout.task.id, []).append(float(seen))
        if by_task:
            table[name] = _rate(list(by_task.values()))
    return table


def _rate(trials: list[list[float]]) -> dict[str, JSON]:
    counts = {"lapses": int(sum(map(sum, trials))), "chances": sum(map(len, trials))}
    return {**counts, **clustered_interval(trials, method="wilson").to_json()}


def habit_table(rollouts: Sequence[Rollout], decode: Decode) -> dict[str, dict[str, JSON]]:
    """How often each decision point lapsed: the mean over tasks where it came up, clustered by task.

    `lapses` and `chances` are the plain counts.
    """
    by_task: dict[str, dict[str, list[float]]] = {}
    for rollout in rollouts:
        for turn in rollout.agent_turns:
            for point, lapsed in decode(turn.segment.sampled_ids) if turn.segment else ():
                by_task.setdefault(point, {}).setdefault(rollout.task.id, []).append(float(lapsed))
    return {point: _rate(list(by_task[point].values())) for point in sorted(by_task)}


def _success(rollout: Rollout) -> float | None:
    return float(bool(rollout.outcome.success)) if rollout.scored else None


def _over_tasks(estimate: Any) -> Interval:
    return interval_over_tasks(estimate.per_task, method="wilson")


def _component_means(rollouts: Sequence[Rollout]) -> dict[str, float]:
    totals: dict[str, list[float]] = {}
    for rollout in rollouts:
        for name, value in rollout.outcome.components.items() if rollout.scored else ():
            if value is not None:
                totals.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in totals.items()}


def _baseline(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    interval = clustered_interval([[_success(rollout)] for rollout in rollouts], method="wilson")
    num_passed = sum(bool(rollout.outcome.success) for rollout in rollouts)
    return {**interval.to_json(), "num_passed": num_passed, "num_tasks": len(rollouts)}


def _behaviour(rollouts: Sequence[Rollout]) -> dict[str, float | None]:
    """Means over scored episodes, and shares over calls and over the agent's answers; None where there is nothing to
    average."""
    scored = [rollout for rollout in rollouts if rollout.scored]
    calls = [call for rollout in scored for turn in rollout.agent_turns for call in turn.calls]
    answers = [turn.message for rollout in scored for turn in rollout.agent_turns]
    empty = sum(not (answer.content.strip() or answer.calls or answer.faults) for answer in answers)
    return {
        "turns_per_episode": len(answers) / len(scored) if scored else None,
        "calls_per_episode": len(calls) / len(scored) if scored else None,
        "call_error_share": sum(bool(call.error) for call in calls) / len(calls) if calls else None,
        "empty_answer_share": empty / len(answers) if answers else None,
        "capped_share": sum(rollout.status == "truncated" for rollout in scored) / len(scored) if scored else None,
    }


def _unknown_tools(rollouts: Sequence[Rollout]) -> dict[str, int]:
    """How often scored episodes called tools that were not there, the most frequent names first."""
    calls = [call for rollout in rollouts if rollout.scored for turn in rollout.agent_turns for call in turn.calls]
    found = Counter(call.name[:_MOST_CHARACTERS] for call in calls if call.error == "unknown_tool")
    return dict(found.most_common(_MOST_NAMES))


def _cost(rollouts: Sequence[Rollout], wall_s: float) -> dict[str, float | None]:
    turns = [turn for rollout in rollouts for turn in rollout.turns]
    solved = sum(bool(rollout.outcome.success) for rollout in rollouts)
    total = sum(turn.cost_usd for turn in turns)
    # Tokens without ids come from somebody's server: without a price what they cost is unknown, not nothing.
    unpriced = total == 0.0 and any(turn.prompt_tokens and turn.segment is None for turn in turns)
    usd = None if unpriced else total
    return {
        "usd": usd,
        "usd_per_solved": usd / solved if usd is not None and solved else None,
        "prompt_tokens": sum(turn.prompt_tokens for turn in turns),
        "sampled_tokens": sum(turn.sampled_tokens for turn in turns),
        "wall_s": wall_s,
        "policy_s": sum(turn.policy_s for turn in turns),
        "env_s": sum(turn.env_s for turn in turns),
    }
