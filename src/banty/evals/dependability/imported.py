"""The result card of an imported log: what it says of tasks, trials and rewards, and nothing that it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.evals.card import Card, make_card
from banty.evals.users import table
from banty.records import JSON, Rollout, sha256_json

IMPORT = "import"


def imported_card(folder: Path, recipe: Mapping[str, Any], rollouts: Sequence[Rollout]) -> Card:
    """The card of an import's root rollouts.

    Raises InputError for a log of several policies, or of one policy that changed: no figure would be about any.
    """
    if not rollouts:
        raise InputError(f"{folder} is an import without rollouts, so there is nothing to say")
    policies = Counter(rollout.policy for rollout in rollouts)
    if len(policies) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in policies.most_common(5))
        raise InputError(
            f"{folder} is a log of {len(policies)} policies, {told}; a card is about one: import each alone"
        )
    if len({(rollout.version, rollout.group_id.rpartition("|")[0]) for rollout in rollouts}) > 1:
        raise InputError(
            f"{folder} is a log of several collections, such as the steps of a training run, between which the policy "
            "changed; import each alone, for a card is about one policy"
        )
    served = _user(recipe).get("served")
    notes = {"served": [str(name) for name in served] if isinstance(served, list) else []}
    return make_card(_identity(recipe, rollouts, next(iter(policies))), rollouts, {}, 0.0, user_notes=notes)


def _identity(recipe: Mapping[str, Any], rollouts: Sequence[Rollout], policy: str) -> dict[str, JSON]:
    """What an evaluation has to have in common with another, as far as the log says."""
    about = table(recipe.get("about"))
    agent, user = table(about.get("agent_info")), table(about.get("user_info"))
    player = user.get("llm")
    roles: dict[str, JSON] = {"user": player} if isinstance(player, str) and player else {}
    tasks: dict[str, JSON] = {rollout.task.id: dict(rollout.task.public) for rollout in rollouts}
    seed = about.get("seed")
    return {
        "env": str(recipe.get("env")),
        "split": str(recipe.get("split")),
        "num_tasks": len(tasks),
        "num_trials": max(Counter(one.task.id for one in rollouts).values()),
        "seed": seed if isinstance(seed, int) else 0,
        "policy": policy,
        "policy_details": {},
        "roles": roles,
        "role_params": {"user": _sampling(user)} if roles else {},
        "role_details": {"user": _told(recipe, _DETAILS)} if roles else {},
        "params": _sampling(agent),
        "limits": {},
        "tasks_sha256": sha256_json(tasks),
        "provenance": {
            "grader": f"the log's own: {recipe.get('success')}",
            "user": "not known",
            **_told(recipe, _VERSIONS),
        },
    }


_DETAILS = {name: name for name in ("name", "kind", "model", "weights_sha256")}
_VERSIONS = {
    "guidelines": "user_guidelines",
    "guidelines_sha256": "user_guidelines_sha256",
    "generator_version": "user_version",
    "checks_version": "user_checks",
}
"""Where an evaluation's identity has what `user_of` makes a user of."""


def _user(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the log says of its user beyond the name: what an export of ours wrote, or a hash of its guidelines."""
    return table(table(table(recipe.get("about")).get("user_info")).get("banty"))


def _told(recipe: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, JSON]:
    told = _user(recipe)
    return {name: told[key] for key, name in names.items() if isinstance(told.get(key), (str, int))}


def _sampling(player: Mapping[str, Any]) -> dict[str, JSON]:
    temperature = table(player.get("llm_args")).get("temperature")
    return {"temperature": temperature} if isinstance(temperature, (int, float)) else {}
