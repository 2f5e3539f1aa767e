"""The work that speed is measured on: nano's architecture and weights, 64 episodes = 8 groups x 8, six turns each.

A group's prompt has 300 tokens, of which all groups share the system prompt. A turn samples exactly 40 tokens and
observes 40, forced by the script: no token stops an answer, and what comes back is digits, one token each. What is
sampled means nothing; how much is computed is the same in every run.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from banty.chat import Renderer
from banty.envs.tasksets import Tasks
from banty.models.loading import LanguageModel, load_model
from banty.policies.engine import LocalEngine
from banty.policies.token import TokenPolicy
from banty.records import (
    Completion,
    EpisodeSpec,
    Host,
    Message,
    Observation,
    Opening,
    Outcome,
    Rollout,
    Task,
    generator,
)
from banty.rollout import Cast, collect, plan_groups


@dataclass(frozen=True)
class Work:
    """Sizes; tokens are those of nano's tokenizer and template."""

    num_groups: int = 8
    group_size: int = 8
    prompt_tokens: int = 300
    shared_tokens: int = 248
    num_turns: int = 6
    sampled_tokens: int = 40
    observed_tokens: int = 40

    @property
    def num_episodes(self) -> int:
        return self.num_groups * self.group_size

    @property
    def total_sampled(self) -> int:
        return self.num_episodes * self.num_turns * self.sampled_tokens

    @property
    def episode_tokens(self) -> int:
        return self.prompt_tokens + self.num_turns * (self.sampled_tokens + self.observed_tokens) - self.observed_tokens


def digits(count: int, rng: np.random.Generator) -> str:
    """Text of `count` tokens of nano's tokenizer, under which each digit is one."""
    return "".join(str(digit) for digit in rng.integers(0, 10, count))


def reward_of(said: int) -> float:
    """From 0 to 1, by the last answer's checksum."""
    return said % 10_007 / 10_007


class Endless(Renderer):
    """nano's template, under which no token ends an answer, and special tokens that are sampled mean nothing."""

    def __init__(self, tokenizer: Any) -> None:
        self.end_of_turn_id = 0
        super().__init__(tokenizer)
        self.stop_ids = ()
        self.end_of_turn_id = -1

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=self.end_of_turn_id < 0))


class ForcedDesk(Tasks):
    """Episodes of exactly `work`'s turns and tokens; the reward is a draw of the episode's own, and success its coin.

    Hardly two rewards of a group are equal, so that every episode has an advantage and is trained on.
    """

    env = "benchmark/forced"

    def __init__(self, work: Work, renderer: Renderer) -> None:
        self.work = work
        self.splits: Mapping[str, int] = {"train": 1 << 20}
        self._system = digits(work.shared_tokens - self._length(renderer, "", ""), generator(0, "system"))
        self._user_digits = work.prompt_tokens - self._length(renderer, self._system, "")
        self._observed_digits = work.observed_tokens - self._between(renderer)

    def make(self, split: str, index: int, rng: np.random.Generator) -> Any:
        return {"question": digits(self._user_digits, rng)}

    def opening(self, task: Task) -> tuple[Message, ...]:
        return (Message("system", self._system), Message("user", task.data["question"]))

    def observation(self, rng: np.random.Generator) -> Message:
        return Message("user", digits(self._observed_digits, rng))

    def episode(self, task: Task) -> ForcedEpisode:
        return ForcedEpisode(self, task)

    def _length(self, renderer: Renderer, system: str, user: str) -> int:
        messages = [Message("system", system), Message("user", user)]
        return len(renderer.encode(renderer.text(messages, (), add_generation_prompt=True)))

    def _between(self, renderer: Renderer) -> int:
        """Tokens from the last sampled one to the next turn's first, beside the user's own."""
        conversation = renderer.conversation()
        messages = [Message("system", "1"), Message("user", "2")]
        conversation.prompt(messages, ())
        said = conversation.sampled(renderer.encode("3"), False)
        return len(conversation.prompt([*messages, said, Message("user", "")], ()).new_ids)


class ForcedEpisode:
    def __init__(self, desk: ForcedDesk, task: Task) -> None:
        self._desk, self._task, self._turns, self._reward = desk, task, 0, 0.0

    async def start(self, host: Host) -> Opening:
        return Opening(self._desk.opening(self._task))

    async def step(self, completion: Completion, host: Host) -> Observation:
        self._turns += 1
        # Members of a group are told different things, as they would be after doing different things.
        said = zlib.crc32(completion.message.content.encode())
        if self._turns == self._desk.work.num_turns:
            self._reward = reward_of(said)
            return Observation(done=True)
        return Observation((self._desk.observation(np.random.default_rng(said)),))

    def outcome(self) -> Outcome:
        return Outcome(success=self._reward > 0.5, reward=self._reward)

    async def close(self) -> None:
        pass


def policy_over(model: LanguageModel, work: Work) -> TokenPolicy:
    return TokenPolicy(LocalEngine(model), Endless(model.tokenizer), max_tokens=work.sampled_tokens)


def nano(dtype: str = "bfloat16", device: str = "cpu") -> LanguageModel:
    return load_model("nano", dtype=dtype, device=device)


def episodes(desk: ForcedDesk, seed: int) -> list[EpisodeSpec]:
    tasks = [desk.task("train", seed * desk.work.num_groups + place) for place in range(desk.work.num_groups)]
    return plan_groups(tasks, desk.work.group_size, seed, f"r{seed}")


async def play(desk: ForcedDesk, policy: TokenPolicy, seed: int) -> list[Rollout]:
    """One repetition of the work through the driver."""
    rollouts = await collect(episodes(desk, seed), desk, Cast(policy), concurrency=desk.work.num_episodes)
    found = [rollout for tree in rollouts for rollout in tree]
    check(desk.work, found)
    if policy.engine.lost_pace:
        print(f"repetition {seed}: the engine lost its pace to another process and is down to one thread", flush=True)
    return found


def check(work: Work, rollouts: Sequence[Rollout]) -> None:
    """That the work done is the work that was to be done."""
    for rollout in rollouts:
        turns = rollout.agent_turns
        sampled = [turn.sampled_tokens for turn in turns]
        last = turns[-1].prompt_tokens + turns[-1].sampled_tokens
        if sampled != [work.sampled_tokens] * work.num_turns or last != work.episode_tokens:
            raise SystemExit(
                f"{rollout.rollout_id} ({rollout.status}, {rollout.detail}): sampled {sampled}, {last} tokens"
            )


@dataclass
class Timed:
    """Seconds of one alternative by repetition."""

    name: str
    run: Callable[[int], Any]
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        return f"{min(self.seconds):.2f} - {max(self.seconds):.2f}"


def alternate(ways: Mapping[str, Callable[[int], Any]], repetitions: int) -> dict[str, Timed]:
    """Time each way in turn, over and over; the first round, which builds kernels, is not counted."""
    timed = {name: Timed(name, run, []) for name, run in ways.items()}
    for repetition in range(repetitions + 1):
        for one in timed.values():
            began = time.perf_counter()
            one.run(repetition)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repetition:
                one.seconds.append(time.perf_counter() - began)
    return timed
