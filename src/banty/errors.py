"""Every exception Banty raises on purpose.

```
BantyError
├── InputError (ValueError)      what a person gave is wrong; the message says what to do
├── ToolError                    a tool refuses; its text is an observation for the policy
├── EpisodeFault                 ends an episode as `errored`, never as reward; carries a cause
│   ├── EnvironmentFault         infrastructure   the environment or what it stands on failed
│   ├── PolicyFault              infrastructure   the sampled policy failed to answer
│   ├── SimulatorFault           simulator        the simulated user failed or left its role
│   ├── JudgeFault               judge            the judge failed to answer
│   └── DeadlineFault            deadline         something outlived its deadline
├── BudgetExhausted              ends an episode as `truncated`
├── TrainingStopped              a run cannot go on as things are; what it has done is kept
├── StoreError (OSError)         rollouts could not be written or read
└── ReplayMismatch               a stored rollout does not come out the same again
```

Exceptions become faults in one place, the rollout driver (`banty.rollout.driver` and `banty.rollout.faults`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

Cause = Literal["infrastructure", "simulator", "judge", "deadline"]


class BantyError(Exception):
    """Base of every exception raised on purpose."""


class InputError(BantyError, ValueError):
    """Wrong input from a person: a file, an option, a recipe, a folder."""


class ToolError(BantyError):
    """A tool's own refusal. The text goes to the policy; the episode goes on."""


class EpisodeFault(BantyError):
    """Something that is nobody's action failed; the rollout is `errored` and unscored."""

    cause: ClassVar[Cause] = "infrastructure"


class EnvironmentFault(EpisodeFault):
    """The environment, or a service under it, failed."""


class PolicyFault(EpisodeFault):
    """The policy under test did not answer (engine error, endpoint down, refused)."""


class SimulatorFault(EpisodeFault):
    """The user simulator failed, left its role, or never stops."""

    cause = "simulator"


class JudgeFault(EpisodeFault):
    """The judge did not answer, or answered what cannot be read."""

    cause = "judge"


class DeadlineFault(EpisodeFault):
    """Something did not finish within its deadline."""

    cause = "deadline"


class BudgetExhausted(BantyError):
    """A budget of the episode is spent; `kind` names which."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TrainingStopped(BantyError):
    """A training run cannot go on as things are; every finished step is kept."""


class StoreError(BantyError, OSError):
    """Rollouts could not be written or read; nothing half-written is left behind."""


class ReplayMismatch(BantyError):
    """Replaying a stored rollout gave another observation, state or outcome."""
