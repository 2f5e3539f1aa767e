"""examples/rl_in_one_file.py is the loop of the library: same tokens, same gradients, same weights; and it learns."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator
from tests.toy import ColourDesk, ColourTasks, careless, toy_tokenizer

from banty.chat import Renderer
from banty.credit import CreditSpec, estimator_of
from banty.learn.learner import TorchLearner
from banty.models.loading import LanguageModel, load_model
from banty.policies.token import TokenPolicy
from banty.records import (
    Completion,
    Env,
    Host,
    Limits,
    Loss,
    Message,
    Observation,
    OptimizerSpec,
    PolicyLoss,
    Rollout,
    SamplingParams,
    SupervisedLoss,
    Task,
    TrainingSample,
    derive,
    generator,
    take,
)
from banty.rollout import Cast, collect, group_rollouts, plan_groups
from banty.train.rl import credit_groups
from banty.train.sft import taught_samples
from banty.train.traces import trace_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "rl_in_one_file.py"
TASKS = take(ColourTasks(), "train", 8)
GROUP_SIZE = 12
RATE = 5e-4
CAPS = {"plain": (1.0, 16, 8), "cool": (0.8, 16, 8), "capped": (1.0, 5, 3)}
"""Temperature, tokens a turn and turns an episode; with 5 tokens a turn every call loses its end of turn."""


class BluntDesk(ColourDesk):
    """Takes what is no clean call for a wrong answer, as the example's does. The toy's own says what is wrong with it,
    and now and then a half-taught model garbles a call."""

    async def step(self, completion: Completion, host: Host) -> Observation:
        message = completion.message
        clean = len(message.calls) == 1 and not message.faults and not message.content
        if clean or not (message.calls or message.faults):
            return await super().step(completion, host)
        return await self.reply("garbled", host)


class BluntTasks(ColourTasks):
    def episode(self, task: Task) -> Env:
        (first, second), codes = task.data
        return BluntDesk((first, second), codes)


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("rl_in_one_file", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for the module's names
    spec.loader.exec_module(module)
    return module


example = _load()


@pytest.fixture(scope="module")
def imitator(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The example's model after some imitation, and its folder with the toy's tokenizer."""
    model = example.make_model(seed=0)
    example.imitate(model, 200, seed=0)
    folder = tmp_path_factory.mktemp("imitator")
    model.save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return model, folder


@dataclass
class Both:
    """The same step in the example and in the library: weights, rollouts on the same draws, and credit."""

    model: Any
    episodes: Sequence[Any]
    advantages: torch.Tensor
    loaded: LanguageModel
    rollouts: Sequence[Rollout]
    samples: Sequence[TrainingSample]

    def move_weights(self) -> None:
        """A good way from those that sampled, in both alike."""
        optimizer = example.make_optimizer(self.model, 10 * RATE)
        for _ in range(3):
            example.update(self.model, optimizer, self.loss())
        self.loaded.module.load_state_dict(self.model.state_dict())

    def loss(self, scale: float = 1.0) -> torch.Tensor:
        loss: torch.Tensor = example.policy_loss(self.model, self.episodes, scale * self.advantages)
        return loss

    def scaled(self, scale: float) -> Sequence[TrainingSample]:
        return [dataclasses.replace(one, advantages=scale * one.advantages) for one in self.samples]


@pytest.fixture(params=CAPS)
def both(request: pytest.FixtureRequest, imitator: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> Both:
    temperature, max_tokens, max_turns = CAPS[request.param]
    monkeypatch.setattr(example, "TEMPERATURE", temperature)
    monkeypatch.setattr(example, "MAX_TOKENS", max_tokens)
    monkeypatch.setattr(example, "MAX_TURNS", max_turns)

    loaded = load_model(imitator[1])
    specs = plan_groups(TASKS, GROUP_SIZE, seed=3, tag="step")
    cast = Cast(TokenPolicy.of(loaded, max_tokens=max_tokens), params=SamplingParams(temperature=temperature))
    trees = asyncio.run(collect(specs, BluntTasks(), cast, Limits(max_turns=max_turns)))
    rollouts = [tree[0] for tree in trees]
    samples = credit_groups(group_rollouts(rollouts), estimator_of(CreditSpec()))

    def draws(row: int, turn: int) -> Generator:
        return generator(derive(specs[row].sampler_seed, "sample", "agent", turn), "tokens")

    model = copy.deepcopy(imitator[0])
    episodes = example.play(model, [spec.task.data for spec in specs], draws)
    rewards = torch.tensor([episode.desk.reward() for episode in episodes])
    advantages = example.leave_one_out(rewards.view(len(TASKS), GROUP_SIZE)).flatten()
    return Both(model, episodes, advantages, loaded, rollouts, samples)


def assert_same_gradients(
    model: Any, value: torch.Tensor, loaded: LanguageModel, samples: Sequence[TrainingSample], loss: Loss
) -> TorchLearner:
    """The example's gradient of `value`, and the learner's of `loss` over `samples`, parameter by parameter."""
    learner = TorchLearner(loaded, OptimizerSpec(learning_rate=RATE))
    metrics = learner.forward_backward(samples, loss)
    assert float(value.detach()) == pytest.approx(metrics["loss"], abs=1e-6)
    model.zero_grad()
    value.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert list(gradients) == list(learner.gradients)
    for name, theirs in learner.gradients.items():
        largest = float(theirs.abs().max())
        assert largest > 0.0, name
        assert float((gradients[name] - theirs).abs().max()) < 1e-4 * largest, name
    return learner


def test_it_speaks_the_tokens_of_the_toy() -> None:
    assert toy_tokenizer().get_vocab() == example.IDS


def test_rollouts_and_credit_are_those_of_the_library(both: Both) -> None:
    assert len(both.episodes) == len(both.samples) == len(TASKS) * GROUP_SIZE
    rows = zip(both.episodes, both.advantages.tolist(), both.rollouts, both.samples, strict=True)
    for episode, advantage, rollout, sample in rows:
        assert sample.rollout_id == rollout.rollout_id
        assert episode.ids == sample.token_ids.tolist()
        assert episode.mask == sample.mask.tolist()
        assert episode.num_turns == len(rollout.agent_turns)
        assert episode.desk.reward() == float(bool(rollout.outcome.success))
        np.testing.assert_allclose(episode.logprobs, sample.sampler_logprobs, rtol=0, atol=1e-4)
        np.testing.assert_allclose(np.where(sample.mask, advantage, 0.0), sample.advantages, rtol=0, atol=1e-6)


def test_what_was_sampled_is_never_tokenised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call spelled letter by letter, where the tokenizer has one id for a word, as the library keeps it too."""
    monkeypatch.setattr(example, "MAX_TOKENS", 100)
    asked, codes = TASKS[0].data
    episode = example.Episode(example.Desk((asked, codes)))
    renderer = Renderer(toy_tokenizer())
    conversation = renderer.conversation()
    tools = [one.schema for one in ColourDesk.tools.values()]
    opening = Message("user", f"code for {asked[0]}")
    assert episode.ids == list(conversation.prompt([opening], tools).ids)
    call = example.CALL % asked[0]
    spelled = [*(example.IDS[letter] for letter in call), example.IDS[example.STOP]]
    assert len(spelled) > len(example.encode(call + example.STOP))
    for token in spelled:
        episode.write(token, -0.5)
    messages = [opening, conversation.sampled(spelled, True), Message("tool", str(codes[asked[0]]))]
    assert episode.seen == ("tool", messages[2].content)
    assert episode.ids == list(conversation.prompt(messages, tools).ids)
    assert sum(episode.mask) == len(spelled)
    assert sum(episode.logprobs) == -0.5 * len(spelled)


def test_there_is_something_to_compare(both: Both, request: pytest.FixtureRequest) -> None:
    turns = [turn for rollout in both.rollouts for turn in rollout.agent_turns]
    capped = request.node.callspec.params["both"] == "capped"
    assert len(both.advantages.unique()) >= 3
    assert any(turn.calls for turn in turns)
    assert any(turn.finish == "length" for turn in turns) == capped
    assert any(rollout.status == "truncated" for rollout in both.rollouts) == capped


def test_gradients_are_those_of_the_library(both: Both) -> None:
    learner = assert_same_gradients(both.model, both.loss(), both.loaded, both.samples, PolicyLoss())
    assert learner.forward_backward(both.samples, PolicyLoss())["clipped"] == 0.0


def test_gradients_on_stale_rollouts_are_those_of_the_library(both: Both) -> None:
    both.move_weights()
    learner = assert_same_gradients(both.model, both.loss(), both.loaded, both.samples, PolicyLoss())
    rows = list(zip(both.samples, learner.logprobs(both.samples), strict=True))
    ratios = np.concatenate([np.exp(row - one.sampler_logprobs)[one.mask] for one, row in rows])
    advantages = np.concatenate([one.advantages[one.mask] for one in both.samples])
    assert np.any((ratios > 1.28) & (advantages > 0)), "some are clipped above"
    assert np.any((ratios < 0.8) & (advantages < 0)), "and some below"


def test_weights_after_updates_are_those_of_the_library(both: Both) -> None:
    """To a twentieth of a learning rate each, and a ten-thousandth on average, with the gradient clipped or not."""
    learner = TorchLearner(both.loaded, OptimizerSpec(learning_rate=RATE))
    optimizer = example.make_optimizer(both.model, RATE)
    before = [parameter.detach().clone() for parameter in both.model.parameters()]
    norms = []
    for scale in (1.0, 100.0, 1.0):
        learner.forward_backward(both.scaled(scale), PolicyLoss())
        norms.append(learner.optim_step()["grad_norm"])
        example.update(both.model, optimizer, both.loss(scale))
        pairs = list(zip(both.model.parameters(), both.loaded.trainable().values(), strict=True))
        apart = torch.cat([(ours - theirs).detach().abs().flatten() for ours, theirs in pairs]) / RATE
        assert float(apart.max()) < 5e-2
        assert float(apart.mean()) < 1e-4
    assert norms[0] < 1.0 < norms[1], "the middle update is to have its gradient clipped"
    moved = [
        float((now - then).detach().abs().mean()) for now, then in zip(both.model.parameters(), before, strict=True)
    ]
    assert min(moved) > 0.5 * RATE


def test_imitation_has_the_gradients_of_the_library(imitator: tuple[Any, Path]) -> None:
    loaded, model = load_model(imitator[1]), copy.deepcopy(imitator[0])
    specs = plan_groups(TASKS, 2, seed=4)
    trees = asyncio.run(collect(specs, ColourTasks(), Cast(careless(0.4))))
    renderer = Renderer(loaded.tokenizer)
    samples = [sample for tree in trees for sample in taught_samples(trace_of(tree[0]), renderer)]
    episodes = []
    for spec, tree in zip(specs, trees, strict=True):
        messages = iter([turn.message for turn in tree[0].agent_turns])

        def clerk(seen: tuple[str, str]) -> str:
            message = next(messages)  # noqa: B023 - used up before the next is made
            return example.CALL % message.calls[0].arguments["colour"] if message.calls else message.content

        episodes.append(example.imitated(spec.task.data, clerk))
    assert [episode.ids for episode in episodes] == [sample.token_ids.tolist() for sample in samples]
    assert [episode.mask for episode in episodes] == [sample.mask.tolist() for sample in samples]
    assert len({sum(episode.mask) for episode in episodes}) > 1, "a clerk who sometimes guesses"
    assert_same_gradients(model, example.imitation_loss(model, episodes), loaded, samples, SupervisedLoss())


def test_the_clerk_is_as_careless_as_it_says() -> None:
    rngs = [np.random.default_rng((5, row)) for row in range(1000)]
    episodes = [
        example.imitated(example.make_task(rng), lambda seen, rng=rng: example.careless(seen, rng)) for rng in rngs
    ]
    rate = sum(episode.desk.reward() for episode in episodes) / len(episodes)
    assert rate == pytest.approx(0.4225, abs=0.05)  # three standard errors


def test_a_step_compares_episodes_of_one_task(imitator: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[Any, torch.Tensor]] = []
    true_loss = example.policy_loss

    def policy_loss(model: Any, episodes: Any, advantages: torch.Tensor) -> torch.Tensor:
        batches.append((episodes, advantages))
        loss: torch.Tensor = true_loss(model, episodes, advantages)
        return loss

    monkeypatch.setattr(example, "policy_loss", policy_loss)
    example.reinforce(copy.deepcopy(imitator[0]), 2, seed=0, num_tasks=3, group_size=4)
    assert [episodes is batches[0][0] for episodes, _ in batches] == [True, True, False, False]
    seen = []
    for episodes, advantages in batches[::2]:
        by_task: dict[str, list[int]] = {}
        for place, episode in enumerate(episodes):
            by_task.setdefault(str((episode.desk.asked, episode.desk.codes)), []).append(place)
        assert [len(places) for places in by_task.values()] == [4, 4, 4]
        seen += list(by_task)
        for places in by_task.values():
            for place in places:
                others = [episodes[other].desk.reward() for other in places if other != place]
                assert float(advantages[place]) == pytest.approx(episodes[place].desk.reward() - sum(others) / 3)
    assert len(set(seen)) == 6, "every step has tasks of its own"


def test_it_learns(imitator: tuple[Any, Path]) -> None:
    """From about 0.3 to about 0.8 in twelve steps; see the bounds."""
    model = copy.deepcopy(imitator[0])
    before = example.evaluate(model, 200, seed=0)
    example.reinforce(model, 12, seed=0)
    after = example.evaluate(model, 200, seed=0)
    assert 0.2 < before < 0.45  # 0.31, 0.33 and 0.28 for three seeds
    assert after > 0.65  # 0.77, 0.81 and 0.82


def test_it_prints_what_it_says_it_prints(tmp_path: Path) -> None:
    sizes = ["--imitation-steps", "40", "--steps", "5", "--test-tasks", "10"]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *sizes],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    promised = re.search(r"\$ python examples/rl_in_one_file.py\n((?:    \S.*\n)+)", EXAMPLE.read_text())
    assert promised is not None
    assert _shapes(done.stdout) == ["before N of N test tasks", *_STEPS[:1], "after N of N test tasks"]
    assert _shapes(promised.group(1)) == ["before N of N test tasks", *_STEPS, "after N of N test tasks"]


_STEPS = ["step N N of N training episodes"] * 6


def _shapes(text: str) -> list[str]:
    return [" ".join(re.sub(r"[\d.]+", "N", line).split()) for line in text.splitlines()]
