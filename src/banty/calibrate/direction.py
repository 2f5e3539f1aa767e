"""Which way training pushes the turns of each tier, against which way it was meant to (specs/irc.md 1.11 and 2.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banty.calibrate.table import resampled_interval
from banty.credit import Credit, CreditSpec, GroupRewards, Turns, estimator_of, gradient_shares, turns_of
from banty.credit.metrics import DEAD
from banty.errors import InputError
from banty.stats import Interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """Groups of scored rollouts with the rewards their turns got, the tier of every turn, `tiers[g][i][k]`, and each
    group's task."""

    groups: Sequence[GroupRewards]
    tiers: Sequence[Sequence[Sequence[str]]]
    tasks: Sequence[str]

    def __post_init__(self) -> None:
        assert len(self.groups) == len(self.tiers) == len(self.tasks), "labels and a task for every group"
        for group, labels in zip(self.groups, self.tiers, strict=True):
            assert group.lengths == [len(one) for one in labels], "a tier for every trainable turn"


@dataclass(frozen=True)
class Direction:
    """A tier under one estimator; means are over its turns, each weighted with its trained tokens.

    `own` is E[A^I] (for `gtpo` and `hybrid` the normalised return) and `outcome` E[A^O], None where the estimator has
    no such part. `mean` is E[A], what is trained on, with its bootstrap over tasks. `flip` is the weight of the outcome
    at which that mean changes its sign, all else equal, found by running the estimator again: None where none does, or
    where the estimator weighs no outcome against turn rewards. `at_flip` is the mean with exactly that weight, which
    rounding aside is 0. `flip_of_parts` is -E[A^I] / E[A^O], the published figure, which leaves out that MT-GRPO
    accumulates.
    """

    tier: str
    intended: int
    turns: int
    own: float | None
    outcome: float | None
    mean: Interval
    flip: float | None
    at_flip: float | None
    flip_of_parts: float | None
    dead: float | None
    share: float | None

    @property
    def actual(self) -> int | None:
        """+1 or -1; 0 where the mean is below the threshold of a dead turn, None where there is no turn or nothing to
        compare."""
        if self.mean.estimate is None:
            return None
        return 0 if abs(self.mean.estimate) < DEAD else int(np.sign(self.mean.estimate))

    @property
    def mismatch(self) -> bool:
        """Whether the tier was meant to go one way and, on average, does not."""
        return self.intended != 0 and self.actual is not None and self.actual != self.intended


def directions_of(
    labelled: Labelled,
    spec: CreditSpec,
    intended: Mapping[str, int],
    *,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 2000,
    credits: Sequence[Credit] = (),
) -> tuple[Direction, ...]:
    """A row for each tier that `intended` names, in its order. `credits` are those of `spec`, where they are known.

    Where every group is one rollout no advantage compares anything: its zeros are no direction, and no mismatch.
    """
    credits = credits or estimator_of(spec)(labelled.groups)
    turns = turns_of(labelled.groups, credits, labelled.tiers)
    shares = gradient_shares(turns)
    weights = turns.tokens * _flat([credit.weights for credit in credits])
    parts = {name: _flat([credit.parts[name] for credit in credits]) for name in _common_parts(credits)}
    names = np.array(turns.tier, dtype=np.str_)
    flips = _flips(labelled, spec, list(intended))
    compared = any(len(group.outcomes) > 1 for group in labelled.groups)
    rows = []
    for tier, sign in intended.items():
        here = names == tier
        trained = here & (turns.tokens > 0)
        own, outcome = (
            _mean(parts[name][here], weights[here]) if name in parts else None for name in ("turn", "outcome")
        )
        flip, at_flip = flips.get(tier, (None, None))
        rows.append(
            Direction(
                tier,
                sign,
                int(here.sum()),
                own,
                outcome,
                _mean_interval(turns, weights, here, labelled.tasks, seed, level, num_resamples)
                if compared
                else Interval(None, None, None, level, 0, "no task was tried twice: nothing to compare"),
                flip,
                at_flip,
                flip_weight(own, outcome),
                float((np.abs(turns.advantage[trained]) < DEAD).mean()) if trained.any() else None,
                shares.get(tier) if here.any() else None,
            )
        )
    return tuple(rows)


def flip_weight(own: float | None, outcome: float | None) -> float | None:
    """The weight w above 0 at which own + w * outcome is 0, if there is one."""
    if own is None or outcome is None or own * outcome >= 0.0:
        return None
    return -own / outcome


def weighed(spec: CreditSpec, weight: float) -> tuple[CreditSpec, float] | None:
    """The same estimator with the outcome weighed `weight` against the turn rewards, and what its advantages are to be
    multiplied with; None for an estimator without two such parts. Without a scale: a positive factor has no sign. With
    the scale of the `others` there is none either: every group has a factor of its own, which moves with the weight.

    `gtpo` is a hybrid of weight 0. MT-GRPO's `go` and `two_stage` weigh the turn rewards instead, 1 to `weight`.
    """
    if spec.scale == "others":
        return None
    plain = dataclasses.replace(spec, scale="none", rms=None)
    if spec.estimator == "hybrid":
        return dataclasses.replace(plain, outcome_weight=weight), 1.0
    if spec.estimator == "gtpo":
        return dataclasses.replace(plain, estimator="hybrid", outcome_weight=weight), 1.0
    if spec.estimator != "mt_grpo":
        return None
    options = spec.options()
    if options["variant"] in ("additive", "additive_last"):
        return dataclasses.replace(plain, outcome_weight=weight), 1.0
    return dataclasses.replace(plain, turn_weight=options["turn_weight"] / weight), weight


def tier_means(labelled: Labelled, spec: CreditSpec, tiers: Sequence[str]) -> dict[str, float | None]:
    """E[A] of each tier, weighted with trained tokens; None for one without turns."""
    credits = estimator_of(spec)(labelled.groups)
    turns = turns_of(labelled.groups, credits, labelled.tiers)
    weights = turns.tokens * _flat([credit.weights for credit in credits])
    names = np.array(turns.tier, dtype=np.str_)
    return {tier: _mean(turns.advantage[names == tier], weights[names == tier]) for tier in tiers}


def _flips(labelled: Labelled, spec: CreditSpec, tiers: Sequence[str]) -> dict[str, tuple[float, float | None]]:
    """For each tier whose mean changes sign at some weight of the outcome, that weight, and the mean there."""

    def at(weight: float) -> dict[str, float | None]:
        found = weighed(spec, weight)
        assert found is not None, "the estimator was asked before"
        return {
            tier: None if mean is None else mean * found[1]
            for tier, mean in tier_means(labelled, found[0], tiers).items()
        }

    if weighed(spec, 1.0) is None:
        return {}
    once, twice = at(1.0), at(2.0)  # an advantage is a straight line in the weight: two points are all of it
    flips: dict[str, tuple[float, float | None]] = {}
    for tier in tiers:
        one, two = once[tier], twice[tier]
        if one is None or two is None:
            continue
        weight = flip_weight(2.0 * one - two, two - one)
        if weight is None:
            continue
        try:
            flips[tier] = (weight, at(weight)[tier])
        except InputError:  # a weight that no recipe can be given
            flips[tier] = (weight, None)
    return flips


def _common_parts(credits: Sequence[Credit]) -> set[str]:
    return set.intersection(*(set(credit.parts) for credit in credits)) if credits else set()


def _flat(ragged: Sequence[Sequence[FloatArray]]) -> FloatArray:
    rows = [row for group in ragged for row in group]
    return np.concatenate(rows) if rows else np.zeros(0)


def _mean(values: FloatArray, weights: FloatArray) -> float | None:
    return float(np.average(values, weights=weights)) if weights.sum() > 0.0 else None


def _mean_interval(
    turns: Turns,
    weights: FloatArray,
    here: NDArray[np.bool_],
    tasks: Sequence[str],
    seed: int,
    level: float,
    num_resamples: int,
) -> Interval:
    """The weighted mean advantage of the turns `here`, with a bootstrap over the tasks that have any."""
    estimate = _mean(turns.advantage[here], weights[here])
    task_of_turn = np.array(tasks, dtype=np.str_)[turns.group[here].astype(np.int64)]
    found, place = np.unique(task_of_turn, return_inverse=True)
    num_tasks = len(found)
    if estimate is None or num_tasks < 2:
        return Interval(estimate, None, None, level, num_tasks, "fewer than two tasks: no interval")
    total = np.bincount(place, weights[here] * turns.advantage[here])
    size = np.bincount(place, weights[here])
    times = np.random.default_rng(seed).multinomial(num_tasks, np.full(num_tasks, 1.0 / num_tasks), size=num_resamples)
    sizes = times @ size
    means = (times @ total)[sizes > 0.0] / sizes[sizes > 0.0]
    return resampled_interval(estimate, means, level, num_tasks, int((size > 0.0).sum()))
