"""Whole episodes with a random model: what is stored is exactly what the engine was asked and gave, however slow the
environment is."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.toy import TEMPLATE, ColourDesk, ColourTasks, write_toy

from banty.chat import Renderer, parse
from banty.envs import tool
from banty.errors import BudgetExhausted, InputError
from banty.models.loading import LanguageModel, Published, load_model
from banty.policies.engine import Generated, LocalEngine, TokenRequest
from banty.policies.token import TokenPolicy
from banty.records import (
    Env,
    Host,
    Limits,
    Message,
    Observation,
    Opening,
    Rollout,
    SampleRequest,
    SamplingParams,
    Task,
    Transform,
    Turn,
    take,
)
from banty.rollout import Cast, collect, plan_groups

HIDDEN, LAYERS, LONGEST = 48, 2, 10
END = "<|im_end|>"


class Recorder(LocalEngine):
    """The local engine, keeping what it was asked and gave, and who was answered by each tick."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        self.seen: dict[str, list[tuple[TokenRequest, Generated]]] = {}
        self.ticks: list[tuple[str, ...]] = []

    async def generate(self, request: TokenRequest) -> Generated:
        generated = await super().generate(request)
        self.seen.setdefault(request.session, []).append((request, generated))
        return generated

    def _tick(self, arrived: Sequence[Any]) -> None:
        self.ticks.append(tuple(answer.request.session for answer in self._answering))
        super()._tick(arrived)


class LongTalk(ColourDesk):
    """The desk with four questions and more, some of them after a while."""

    wait: Callable[[], float] = staticmethod(lambda: 0.0)

    async def start(self, host: Host) -> Opening:
        await asyncio.sleep(self.wait())
        return await super().start(host)

    @tool("read")
    def find(self, colour: str) -> str:
        """The code of a colour."""
        time.sleep(self.wait())  # on a thread of its own
        return str(self.codes.get(colour, "none"))

    async def reply(self, text: str, host: Host) -> Observation:
        await asyncio.sleep(self.wait())
        self.said.append(text)
        return Observation((Message("user", f"code for {self.asked[len(self.said) % 2]}"),), done=len(self.said) == 4)


class SlowTalk(LongTalk):
    wait = staticmethod(lambda: random.choice((0.0, 0.0, 0.001, 0.004)))


class Talks(ColourTasks):
    def __init__(self, desk: type[ColourDesk] = LongTalk) -> None:
        self.desk = desk

    def episode(self, task: Task) -> Env:
        (first, second), codes = task.data
        return self.desk((first, second), codes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, made to end some of its answers: the end of turn's logit varies more than others do."""
    model = load_model(write_toy(tmp_path_factory.mktemp("random"), hidden=HIDDEN, layers=LAYERS, seed=2))
    with torch.no_grad():
        model.embedding.weight[model.tokenizer.convert_tokens_to_ids(END)] *= 10.0
    made = tmp_path_factory.mktemp("model")
    model.save(made)
    return made


def policy_over(folder: Path, **options: Any) -> tuple[TokenPolicy, Recorder]:
    engine = Recorder(load_model(folder))
    return TokenPolicy(engine, Renderer(engine.model.tokenizer), **{"max_tokens": LONGEST, **options}), engine


def play(
    policy: TokenPolicy,
    desk: type[ColourDesk] = LongTalk,
    *,
    num_tasks: int = 4,
    params: SamplingParams | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> list[Rollout]:
    taskset = Talks(desk)
    specs = plan_groups(take(taskset, "train", num_tasks, 0), 3, 5)
    cast = Cast(policy, params=params or SamplingParams())
    return [tree[0] for tree in asyncio.run(collect(specs, taskset, cast, limits, **options))]


def timeless(rollout: Rollout) -> Rollout:
    turns = tuple(dataclasses.replace(turn, policy_s=0.0, env_s=0.0) for turn in rollout.turns)
    return dataclasses.replace(rollout, turns=turns, duration_s=0.0)


def length(rollout: Rollout) -> int:
    """How long its one stream has become."""
    return rollout.turns[-1].prompt_tokens + rollout.turns[-1].sampled_tokens


def written(messages: Sequence[Message]) -> str:
    """What the toy template writes of messages without calls, and the next generation prompt."""
    said = "".join(f"<|im_start|>{message.role}\n{message.content}{END}\n" for message in messages)
    return f"{said}<|im_start|>assistant\n"


# One stream.


def test_what_is_stored_is_what_the_engine_was_asked_and_gave(folder: Path) -> None:
    policy, engine = policy_over(folder)
    rollouts = play(policy)
    stop = policy.renderer.stop_ids
    finishes: set[tuple[str, str]] = set()
    assert len(rollouts) == 12
    assert sum(map(len, engine.seen.values())) == sum(len(rollout.turns) for rollout in rollouts)
    for rollout in rollouts:
        assert rollout.status == "completed", rollout.detail
        stream: tuple[int, ...] = ()
        before: Turn | None = None
        for turn, (request, generated) in zip(rollout.turns, engine.seen[f"{rollout.rollout_id}|agent"], strict=True):
            segment = turn.segment
            assert segment is not None
            assert segment.continues == (before is not None)
            stream += tuple(segment.prompt_ids)
            assert stream == request.ids
            assert turn.prompt_tokens == len(stream)
            stream += tuple(segment.sampled_ids)
            assert (segment.sampled_ids, segment.sampler_logprobs) == (generated.ids, generated.logprobs)
            assert turn.sampled_tokens == len(generated.ids)
            assert turn.finish == ("stop" if generated.ids[-1] in stop else "length")
            assert not set(generated.ids[:-1]) & set(stop), "an answer ends with its first end of turn"
            assert turn.finish == "stop" or len(generated.ids) == LONGEST
            told = policy.renderer.decode(generated.ids).removesuffix(END)
            assert turn.message == parse(told, rollout.tools, "hermes")

            came = policy.renderer.decode(segment.prompt_ids)
            if before is None:
                assert came == "find\n" + written(rollout.opening)
            else:
                closed = "" if before.finish == "stop" else END
                assert came == f"{closed}\n{written(before.observation)}"
                finishes.add((before.finish, turn.finish))
            before = turn
        assert len(rollout.turns) > 2
    assert finishes == {(one, other) for one in ("stop", "length") for other in ("stop", "length")}


def test_a_template_that_rewrites_history_begins_a_new_stream(folder: Path) -> None:
    """What a user said is left out once a user speaks again."""
    last = "{%- set ns = namespace(last=0) %}{%- for message in messages %}{%- if message.role == 'user' %}"
    last += "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    pruned = "('' if message.role == 'user' and loop.index0 < ns.last else message.content)"
    policy, engine = policy_over(folder)
    engine.model.tokenizer.chat_template = last + TEMPLATE.replace("message.content", pruned)
    policy.renderer = Renderer(engine.model.tokenizer)
    assert policy.renderer.template_class == "rewrites_on_user"
    for rollout in play(policy, num_tasks=2):
        came = "user"
        for turn, (request, _) in zip(rollout.turns, engine.seen[f"{rollout.rollout_id}|agent"], strict=True):
            assert turn.segment is not None
            assert turn.segment.continues == (came == "tool")
            came = turn.observation[-1].role
            if turn.segment.continues:
                continue
            assert turn.segment.prompt_ids == request.ids
            assert turn.prompt_tokens == len(request.ids)


def test_a_request_may_cap_an_answer_and_otherwise_the_policy_does(folder: Path) -> None:
    policy, engine = policy_over(folder, max_tokens=4)
    for rollout in play(policy, num_tasks=2):
        assert {turn.sampled_tokens for turn in rollout.turns} <= {1, 2, 3, 4}
    assert {request.max_tokens for turns in engine.seen.values() for request, _ in turns} == {4}
    engine.seen.clear()
    play(policy, num_tasks=1, params=SamplingParams(max_tokens=7))
    assert {request.max_tokens for turns in engine.seen.values() for request, _ in turns} == {7}
    engine.seen.clear()
    capped = play(policy, num_tasks=2, limits=Limits(max_tokens=6))
    assert all(sum(turn.sampled_tokens for turn in rollout.turns) <= 6 for rollout in capped)
    assert "tokens" in {rollout.cause for rollout in capped} <= {"tokens", ""}
    assert {request.max_tokens for turns in engine.seen.values() for request, _ in turns} <= set(range(1, 7))


def test_how_it_was_sampled_is_recorded(folder: Path) -> None:
    policy, engine = policy_over(folder)
    params = SamplingParams(temperature=0.7, top_p=0.9, top_k=5, min_p=0.01)
    for params_, wanted in ((params, Transform(0.7, 0.9, 5, 0.01)), (SamplingParams(), Transform())):
        engine.seen.clear()
        for rollout in play(policy, num_tasks=1, params=params_):
            assert {turn.segment.transform for turn in rollout.turns if turn.segment} == {wanted}
        for turns in engine.seen.values():
            assert {dataclasses.replace(request.params, seed=None) for request, _ in turns} == {params_}
            seeds = [request.params.seed for request, _ in turns]
            assert None not in seeds
            assert len(set(seeds)) == len(seeds), "every turn draws anew"


# Versions, sessions, features.


def test_the_version_is_that_of_the_weights_it_was_sampled_with(folder: Path) -> None:
    policy, engine = policy_over(folder)
    assert {turn.version for rollout in play(policy, num_tasks=1) for turn in rollout.turns} == {0}
    policy.load(Published(7, engine.model))
    (first, *_) = play(policy, num_tasks=1)
    assert first.version == 7
    assert {turn.version for turn in first.turns} == {7}


def test_a_session_goes_on_with_the_weights_loaded_between_its_turns(folder: Path) -> None:
    policy, engine = policy_over(folder)
    asked = SampleRequest((Message("user", "code for red"),), session="s", params=SamplingParams(seed=3))

    async def two_turns() -> None:
        first = await policy.sample(asked)
        policy.load(Published(2, engine.model))
        messages = (*asked.messages, first.message, Message("user", "code for blue"))
        second = await policy.sample(dataclasses.replace(asked, messages=messages))
        assert (first.version, second.version) == (0, 2)
        assert second.segment is not None
        assert second.segment.continues
        assert engine.seen["s"][1][1].computed == second.prompt_tokens, "what the old weights computed is forgotten"
        await policy.release("s")

    asyncio.run(two_turns())


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    policy, engine = policy_over(folder)
    other = load_model(write_toy(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match=rf"other is not the model this engine samples from, {engine.model.name}"):
        policy.load(Published(3, other))
    assert engine.version == 0


def test_nothing_is_kept_of_an_episode_that_ended(folder: Path) -> None:
    class Broken(LongTalk):
        async def reply(self, text: str, host: Host) -> Observation:
            live.append((len(policy._conversations), len(engine._sessions)))
            if self.said:
                raise RuntimeError("the desk burns")
            return await super().reply(text, host)

    live: list[tuple[int, int]] = []
    policy, engine = policy_over(folder)
    for desk in (LongTalk, Broken):
        rollouts = play(policy, desk, num_tasks=2)
        assert {rollout.status for rollout in rollouts} == {"errored" if desk is Broken else "completed"}
        assert policy._conversations == {}
        assert engine._sessions == {}
    assert max(live) == (6, 6), "while they run, there is something to keep"
    asyncio.run(policy.release("never begun"))


def test_a_released_session_begins_anew(folder: Path) -> None:
    policy, _ = policy_over(folder)
    asked = SampleRequest((Message("user", "code for red"),), session="s", params=SamplingParams(seed=3))

    async def twice() -> None:
        first = await policy.sample(asked)
        await policy.release("s")
        again = await policy.sample(asked)
        assert first == again
        assert first.segment is not None
        assert not first.segment.continues

    asyncio.run(twice())


@pytest.mark.parametrize("layers", [(0,), (2, 1), (0, 1, 2)])
def test_features_come_for_every_sampled_token(layers: tuple[int, ...], folder: Path) -> None:
    policy, engine = policy_over(folder)
    asked = SampleRequest((Message("user", "code for red"),), session="s", params=SamplingParams(seed=3))
    plain = asyncio.run(policy.sample(asked))
    assert plain.features is None
    told = asyncio.run(policy.sample(dataclasses.replace(asked, session="t", feature_layers=layers)))
    assert told == plain, "looking changes nothing"
    assert told.segment is not None
    assert told.features is not None
    assert told.features.shape == (len(layers), told.sampled_tokens, HIDDEN)
    assert told.features.dtype == np.float32
    stream = torch.tensor([[*told.segment.prompt_ids, *told.segment.sampled_ids]])
    with torch.no_grad():
        states = engine.model.module(stream, output_hidden_states=True).hidden_states
    for row, layer in enumerate(layers):
        wanted = states[layer][0, told.prompt_tokens - 1 : told.prompt_tokens - 1 + told.sampled_tokens].numpy()
        assert np.allclose(told.features[row], wanted, atol=1e-4)


# The end of the context.


def test_a_context_that_is_full_ends_the_episode_as_truncated(folder: Path) -> None:
    policy, engine = policy_over(folder)
    whole = {rollout.rollout_id: rollout for rollout in play(policy)}
    most = sorted(length(rollout) for rollout in whole.values())[5]
    engine.model.config.max_position_embeddings = most
    cut = play(policy)
    assert {rollout.status for rollout in cut} == {"completed", "truncated"}
    for rollout in cut:
        other = whole[rollout.rollout_id]
        assert length(rollout) <= most
        assert [turn.message for turn in rollout.turns[:-1]] == [
            turn.message for turn in other.turns[: len(rollout.turns) - 1]
        ], "until the end nothing is different"
        if rollout.status == "truncated":
            assert rollout.cause == "budget"
            assert rollout.detail.endswith(f"tokens; the model takes {most}")
            assert rollout.outcome.success is False
            assert rollout.scored
            assert length(other) > most
    assert policy._conversations == {}
    assert engine._sessions == {}


def test_a_prompt_that_fills_the_context_ends_the_episode_before_its_first_turn(folder: Path) -> None:
    policy, engine = policy_over(folder)
    engine.model.config.max_position_embeddings = 5
    (first, *_) = play(policy, num_tasks=1)
    assert (first.status, first.cause, first.turns) == ("truncated", "budget", ())
    with pytest.raises(BudgetExhausted, match="the model takes 5"):
        asyncio.run(policy.sample(SampleRequest((Message("user", "code for red"),), session="s")))


# Exact order.


@pytest.mark.parametrize("concurrency", [64, 3])
def test_two_runs_are_the_same_to_the_last_bit_however_long_environments_take(concurrency: int, folder: Path) -> None:
    def once(seed: int, desk: type[ColourDesk]) -> tuple[list[Rollout], list[tuple[str, ...]]]:
        random.seed(seed)
        policy, engine = policy_over(folder)
        rollouts = play(policy, desk, concurrency=concurrency, num_tasks=5)
        return list(map(timeless, rollouts)), engine.ticks

    rollouts, ticks = once(0, LongTalk)
    assert max(map(len, ticks)) == min(concurrency, 15), "sessions are answered together"
    for seed in (1, 2):
        again, their_ticks = once(seed, SlowTalk)
        assert their_ticks == ticks
        assert again == rollouts  # floats included: records compare by value


def test_how_many_are_live_and_in_which_order_changes_no_token(folder: Path) -> None:
    def sampled(concurrency: int, exact: bool = True) -> Mapping[str, list[Sequence[int]]]:
        policy, engine = policy_over(folder)
        rollouts = play(policy, concurrency=concurrency, exact=exact)
        gates = [request.gate for turns in engine.seen.values() for request, _ in turns]
        assert all((gate is not None) == exact for gate in gates), "an exact order holds the engine's ticks"
        return {
            rollout.rollout_id: [turn.segment.sampled_ids for turn in rollout.turns if turn.segment]
            for rollout in rollouts
        }

    assert sampled(64) == sampled(3) == sampled(1) == sampled(64, exact=False)


# What it is made of.


def test_it_is_named_after_its_model_and_says_what_it_can(folder: Path) -> None:
    model = load_model(folder)
    policy = TokenPolicy.of(model)
    assert policy.name == policy.engine.name == model.name
    assert policy.engine.model is model
    assert TokenPolicy.of(model, name="mine").name == "mine"
    assert policy.capabilities == {"ids", "logprobs", "features", "publish"}
    with pytest.raises(InputError, match="max_tokens is 0; it takes at least 1"):
        TokenPolicy.of(model, max_tokens=0)
