"""A cap truncates an episode, which is scored as it stands."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from tests.rollout.puppets import QUICK, Bench, Chatter, Stage, Voice, calling, perform, play

from banty.errors import BudgetExhausted
from banty.records import (
    Budget,
    Completion,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    Rollout,
    SampleRequest,
    SamplingParams,
    StatusCause,
    Task,
)
from banty.rollout import Cast


class Halfway(Chatter):
    """Gives part of the reward for what was done."""

    def outcome(self) -> Outcome:
        super().outcome()
        return Outcome(False, self.num_heard / self.num_turns)


def assert_truncated(rollout: Rollout, cause: StatusCause, num_turns: int) -> None:
    assert (rollout.status, rollout.cause) == ("truncated", cause), rollout.detail
    assert len(rollout.agent_turns) == num_turns
    assert rollout.scored
    assert rollout.detail


@pytest.mark.parametrize(
    ("caps", "voice", "cause", "num_turns"),
    [
        ({"max_turns": 3}, {}, "turns", 3),
        ({"max_turns": 0}, {}, "turns", 0),
        ({"max_tokens": 25}, {"tokens": 10}, "tokens", 3),
        ({"max_tokens": 30}, {"tokens": 10}, "tokens", 3),
        ({"max_tokens": 0}, {"tokens": 10}, "tokens", 0),
        ({"max_cost_usd": 0.25}, {"cost_usd": 0.1}, "cost", 3),
    ],
)
def test_a_cap_truncates_and_the_verdict_is_asked_for(
    caps: dict[str, Any], voice: dict[str, Any], cause: StatusCause, num_turns: int
) -> None:
    stage = Stage(lambda task: Halfway(10))
    limits = dataclasses.replace(QUICK, **({"max_turns": 10} | caps))
    (rollout,) = perform(play(stage, Cast(Voice(**voice)), limits))
    assert_truncated(rollout, cause, num_turns)
    assert rollout.outcome == Outcome(False, num_turns / 10)
    assert stage.made[0].log[-2:] == ["outcome", "close"]


def test_done_at_the_last_allowed_turn_is_completed() -> None:
    limits = dataclasses.replace(QUICK, max_turns=2, max_tokens=20, max_cost_usd=0.2)
    (rollout,) = perform(play(Stage(), Cast(Voice(tokens=10, cost_usd=0.1)), limits))
    assert (rollout.status, rollout.cause, rollout.detail) == ("completed", "", "")


def test_a_turn_is_never_asked_for_more_tokens_than_are_left() -> None:
    voice = Voice(tokens=10)
    cast = Cast(voice, params=SamplingParams(max_tokens=12))
    perform(play(Stage(lambda task: Chatter(10)), cast, dataclasses.replace(QUICK, max_tokens=25)))
    assert [request.params.max_tokens for request in voice.requests] == [12, 12, 5]


def failing(pattern: str) -> Rollout:
    """An episode with a turn for each letter: F all calls fail, f one of two fails, . one works, - no call."""
    turns = {"F": calling("refuse", "unknown"), "f": calling("refuse", "fine"), ".": calling("fine")}

    def answer(request: SampleRequest) -> Message:
        place = sum(message.role == "assistant" for message in request.messages)
        return turns.get(pattern[place], Message("assistant", "well"))

    limits = dataclasses.replace(QUICK, max_turns=20, max_consecutive_errors=3)
    (rollout,) = perform(play(Stage(lambda task: Bench(len(pattern))), Cast(Voice(answer)), limits))
    return rollout


@pytest.mark.parametrize("pattern", ["FFF.", "FF.FFF.", "f.FF-FFF.", ".-FFFF"])
def test_turns_in_a_row_in_which_every_call_failed(pattern: str) -> None:
    assert_truncated(failing(pattern), "errors", pattern.index("FFF") + 3)


@pytest.mark.parametrize("pattern", ["FF.FF.FF", "FFfFF", "FF-FF", "FFF"])
def test_a_call_that_worked_or_a_message_ends_the_row(pattern: str) -> None:
    assert failing(pattern).status == "completed"


@pytest.mark.parametrize("where", ["start", "step", "group"])
def test_an_exhausted_budget_truncates(where: str) -> None:
    """Also in `start`, and when the environment's own task group wraps it."""

    class Spawning(Halfway):
        async def start(self, host: Host) -> Opening:
            if where == "start":
                await host.spawn([Task("stage", "test", 1, 0)])
            return await super().start(host)

        async def step(self, completion: Completion, host: Host) -> Observation:
            if where == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(host.spawn([Task("stage", "test", 1, 0)]))
            await host.spawn([Task("stage", "test", 1, 0)])
            raise AssertionError

    stage = Stage(lambda task: Spawning())
    (rollout,) = perform(play(stage, limits=dataclasses.replace(QUICK, max_depth=0)))
    assert_truncated(rollout, "budget", 0 if where == "start" else 1)
    assert "max_depth is 0" in rollout.detail
    assert len(stage.made) == 1


def test_a_budget_that_the_environment_handles_is_no_cap() -> None:
    class Trying(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            with pytest.raises(BudgetExhausted, match="max_depth is 0"):
                await host.spawn([Task("stage", "test", 1, 0)])
            return await super().step(completion, host)

    (rollout,) = perform(play(Stage(lambda task: Trying()), limits=dataclasses.replace(QUICK, max_depth=0)))
    assert rollout.status == "completed"


def test_the_budget_an_environment_sees() -> None:
    seen: list[Budget] = []

    class Looking(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            seen.append(host.budget)
            return await super().step(completion, host)

    limits = dataclasses.replace(QUICK, max_turns=5, max_tokens=100, max_cost_usd=1.0, max_children=7)
    perform(play(Stage(lambda task: Looking()), Cast(Voice(tokens=10, cost_usd=0.25)), limits))
    perform(play(Stage(lambda task: Looking(1)), limits=QUICK))
    assert seen == [Budget(4, 90, 7, 0.75), Budget(3, 80, 7, 0.5), Budget(4, None, 64, None)]


def test_a_failing_verdict_of_a_truncated_episode_is_errored() -> None:
    class NoVerdict(Chatter):
        def outcome(self) -> Outcome:
            self.log.append("outcome")
            raise KeyError("x")

    (rollout,) = perform(play(Stage(lambda task: NoVerdict(9)), limits=dataclasses.replace(QUICK, max_turns=1)))
    assert (rollout.status, rollout.cause) == ("errored", "infrastructure")
    assert rollout.outcome == Outcome()
