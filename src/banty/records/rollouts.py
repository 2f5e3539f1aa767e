"""The record of one episode by one policy: what was seen, sampled, done and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from banty.records.messages import JSON, Effect, Message, ToolSchema
from banty.records.tasks import Task

Status = Literal["completed", "truncated", "errored"]
StatusCause = Literal[
    "", "turns", "tokens", "errors", "cost", "budget", "infrastructure", "simulator", "judge", "deadline"
]


@dataclass(frozen=True, slots=True)
class Transform:
    """How logits became the distribution that was sampled from; a learner must be able to replay it.

    `mask_id` names the set of allowed tokens a grammar imposed; empty when there was none.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    mask_id: str = ""

    @property
    def replayable(self) -> bool:
        """True for temperature only: the one transform every learner can apply again from ids alone."""
        return self.top_p == 1.0 and self.top_k == 0 and self.min_p == 0.0 and not self.mask_id


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of one policy turn.

    Worked example, two turns of one append-only session (system S, user U, end-of-turn E):

        turn 0   prompt_ids [S0 S1 U0]   sampled_ids [A0 A1 E]   continues False
        turn 1   prompt_ids [T0 T1]      sampled_ids [B0 E]      continues True
        concatenated: S0 S1 U0 A0 A1 E T0 T1 B0 E, exactly what the policy saw and produced

    `continues` is False where the rendered prompt does not extend what came before (the first turn, or a template that
    rewrote history): there `prompt_ids` is the whole prompt and a new training sample begins. `sampler_logprobs` has
    one entry per sampled id, natural log, under `transform`.
    """

    prompt_ids: Sequence[int]
    sampled_ids: Sequence[int]
    sampler_logprobs: Sequence[float]
    continues: bool = False
    transform: Transform = Transform()

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "sampled_ids", "sampler_logprobs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # equal content, equal segment
        assert len(self.sampled_ids) == len(self.sampler_logprobs), "one sampler logprob per sampled id"


@dataclass(frozen=True, slots=True)
class CallResult:
    """One executed or refused call: what it did, what the policy was told, and the state around it.

    `error` is empty, or names why the call failed: a `FaultKind`, `tool` (the tool refused) or `arguments`.
    """

    name: str
    arguments: Mapping[str, JSON]
    output: str
    effect: Effect | Literal["none"] = "none"
    error: str = ""
    state_before: str = ""
    state_after: str = ""

    def to_json(self) -> JSON:
        data = {name: getattr(self, name) for name in self.__slots__}
        return data | {"arguments": dict(self.arguments)}

    @classmethod
    def from_json(cls, data: JSON) -> CallResult:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Turn:
    """One policy call plus the environment's reply.

    `actor` is `agent`, or the role that was asked (`user`, `judge`, ...); only `trainable` turns become training
    samples. `request` is empty for the agent, whose context is the opening and the turns before; an asked role keeps
    the messages it was shown, since they are the environment's own composition.
    """

    index: int
    actor: str
    message: Message
    trainable: bool = False
    observation: tuple[Message, ...] = ()
    calls: tuple[CallResult, ...] = ()
    request: tuple[Message, ...] = ()
    segment: Segment | None = None
    policy: str = ""
    version: int = 0
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    cost_usd: float = 0.0
    policy_s: float = 0.0
    env_s: float = 0.0
    state_before: str = ""
    state_after: str = ""
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verified end result. None means unscored, which is not the same as failed or zero.

    `components` are the named parts that made it (each a number, or None when it was not judged).
    """

    success: bool | None = None
    reward: float | None = None
    components: Mapping[str, float | None] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> JSON:
        return {
            "success": self.success,
            "reward": self.reward,
            "components": dict(self.components),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: JSON) -> Outcome:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Rollout:
    """The record of one episode by one policy.

    Exactly one of two things is true: the episode was scored (`completed`, or `truncated` by a cap the policy ran
    into), or it is `errored`, with its `cause`, and its outcome is unscored.
    """

    rollout_id: str
    task: Task
    status: Status
    cause: StatusCause = ""
    detail: str = ""
    outcome: Outcome = Outcome()
    opening: tuple[Message, ...] = ()
    tools: tuple[ToolSchema, ...] = ()
    turns: tuple[Turn, ...] = ()
    group_id: str = ""
    trial: int = 0
    seed: int = 0
    policy: str = ""
    version: int = 0
    root_id: str = ""
    parent_id: str = ""
    depth: int = 0
    call_index: int = 0
    duration_s: float = 0.0

    @property
    def scored(self) -> bool:
        return self.status != "errored" and self.outcome.success is not None

    @property
    def agent_turns(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self.turns if turn.actor == "agent")

    @property
    def transcript(self) -> tuple[Message, ...]:
        """The conversation as the agent has it: the opening, then each message with what came back."""
        messages = list(self.opening)
        for turn in self.agent_turns:
            messages.append(turn.message)
            messages.extend(turn.observation)
        return tuple(messages)


@dataclass(frozen=True, slots=True)
class Group:
    """Rollouts of one task, compared with each other."""

    task: Task
    rollouts: tuple[Rollout, ...]

    @property
    def scored(self) -> tuple[Rollout, ...]:
        """The members that count; an errored one is left out alone, the rest of the group stays."""
        return tuple(rollout for rollout in self.rollouts if rollout.scored)
