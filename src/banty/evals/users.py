"""Who the user of a result was, and what simulated users did wrong in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from banty.envs.usercheck import findings_of
from banty.records import JSON, Rollout

_EXAMPLES = 3
_OF_A_USER = (
    "kind",
    "model",
    "weights_sha256",
    "guidelines_sha256",
    "generator_version",
    "checks_version",
    "temperature",
)


def user_of(identity: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> dict[str, JSON]:
    """Who played the user of an evaluation: `name`, `kind`, `version`, `temperature`, and what the version is made of.

    `temperature` is None for a user who samples nothing. `notes` hold what only answers showed: `served`, the names a
    server gave its model.
    """
    provenance = table(identity.get("provenance"))
    details = table(table(identity.get("role_details")).get("user"))
    played = table(identity.get("roles")).get("user")
    params = table(table(identity.get("role_params")).get("user"))
    own = str(provenance.get("user", "the environment's own"))
    found: dict[str, JSON] = {
        "name": str(details.get("name") or played or own),
        "kind": str(details.get("kind", "policy")) if played else own,
        "temperature": params.get("temperature") if played else None,
        "model": details.get("model"),
        "served": sorted(map(str, (notes or {}).get("served", ()))),
        "weights_sha256": details.get("weights_sha256"),
        "guidelines": provenance.get("user_guidelines"),
        "guidelines_sha256": provenance.get("user_guidelines_sha256"),
        "generator_version": provenance.get("user_version"),
        "checks_version": provenance.get("user_checks"),
        "asked_again": dict((notes or {}).get("asked_again", {})),
    }
    return {**found, "version": _version(found, played)}


def _version(found: Mapping[str, Any], played: str | None) -> str:
    asked = "" if found["served"] else str(found["model"] or "")
    parts = {
        "served": ", ".join(found["served"]) if played else "",
        "asked for": asked if played else "",
        "weights": str(found["weights_sha256"] or "")[:12],
        "guidelines": str(found["guidelines_sha256"] or "")[:12],
        "generator": "" if found["generator_version"] is None else str(found["generator_version"]),
        "checks": "" if found["checks_version"] is None else str(found["checks_version"]),
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def table(value: object) -> Mapping[str, Any]:
    """A mapping as it is, and an empty one for anything else: cards are files that anybody may have written."""
    return value if isinstance(value, Mapping) else {}


def user_of_card(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user of a card, also of one from before cards told."""
    told = data.get("user")
    return told if isinstance(told, Mapping) and "name" in told else user_of(data["identity"])


def user_words(user: Mapping[str, Any]) -> str:
    """A user in a few words."""
    temperature = user.get("temperature")
    at = f"temperature {temperature:g}" if isinstance(temperature, int | float) else ""
    inside = ", ".join(part for part in (str(user.get("version") or ""), at) if part)
    return f"{user.get('name')} ({inside})" if inside else str(user.get("name"))


def differing_users(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What tells the users of two cards apart; nothing for the same one.

    The names servers gave their models are compared where both are known.
    """
    a, b = user_of_card(first), user_of_card(second)
    differing = [name for name in _OF_A_USER if a.get(name) != b.get(name)]
    if a.get("served") and b.get("served") and a["served"] != b["served"]:
        differing.append("served")
    if not differing and a.get("kind") == "policy" and a.get("name") != b.get("name"):
        differing.append("name")
    return differing


def without_user(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation's identity without its user: equal for the same agent on the same tasks under another user."""
    kept = dict(identity)
    for name in ("roles", "role_params", "role_details"):
        kept[name] = {role: value for role, value in (identity.get(name) or {}).items() if role != "user"}
    provenance = identity.get("provenance") or {}
    kept["provenance"] = {name: value for name, value in provenance.items() if not name.startswith("user")}
    return kept


def simulator_report(rollouts: Sequence[Rollout]) -> dict[str, JSON]:
    """What the simulated users of an evaluation did wrong.

    `faults` counts excluded episodes by what the simulator did (`no_answer` where it, or its server, gave none),
    `suspicions` scored episodes by what it may have done, each with up to three examples.
    """
    faults: Counter[str] = Counter()
    suspicions: Counter[str] = Counter()
    examples: list[dict[str, JSON]] = []
    num_suspicious = 0

    def note(rollout: Rollout, kind: str, sure: bool, turn: int | None, told: str) -> None:
        counter = faults if sure else suspicions
        counter[kind] += 1
        if counter[kind] <= _EXAMPLES:
            place = {"rollout_id": rollout.rollout_id, "turn": turn}
            examples.append({"kind": kind, "excluded": sure, **place, "told": told})

    for rollout in rollouts:
        found = findings_of(rollout)
        if rollout.cause == "simulator":
            sure = next(((turn, finding) for turn, finding in reversed(found) if finding.sure), None)
            kind, turn = (sure[1].kind, sure[0]) if sure else ("no_answer", None)
            note(rollout, kind, True, turn, rollout.detail)
        elif rollout.scored:
            first = {finding.kind: (turn, finding) for turn, finding in reversed(found)}
            num_suspicious += bool(first)
            for kind, (turn, finding) in first.items():
                note(rollout, kind, False, turn, finding.told)
    counted = {"faults": dict(sorted(faults.items())), "suspicions": dict(sorted(suspicions.items()))}
    return {**counted, "num_excluded": sum(faults.values()), "num_suspicious": num_suspicious, "examples": examples}
