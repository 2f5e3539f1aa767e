"""The card as JSON, put together from its sections."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from banty.evals.audit import AuditFile
from banty.evals.dependability.audit import audit_json
from banty.evals.dependability.calls import errors_json, intents_json, tools_json
from banty.evals.dependability.conduct import criteria_json, graders_json, habits_json
from banty.evals.dependability.costs import Price, cost_json
from banty.evals.dependability.facts import TaskFacts
from banty.evals.dependability.results import CARD_FORMAT, Result, User, task_place, users_of
from banty.evals.dependability.success import differences_json, noise_json, strata_json, success_json
from banty.evals.suite import published_id
from banty.evals.users import simulator_report, table
from banty.runs.folder import manifest

FORMAT = CARD_FORMAT


def dependability_card(
    results: Sequence[Result],
    facts: TaskFacts,
    *,
    prices: Sequence[Price] = (),
    audits: Sequence[AuditFile | None] = (),
) -> dict[str, Any]:
    """The card of `results`, which `read_results` gave, as JSON.

    `facts` are of their tasks, `audits` one a result, as `audits_of` gives them.
    """
    users = users_of(results)
    first = results[0]
    places = [task_place(task["id"]) for task in first.card.data["tasks"]]
    policies = list(dict.fromkeys(str(result.identity["policy"]) for result in results))
    card = {
        "format": FORMAT,
        "subject": {
            "policy": " and ".join(policies) if len(policies) < 3 else f"{len(policies)} checkpoints",
            "policies": policies,
            "env": first.identity["env"],
            "split": first.identity["split"],
            "num_tasks": len(places),
            "grader": table(first.identity.get("provenance")).get("grader"),
            "temperature": table(first.identity.get("params")).get("temperature"),
            "max_turns": table(first.identity.get("limits")).get("max_turns"),
        },
        "users": [_user_json(user, places, facts, prices) for user in users],
        "differences": differences_json(users, places),
        "audit": audit_json(results, audits),
        "results": [_result_json(result) for result in results],
        "manifest": manifest(),
        "notes": _notes(results, users, facts),
    }
    found: dict[str, Any] = _finite(card)
    return found


def _user_json(user: User, places: Sequence[str], facts: TaskFacts, prices: Sequence[Price]) -> dict[str, Any]:
    return {
        "name": user.name,
        "version": user.version,
        "temperature": user.temperature,
        "source": user.source,
        "replicates": user.replicates,
        "num_replicates": len(user.results),
        **success_json(user, places),
        "noise": noise_json(user, places),
        "strata": strata_json(user, places, facts),
        "habits": habits_json(user, facts),
        "criteria": criteria_json(user),
        "errors": errors_json(user),
        "tools": tools_json(user),
        "intents": intents_json(user, places, facts),
        "graders": graders_json(user),
        "cost": cost_json(user, prices),
        "episodes": _episodes_json(user),
    }


def _episodes_json(user: User) -> dict[str, Any]:
    """How episodes ended, and which of them no rate counts."""
    statuses: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    total = scored = 0
    for result in user.results:
        total += sum(map(len, result.successes.values()))
        scored += sum(value is not None for trials in result.successes.values() for value in trials)
        if result.rollouts is not None:
            statuses.update(one.status for one in result.rollouts)
            causes.update(one.cause for one in result.rollouts if one.cause)
            failed = [one for one in result.rollouts if one.cause == "simulator"]
            faults.update(_counts(simulator_report(failed)["faults"]))
        else:
            statuses.update(_counts(result.card.data.get("statuses")))
            causes.update(_counts(result.card.data.get("causes")))
            faults.update(_counts(table(result.card.data.get("simulator")).get("faults")))
    return {
        "num_episodes": total,
        "num_scored": scored,
        "num_excluded": total - scored,
        "statuses": dict(statuses),
        "causes": dict(causes),
        "user_faults": dict(faults),
    }


def _result_json(result: Result) -> dict[str, Any]:
    identity, made = result.identity, table(result.card.data.get("manifest"))
    return {
        "folder": str(result.place),
        "from": result.source,
        "why_card": result.why_card,
        "card_sha256": result.sha256,
        "policy": identity["policy"],
        "policy_details": dict(table(identity.get("policy_details"))),
        "user": dict(table(identity.get("roles"))),
        "seed": identity["seed"],
        "num_trials": identity.get("num_trials"),
        "tasks_sha256": identity["tasks_sha256"],
        "provenance": dict(table(identity.get("provenance"))),
        "training_run": str(result.training.place) if result.training else None,
        "reward_file": result.training.reward_file if result.training else None,
        "success": dict(result.card.data["success"]),
        "made_with": {
            name: made.get(name) for name in ("banty", "commit", "python", "platform", "packages", "started")
        },
    }


def _notes(results: Sequence[Result], users: Sequence[User], facts: TaskFacts) -> list[str]:
    notes = [note for result in results for note in result.notes]
    notes += [
        f"{result.place}: {result.why_card}; its figures are from card.json" for result in results if result.why_card
    ]
    if facts.why_not:
        notes.append(f"Tasks that take a write are not known: {facts.why_not}")
    notes += [told for user in users if (told := _short_of_trials(user, len(users) > 1))]
    names = sorted({str(result.identity["policy"]) for result in results})
    if len(names) > 1:
        notes.append(f"{', '.join(names)} are taken for checkpoints of one method")
    if any(not user.results[0].weights for user in users if user.replicates == "repetitions"):
        notes.append("The weights behind these evaluations are not known; they are taken for the same")
    if any(name.startswith("habits") for name in names):
        notes.append("A habit policy's tokens are its decisions: they and their price say nothing of a language model")
    weights = [{result.weights for result in user.results} for user in users]
    if any(one != weights[0] for one in weights):
        notes.append(
            "The users were not played against the same weights, so differences between them are not theirs alone"
        )
    if len({result.identity["tasks_sha256"] for result in results}) > 1:
        notes.append(
            "tasks_sha256 differs between users, since it covers who the user is; the tasks are the same by place"
        )
    return notes


def _short_of_trials(user: User, several: bool) -> str:
    """Why pass^k ends below the number of trials; empty where it does not."""
    counted = [
        (sum(value is not None for value in trials), len(trials), names[place])
        for result, names in ((result, _task_names(result)) for result in user.results)
        for place, trials in result.successes.items()
    ]
    fewest, planned, place = min((one for one in counted if one[0]), default=(0, 0, ""))
    if fewest == planned:
        return ""
    whose = f" with the user {user.name}" if several else ""
    return f"pass^k ends at k = {fewest}{whose}: of task {place}, {fewest} of {planned} trials were scored"


def _task_names(result: Result) -> dict[str, str]:
    """What a task is called, by its place: the name it was published under, else the place."""
    places = {task_place(task["id"]): task.get("public") for task in result.card.data["tasks"]}
    return {place: published_id(public, place) for place, public in places.items()}


def _finite(value: Any) -> Any:
    """JSON with null for numbers that JSON does not have, which a card made elsewhere may hold."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _counts(value: Any) -> dict[str, int]:
    return {str(name): count for name, count in table(value).items() if isinstance(count, int)}
