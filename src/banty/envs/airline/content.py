"""What an airline task could share with another one, for audits of leakage."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from banty.envs.airline.customers import describe
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.phrases import templates
from banty.envs.airline.scenario import Request, Scenario
from banty.records import JSON, TaskContent, ToolCall, sha256_json

_USER_ID = re.compile(r"\b[a-z]+_[a-z]+_\d{4}\b")
_ANYBODY_SAYS = ("yes", "object", "nudge", "dont_know", "wait", "only_that", "bye", "leave")


def content_of_scenario(scenario: Scenario, tables: Mapping[str, str]) -> TaskContent:
    """The content of a generated task over a world of these tables."""
    return TaskContent(
        customers=frozenset({scenario.user_id}),
        text=describe(scenario),
        writes=scenario.writes,
        templates=templates_of(scenario),
        tables=tables,
    )


def templates_of(scenario: Scenario) -> frozenset[str]:
    """Every template that the scripted customer of a scenario may speak in."""
    acts = {act for request in scenario.requests for act in _acts(request)} | set(_ANYBODY_SAYS)
    if len(scenario.requests) > 1:
        acts.add("next")
    return frozenset(template for act in acts for template in templates(act, scenario.phrasing))


def _acts(request: Request) -> Iterator[str]:
    yield f"{request.intent}:{request.detail}" if request.intent == "out_of_scope" else request.intent
    yield "tell:user_id"
    yield from (f"tell:{slot}" for slot in request.says if slot != "reason")
    if "reason" in request.says:
        yield f"reason:{request.says['reason']}"
    if request.hint:
        yield "hint"
    if request.insists:
        yield "insist"


@functools.lru_cache(maxsize=4)
def tables_of(world: AirlineWorld) -> Mapping[str, str]:
    """The sha256 of each table of a shared world, which takes a tenth of a second the first time."""
    return {name: sha256_json(dict(table)) for name, table in world.tables.items()}


def customers_in(text: str, calls: Sequence[ToolCall]) -> frozenset[str]:
    """The user ids that a published task names: in its golden calls, and in what its user is told."""
    named = {str(call.arguments["user_id"]) for call in calls if "user_id" in call.arguments}
    return frozenset(named | set(_USER_ID.findall(text)))


def told_text(instructions: Mapping[str, JSON] | str) -> str:
    """What a published task tells its user, without the labels that all of them have."""
    if isinstance(instructions, str):
        return instructions
    parts = (instructions.get(key) for key in ("reason_for_call", "known_info", "unknown_info", "task_instructions"))
    return "\n".join(str(part) for part in parts if part)
