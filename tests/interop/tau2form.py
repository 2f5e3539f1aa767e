"""The form of tau2-bench's results files as its data models ask for it: what has to be there, and of which type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Basis = Literal["DB", "ENV_ASSERTION", "NL_ASSERTION", "ACTION", "COMMUNICATE"]
Reason = Literal[
    "user_stop",
    "agent_stop",
    "max_steps",
    "timeout",
    "too_many_errors",
    "agent_error",
    "user_error",
    "infrastructure_error",
    "context_window_exceeded",
    "unexpected_error",
]


class Call(BaseModel):
    id: str
    name: str
    arguments: dict[str, Any]
    requestor: Literal["user", "assistant"] = "assistant"


class Spoken(BaseModel):
    role: Literal["user", "assistant"]
    content: str | None = None
    tool_calls: list[Call] | None = None
    turn_idx: int | None = None
    timestamp: str | None = None
    cost: float | None = None
    usage: dict[str, Any] | None = None
    raw_data: dict[str, Any] | None = None
    generation_time_seconds: float | None = None


class Answer(BaseModel):
    role: Literal["tool"]
    id: str
    content: str | None = None
    requestor: Literal["user", "assistant"] = "assistant"
    error: bool = False


class Checked(BaseModel):
    db_match: bool
    db_reward: float


class Action(BaseModel):
    action_id: str
    requestor: Literal["user", "assistant"] = "assistant"
    name: str
    arguments: dict[str, Any]
    compare_args: list[str] | None = None


class ActionCheck(BaseModel):
    action: Action
    action_match: bool
    action_reward: float
    tool_type: Literal["read", "write", "think", "generic"] | None = None


class CommunicateCheck(BaseModel):
    info: str
    met: bool
    justification: str


class RewardInfo(BaseModel):
    reward: float
    db_check: Checked | None = None
    action_checks: list[ActionCheck] | None = None
    communicate_checks: list[CommunicateCheck] | None = None
    reward_basis: list[Basis] | None = None
    reward_breakdown: dict[Basis, float] | None = None
    info: dict[str, Any] | None = None


class Simulation(BaseModel):
    id: str
    task_id: str
    start_time: str
    end_time: str
    duration: float
    termination_reason: Reason
    agent_cost: float | None
    user_cost: float | None
    reward_info: RewardInfo | None
    messages: list[Annotated[Spoken | Answer, Field(discriminator="role")]]
    trial: int | None
    seed: int | None
    info: dict[str, Any] | None


class Criteria(BaseModel):
    actions: list[Action] | None
    communicate_info: list[str] | None = None
    reward_basis: list[Basis] = ["DB", "COMMUNICATE"]


class Scenario(BaseModel):
    persona: str | None = None
    instructions: dict[str, Any] | str


class Task(BaseModel):
    id: str
    user_scenario: Scenario
    evaluation_criteria: Criteria | None


class Player(BaseModel):
    implementation: str
    llm: str | None
    llm_args: dict[str, Any] | None


class Place(BaseModel):
    domain_name: str
    policy: str
    tool_defs: dict[str, Any] | None


class Info(BaseModel):
    git_commit: str
    num_trials: int
    max_steps: int
    max_errors: int
    user_info: Player
    agent_info: Player
    environment_info: Place
    seed: int | None


class Results(BaseModel):
    timestamp: str | None
    info: Info
    tasks: list[Task]
    simulations: list[Simulation]


def check(data: Any) -> Results:
    """The file as the benchmark would load it: a task for every simulation, and every call answered right after it."""
    read = Results.model_validate(data, strict=True)
    ids = {task.id for task in read.tasks}
    assert len(ids) == len(read.tasks)
    for simulation in read.simulations:
        assert simulation.task_id in ids
        left: list[str] = []
        for message in simulation.messages:
            if isinstance(message, Answer):
                assert left.pop(0) == message.id
            else:
                assert not left, "a call without its answer"
                left = [call.id for call in message.tool_calls or ()]
                assert len(set(left)) == len(left)
                assert all(left)
    return read
