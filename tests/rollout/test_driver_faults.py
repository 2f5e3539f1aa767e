"""What fails in an episode ends up in its status, with its cause, and never in a reward."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.rollout.puppets import QUICK, Bench, Chatter, Stage, Voice, calling, perform, play, task

from banty.errors import (
    BudgetExhausted,
    DeadlineFault,
    EnvironmentFault,
    InputError,
    JudgeFault,
    PolicyFault,
    SimulatorFault,
)
from banty.records import (
    Completion,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Rollout,
    SampleRequest,
    StatusCause,
    Task,
)
from banty.rollout import Cast, check_roles, collect, plan_groups


def assert_errored(rollout: Rollout, cause: StatusCause, *words: str) -> None:
    assert (rollout.status, rollout.cause) == ("errored", cause), rollout.detail
    assert rollout.outcome == Outcome(), "an errored rollout is unscored"
    assert rollout.outcome.success is None
    assert rollout.outcome.reward is None
    assert not rollout.scored
    for word in words:
        assert word in rollout.detail


def assert_completed(rollout: Rollout) -> None:
    assert rollout.status == "completed", rollout.detail
    assert rollout.outcome.success is True


# The environment itself.


class StartRaises(Chatter):
    async def start(self, host: Host) -> Opening:
        raise ConnectionError("no database")


class StartRaisesAtOnce(Chatter):
    def start(self, host: Host) -> Any:
        raise ConnectionError("no database")


class StartGivesNothing(Chatter):
    async def start(self, host: Host) -> Any:
        return None


class StartHangs(Chatter):
    async def start(self, host: Host) -> Opening:
        await asyncio.sleep(60)
        raise AssertionError


class StepRaises(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        raise ConnectionError("no database")


class StepRaisesAtOnce(Chatter):
    def step(self, completion: Completion, host: Host) -> Any:
        raise ConnectionError("no database")


class StepGivesNothing(Chatter):
    async def step(self, completion: Completion, host: Host) -> Any:
        return None


class StepGivesNoMessages(Chatter):
    async def step(self, completion: Completion, host: Host) -> Any:
        broken: Any = None
        return Observation(messages=broken)


class StepCancelsItself(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost
        raise AssertionError


class StepHangs(Chatter):
    async def step(self, completion: Completion, host: Host) -> Observation:
        await asyncio.sleep(60)
        raise AssertionError


class OutcomeRaises(Chatter):
    def outcome(self) -> Outcome:
        raise KeyError("no such reservation")


class OutcomeGivesNothing(Chatter):
    def outcome(self) -> Any:
        return None


class OutcomeExhausts(Chatter):
    def outcome(self) -> Outcome:
        raise BudgetExhausted("tokens", "a score needs none")


@pytest.mark.parametrize(
    ("env", "cause", "words"),
    [
        (StartRaises, "infrastructure", "no database"),
        (StartRaisesAtOnce, "infrastructure", "no database"),
        (StartGivesNothing, "infrastructure", "NoneType"),
        (StartHangs, "deadline", "start"),
        (StepRaises, "infrastructure", "no database"),
        (StepRaisesAtOnce, "infrastructure", "no database"),
        (StepGivesNothing, "infrastructure", "NoneType"),
        (StepGivesNoMessages, "infrastructure", "NoneType"),
        (StepCancelsItself, "infrastructure", "cancel"),
        (StepHangs, "deadline", "turn 0"),
        (OutcomeRaises, "infrastructure", "KeyError"),
        (OutcomeGivesNothing, "infrastructure", "NoneType"),
        (OutcomeExhausts, "infrastructure", "BudgetExhausted"),
    ],
)
def test_a_failing_environment(env: Callable[[], Chatter], cause: StatusCause, words: str) -> None:
    (rollout,) = perform(play(Stage(lambda task: env())))
    assert_errored(rollout, cause, words)


def test_an_error_of_the_verdict_is_stored_without_its_words() -> None:
    class Telling(Chatter):
        def outcome(self) -> Outcome:
            raise KeyError("the-right-answer")

    (rollout,) = perform(play(Stage(lambda task: Telling())))
    assert_errored(rollout, "infrastructure", "KeyError")
    assert "the-right-answer" not in repr(rollout)


def test_a_failing_constructor() -> None:
    def make(task: Task) -> Chatter:
        raise FileNotFoundError("world.json")

    (rollout,) = perform(play(Stage(make)))
    assert_errored(rollout, "infrastructure", "world.json")
    assert rollout.turns == ()


def test_what_was_said_before_a_failure_is_kept() -> None:
    class SecondStepRaises(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            if self.num_heard == 1:
                raise ConnectionError("no database")
            return await super().step(completion, host)

    (rollout,) = perform(play(Stage(lambda task: SecondStepRaises())))
    assert_errored(rollout, "infrastructure", "turn 1")
    assert [turn.message.content for turn in rollout.turns] == ["yes", "yes"]
    assert [len(turn.observation) for turn in rollout.turns] == [1, 0]


def test_a_failing_close_does_not_touch_the_rollout(caplog: pytest.LogCaptureFixture) -> None:
    class CloseRaises(Chatter):
        async def close(self) -> None:
            await super().close()
            raise OSError("socket already gone")

    with caplog.at_level(logging.WARNING):
        (rollout,) = perform(play(Stage(lambda task: CloseRaises())))
    assert_completed(rollout)
    assert "socket already gone" in caplog.text


def test_a_close_that_raises_before_it_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    class CloseRaisesAtOnce(Chatter):
        def close(self) -> Any:
            self.log.append("close")
            raise OSError("socket already gone")

    with caplog.at_level(logging.WARNING):
        (rollout,) = perform(play(Stage(lambda task: CloseRaisesAtOnce())))
    assert_completed(rollout)
    assert "socket already gone" in caplog.text


def test_a_hanging_close_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    class CloseHangs(Chatter):
        async def close(self) -> None:
            await super().close()
            await asyncio.sleep(60)

    started = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        (rollout,) = perform(play(Stage(lambda task: CloseHangs())))
    assert_completed(rollout)
    assert "closing the environment" in caplog.text
    assert time.perf_counter() - started < 1.5


def test_a_failing_release_still_closes_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    class Sticky(Voice):
        async def release(self, session: str) -> None:
            await super().release(session)
            raise RuntimeError("no such session")

    with caplog.at_level(logging.WARNING):
        (rollout,) = perform(play(Stage(), Cast(Sticky())))
    assert_completed(rollout)
    assert "no such session" in caplog.text


def test_the_fault_that_an_environment_names_itself_is_the_cause() -> None:
    class Judged(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            raise JudgeFault("the judge speaks Latin")

    (rollout,) = perform(play(Stage(lambda task: Judged())))
    assert_errored(rollout, "judge", "Latin")


# Its tools.


def bench(*names: str, limits: Limits = QUICK) -> Rollout:
    """An episode in which one turn calls these tools, and a second nothing."""
    answers = [calling(*names), Message("assistant", "thank you")]
    voice = Voice(lambda request: answers[sum(message.role == "assistant" for message in request.messages)])
    (rollout,) = perform(play(Stage(lambda task: Bench()), Cast(voice), limits))
    return rollout


def test_a_tools_own_error_is_an_observation() -> None:
    rollout = bench("refuse", "fine")
    assert_completed(rollout)
    refused, fine = rollout.turns[0].calls
    assert refused.error == "tool"
    assert "not like this" in refused.output
    assert (fine.error, fine.output) == ("", "fine")
    assert [message.call_id for message in rollout.turns[0].observation] == ["c0", "c1"]


@pytest.mark.parametrize(
    ("name", "cause", "words"),
    [
        ("crash", "infrastructure", "the database is gone"),
        ("leave", "infrastructure", "SystemExit"),
        ("stop", "infrastructure", "StopIteration"),
        ("hang", "deadline", "turn 0"),
        ("hang_softly", "deadline", "turn 0"),
        ("linger", "deadline", "turn 0"),
    ],
)
def test_any_other_exception_of_a_tool_is_infrastructure(name: str, cause: StatusCause, words: str) -> None:
    assert_errored(bench(name), cause, words)


def test_a_call_that_cannot_be_made_is_an_observation() -> None:
    rollout = bench("no_such_tool")
    assert_completed(rollout)
    assert rollout.turns[0].calls[0].error == "unknown_tool"


def test_a_hanging_tool_costs_its_own_episode_only() -> None:
    """Eight threads that hang, more than any pool of two cores would have, and eight episodes beside them."""

    def voice(request: SampleRequest) -> Message:
        index = int(request.session.split(":")[2])
        return calling("hang" if index % 2 else "fine")

    async def run() -> None:
        stage = Stage(lambda task: Bench())
        specs = plan_groups([task(index) for index in range(16)], 1, seed=0)
        started = time.perf_counter()
        trees = await collect(specs, stage, Cast(Voice(voice)), QUICK, exact=False)
        assert time.perf_counter() - started < 2.0
        assert [tree[0].status for tree in trees] == ["completed", "errored"] * 8

    perform(run())


def test_a_tool_that_never_gives_up_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Bench):
        over = False

        async def step(self, completion: Completion, host: Host) -> Observation:
            while not self.over:
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError:
                    self.log.append("ignored")
            return Observation()

        async def close(self) -> None:
            self.log.append("close")
            self.over = True

    async def run() -> Rollout:
        stage = Stage(lambda task: Stubborn())
        (rollout,) = await play(stage, limits=dataclasses.replace(QUICK, step_timeout_s=0.1))
        await asyncio.sleep(0.1)
        return rollout

    with caplog.at_level(logging.WARNING):
        assert_errored(perform(run()), "deadline")
    assert "left behind" in caplog.text


def test_code_that_outlives_its_episode_finds_the_host_closed() -> None:
    """Else its question would sit in a round, or open a session, that belongs to nobody."""
    heard: list[str] = []

    class Straggler(Chatter):
        async def step(self, completion: Completion, host: Host) -> Observation:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.late = asyncio.create_task(self.ask_later(host))
                raise
            raise AssertionError

        async def ask_later(self, host: Host) -> None:
            await asyncio.sleep(0.2)
            for doing in (host.ask("user", [Message("user", "still there?")]), host.spawn([task(1)])):
                try:
                    await doing
                except DeadlineFault as error:
                    heard.append(str(error))

    async def run() -> None:
        user = Voice()
        stage = Stage(lambda task: Straggler())
        (rollout,) = await play(stage, Cast(Voice(), {"user": user}), dataclasses.replace(QUICK, step_timeout_s=0.05))
        assert_errored(rollout, "deadline")
        await stage.made[0].late
        assert user.requests == []
        assert len(stage.made) == 1

    perform(run())
    assert len(heard) == 2
    assert "is over" in heard[0]


# The policy.


def no_answer(request: SampleRequest) -> Any:
    return None


def raising(error: BaseException) -> Callable[[SampleRequest], Any]:
    def answer(request: SampleRequest) -> Any:
        raise error

    return answer


def slowly(seconds: float) -> Callable[[SampleRequest], Any]:
    async def answer(request: SampleRequest) -> str:
        await asyncio.sleep(seconds)
        return "yes"

    return answer


class Mute(Voice):
    """Answers with nothing at all."""

    async def sample(self, request: SampleRequest) -> Any:
        self.requests.append(request)


@pytest.mark.parametrize(
    ("voice", "cause", "words"),
    [
        (lambda: Voice(raising(PolicyFault("endpoint down"))), "infrastructure", "endpoint down"),
        (lambda: Voice(raising(ValueError("bad weights"))), "infrastructure", "bad weights"),
        (lambda: Voice(raising(asyncio.CancelledError())), "infrastructure", "cancel"),
        (lambda: Voice(slowly(60)), "deadline", "answer 0 of the agent"),
        (Mute, "infrastructure", "NoneType"),
    ],
)
def test_a_failing_policy(voice: Callable[[], Voice], cause: StatusCause, words: str) -> None:
    (rollout,) = perform(play(Stage(), Cast(voice())))
    assert_errored(rollout, cause, words)


# Whom the environment asks.


class Asking(Chatter):
    """Asks a role before each reply."""

    role = "user"

    async def step(self, completion: Completion, host: Host) -> Observation:
        answer = await host.ask(self.role, [Message("user", completion.message.content)])
        self.num_heard += 1
        return Observation((Message("user", answer.content),), done=self.num_heard >= self.num_turns)


class AskingJudge(Asking):
    role = "judge"


class AskingCritic(Asking):
    role = "critic"


def asked(env: type[Asking], voice: Voice, limits: Limits = QUICK) -> Rollout:
    (rollout,) = perform(play(Stage(lambda task: env()), Cast(Voice(), {env.role: voice}), limits))
    return rollout


@pytest.mark.parametrize(
    ("env", "voice", "cause", "words"),
    [
        (Asking, lambda: Voice(raising(SimulatorFault("left its role"))), "simulator", "left its role"),
        (Asking, lambda: Voice(raising(PolicyFault("503"))), "simulator", "503"),
        (Asking, lambda: Voice(raising(ConnectionResetError("peer"))), "simulator", "ConnectionResetError"),
        (Asking, Mute, "simulator", "NoneType"),
        (Asking, lambda: Voice(slowly(60)), "deadline", "user"),
        (AskingJudge, lambda: Voice(raising(JudgeFault("unreadable"))), "judge", "unreadable"),
        (AskingJudge, lambda: Voice(raising(PolicyFault("503"))), "judge", "503"),
        (AskingJudge, lambda: Voice(raising(ValueError("not a number"))), "judge", "not a number"),
        (AskingCritic, lambda: Voice(raising(PolicyFault("503"))), "infrastructure", "503"),
    ],
)
def test_a_failing_role(env: type[Asking], voice: Callable[[], Voice], cause: StatusCause, words: str) -> None:
    assert_errored(asked(env, voice()), cause, words)


def test_a_role_whose_only_answer_failed_is_released_too() -> None:
    user = Voice(raising(SimulatorFault("left its role")))
    asked(Asking, user)
    assert user.released == ["r0|user"]


def test_an_environment_may_forgive_its_user() -> None:
    class Forgiving(Asking):
        async def step(self, completion: Completion, host: Host) -> Observation:
            try:
                return await super().step(completion, host)
            except SimulatorFault:
                return Observation(done=True)

    assert_completed(asked(Forgiving, Voice(raising(RuntimeError("died")))))


def test_failures_of_questions_asked_at_once() -> None:
    class AskingTwice(Asking):
        async def step(self, completion: Completion, host: Host) -> Observation:
            async with asyncio.TaskGroup() as group:
                group.create_task(host.ask("user", [Message("user", "one")]))
                group.create_task(host.ask("user", [Message("user", "two")]))
            raise AssertionError

    assert_errored(asked(AskingTwice, Voice(raising(RuntimeError("died")))), "simulator", "died")


def test_the_turns_of_a_role_are_recorded_with_what_it_was_shown() -> None:
    rollout = asked(Asking, Voice(lambda request: "a question"))
    assert [turn.actor for turn in rollout.turns] == ["agent", "user", "agent", "user"]
    assert [turn.index for turn in rollout.turns] == [0, 1, 2, 3]
    assert rollout.turns[1].request == (Message("user", "yes"),)
    assert [turn.trainable for turn in rollout.turns] == [True, False, True, False]
    assert [message.content for message in rollout.transcript] == ["hello", "yes", "a question", "yes", "a question"]


def test_a_role_nobody_plays() -> None:
    (rollout,) = perform(play(Stage(lambda task: Asking()), Cast(Voice(), {"judge": Voice()})))
    assert_errored(rollout, "infrastructure", "'user'", "judge")


def test_a_declared_role_nobody_plays_is_said_before_anything_runs() -> None:
    stage = Stage(lambda task: Asking(), "user", "judge")
    cast = Cast(Voice(), {"judge": Voice()})
    with pytest.raises(InputError, match="user"):
        check_roles(stage, cast)
    with pytest.raises(InputError, match="user"):
        perform(collect(plan_groups([task()], 1, 0), stage, cast))
    assert stage.made == []


def test_the_agents_own_name_is_no_role() -> None:
    with pytest.raises(InputError, match="agent"):
        Cast(Voice(), {"agent": Voice()})


def test_what_an_environment_waits_for_is_not_its_own_time() -> None:
    """A user may take as long as `ask_timeout_s`, though a step has less of its own."""
    limits = dataclasses.replace(QUICK, step_timeout_s=0.15, ask_timeout_s=1.0)
    assert_completed(asked(Asking, Voice(slowly(0.3)), limits))


def test_its_own_time_counts_before_and_after_what_it_waits_for() -> None:
    class SlowAsking(Asking):
        async def step(self, completion: Completion, host: Host) -> Observation:
            await asyncio.sleep(0.15)
            await host.ask("user", [Message("user", "well?")])
            await asyncio.sleep(0.25)
            raise AssertionError

    limits = dataclasses.replace(QUICK, step_timeout_s=0.3, ask_timeout_s=1.0)
    assert_errored(asked(SlowAsking, Voice(slowly(0.1)), limits), "deadline", "turn 0 of the environment")


def test_the_episodes_deadline_holds_for_everybody() -> None:
    limits = dataclasses.replace(QUICK, episode_timeout_s=0.3, max_turns=100)
    (rollout,) = perform(play(Stage(lambda task: Chatter(100)), Cast(Voice(slowly(0.08))), limits))
    assert_errored(rollout, "deadline")
    assert 1 <= len(rollout.turns) <= 4
    assert_errored(asked(Asking, Voice(slowly(60)), dataclasses.replace(limits, ask_timeout_s=60)), "deadline")


def test_no_policy_is_asked_after_the_deadline() -> None:
    class Overslept(Chatter):
        async def start(self, host: Host) -> Opening:
            opening = await super().start(host)
            time.sleep(0.12)  # in one go, so that no timer can interrupt it
            return opening

    voice = Voice()
    (rollout,) = perform(
        play(Stage(lambda task: Overslept()), Cast(voice), dataclasses.replace(QUICK, episode_timeout_s=0.1))
    )
    assert_errored(rollout, "deadline")
    assert voice.requests == []


# Verdicts.


def test_unscored_is_none_and_never_zero() -> None:
    class Unscored(Chatter):
        def outcome(self) -> Outcome:
            return Outcome(None, None, {"style": None}, "no verifier for this task")

    (rollout,) = perform(play(Stage(lambda task: Unscored())))
    assert rollout.status == "completed"
    assert rollout.outcome.success is None
    assert rollout.outcome.reward is None
    assert rollout.outcome.components == {"style": None}
    assert not rollout.scored


def test_an_errored_rollout_is_unscored_though_the_environment_had_a_verdict() -> None:
    class LateFault(Chatter):
        def outcome(self) -> Outcome:
            super().outcome()
            raise EnvironmentFault("graded, then lost")

    (rollout,) = perform(play(Stage(lambda task: LateFault())))
    assert_errored(rollout, "infrastructure", "graded, then lost")


def test_a_verdict_is_asked_for_once_and_before_closing() -> None:
    stage = Stage()
    perform(play(stage))
    assert stage.made[0].log == ["start", "step", "step", "outcome", "close"]
