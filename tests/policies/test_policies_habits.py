"""The habit policy: it draws what its weights say, says what it drew, and repeats itself by seed alone."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from banty.credit import Credit
from banty.envs.registry import make_taskset
from banty.envs.tasksets import Tasks
from banty.errors import InputError
from banty.learn.habits import HabitLearner
from banty.models.habits import HabitWeights
from banty.policies.habits import HabitPolicy
from banty.policies.scripted import FunctionPolicy
from banty.records import (
    Completion,
    Env,
    Expert,
    Group,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Outcome,
    Rollout,
    SampleRequest,
    SamplingParams,
    Task,
    Turn,
    derive,
)
from banty.rollout import Cast, Store, collect, group_rollouts, plan_groups
from banty.train.samples import pack_group

POINTS = {"first": ("good", "bad"), "second": ("good", "bad"), "third": ("good", "bad")}
LAPSES = {"first": 0.1, "second": 0.5, "third": 0.85}


def _respond(request: SampleRequest, choose: Callable[[str], bool]) -> Message:
    """Decides at every point, out of the weights' order, and once more at the second one."""
    decisions = {point: choose(point) for point in ("third", "first", "second")}
    again = choose("second")
    return Message("assistant", " ".join(f"{point}={kept}" for point, kept in {**decisions, "again": again}.items()))


EXPERT = Expert(_respond, POINTS)


def policy_of(lapses: Mapping[str, float] | float = 0.3, expert: Expert = EXPERT) -> HabitPolicy:
    return HabitPolicy(expert, HabitWeights.with_lapses(expert.points, lapses))


def request(seed: int = 0, session: str = "s", text: str = "hello", temperature: float = 1.0) -> SampleRequest:
    params = SamplingParams(temperature=temperature, seed=seed)
    return SampleRequest((Message("user", text),), session=session, params=params)


def sample(policy: HabitPolicy, asked: SampleRequest) -> Completion:
    return asyncio.run(policy.sample(asked))


def drawn(completion: Completion) -> list[int]:
    assert completion.segment is not None
    return list(completion.segment.sampled_ids)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_options_are_drawn_as_often_as_the_weights_say(temperature: float) -> None:
    policy = policy_of(LAPSES)
    num_turns = 4000

    async def draw_all() -> list[Completion]:
        seeds = [derive(11, "turn", index) for index in range(num_turns)]
        return [await policy.sample(request(seed, temperature=temperature)) for seed in seeds]

    counts = Counter(decision for each in asyncio.run(draw_all()) for decision in policy.weights.decisions(drawn(each)))
    for (point, rate), num_draws in zip(LAPSES.items(), (1, 2, 1), strict=True):
        odds = (rate / (1 - rate)) ** (1 / temperature)
        expected, total = odds / (1 + odds), num_draws * num_turns
        assert counts[point, True] + counts[point, False] == total
        error = math.sqrt(expected * (1 - expected) / total)
        assert abs(counts[point, True] / total - expected) < 4 * error


def test_draws_within_a_turn_do_not_follow_each_other() -> None:
    policy = policy_of(0.5)
    turns = [drawn(sample(policy, request(seed))) for seed in range(800)]
    decisions = np.array([[option % 2 for option in turn] for turn in turns])
    correlations = np.corrcoef(decisions.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(800)


def test_what_is_said_is_what_was_drawn() -> None:
    policy = policy_of(0.5)
    for seed in range(20):
        given = sample(policy, request(seed))
        names = ["third", "first", "second", "again"]
        kept = [not lapsed for _, lapsed in policy.weights.decisions(drawn(given))]
        assert given.message.content == " ".join(f"{name}={yes}" for name, yes in zip(names, kept, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_sampler_logprobs_are_those_of_the_options_drawn(temperature: float) -> None:
    policy = policy_of(LAPSES)
    table = policy.weights.logprobs(temperature)
    for seed in range(50):
        segment = sample(policy, request(seed, temperature=temperature)).segment
        assert segment is not None
        assert segment.transform.temperature == temperature
        expected = [table[(option - 1) // 2, (option - 1) % 2] for option in segment.sampled_ids]
        assert list(segment.sampler_logprobs) == pytest.approx(expected, abs=1e-15)


def test_at_temperature_0_the_likelier_option_is_always_taken() -> None:
    policy = policy_of({"first": 0.1, "second": 0.49, "third": 0.51})
    for seed in range(20):
        decided = dict(policy.weights.decisions(drawn(sample(policy, request(seed, temperature=0.0)))))
        assert decided == {"first": False, "second": False, "third": True}


def test_a_seed_repeats_its_turn_whatever_was_said_before() -> None:
    policy = policy_of(0.5)
    first = [drawn(sample(policy, request(seed))) for seed in range(30)]
    again = [drawn(sample(policy_of(0.5), request(seed, "other", "something else"))) for seed in reversed(range(30))]
    assert first == again[::-1]
    assert len({tuple(ids) for ids in first}) > 8, "seeds differ"


def test_a_turn_without_decisions_has_an_empty_segment() -> None:
    policy = HabitPolicy(Expert(lambda request, choose: Message("assistant", "hello"), POINTS), policy_of().weights)
    given = sample(policy, request())
    assert drawn(given) == []
    assert given.sampled_tokens == 0


def test_segments_continue_within_a_session_and_only_there() -> None:
    policy = policy_of()

    async def told(session: str) -> bool:
        segment = (await policy.sample(request(session=session))).segment
        assert segment is not None
        return segment.continues

    async def tell() -> list[bool]:
        flags = [await told("a"), await told("a"), await told("b"), await told("a"), await told("b")]
        await policy.release("a")
        return [*flags, await told("a"), await told("b")]

    assert asyncio.run(tell()) == [False, True, False, True, True, False, True]


def test_releasing_an_unknown_session_is_no_error() -> None:
    asyncio.run(policy_of().release("never heard of"))


@pytest.mark.parametrize("params", [SamplingParams(top_p=0.9), SamplingParams(top_k=1), SamplingParams(min_p=0.05)])
def test_a_truncating_transform_is_refused(params: SamplingParams) -> None:
    with pytest.raises(InputError, match="temperature only"):
        sample(policy_of(), SampleRequest((Message("user", "hello"),), session="s", params=params))


def test_new_weights_are_used_from_the_next_turn_on_and_named() -> None:
    policy = policy_of(1e-9)
    assert sample(policy, request()).version == 0
    policy.load(HabitWeights(POINTS, np.array([[0.0, 40.0]] * 3), version=7))
    given = sample(policy, request())
    assert given.version == 7
    assert all(lapsed for _, lapsed in policy.weights.decisions(drawn(given)))


def test_weights_of_other_decisions_are_refused() -> None:
    with pytest.raises(InputError, match="the expert decides"):
        HabitPolicy(EXPERT, HabitWeights.with_lapses({"other": ("a", "b")}, 0.5))
    reordered = dict(reversed(POINTS.items()))
    with pytest.raises(InputError):
        HabitPolicy(EXPERT, HabitWeights.with_lapses(reordered, 0.5))


class Chat:
    """Three turns; after those in `asks` the user is asked for words."""

    def __init__(self, asks: frozenset[int]) -> None:
        self.asks = asks
        self.num_heard = 0

    async def start(self, host: Host) -> Opening:
        return Opening((Message("user", "hello"),))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self.num_heard += 1
        text = "go on"
        for _ in range(3 if self.num_heard in self.asks else 0):
            text = (await host.ask("user", (Message("user", "what next?"),))).content
        return Observation((Message("user", text),), done=self.num_heard == 3)

    def outcome(self) -> Outcome:
        return Outcome(True)

    async def close(self) -> None: ...


class Chats(Tasks):
    env = "toy/chats"
    splits: Mapping[str, int] = {"test": 10}

    def __init__(self, *asks: int) -> None:
        self.asks = frozenset(asks)

    @property
    def roles(self) -> frozenset[str]:
        return frozenset({"user"} if self.asks else ())

    def make(self, split: str, index: int, rng: np.random.Generator) -> None:
        return None

    def episode(self, task: Task) -> Env:
        return Chat(self.asks)


def chat(*asks: int, seed: int = 0, trials: int = 2) -> list[Rollout]:
    taskset = Chats(*asks)
    user = FunctionPolicy(lambda request: "please go on")
    specs = plan_groups([taskset.task("test", index) for index in range(4)], trials, seed)
    trees = asyncio.run(collect(specs, taskset, Cast(policy_of(0.5), {"user": user}), Limits()))
    return [tree[0] for tree in trees]


def ids_of(rollouts: list[Rollout]) -> list[list[list[int]]]:
    return [[list(turn.segment.sampled_ids) for turn in r.agent_turns if turn.segment] for r in rollouts]


def test_an_extra_question_shifts_nothing_in_any_turn() -> None:
    plain = ids_of(chat())
    assert ids_of(chat(1)) == plain
    assert ids_of(chat(1, 2)) == plain


def test_the_members_of_a_group_and_the_turns_of_a_rollout_differ() -> None:
    rollouts = chat(trials=8)
    assert all(len(turns) == 3 for turns in ids_of(rollouts))
    for start in range(0, len(rollouts), 8):
        members = ids_of(rollouts[start : start + 8])
        assert len({str(turns) for turns in members}) == 8
        for place in range(3):
            assert len({str(turns[place]) for turns in members}) > 3
    assert any(turns[0] != turns[1] for turns in ids_of(rollouts))


def test_a_collection_repeats_by_seed() -> None:
    assert ids_of(chat(seed=5)) == ids_of(chat(seed=5))
    assert ids_of(chat(seed=5)) != ids_of(chat(seed=6))


def test_on_the_airline_the_learner_recomputes_what_the_sampler_said(tmp_path: Path) -> None:
    taskset = make_taskset("airline/mini")
    expert = taskset.expert()
    assert expert is not None
    weights = HabitWeights.with_lapses(expert.points, 0.3)
    cast = Cast(HabitPolicy(expert, weights), params=SamplingParams(temperature=0.7))
    specs = plan_groups([taskset.task("train", index) for index in range(6)], 4, 0)
    rollouts = [tree[0] for tree in asyncio.run(collect(specs, taskset, cast))]
    for rollout in rollouts:
        flags = [turn.segment.continues for turn in rollout.agent_turns if turn.segment]
        assert flags == [False] + [True] * (len(flags) - 1)
    store = Store(tmp_path)
    store.write("part", rollouts)
    learner = HabitLearner(weights, 1.0)
    num_tokens = 0
    for group in [*group_rollouts(rollouts), *group_rollouts(store.read())]:
        samples = pack_group(group, _even_credit(group))
        for packed, logprobs in zip(samples, learner.logprobs(samples), strict=True):
            np.testing.assert_allclose(logprobs, packed.sampler_logprobs, atol=1e-6, rtol=0)
            num_tokens += int(packed.mask.sum())
    assert num_tokens > 200


def _even_credit(group: Group) -> Credit:
    turns: list[list[Turn]] = [[turn for turn in rollout.turns if turn.trainable] for rollout in group.scored]
    return Credit([np.ones(len(each)) for each in turns], [np.ones(len(each)) for each in turns])
