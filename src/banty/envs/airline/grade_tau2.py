"""Grading as tau2-bench 1.0.1 grades the airline domain (specs/tau.md, section 6): the only grader to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from banty.envs.airline.canonical import same_database
from banty.envs.airline.data import AirlineWorld
from banty.envs.airline.tau2tasks import Tau2Task
from banty.envs.airline.tools import AirlineTools
from banty.envs.airline.writes import WRITE_TOOLS
from banty.envs.state import State
from banty.errors import InputError, ReplayMismatch
from banty.records import CallResult, ToolCall, compared_of

EndedBy = Literal[
    "agent_stop",
    "user_stop",
    "max_steps",
    "too_many_errors",
    "timeout",
    "agent_error",
    "user_error",
    "infrastructure_error",
    "unexpected_error",
    "context_window_exceeded",
]
FINISHED = ("agent_stop", "user_stop")

COMPONENTS = {"DB": "db", "COMMUNICATE": "communicate", "ACTION": "action"}
"""The part of a verdict by the basis that asks for it."""

_ASSERTED = {
    "NL_ASSERTION": ("nl_assertions", "a model to judge them"),
    "ENV_ASSERTION": ("env_assertions", "functions that the airline's tools do not have"),
}
"""Bases that are held where the task asserts nothing, and that nothing here can decide where it does."""
_NO_MATTER = ("think",)  # a tool of tau-bench v1 that does nothing


def gold_state(world: AirlineWorld, actions: Iterable[ToolCall]) -> State:
    """The database the actions lead to from a fresh start; one that fails is passed over. Costs writes only.

    The same for every episode of a task: keep it, and never change it.
    """
    desk = AirlineTools(world)
    for action in actions:
        if action.name in WRITE_TOOLS:
            desk.execute(action.name, action.arguments)
    return desk.state


def failing_gold(world: AirlineWorld, task: Tau2Task) -> tuple[str, ...]:
    """What goes wrong with a task's golden writes, and with golden calls of tools that the desk has not.

    The benchmark passes over such an action, and so over what its author wanted done. A read that fails is harmless.
    """
    desk = AirlineTools(world)
    wrong = []
    for action in task.actions:
        succeeded, output = desk.execute(action.name, action.arguments)
        known = action.name in AirlineTools.tools
        if not succeeded and (action.name in WRITE_TOOLS or not (known or action.name in _NO_MATTER)):
            wrong.append(f"{action.name}: {output.removeprefix('Error: ')[:200]}")
    return tuple(wrong)


def replayed_state(world: AirlineWorld, calls: Iterable[CallResult | ToolCall], *, strict: bool = False) -> State:
    """The database after the write calls of an episode, run again from a fresh start.

    With `strict`, ReplayMismatch where a write that was recorded now answers otherwise, as the reference has it unless
    lenient: answers that are JSON are compared as values, so 25 and 25.0 are equal. An error is compared with an error
    without its words, since Python's and pydantic's own change with their versions. As there, a record failed where its
    text says so.
    """
    desk = AirlineTools(world)
    for call in _made(calls):
        if call.name not in WRITE_TOOLS:
            continue
        succeeded, output = desk.execute(call.name, call.arguments)
        if strict and isinstance(call, CallResult) and _differs(call.output, succeeded, output):
            raise ReplayMismatch(f"{call.name} answered {call.output[:200]!r}, and {output[:200]!r} when run again")
    return desk.state


def grade_tau2(
    world: AirlineWorld,
    calls: Sequence[CallResult | ToolCall],
    assistant_texts: Sequence[str],
    task: Tau2Task,
    ended_by: EndedBy,
    *,
    gold: State | None = None,
    strict: bool = False,
) -> dict[str, float | None]:
    """The reward and its parts, each 0.0 or 1.0: `db`, `communicate`, `action`, `reward`.

    `calls` are all calls of the agent, of which only writes are run again; `assistant_texts` all its messages, the
    greeting included. The reward is the product over the task's basis, the other parts are for information. An episode
    that neither side ended gets reward 0 with parts None: they were not judged. `gold` is the task's kept `gold_state`.

    Raises InputError as `check_basis` does.
    """
    check_basis(task)
    if ended_by not in FINISHED:
        return {"db": None, "communicate": None, "action": None, "reward": 0.0}
    database = True
    if task.checks_database:
        wanted = gold_state(world, task.actions) if gold is None else gold
        database = same_database(replayed_state(world, calls, strict=strict), wanted)
    parts: dict[str, float | None] = {
        "db": float(database),
        "communicate": float(all(is_said(needle, assistant_texts) for needle in task.communicate)),
        "action": float(all(action_matches(task, calls))),
    }
    reward = float(all(parts[COMPONENTS[basis]] for basis in task.reward_basis if basis in COMPONENTS))
    return parts | {"reward": reward}


def check_basis(task: Tau2Task) -> None:
    """Raises InputError for a task graded by assertions it makes, or by what nobody knows."""
    for basis in task.reward_basis:
        field, needs = _ASSERTED.get(basis, ("", ""))
        if task.criteria.get(field):
            raise InputError(f"task {task.id} is graded by its {field} ({basis}), which needs {needs}")
        if not field and basis not in COMPONENTS:
            known = ", ".join([*COMPONENTS, *_ASSERTED])
            raise InputError(f"task {task.id} is graded by {basis!r}; known are {known}")


def _made(calls: Iterable[CallResult | ToolCall]) -> Iterator[CallResult | ToolCall]:
    """The calls that were made: a record of text that could not be read as a call is none."""
    for call in calls:
        if isinstance(call, ToolCall) or call.effect != "none" or call.error == "unknown_tool":
            yield call


def _differs(recorded: str, succeeded: bool, output: str) -> bool:
    if not succeeded or recorded.startswith("Error: "):
        return succeeded or not recorded.startswith("Error: ")
    return recorded != output and _content(recorded) != _content(output)


def _content(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def is_said(needle: str, texts: Sequence[str]) -> bool:
    """In some one text, as a substring whatever the case, after commas are taken out of the text alone."""
    return any(needle.lower() in text.lower().replace(",", "") for text in texts)


def action_matches(task: Tau2Task, calls: Iterable[CallResult | ToolCall]) -> tuple[bool, ...]:
    """For each golden action whether it is among the calls, by name and by the arguments it names, or else all that the
    call has."""
    made = list(_made(calls))
    return tuple(any(_matches(call, action) for call in made) for action in task.actions)


def _matches(call: CallResult | ToolCall, action: ToolCall) -> bool:
    compared = compared_of(action)
    keys = call.arguments.keys() if compared is None else compared
    wanted = {key: action.arguments[key] for key in keys if key in action.arguments}
    return call.name == action.name and wanted == {key: call.arguments[key] for key in keys if key in call.arguments}
