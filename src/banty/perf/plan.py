"""What a step of training will take, from the lengths of episodes and what passes cost."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from banty.errors import InputError
from banty.perf.machine import Machine
from banty.perf.shape import Shape


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """An episode's tokens: those of its prompt, of which all tasks share `shared`, and of each turn what is sampled and
    what is observed behind it."""

    prompt: int
    shared: int
    turns: tuple[tuple[int, int], ...]

    @property
    def sampled(self) -> int:
        return sum(sampled for sampled, _ in self.turns)

    @property
    def length(self) -> int:
        return self.prompt + sum(sampled + observed for sampled, observed in self.turns)


@dataclass(frozen=True, slots=True)
class UnitCosts:
    """Seconds: `decode` of a pass that gives so many rows a token, by rows, between which it is interpolated; of a pass
    over prompts, `prefill_pass_s` and so much a token; of a gradient a distinct token; of environment and driver a
    turn; and of an update of the weights."""

    decode: tuple[tuple[int, float], ...]
    prefill_pass_s: float
    prefill_token_s: float
    train_token_s: float
    turn_s: float
    update_s: float = 0.0

    def decode_s(self, rows: int) -> float:
        at, seconds = zip(*self.decode, strict=True)
        if rows > at[-1] and len(at) > 1:  # as it rose last
            return float(seconds[-1] + (rows - at[-1]) * (seconds[-1] - seconds[-2]) / (at[-1] - at[-2]))
        return float(np.interp(rows, at, seconds))


@dataclass(frozen=True, slots=True)
class Sampling:
    """What sampling a number of episodes takes."""

    prefill_s: float
    decode_s: float
    turns_s: float
    prefill_tokens: int
    sampled_tokens: int
    decode_passes: int

    @property
    def seconds(self) -> float:
        return self.prefill_s + self.decode_s + self.turns_s


@dataclass(frozen=True, slots=True)
class Workload:
    """A step's episodes: `num_groups` tasks with `group_size` episodes each, of the lengths of `episodes`, which are
    repeated as often as needed. Of the tokens behind the prompt that all share, `distinct` is the share that no other
    episode of the batch begins with too."""

    episodes: tuple[EpisodeShape, ...]
    num_groups: int
    group_size: int
    concurrency: int
    distinct: float = 1.0

    def __post_init__(self) -> None:
        if not self.episodes:
            raise InputError("no episode says how long episodes are; give a run that has rollouts, or lengths")

    @property
    def step(self) -> list[EpisodeShape]:
        return list(itertools.islice(itertools.cycle(self.episodes), self.num_groups * self.group_size))

    @property
    def shared(self) -> int:
        return max(one.shared for one in self.episodes)

    @property
    def trained_tokens(self) -> int:
        """Distinct tokens of a step."""
        return round(self.shared + self.distinct * sum(one.length - one.shared for one in self.step))

    @property
    def usual_length(self) -> int:
        """Tokens an episode has half way."""
        return round(float(np.mean([one.prompt + (one.length - one.prompt) / 2 for one in self.episodes])))


def sampling(episodes: Sequence[EpisodeShape], concurrency: int, group_size: int, costs: UnitCosts) -> Sampling:
    """What sampling `episodes` takes on an engine that gives all live ones a token a pass: played through by ticks.
    Prompts of a group are computed once but for their last token."""
    waiting = deque(enumerate(episodes))
    live: list[tuple[EpisodeShape, int, int]] = []  # its turn, and the tokens that are left of it
    prefill_s = decode_s = turns_s = 0.0
    prefill_tokens = sampled = passes = 0
    prompted: set[int] = set()
    while waiting or live:
        arriving: list[int] = []
        while waiting and len(live) < concurrency:
            place, episode = waiting.popleft()
            group = place // group_size
            arriving.append(1 if group in prompted else episode.prompt - (episode.shared if prompted else 0))
            prompted.add(group)
            live.append((episode, 0, episode.turns[0][0]))
        rows, still = len(live), []
        for episode, turn, left in live:
            if left > 1:
                still.append((episode, turn, left - 1))
                continue
            turns_s += costs.turn_s
            if turn + 1 < len(episode.turns):
                arriving.append(episode.turns[turn][1])
                still.append((episode, turn + 1, episode.turns[turn + 1][0]))
        if arriving:
            prefill_s += costs.prefill_pass_s + costs.prefill_token_s * sum(arriving)
            prefill_tokens += sum(arriving)
        decode_s += costs.decode_s(rows)
        passes, sampled, live = passes + 1, sampled + rows, still
    return Sampling(prefill_s, decode_s, turns_s, prefill_tokens, sampled, passes)


# What is assumed of a machine on which nothing was measured: the share of its limit that passes reach, and seconds a
# layer and pass for launching operations one by one. Estimates from what engines of this kind do, not measurements.
ASSUMED_DECODE, ASSUMED_PREFILL, ASSUMED_TRAIN = 0.6, 0.5, 0.45
ASSUMED_LAUNCH_S = 1.5e-4
ASSUMED_TURN_S = 1e-3


def assumed_costs(machine: Machine, shape: Shape, workload: Workload, *, whole: bool, recompute: bool) -> UnitCosts:
    """Costs on a machine that is only known by its limits."""
    launch_s = ASSUMED_LAUNCH_S * shape.num_layers
    length, shared = workload.usual_length, workload.shared
    decode = []
    for rows in (1, 8, 32, 64, 128, 256):
        kept = shared + rows * (length - shared)
        used = shape.forward(rows, rows * length, rows, kept, rows)
        decode.append((rows, max(machine.limit_s(used) / ASSUMED_DECODE, launch_s)))
    tokens = 4096
    prefill = shape.forward(tokens, tokens * length, 64, 64 * length, 64)
    distinct = workload.trained_tokens
    pairs = distinct * length
    trained = sum(one.sampled for one in workload.step)
    gradient = shape.gradient(distinct, pairs, trained, whole=whole, recompute=recompute)
    return UnitCosts(
        tuple(decode),
        launch_s,
        machine.limit_s(prefill) / ASSUMED_PREFILL / tokens,
        machine.limit_s(gradient) / ASSUMED_TRAIN / distinct,
        ASSUMED_TURN_S,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """A step and a run of `num_steps`, predicted. Seconds, tokens, bytes, dollars."""

    sampling: Sampling
    train_s: float
    score_s: float
    kept_s: float
    """Storing rollouts and a checkpoint."""
    trained_tokens: int
    num_steps: int
    eval_s: float
    memory_bytes: int
    price_usd_h: float
    host_bytes: int = 0
    """Of an optimizer that is away from the device."""

    @property
    def step_s(self) -> float:
        return self.sampling.seconds + self.train_s + self.score_s + self.kept_s

    @property
    def run_s(self) -> float:
        return self.num_steps * self.step_s + self.eval_s

    @property
    def cost_usd(self) -> float:
        return self.run_s / 3600 * self.price_usd_h


def memory_bytes(
    shape: Shape, workload: Workload, *, state_bytes: int, micro_batch_tokens: int, recompute: bool
) -> int:
    """Weights, gradients and the optimizer's state (`state_bytes`, what of it is on the device), one micro-batch's
    activations, and what live episodes keep."""
    layer = shape.width * (8 * shape.hidden + 3 * shape.intermediate)
    kept = shape.width * shape.hidden * shape.num_layers + layer if recompute else layer * shape.num_layers
    tokens = min(micro_batch_tokens, workload.trained_tokens)
    live = min(workload.concurrency, workload.num_groups * workload.group_size)
    longest = max(one.length for one in workload.episodes)
    return int(
        shape.weight_bytes + state_bytes + tokens * kept + live * (longest * shape.kept_bytes + shape.state_bytes)
    )
