"""Who plays in an episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from banty.errors import InputError
from banty.records import Policy, SamplingParams


@dataclass(frozen=True)
class Cast:
    """Who plays: the policy under test, and the policies in the roles an environment may ask for."""

    agent: Policy
    roles: Mapping[str, Policy] = field(default_factory=dict)
    params: SamplingParams = field(default_factory=SamplingParams)
    role_params: Mapping[str, SamplingParams] = field(default_factory=dict)
    trainable_roles: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if "agent" in self.roles:
            raise InputError("the role 'agent' is the policy under test's own; give the other policy another role")
