"""Running a stored rollout again, offline, and comparing every observation, state and verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from banty.errors import ReplayMismatch
from banty.records import Capability, Completion, EpisodeSpec, Limits, Rollout, SampleRequest, Taskset, Turn
from banty.rollout.driver import Cast, run_episode


class RecordedPolicy:
    """Answers every session with what was recorded for it, in order; several rollouts of one tree together."""

    name = "recorded"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, rollouts: Sequence[Rollout]) -> None:
        self._left: dict[str, list[Turn]] = {}
        for rollout in rollouts:
            for turn in rollout.turns:
                self._left.setdefault(f"{rollout.rollout_id}|{turn.actor}", []).append(turn)
        for turns in self._left.values():
            turns.sort(key=lambda turn: turn.index, reverse=True)

    async def sample(self, request: SampleRequest) -> Completion:
        turns = self._left.get(request.session)
        if not turns:
            raise ReplayMismatch(f"session {request.session} asks for more answers than were recorded")
        turn = turns.pop()
        if turn.request and turn.request != request.messages:
            raise ReplayMismatch(f"turn {turn.index}: the {turn.actor} is shown other messages than were recorded")
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
    replayed, since what failed was outside the record.
    """
    root = next(rollout for rollout in tree if rollout.depth == 0)
    if any(rollout.status == "errored" for rollout in tree):
        raise ReplayMismatch(f"{root.rollout_id} errored ({root.cause}: {root.detail}); only scored rollouts replay")
    recorded = RecordedPolicy(tree)
    roles = {turn.actor for rollout in tree for turn in rollout.turns} | taskset.roles
    task = taskset.task(root.task.split, root.task.index, root.task.seed)
    spec = EpisodeSpec(task, root.trial, root.seed, root.group_id, root.rollout_id)
    cast = Cast(recorded, dict.fromkeys(roles - {"agent"}, recorded))
    again = await run_episode(spec, taskset, cast, limits or _limits_of(tree))
    if len(again) != len(tree):
        raise ReplayMismatch(f"{root.rollout_id}: {len(again)} rollouts in the tree, {len(tree)} were recorded")
    recorded_by_id = {rollout.rollout_id: rollout for rollout in tree}
    for rollout in again:
        _compare(recorded_by_id[rollout.rollout_id], rollout)
    return again


def _limits_of(tree: Sequence[Rollout]) -> Limits:
    longest = max(len(rollout.agent_turns) for rollout in tree)
    caps = {rollout.cause for rollout in tree}
    return Limits(
        max_turns=longest if "turns" in caps else longest + 1,
        max_consecutive_errors=10 if "errors" in caps else longest + 1,
        max_tokens=sum(turn.sampled_tokens for r in tree for turn in r.turns) if "tokens" in caps else None,
    )


def _compare(recorded: Rollout, again: Rollout) -> None:
    where = recorded.rollout_id
    for name in ("opening", "tools", "status", "cause"):
        before, after = getattr(recorded, name), getattr(again, name)
        if before != after:
            detail = f" ({again.detail})" if again.detail else ""
            raise ReplayMismatch(f"{where}: {name} was {before!r}, is {after!r}{detail}")
    if len(recorded.turns) != len(again.turns):
        raise ReplayMismatch(f"{where}: {len(again.turns)} turns, {len(recorded.turns)} were recorded")
    for before_turn, after_turn in zip(recorded.turns, again.turns, strict=True):
        for name in ("actor", "observation", "calls", "state_before", "state_after"):
            before, after = getattr(before_turn, name), getattr(after_turn, name)
            if before != after:
                raise ReplayMismatch(f"{where}, turn {before_turn.index}: {name} was {before!r}, is {after!r}")
    if not _same_outcome(recorded, again):
        raise ReplayMismatch(f"{where}: the outcome was {recorded.outcome}, is {again.outcome}")


def _same_outcome(recorded: Rollout, again: Rollout) -> bool:
    before, after = recorded.outcome, again.outcome
    if before.reward is not None and after.reward is not None and not math.isclose(before.reward, after.reward):
        return False
    return dataclasses.replace(before, reward=None) == dataclasses.replace(after, reward=None)
