"""The estimators of `banty.credit` over many batches at once, padded; equal to them, and tested to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from banty.credit import CreditSpec
from banty.desk.tables import Floats

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """S batches of G groups of N episodes with at most K turns: `outcomes` [S, G, N]; `rewards`, `tokens` and `anchors`
    [S, G, N, K], 0 (anchors -1) past an episode's end; `lengths` [S, G, N]."""

    outcomes: Floats
    rewards: Floats
    tokens: Floats
    anchors: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    @property
    def live(self) -> Mask:
        """Which turns there are."""
        return np.arange(self.rewards.shape[-1]) < self.lengths[..., None]


BatchCredit = Callable[[Batch], Floats]
Make = Callable[[Batch, Mapping[str, Any]], Floats]


def batch_credit(spec: CreditSpec) -> BatchCredit:
    """The advantages [S, G, N, K] that `estimator_of(spec)` gives each of the batches, 0 past an episode's end.

    Raises InputError for a spec that cannot work.
    """
    spec.check()
    make, options = _ESTIMATORS[spec.estimator], spec.options()

    def credit(batch: Batch) -> Floats:
        advantages = np.where(batch.live, make(batch, options), 0.0)
        return advantages if spec.scale == "none" else _rescaled(advantages, batch, spec)

    return credit


def _normalised(values: Floats, present: Mask, options: Mapping[str, Any], axes: tuple[int, ...]) -> Floats:
    """What `credit.normalise` makes of the present values along `axes`, 0 elsewhere."""
    count = present.sum(axis=axes, keepdims=True)
    # Less the least, equal values are 0 to the last bit, as in `credit.normalise`.
    least = np.where(present, values, np.inf).min(axis=axes, keepdims=True, initial=np.inf)
    apart = np.where(present, values - np.where(count > 0, least, 0.0), 0.0)
    mean = apart.sum(axis=axes, keepdims=True) / np.maximum(count, 1)
    centred = np.where(present & (count > 1), apart - mean, 0.0)
    if not options["std"]:
        return centred
    square = (centred**2).sum(axis=axes, keepdims=True)
    deviation = np.sqrt(square / np.maximum(count - options["ddof"], 1))
    return np.asarray(centred / (deviation + options["epsilon"]))


def _over_group(values: Floats, options: Mapping[str, Any]) -> Floats:
    return _normalised(values, np.ones(values.shape, dtype=bool), options, (2,))


def _returns(batch: Batch, gamma: float) -> Floats:
    found = np.zeros(batch.rewards.shape)
    after = batch.outcomes
    for turn in reversed(range(batch.rewards.shape[-1])):
        last, live = batch.lengths == turn + 1, batch.lengths > turn
        after = np.where(live, batch.rewards[..., turn] + np.where(last, after, gamma * after), after)
        found[..., turn] = np.where(live, after, 0.0)
    return found


def _total(batch: Batch) -> Floats:
    return np.asarray(batch.outcomes + batch.rewards.sum(axis=-1))


def _valued(batch: Batch, options: Mapping[str, Any]) -> Floats:
    return _total(batch) if options["total"] else batch.outcomes


def _rloo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    value = _valued(batch, options)
    others = (value.sum(axis=2, keepdims=True) - value) / max(value.shape[2] - 1, 1)
    return np.asarray(value - others if value.shape[2] > 1 else np.zeros(value.shape))[..., None]


def _grpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    return _over_group(_valued(batch, options), options)[..., None]


def _dr_grpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    return _over_group(_valued(batch, options), {"std": False})[..., None]


def _mt_grpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    outcome = _over_group(batch.outcomes, options)[..., None]
    if options["variant"] == "two_stage":
        return _two_stage(batch, options, outcome)
    last = np.arange(batch.rewards.shape[-1]) == batch.lengths[..., None] - 1
    present = batch.live if options["last_turn"] or options["variant"] == "additive" else batch.live & ~last
    turn = _normalised(batch.rewards, present, options, (2,)) * options["turn_weight"]
    if options["variant"] == "go":
        return np.asarray(np.flip(np.cumsum(np.flip(turn, -1), axis=-1), -1) + outcome)
    advantages = turn + options["outcome_weight"] * outcome
    return np.asarray(np.where(last, outcome, advantages) if options["variant"] == "additive_last" else advantages)


def _two_stage(batch: Batch, options: Mapping[str, Any], outcome: Floats) -> Floats:
    last = np.arange(batch.rewards.shape[-1]) == batch.lengths[..., None] - 1
    staged = batch.lengths > 1
    first = _normalised(np.where(last, 0.0, batch.rewards).sum(axis=-1), staged, options, (2,))[..., None]
    base = np.where(staged[..., None], outcome, _over_group(_total(batch), options)[..., None])
    return np.asarray(np.where(last, base, base + options["turn_weight"] * first))


def _gtpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    axes = (2,) if options["compare"] == "position" else (2, 3)
    return _normalised(_returns(batch, options["gamma"]), batch.live, options, axes)


def _hybrid(batch: Batch, options: Mapping[str, Any]) -> Floats:
    outcome = _over_group(batch.outcomes, options)[..., None]
    return np.asarray(_gtpo(batch, options) + options["outcome_weight"] * outcome)


def _gigpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    episode = _over_group(_total(batch), options)[..., None]
    found = _returns(batch, options["gamma"])
    shape = found.shape
    known = batch.live & (batch.anchors >= 0)
    group = np.broadcast_to(np.arange(shape[0] * shape[1]).reshape(*shape[:2], 1, 1), shape)
    key = (group * (int(batch.anchors.max(initial=0)) + 1) + batch.anchors)[known].astype(np.int64)
    _, place = np.unique(key, return_inverse=True)
    value, count = found[known], np.bincount(place)
    least = np.full(len(count), np.inf)
    np.minimum.at(least, place, value)
    value = value - least[place]
    centred = value - (np.bincount(place, value) / count)[place]
    if options["std"]:
        square = np.bincount(place, centred**2) / np.maximum(count - options["ddof"], 1)
        centred = centred / (np.sqrt(square)[place] + options["epsilon"])
    state = np.zeros(shape)
    state[known] = np.where(count[place] > 1, centred, 0.0)
    return np.asarray(episode + options["state_weight"] * state)


def _gdpo(batch: Batch, options: Mapping[str, Any]) -> Floats:
    turn = _over_group(batch.rewards.sum(axis=-1), options)
    added = _over_group(batch.outcomes, options) + options["turn_weight"] * turn
    whole = _normalised(added, np.ones(added.shape, dtype=bool), options, (1, 2))
    return whole[..., None]


def _unbiased(batch: Batch, options: Mapping[str, Any]) -> Floats:
    found = _returns(batch, 1.0)
    size = batch.outcomes.shape[2]
    if size < 2:
        return np.zeros(found.shape)
    outcome = batch.outcomes
    value = np.where(batch.live, found, outcome[..., None])
    counted = batch.live if options["ended"] == "left_out" else np.ones(found.shape, dtype=bool)
    others = counted.sum(axis=2, keepdims=True) - counted
    total = np.where(counted, value, 0.0)
    mean_outcome = (outcome.sum(axis=2, keepdims=True) - outcome) / (size - 1)
    mean = (total.sum(axis=2, keepdims=True) - total) / np.maximum(others, 1)
    return np.asarray(found - np.where(others > 0, mean, mean_outcome[..., None]))


_ESTIMATORS: Mapping[str, Make] = {
    "rloo": _rloo,
    "grpo": _grpo,
    "dr_grpo": _dr_grpo,
    "mt_grpo": _mt_grpo,
    "gtpo": _gtpo,
    "hybrid": _hybrid,
    "gigpo": _gigpo,
    "gdpo": _gdpo,
    "unbiased": _unbiased,
}


def _rescaled(advantages: Floats, batch: Batch, spec: CreditSpec) -> Floats:
    square = (advantages**2 * batch.tokens).sum(axis=(2, 3))
    count = batch.tokens.sum(axis=(2, 3))
    total, weight = square.sum(axis=1, keepdims=True), count.sum(axis=1, keepdims=True)
    left, left_weight = (total - square, weight - count) if spec.scale == "others" else (total, weight)
    size = np.sqrt(np.maximum(left, 0.0) / np.where(left_weight > 0, left_weight, 1.0))
    rms = 1.0 if spec.rms is None else spec.rms
    factor = np.where(size > 0.0, rms / np.where(size > 0.0, size, 1.0), 1.0)
    return np.asarray(advantages * factor[:, :, None, None])
