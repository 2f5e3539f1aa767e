"""Running a stored rollout again, offline, and comparing every observation, state and verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from banty.errors import ReplayMismatch
from banty.records import Capability, Completion, EpisodeSpec, Limits, Rollout, SampleRequest, Taskset, Turn
from banty.rollout.cast import Cast
from banty.rollout.driver import run_episode
from banty.rollout.faults import Truncated


class RecordedPolicy:
    """Answers every session with what was recorded for it, in order; several rollouts of one tree together.

    The agent of a rollout that a cap truncated runs out of answers where the cap was met, and truncates it again.
    """

    name = "recorded"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, rollouts: Sequence[Rollout]) -> None:
        self._left: dict[str, list[Turn]] = {}
        self._truncated = {f"{each.rollout_id}|agent": each for each in rollouts if each.status == "truncated"}
        for rollout in rollouts:
            for turn in rollout.turns:
                self._left.setdefault(f"{rollout.rollout_id}|{turn.actor}", []).append(turn)
        for turns in self._left.values():
            turns.sort(key=lambda turn: turn.index)

    async def sample(self, request: SampleRequest) -> Completion:
        turns = self._left.get(request.session, [])
        if not turns:
            if rollout := self._truncated.get(request.session):
                raise Truncated(rollout.cause, rollout.detail)
            raise ReplayMismatch(f"session {request.session} asks for more answers than were recorded")
        # Questions asked at once were recorded as their answers came, so a role's answer goes by its question.
        turn = next((turn for turn in turns if turn.actor == "agent" or turn.request == request.messages), None)
        if turn is None:
            turn = turns[0]
            raise ReplayMismatch(f"turn {turn.index}: the {turn.actor} is shown other messages than were recorded")
        turns.remove(turn)
        return Completion(
            message=turn.message,
            segment=turn.segment,
            version=turn.version,
            finish=turn.finish,
            prompt_tokens=turn.prompt_tokens,
            sampled_tokens=turn.sampled_tokens,
            cost_usd=turn.cost_usd,
        )

    async def release(self, session: str) -> None:
        """Nothing is kept."""


async def replay(tree: Sequence[Rollout], taskset: Taskset, limits: Limits | None = None) -> tuple[Rollout, ...]:
    """The rollouts of one tree, root first, run again from what the policies answered.

    Needs no model, no network and no user: everything asked of a role is answered from the record. Raises
    ReplayMismatch at the first message, call, state hash, status or outcome that differs. An errored rollout is not
    replayed, since what failed was outside the record. An environment that looks at its budget, or was refused
    children, needs the `limits` of its run; without them nothing is refused, and caps are met where the record says.
    """
    root = next(rollout for rollout in tree if rollout.depth == 0)
    if any(rollout.status == "errored" for rollout in tree):
        raise ReplayMismatch(f"{root.rollout_id} errored ({root.cause}: {root.detail}); only scored rollouts replay")
    recorded = RecordedPolicy(tree)
    roles = {turn.actor for rollout in tree for turn in rollout.turns} | taskset.roles
    task = taskset.task(root.task.split, root.task.index, root.task.seed)
    spec = EpisodeSpec(task, root.trial, root.seed, root.group_id, root.rollout_id)
    cast = Cast(recorded, dict.fromkeys(roles - {"agent"}, recorded))
    applied = limits or _limits_of(tree)
    if len(tree) > 1:
        # Which episode of a tree met a cap that all share was a matter of time; the record knows where its answers end.
        applied = dataclasses.replace(applied, max_tokens=None, max_cost_usd=None)
    again = await run_episode(spec, taskset, cast, applied)
    recorded_by_id = {rollout.rollout_id: rollout for rollout in tree}
    for rollout in again:
        if rollout.rollout_id in recorded_by_id:
            _compare(recorded_by_id[rollout.rollout_id], rollout)
    if len(again) != len(tree):
        raise ReplayMismatch(f"{root.rollout_id}: {len(again)} rollouts in the tree, {len(tree)} were recorded")
    return again


def _limits_of(tree: Sequence[Rollout]) -> Limits:
    # Where a cap truncated is known from where the answers end, so none is needed but for what was never refused.
    longest = max(len(rollout.agent_turns) for rollout in tree)
    usual = Limits()
    return Limits(
        max_turns=longest + 1,
        max_consecutive_errors=longest + 1,
        max_depth=max(usual.max_depth, *(rollout.depth for rollout in tree)),
        max_children=max(usual.max_children, len(tree) - 1),
    )


def _compare(recorded: Rollout, again: Rollout) -> None:
    where = recorded.rollout_id
    detail = f" ({again.detail})" if again.detail else ""

    def same(place: str, name: str, before: object, after: object) -> None:
        if before != after:
            raise ReplayMismatch(f"{place}: {name} was {before!r}, is {after!r}{detail}")

    same(where, "opening", recorded.opening, again.opening)
    same(where, "tools", recorded.tools, again.tools)
    for before, after in zip(recorded.turns, again.turns, strict=False):
        for name in ("actor", "observation", "calls", "state_before", "state_after"):
            same(f"{where}, turn {before.index}", name, getattr(before, name), getattr(after, name))
    same(where, "the number of turns", len(recorded.turns), len(again.turns))
    same(where, "status", recorded.status, again.status)
    same(where, "cause", recorded.cause, again.cause)
    if not _same_outcome(recorded, again):
        raise ReplayMismatch(f"{where}: the outcome was {recorded.outcome}, is {again.outcome}")


def _same_outcome(recorded: Rollout, again: Rollout) -> bool:
    before, after = recorded.outcome, again.outcome
    if before.reward is None or after.reward is None:
        return before == after
    if not math.isclose(before.reward, after.reward):
        return False
    return dataclasses.replace(before, reward=None) == dataclasses.replace(after, reward=None)
