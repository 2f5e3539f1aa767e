"""The losses a second time: float64, plain loops, gradients derived by hand, written from the specification alone.

Nothing here imports what it is compared with. A token's gradient is always with respect to that token's own logprob.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from banty.records import PolicyLoss, TrainingSample

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def aggregate(
    samples: Sequence[TrainingSample], losses: Sequence[Floats], aggregation: str, constant_tokens: float = 1.0
) -> float:
    """The aggregated loss of whole rollouts, from each sample's losses [T], by the words of the specification.

    Rollouts are put together from their samples first, so nothing here knows of `rollout_share`.
    """
    rollouts: dict[str, list[tuple[int, float, float]]] = {}
    turns: dict[str, int] = {}
    for sample, values in zip(samples, losses, strict=True):
        turns[sample.rollout_id] = sample.num_turns
        tokens = rollouts.setdefault(sample.rollout_id, [])
        for t in range(len(sample.mask)):
            if sample.mask[t]:
                tokens.append((int(sample.turn_ids[t]), float(sample.weights[t]), float(values[t])))
    everything = [token for tokens in rollouts.values() for token in tokens]
    if aggregation == "token":
        return sum(w * loss for _, w, loss in everything) / sum(w for _, w, _ in everything)
    if aggregation == "constant":
        return sum(w * loss for _, w, loss in everything) / (len(rollouts) * constant_tokens)
    means = []
    for rollout_id, tokens in rollouts.items():
        if aggregation == "sequence":
            means.append(sum(w * loss for _, w, loss in tokens) / len(tokens))
            continue
        assert aggregation == "turn"
        of_turns = []
        for turn in sorted({turn for turn, _, _ in tokens}):
            inside = [w * loss for which, w, loss in tokens if which == turn]
            of_turns.append(sum(inside) / len(inside))
        assert len(of_turns) == turns[rollout_id]
        means.append(sum(of_turns) / len(of_turns))
    return sum(means) / len(means)


@dataclass(frozen=True)
class Flat:
    """The trained tokens of a micro-batch."""

    logprobs: Floats
    sampler: Floats
    advantages: Floats
    coefficients: Floats
    samples: Ints
    turns: Ints
    old: Floats | None = None
    ref: Floats | None = None


@dataclass
class Answer:
    """A loss, its gradient, and what happened to the tokens on the way."""

    value: float = 0.0
    gradient: Floats = field(default_factory=lambda: np.zeros(0))
    ratios: Floats = field(default_factory=lambda: np.zeros(0))
    corrections: Floats = field(default_factory=lambda: np.zeros(0))
    silenced: int = 0
    """Tokens whose gradient the clip removed, or, for cispo, whose ratio it clipped."""
    capped: int = 0
    """Tokens the dual clip capped."""


def clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def groups(flat: Flat, level: str) -> list[list[int]]:
    """The positions that share one ratio at `level`, in order of first appearance."""
    count = len(flat.logprobs)
    if level == "token":
        return [[i] for i in range(count)]
    numbers = flat.turns if level == "turn" else flat.samples
    found: dict[int, list[int]] = {}
    for i in range(count):
        found.setdefault(int(numbers[i]), []).append(i)
    return list(found.values())


def ratios(flat: Flat, level: str) -> Floats:
    base = flat.sampler if flat.old is None else flat.old
    result = np.zeros(len(flat.logprobs))
    for group in groups(flat, level):
        mean = math.fsum(clamp(flat.logprobs[i] - base[i], -20.0, 20.0) for i in group) / len(group)
        for i in group:
            result[i] = math.exp(mean)
    return result


def corrections(flat: Flat, loss: PolicyLoss) -> Floats:
    result = np.ones(len(flat.logprobs))
    if loss.correction == "none":
        return result
    assert flat.old is not None
    for group in groups(flat, loss.correction_level):
        total = math.fsum(flat.old[i] - flat.sampler[i] for i in group)
        if loss.correction_geometric:
            total /= len(group)
        rho = math.exp(clamp(total, -20.0, 20.0))
        inside = loss.correction_low <= rho <= loss.correction_high
        if loss.correction == "truncate":
            weight = min(rho, loss.correction_high)
        elif loss.correction == "mask":
            weight = 1.0 if inside else 0.0
        else:
            assert loss.correction == "icepop"
            weight = rho if inside else 0.0
        for i in group:
            result[i] = weight
    return result


def policy_token(loss: PolicyLoss, advantage: float, ratio: float, logprob: float) -> tuple[float, float, bool, bool]:
    """One token's loss, its gradient, whether the clip acted and whether the dual clip did."""
    low = 1.0 - loss.clip_low if loss.clip_low < 1.0 else -math.inf
    high = 1.0 + loss.clip_high
    bounded = clamp(ratio, low, high)
    if loss.objective == "cispo":
        return -bounded * advantage * logprob, -bounded * advantage, bounded != ratio, False
    if advantage >= 0.0:
        acted = ratio > high and advantage > 0.0
        value = -advantage * min(ratio, high)
    else:
        acted = ratio < low
        value = -advantage * max(ratio, low)
    slope = 0.0 if acted else -advantage * ratio
    if loss.dual_clip > 0.0 and advantage < 0.0 and value > -advantage * loss.dual_clip:
        return -advantage * loss.dual_clip, 0.0, acted, True
    return value, slope, acted, False


def policy(flat: Flat, loss: PolicyLoss) -> Answer:
    """The whole policy loss; for log ratios inside (-20, 20), where the outer clamp has a gradient."""
    answer = Answer(gradient=np.zeros(len(flat.logprobs)))
    answer.ratios = ratios(flat, loss.ratio_level)
    answer.corrections = corrections(flat, loss)
    for i in range(len(flat.logprobs)):
        advantage, ratio, logprob = (float(of[i]) for of in (flat.advantages, answer.ratios, flat.logprobs))
        value, slope, acted, capped = policy_token(loss, advantage, ratio, logprob)
        factor = flat.coefficients[i] * answer.corrections[i]
        answer.value += factor * value
        answer.gradient[i] += factor * slope
        answer.silenced += acted
        answer.capped += capped
        if loss.kl > 0.0:
            assert flat.ref is not None
            apart = flat.ref[i] - flat.logprobs[i]
            d = clamp(apart, -20.0, 20.0)
            k3 = math.exp(d) - 1.0 - d
            answer.value += loss.kl * flat.coefficients[i] * clamp(k3, -10.0, 10.0)
            if abs(k3) < 10.0 and abs(apart) < 20.0:
                answer.gradient[i] += loss.kl * flat.coefficients[i] * (1.0 - math.exp(d))
    return answer


def supervised(flat: Flat) -> Answer:
    return Answer(
        value=-math.fsum(c * logprob for c, logprob in zip(flat.coefficients, flat.logprobs, strict=True)),
        gradient=-flat.coefficients,
    )


# A policy small enough to differentiate by hand: logits [states, actions].


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def table_gradient(logits: Floats, states: Ints, actions: Ints, per_token: Floats) -> Floats:
    """d loss / d logits, from d loss / d logprob of each token: g * (1[a = taken] - pi(a))."""
    probabilities = np.exp(log_softmax(logits))
    result = np.zeros_like(logits)
    for state, action, slope in zip(states, actions, per_token, strict=True):
        for a in range(logits.shape[1]):
            result[state, a] += slope * (float(a == action) - probabilities[state, a])
    return result


# Samples made by hand.


def sample_of(
    rollout_id: str,
    turns: Sequence[Sequence[float]],
    *,
    share: float = 1.0,
    num_turns: int | None = None,
    first_turn: int = 0,
    gap: int = 2,
    weights: Sequence[Sequence[float]] | None = None,
) -> TrainingSample:
    """A sample whose turns hold one advantage per trained token, with `gap` untrained tokens before each and one after.

    Off the mask the floats are garbage on purpose (a nonzero weight and advantage): only the mask may decide.
    """
    mask: list[bool] = []
    turn_ids: list[int] = []
    advantages: list[float] = []
    each: list[float] = []
    for k, turn in enumerate(turns):
        mask += [False] * gap + [True] * len(turn)
        turn_ids += [-1] * gap + [first_turn + k] * len(turn)
        advantages += [7.0] * gap + list(turn)
        each += [3.0] * gap + (list(weights[k]) if weights is not None else [1.0] * len(turn))
    mask, turn_ids, advantages, each = [*mask, False], [*turn_ids, -1], [*advantages, 7.0], [*each, 3.0]
    size = len(mask)
    return TrainingSample(
        rollout_id=rollout_id,
        token_ids=np.arange(size, dtype=np.int32),
        mask=np.array(mask, dtype=np.bool_),
        turn_ids=np.array(turn_ids, dtype=np.int32),
        sampler_logprobs=np.zeros(size, dtype=np.float32),
        advantages=np.array(advantages, dtype=np.float32),
        weights=np.array(each, dtype=np.float32),
        rollout_share=share,
        num_turns=sum(len(turn) > 0 for turn in turns) if num_turns is None else num_turns,
    )


def halves(
    rollout_id: str, turns: Sequence[Sequence[float]], cut: int, weights: Sequence[Sequence[float]]
) -> list[TrainingSample]:
    """The rollout as two samples, cut before turn `cut`, as a rewriting template gives them."""
    total = sum(map(len, turns))
    count = sum(len(turn) > 0 for turn in turns)
    first = sum(map(len, turns[:cut]))
    return [
        sample_of(rollout_id, turns[:cut], share=first / total, num_turns=count, weights=weights[:cut]),
        sample_of(
            rollout_id,
            turns[cut:],
            share=(total - first) / total,
            num_turns=count,
            first_turn=cut,
            gap=4,
            weights=weights[cut:],
        ),
    ]
