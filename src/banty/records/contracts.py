"""The protocols the rooms meet at: Env, Host, Policy, Learner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from banty.records.losses import Loss
from banty.records.messages import Message, ToolSchema
from banty.records.rollouts import CallResult, Outcome, Rollout, Segment
from banty.records.tasks import Task

Capability = Literal["ids", "logprobs", "features", "grammar", "publish"]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `seed` differs between the members of a group; None lets the policy choose.

    `max_tokens` caps one turn; None leaves it to the policy.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = None
    seed: int | None = None


class Gate(Protocol):
    """How an engine that steps many sessions together keeps their schedule repeatable.

    It awaits each answer through `parked`, and `turn` before each of its ticks. A tick then happens only when every
    live episode is parked in some engine, so which sessions share a tick depends on what was sampled, never on how long
    a tool or a thread took.
    """

    async def parked(self, engine: str, answer: asyncio.Future[Answer]) -> Answer:
        """What `answer` gives; until it is set the episode counts as waiting in `engine`.

        Called in the context of `Policy.sample`, with the very future the engine sets: a task or shield around it is
        done later than it.
        """

    async def turn(self, engine: str) -> None:
        """Return when `engine`, which has sessions parked in it, may do its next tick.

        Which sessions it has is to be looked at after this returns: some may have been cancelled.
        """


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What a policy is asked to answer.

    `session` names the conversation (one episode and role), stable from turn to turn, so that an engine can keep what
    it has already computed. A request's messages extend those of the session's previous request. `feature_layers` asks
    a policy that can for hidden states. `gate` is there when the run's order is exact.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    session: str = ""
    params: SamplingParams = SamplingParams()
    feature_layers: tuple[int, ...] = ()
    gate: Gate | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy answered. `segment` is None for a policy that has no token ids to show, such as an endpoint.

    `features` are the hidden states each sampled token was drawn from, [layers asked for, sampled tokens, hidden].
    `served` is the name under which a server said it answered; empty for a policy that has but its own.
    """

    message: Message
    segment: Segment | None = None
    version: int = 0
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    cost_usd: float = 0.0
    features: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    served: str = ""


@runtime_checkable
class Policy(Protocol):
    """What answers a conversation. Rendering to tokens and parsing of calls are its own business."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def sample(self, request: SampleRequest) -> Completion:
        """The next assistant message. Raises PolicyFault when it cannot be had."""

    async def release(self, session: str) -> None:
        """Forget what was kept for a session; called once when its episode ends, however it ends."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the agent sees before its first turn."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of one turn. With `done` the episode is over and `messages` may be empty."""

    messages: tuple[Message, ...] = ()
    done: bool = False
    calls: tuple[CallResult, ...] = ()
    state_before: str = ""
    state_after: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left: turns to this episode, the rest to the whole tree under its root. None is unlimited."""

    turns: int | None = None
    tokens: int | None = None
    children: int | None = None
    cost_usd: float | None = None


class Host(Protocol):
    """An environment's only door to the world outside it."""

    async def ask(self, role: str, messages: Sequence[Message]) -> Message:
        """The answer of the policy the run placed in `role`, under the episode's deadline.

        Raises InputError when the run placed nobody there, SimulatorFault or JudgeFault when it fails to answer.
        """

    async def spawn(self, tasks: Sequence[Task]) -> Sequence[Rollout]:
        """Run child episodes of the same policy concurrently; their rollouts, in the order of `tasks`.

        Raises BudgetExhausted when the depth or the number of children is spent. A child that errored comes back as
        such: what it means for the parent is the environment's decision.
        """

    @property
    def deadline(self) -> float:
        """Event-loop time at which the episode ends."""

    @property
    def budget(self) -> Budget: ...

    def rng(self, purpose: str, turn: int = 0) -> np.random.Generator:
        """The draw for this purpose and turn under the task's seed; shared by all members of a group."""


class Env(Protocol):
    """One episode. An instance is single-use: start, steps until done, outcome, close."""

    async def start(self, host: Host) -> Opening: ...

    async def step(self, completion: Completion, host: Host) -> Observation: ...

    def outcome(self) -> Outcome:
        """The verified result, also of an unfinished (truncated) episode. Asked once, before close, on a thread of its
        own under the step's deadline."""

    async def close(self) -> None:
        """Free what the episode held; called exactly once, also after a failed start or a cancellation."""


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One sequence for the optimizer; all arrays have length T.

    Worked example, the Segment example's episode with turn advantages a0 and a1:

        token_ids         S0 S1 U0 A0 A1 E  T0 T1 B0 E
        mask              0  0  0  1  1  1  0  0  1  1     1: sampled by the policy, end-of-turn included
        turn_ids         -1 -1 -1  0  0  0 -1 -1  1  1
        advantages        0  0  0  a0 a0 a0 0  0  a1 a1
        weights           0  0  0  w0 w0 w0 0  0  w1 w1    never folded into advantages
        sampler_logprobs  0  0  0  .  .  .  0  0  .  .

    A rollout whose template rewrote history gives several samples; `rollout_share` is each one's part of the rollout's
    trained tokens (they sum to 1), for losses that average over rollouts. A mean over tokens does not need it.
    `num_turns` counts the rollout's turns with trained tokens, over all its samples.

    `old_logprobs` are the trainer's own before the update, `ref_logprobs` the reference model's; 0 off the mask. Losses
    that need them say so when they are missing.
    """

    rollout_id: str
    token_ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]
    turn_ids: npt.NDArray[np.int32]
    sampler_logprobs: npt.NDArray[np.float32]
    advantages: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    temperature: float = 1.0
    rollout_share: float = 1.0
    num_turns: int = 1
    version: int = 0
    old_logprobs: npt.NDArray[np.float32] | None = None
    ref_logprobs: npt.NDArray[np.float32] | None = None


class Learner(Protocol):
    """What changes weights. Every training algorithm is written against these verbs and nothing else."""

    def forward_backward(self, samples: Sequence[TrainingSample], loss: Loss) -> Mapping[str, float]:
        """Add the gradient of `loss` over `samples`; returns metrics. Denominators are global over the whole call."""

    def optim_step(self) -> Mapping[str, float]:
        """Apply and clear the accumulated gradient; returns metrics such as the gradient norm."""

    def logprobs(
        self, samples: Sequence[TrainingSample], *, reference: bool = False
    ) -> Sequence[npt.NDArray[np.float32]]:
        """Trainer logprobs, [T] per sample, zero off the mask; with `reference`, those of the weights it started from.

        Raises InputError for a learner that keeps no reference.
        """

    def features(
        self, samples: Sequence[TrainingSample], layers: Sequence[int], positions: Sequence[Sequence[int]]
    ) -> Sequence[npt.NDArray[np.float32]]:
        """Hidden states at `positions` of each sample. Raises InputError for a learner that has none."""

    def publish(self) -> Any:
        """The weights in the form this learner's policy loads, tagged with a policy version."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Expert:
    """A scripted expert of one environment, with places where its discipline can lapse.

    `points` names each decision's two options, discipline first, in the words reports use. `respond` answers a request;
    at a decision it calls its second argument with the point's name and is told True for discipline.
    """

    respond: Callable[[SampleRequest, Callable[[str], bool]], Message]
    points: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Habit:
    """A way to go wrong that shows in a finished episode, whoever the agent was.

    `lapse` says it in the words reports use. `observe` says whether a scored rollout has it; None where it did not come
    up.
    """

    lapse: str
    observe: Callable[[Rollout], bool | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps and deadlines of one episode. Caps truncate it; deadlines mark it errored. `max_tokens` counts the agent's.

    `max_consecutive_errors` counts turns in a row in which every call failed. `max_depth` and `max_children` bound
    recursion: 0 depth means an environment may not spawn. `step_timeout_s` is the environment's own time: what it waits
    for a role to answer or for children does not count.
    """

    max_turns: int = 30
    max_tokens: int | None = None
    max_consecutive_errors: int = 10
    max_cost_usd: float | None = None
    max_depth: int = 1
    max_children: int = 64
    policy_timeout_s: float = 120.0
    step_timeout_s: float = 60.0
    ask_timeout_s: float = 120.0
    episode_timeout_s: float = 900.0
    close_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """Which episode to run: the task, its place in a group, and the sampler's seed."""

    task: Task
    trial: int = 0
    sampler_seed: int = 0
    group_id: str = ""
    rollout_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
