"""What authors of environments use in their own tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from banty.policies.scripted import FunctionPolicy, ScriptedPolicy, expert_policy
from banty.records import EpisodeSpec, Limits, Policy, Rollout, Taskset
from banty.rollout import Cast, run_episode


def run(
    taskset: Taskset,
    policy: Policy,
    split: str = "train",
    index: int = 0,
    seed: int = 0,
    limits: Limits | None = None,
    roles: Mapping[str, Policy] | None = None,
) -> Rollout:
    """The rollout of one episode of one task, run to its end; not for use inside a running event loop."""
    spec = EpisodeSpec(taskset.task(split, index, seed))
    return asyncio.run(run_episode(spec, taskset, Cast(policy, roles or {}), limits))[0]


__all__ = ["FunctionPolicy", "ScriptedPolicy", "expert_policy", "run"]
