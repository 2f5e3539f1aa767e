"""How far each estimator's expected gradient is from the exact one, by enumerating every group of two and of three.

    PYTHONPATH=. python benchmarks/credit_bias.py

Prints the table of docs/credit.md. Two small processes: in one the policy stops or takes another turn, which is
rewarded; in the other it stops, takes a rewarded turn or takes an unrewarded one. An outcome follows at the end. The
policy has logits of its own at every turn. Every group that can come up, with its probability, goes through the real
estimator, the real packing and the real aggregation (`constant`); nothing is sampled. The exact gradient, of the
expected outcome plus all turn rewards, is summed over single episodes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from banty.credit import BatchEstimator, CreditSpec, estimator_of
from banty.learn.aggregate import coefficients
from banty.records import Aggregation, Group, Message, Outcome, Rollout, Segment, Task, Transform, Turn
from banty.train.samples import group_rewards, pack_group

Floats = npt.NDArray[np.float64]
STOP = 0
"""The first action of every turn; the others take another turn."""
PROMPT = 99
"""A token no action has: what stands before each sampled one."""


@dataclass(frozen=True)
class Episode:
    """Actions taken, one a turn, the last of them STOP; what they earned; how likely that is."""

    actions: tuple[int, ...]
    rewards: tuple[float, ...]
    outcome: float
    chance: float


@dataclass(frozen=True)
class Process:
    """`chances[k][a]` of action a at turn k, whose reward is `rewards[k][a]`; at the last turn there is STOP alone.
    `success[k]` is the chance of outcome 1 when turn k was the last."""

    chances: tuple[tuple[float, ...], ...]
    rewards: tuple[tuple[float, ...], ...]
    success: tuple[float, ...]

    def episodes(self) -> list[Episode]:
        return list(self._from((), (), 1.0))

    def _from(self, actions: tuple[int, ...], rewards: tuple[float, ...], chance: float) -> Iterable[Episode]:
        turn = len(actions)
        for action, (taken, reward) in enumerate(zip(self.chances[turn], self.rewards[turn], strict=True)):
            so_far, earned = (*actions, action), (*rewards, reward)
            if action != STOP:
                yield from self._from(so_far, earned, chance * taken)
                continue
            for outcome, likely in ((1.0, self.success[turn]), (0.0, 1.0 - self.success[turn])):
                if likely:
                    yield Episode(so_far, earned, outcome, chance * taken * likely)


TWO_ACTIONS = Process(
    chances=((0.4, 0.6), (0.5, 0.5), (1.0,)), rewards=((0.0, 0.3), (0.0, 0.2), (0.0,)), success=(0.5, 0.6, 0.4)
)
"""Stop, or take another turn for 0.3, then 0.2. At the first turn the outcome does not care, at the second it loses
exactly what the turn earns: the exact gradient is (0.096, 0)."""
THREE_ACTIONS = Process(
    chances=((0.4, 0.3, 0.3), (0.5, 0.25, 0.25), (1.0,)),
    rewards=((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0,)),
    success=(0.5, 0.6, 0.4),
)
"""Stop, take a turn that earns 1, or one that earns nothing."""


def exact_gradient(process: Process) -> Floats:
    """That of the expected outcome plus turn rewards, in the logits, [turns, actions]."""
    found = np.zeros((len(process.chances), len(process.chances[0])))
    for episode in process.episodes():
        total = episode.outcome + sum(episode.rewards)
        for turn, action in enumerate(episode.actions):
            _add_score(found, process, turn, action, episode.chance * total)
    return found


def expected_gradient(
    process: Process, estimate: BatchEstimator, size: int, aggregation: Aggregation = "constant"
) -> Floats:
    """The mean of an estimator's policy gradient over all groups of `size`, each a batch by itself, [turns, actions].

    Groups that differ by order alone are computed once: permuting rollouts permutes their credit.
    """
    found = np.zeros((len(process.chances), len(process.chances[0])))
    episodes = process.episodes()
    members = [[_rollout(episode, trial) for trial in range(size)] for episode in episodes]
    for places in itertools.combinations_with_replacement(range(len(episodes)), size):
        repeats = Counter(places).values()
        orders = math.factorial(size) / math.prod(math.factorial(count) for count in repeats)
        chance = orders * math.prod(episodes[place].chance for place in places)
        group = Group(TASK, tuple(members[place][trial] for trial, place in enumerate(places)))
        (credit,) = estimate([group_rewards(group)])
        samples = pack_group(group, credit)
        for sample, shares in zip(samples, coefficients(samples, aggregation), strict=True):
            for token in np.flatnonzero(sample.mask):
                pull = chance * float(shares[token]) * float(sample.advantages[token])
                _add_score(found, process, int(sample.turn_ids[token]), int(sample.token_ids[token]), pull)
    return found


def _add_score(found: Floats, process: Process, turn: int, action: int, factor: float) -> None:
    """Adds `factor` times the gradient of the action's log probability."""
    chances = process.chances[turn]
    found[turn, : len(chances)] -= factor * np.array(chances)
    found[turn, action] += factor


TASK = Task("enumerated", "test", 0, 0, {})


def _rollout(episode: Episode, trial: int) -> Rollout:
    """One token a turn, the action; the state of a turn is its number, and nobody says anything."""
    turns = tuple(
        Turn(
            turn,
            "agent",
            Message("assistant", ""),
            trainable=True,
            segment=Segment([PROMPT], [action], [0.0], turn > 0, Transform()),
            reward=reward,
            sampled_tokens=1,
            state_before=str(turn),
        )
        for turn, (action, reward) in enumerate(zip(episode.actions, episode.rewards, strict=True))
    )
    outcome = Outcome(episode.outcome > 0.0, episode.outcome)
    return Rollout(f"{TASK.id}#{trial}", TASK, "completed", outcome=outcome, turns=turns, trial=trial)


ROWS: Mapping[str, CreditSpec] = {
    "unbiased": CreditSpec(estimator="unbiased"),
    "unbiased, ended left_out": CreditSpec(estimator="unbiased", ended="left_out"),
    "unbiased, scale batch": CreditSpec(estimator="unbiased", scale="batch"),
    "rloo, total": CreditSpec(estimator="rloo", total=True),
    "rloo": CreditSpec(estimator="rloo"),
    "dr_grpo, total": CreditSpec(estimator="dr_grpo", total=True),
    "dr_grpo": CreditSpec(estimator="dr_grpo"),
    "grpo, total": CreditSpec(estimator="grpo", total=True),
    "grpo": CreditSpec(estimator="grpo"),
    "mt_grpo": CreditSpec(estimator="mt_grpo"),
    "mt_grpo, std off": CreditSpec(estimator="mt_grpo", std=False),
    "mt_grpo, additive": CreditSpec(estimator="mt_grpo", variant="additive"),
    "mt_grpo, additive_last": CreditSpec(estimator="mt_grpo", variant="additive_last"),
    "mt_grpo, two_stage": CreditSpec(estimator="mt_grpo", variant="two_stage"),
    "gtpo, gamma 1, std off": CreditSpec(estimator="gtpo", gamma=1.0, std=False),
    "gtpo, std off": CreditSpec(estimator="gtpo", std=False),
    "gtpo": CreditSpec(estimator="gtpo"),
    "gtpo, pooled": CreditSpec(estimator="gtpo", compare="pooled"),
    "hybrid": CreditSpec(estimator="hybrid"),
    "hybrid, pooled": CreditSpec(estimator="hybrid", compare="pooled"),
    "gigpo": CreditSpec(estimator="gigpo"),
    "gdpo": CreditSpec(estimator="gdpo"),
}


@dataclass(frozen=True)
class Bias:
    """Of an estimator in a process, by group size: expected minus exact gradient; and the exact one."""

    exact: Floats
    of: Mapping[int, Floats] = field(default_factory=dict)

    def cosine(self, size: int) -> float:
        expected = self.exact + self.of[size]
        return float((expected * self.exact).sum() / (np.linalg.norm(expected) * np.linalg.norm(self.exact)))


@cache
def bias(name: str, process: Process) -> Bias:
    """Of a row of the table."""
    exact, estimate = exact_gradient(process), estimator_of(ROWS[name])
    return Bias(exact, {size: expected_gradient(process, estimate, size) - exact for size in (2, 3)})


def table() -> str:
    """Markdown: the bias on the logits that take another turn, by estimator, process and group size."""
    heads = ["estimator", "two actions, N = 2", "N = 3", "cos", "three actions, N = 2", "N = 3", "cos"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    exact = [_cell(_shown(exact_gradient(process))) for process in (TWO_ACTIONS, THREE_ACTIONS)]
    lines.append(_row(["exact gradient", exact[0], "", "", exact[1], "", ""]))
    for name in ROWS:
        cells = [f"`{name}`"]
        for process in (TWO_ACTIONS, THREE_ACTIONS):
            found = bias(name, process)
            cells += [*(_cell(_shown(found.of[size])) for size in (2, 3)), _fixed(found.cosine(3), 3)]
        lines.append(_row(cells))
    return "\n".join(lines)


def _shown(gradient: Floats) -> Sequence[float]:
    """Two actions: the logit of another turn at turns 1 and 2. Three: the rewarded and the unrewarded one at turn 1."""
    return [float(gradient[0, 1]), float(gradient[1, 1] if gradient.shape[1] == 2 else gradient[0, 2])]


def _cell(values: Sequence[float]) -> str:
    return ", ".join(_fixed(value, 4) for value in values)


def _fixed(value: float, digits: int) -> str:
    # Rounding first keeps the noise of a sum from showing as a minus before a zero.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
