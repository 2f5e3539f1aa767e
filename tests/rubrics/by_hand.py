"""Calls, turns and rollouts of a small desk written out by hand: what a label is decided by, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tests.rollouts_by_hand import task

from banty.records import CallResult, Effect, Message, Outcome, Rollout, ToolCall, ToolSchema, Turn
from banty.rubrics import RewardFile, TurnLabel, label_rollout, read_reward_file

TOOLS: Mapping[str, Effect] = {"look": "read", "find": "read", "put": "write", "move": "write", "submit": "terminal"}
DENSE = read_reward_file("naive-dense")


def golden(name: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments)


def call(name: str, /, *, error: str = "", states: tuple[str, str] | None = None, **arguments: Any) -> CallResult:
    """A call of a tool; a write that worked changes the state unless `states` says otherwise."""
    effect: Effect | Literal["none"] = TOOLS.get(name, "none")
    writes = effect == "write" and not error
    before, after = states or ("s0", "s1" if writes else "s0")
    return CallResult(name, arguments, "seen", effect, error, before, after)


def rollout(*turns: CallResult | Sequence[CallResult] | str, success: bool = True) -> Rollout:
    """Turns in order: a call, several calls, or a message's text."""
    made = []
    for index, each in enumerate(turns):
        calls = () if isinstance(each, str) else (each,) if isinstance(each, CallResult) else tuple(each)
        content = each if isinstance(each, str) else ""
        asked = tuple(ToolCall(one.name, one.arguments) for one in calls)
        made.append(Turn(index, "agent", Message("assistant", content, asked), True, calls=calls))
    schemas = tuple(ToolSchema(name, "", effect=effect) for name, effect in TOOLS.items())
    of = task()
    return Rollout(
        f"{of.id}#0", of, "completed", outcome=Outcome(success, float(success)), tools=schemas, turns=tuple(made)
    )


def labels(
    *turns: CallResult | Sequence[CallResult] | str,
    wanted: Sequence[ToolCall] | None = (),
    file: RewardFile = DENSE,
    success: bool = False,
) -> tuple[TurnLabel, ...]:
    return label_rollout(rollout(*turns, success=success), wanted, file)


def tiers(found: Sequence[TurnLabel]) -> list[str]:
    return [label.tier for label in found]
