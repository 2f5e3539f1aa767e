"""Rollouts, groups and training samples written out by hand, for tests that compute their figures by hand too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from banty.records import (
    CallResult,
    Group,
    Message,
    Outcome,
    Rollout,
    Segment,
    Status,
    StatusCause,
    Task,
    TrainingSample,
    Transform,
    Turn,
)


def task(index: int = 0, env: str = "hand/made", split: str = "test") -> Task:
    return Task(env, split, index, 0, {"number": index})


def segment(
    prompt: Sequence[int],
    sampled: Sequence[int],
    *,
    continues: bool = False,
    logprobs: Sequence[float] | None = None,
    transform: Transform | None = None,
) -> Segment:
    given = [-0.1 * (place + 1) for place in range(len(sampled))] if logprobs is None else logprobs
    return Segment(prompt, sampled, given, continues, transform or Transform())


def turn(
    index: int,
    tokens: Segment | None = None,
    *,
    actor: str = "agent",
    trainable: bool = True,
    reward: float | None = None,
    version: int = 0,
    calls: tuple[CallResult, ...] = (),
    cost_usd: float = 0.0,
    prompt_tokens: int = 0,
) -> Turn:
    return Turn(
        index,
        actor,
        Message("assistant", f"turn {index}"),
        trainable=trainable,
        segment=tokens,
        policy="by hand",
        version=version,
        reward=reward,
        calls=calls,
        cost_usd=cost_usd,
        prompt_tokens=prompt_tokens,
        sampled_tokens=0 if tokens is None else len(tokens.sampled_ids),
    )


def rollout(
    turns: Sequence[Turn] = (),
    success: bool | None = True,
    *,
    trial: int = 0,
    of: Task | None = None,
    status: Status = "completed",
    cause: StatusCause = "",
    reward: float | None = None,
    components: dict[str, float | None] | None = None,
) -> Rollout:
    """A scored rollout; with a cause of infrastructure, simulator, judge or deadline an errored, unscored one."""
    errored = cause in ("infrastructure", "simulator", "judge", "deadline")
    of = of or task()
    return Rollout(
        rollout_id=f"{of.id}#{trial}",
        task=of,
        status="errored" if errored else status,
        cause=cause,
        outcome=Outcome() if errored else Outcome(success, reward, components or {}),
        turns=tuple(turns),
        group_id=of.id,
        trial=trial,
        root_id=f"{of.id}#{trial}",
    )


def group(*rollouts: Rollout) -> Group:
    return Group(rollouts[0].task, rollouts)


def sample(
    ids: Sequence[int],
    mask: Sequence[int],
    *,
    advantages: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
    rollout_share: float = 1.0,
    version: int = 0,
) -> TrainingSample:
    trained = np.array(mask, dtype=np.bool_)
    ones = trained.astype(np.float32)
    return TrainingSample(
        rollout_id="by hand",
        token_ids=np.array(ids, dtype=np.int32),
        mask=trained,
        turn_ids=np.where(trained, 0, -1).astype(np.int32),
        sampler_logprobs=np.zeros(len(ids), dtype=np.float32),
        advantages=ones if advantages is None else np.array(advantages, dtype=np.float32),
        weights=ones if weights is None else np.array(weights, dtype=np.float32),
        temperature=temperature,
        rollout_share=rollout_share,
        version=version,
    )
