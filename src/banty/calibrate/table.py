"""Does the presence of a tier in a rollout go with its success: rates, correlations, and how sure they are
(specs/irc.md 2.2, 2.4 and 2.5). Arrays only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banty.stats import Interval

FloatArray = NDArray[np.float64]

_RESAMPLES_AT_ONCE = 500
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Evidence:
    """N scored rollouts as rows, C tiers as columns.

    `counts[i, c]` is how many turns of rollout i are of tier c, `first[i, c]` the place of the first of them among the
    rollout's trainable turns (NaN where there is none), `tokens[i, c]` their trained tokens. `outcomes[i]` is 1 or 0,
    `tasks[i]` the task's id, `weights[i]` what the row counts for: 1, or less where older rollouts fade.
    """

    tiers: tuple[str, ...]
    counts: FloatArray
    first: FloatArray
    tokens: FloatArray
    outcomes: FloatArray
    tasks: tuple[str, ...]
    weights: FloatArray

    def __post_init__(self) -> None:
        shape = (len(self.outcomes), len(self.tiers))
        assert all(each.shape == shape for each in (self.counts, self.first, self.tokens)), "a row for every rollout"
        assert len(self.tasks) == len(self.weights) == shape[0], "a task and a weight for every rollout"
        assert set(np.unique(self.outcomes)) <= {0.0, 1.0}, "outcomes are 0 or 1; unscored rollouts are left out"

    @property
    def passes(self) -> float:
        return float(self.weights @ self.outcomes)

    @property
    def fails(self) -> float:
        return float(self.weights @ (1.0 - self.outcomes))

    def rows(self, keep: NDArray[np.bool_]) -> Evidence:
        """The rollouts where `keep` is True."""
        tasks = tuple(task for task, kept in zip(self.tasks, keep, strict=True) if kept)
        arrays = (self.counts[keep], self.first[keep], self.tokens[keep], self.outcomes[keep])
        return Evidence(self.tiers, *arrays, tasks, self.weights[keep])


def evidence_of(
    tiers: Sequence[str],
    labels: Sequence[Sequence[str]],
    tokens: Sequence[Sequence[float]],
    outcomes: Sequence[bool],
    tasks: Sequence[str],
) -> Evidence:
    """The evidence of rollouts whose turns are of these tiers: `labels[i][k]`, with `tokens[i][k]` trained tokens. A
    turn of no tier, "", counts in no column."""
    place = {tier: column for column, tier in enumerate(tiers)}
    counts, sizes = np.zeros((len(labels), len(tiers))), np.zeros((len(labels), len(tiers)))
    first = np.full((len(labels), len(tiers)), np.nan)
    for i, (names, amounts) in enumerate(zip(labels, tokens, strict=True)):
        for k, (name, amount) in enumerate(zip(names, amounts, strict=True)):
            if not name:
                continue
            column = place[name]
            first[i, column] = k if not counts[i, column] else first[i, column]
            counts[i, column] += 1
            sizes[i, column] += amount
    found = np.array(outcomes, dtype=np.float64).reshape(-1)
    return Evidence(tuple(tiers), counts, first, sizes, found, tuple(tasks), np.ones(len(found)))


def joined(parts: Sequence[Evidence], weights: Sequence[float] | None = None) -> Evidence:
    """Several lots of rollouts as one; each lot's weights multiplied by its entry of `weights`."""
    factors = [1.0] * len(parts) if weights is None else weights
    return Evidence(
        parts[0].tiers,
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.outcomes for part in parts]),
        tuple(task for part in parts for task in part.tasks),
        np.concatenate([part.weights * factor for part, factor in zip(parts, factors, strict=True)]),
    )


@dataclass(frozen=True)
class TierRow:
    """One tier over all rollouts, each rollout counted with its weight.

    `in_passes` and `in_fails` are presence rates: the share of passing (failing) rollouts that have the tier at all.
    `share_in_passes` is another thing, the share of the tier's turns that lie in passing rollouts. `pooled` and
    `within` are phi, Pearson's correlation of presence and outcome: over all rollouts, and with the task's mean taken
    off both, which keeps a tier that only marks easy tasks from looking good. They are None where one of the two never
    varies. `count_within` is the same with the number of turns in place of presence. `first` is the mean place of the
    tier's first turn where there is one, `tokens` its share of the trained tokens.
    """

    tier: str
    passes: float
    fails: float
    present: float
    absent: float
    in_passes: float | None
    in_fails: float | None
    share_in_passes: float | None
    turns: float
    first: float | None
    tokens: float | None
    pooled: Interval
    within: Interval
    count_within: float | None

    @property
    def gap(self) -> float | None:
        """Presence rate in passes less that in fails."""
        return None if self.in_passes is None or self.in_fails is None else self.in_passes - self.in_fails


def table_of(
    evidence: Evidence, *, seed: int = 0, level: float = 0.95, num_resamples: int = 2000
) -> tuple[TierRow, ...]:
    """A row for every tier, in the evidence's order. Intervals are bootstraps over tasks: the rollouts of a
    task are drawn together. The order of the rollouts does not matter."""
    evidence = evidence.rows(evidence.weights > 0.0)
    presence = (evidence.counts > 0).astype(np.float64)
    pooled, within = _intervals(evidence, presence, seed, level, num_resamples)
    by_count = np.full(len(evidence.tiers), np.nan)
    if len(evidence.outcomes):
        by_count = _ratio(*_Sums.of(evidence, evidence.counts).within())
    weights, outcomes = evidence.weights, evidence.outcomes
    total_tokens = float(weights @ evidence.tokens.sum(1))
    rows = []
    for column, tier in enumerate(evidence.tiers):
        there, turns = presence[:, column], evidence.counts[:, column]
        present = float(weights @ there)
        num_turns = float(weights @ turns)
        firsts = np.nan_to_num(evidence.first[:, column])
        rows.append(
            TierRow(
                tier,
                evidence.passes,
                evidence.fails,
                present,
                float(weights.sum()) - present,
                _share(weights @ (there * outcomes), evidence.passes),
                _share(weights @ (there * (1.0 - outcomes)), evidence.fails),
                _share(weights @ (turns * outcomes), num_turns),
                num_turns,
                _share(weights @ (firsts * there), present),
                _share(weights @ evidence.tokens[:, column], total_tokens),
                pooled[column],
                within[column],
                None if np.isnan(by_count[column]) else float(by_count[column]),
            )
        )
    return tuple(rows)


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over the rollouts of each of T tasks, from which both correlations of any resample follow: the
    weight `n` [T], of x [T, C], y [T], their products, and the same products about the task's own mean."""

    n: FloatArray
    x: FloatArray
    y: FloatArray
    xx: FloatArray
    yy: FloatArray
    xy: FloatArray

    @classmethod
    def of(cls, evidence: Evidence, x: FloatArray) -> _Sums:
        # Sorted by name, so that a resample means the same tasks in whatever order they came.
        _, place = np.unique(np.array(evidence.tasks, dtype=np.str_), return_inverse=True)
        y = evidence.outcomes[:, None]

        def by_task(values: FloatArray) -> FloatArray:
            columns = (evidence.weights[:, None] * values).T
            return np.stack([np.bincount(place, column) for column in columns], axis=1)

        n, sum_y, sum_yy = by_task(np.ones_like(y)), by_task(y), by_task(y**2)
        return cls(n[:, 0], by_task(x), sum_y[:, 0], by_task(x**2), sum_yy[:, 0], by_task(x * y))

    def pooled(self, times: FloatArray | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of products about the mean of all: of xy and xx [B, C], of yy [B, 1], with tasks `times` [B, T]."""
        w = np.ones((1, len(self.n))) if times is None else times
        n, x, y = (w @ self.n)[:, None], w @ self.x, (w @ self.y)[:, None]
        return w @ self.xy - x * y / n, w @ self.xx - x**2 / n, (w @ self.yy)[:, None] - y**2 / n

    def within(self, times: FloatArray | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The same about each task's own mean."""
        w = np.ones((1, len(self.n))) if times is None else times
        n = self.n[:, None]
        xy, xx = self.xy - self.x * self.y[:, None] / n, self.xx - self.x**2 / n
        return w @ xy, w @ xx, (w @ (self.yy - self.y**2 / self.n))[:, None]

    def telling(self) -> FloatArray:
        """In how many tasks both vary, [C]."""
        xx, yy = self.xx - self.x**2 / self.n[:, None], self.yy - self.y**2 / self.n
        return np.asarray(((xx > _ROUNDING) & (yy > _ROUNDING)[:, None]).sum(axis=0), dtype=np.float64)


def _ratio(xy: FloatArray, xx: FloatArray, yy: FloatArray) -> FloatArray:
    """Pearson's from sums of products, NaN where either does not vary; the first row where there is but one."""
    # What is left of a constant after its mean is taken off is rounding, and correlates with anything.
    vary = (xx > _ROUNDING) & (yy > _ROUNDING)
    found = np.where(vary, xy / np.sqrt(np.where(vary, xx * yy, 1.0)), np.nan)
    return found[0] if len(found) == 1 else found


def _intervals(
    evidence: Evidence, x: FloatArray, seed: int, level: float, num_resamples: int
) -> tuple[list[Interval], list[Interval]]:
    """Pooled and within-task correlation of each column of `x` with the outcome."""
    if not len(evidence.outcomes):
        nothing = [Interval(None, None, None, level, 0, "no rollout") for _ in evidence.tiers]
        return nothing, nothing
    sums = _Sums.of(evidence, x)
    num_tasks = len(sums.n)
    generator = np.random.default_rng(seed)
    drawn: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    for start in range(0, num_resamples if num_tasks > 1 else 0, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        times = generator.multinomial(num_tasks, np.full(num_tasks, 1.0 / num_tasks), size=size).astype(np.float64)
        drawn[0].append(np.atleast_2d(_ratio(*sums.pooled(times))))
        drawn[1].append(np.atleast_2d(_ratio(*sums.within(times))))
    found = []
    telling = (np.full(len(evidence.tiers), num_tasks), sums.telling())
    both = (_ratio(*sums.pooled()), _ratio(*sums.within()))
    for estimates, parts, tell in zip(both, drawn, telling, strict=True):
        resampled = np.concatenate(parts) if parts else np.zeros((0, len(estimates)))
        found.append(
            [
                _interval(float(one), resampled[:, c], level, num_tasks, int(tell[c]))
                for c, one in enumerate(estimates.tolist())
            ]
        )
    return found[0], found[1]


def _interval(estimate: float, resampled: FloatArray, level: float, num_tasks: int, telling: int) -> Interval:
    if np.isnan(estimate):
        return Interval(None, None, None, level, num_tasks, "undefined: one of the two never varies")
    # A resample in which nothing varies shows no correlation. Leaving it out would shorten the interval just where
    # there is least to go by.
    shown = np.nan_to_num(resampled)
    if not len(shown) or np.ptp(shown) <= _ROUNDING:
        return Interval(estimate, None, None, level, num_tasks, "all resamples equal: no interval")
    return resampled_interval(estimate, shown, level, num_tasks, telling)


def fewest_tasks(level: float) -> int:
    """From how many tasks on a resampled interval can have this level. Of t tasks that mean nothing all lie on one side
    of 0 once in 2^(t-1) times, and no resample then lies on the other."""
    return max(2, math.ceil(1.0 - math.log2(1.0 - level)))


def resampled_interval(
    estimate: float, resampled: FloatArray, level: float, num_tasks: int, telling: int | None = None
) -> Interval:
    """The expanded percentile interval (Hesterberg 2015, section 5.3): the quantiles are those that would give, for a
    mean, the t interval in place of the normal one, without which few tasks give too short an interval.

    There is none of fewer than `fewest_tasks`; `telling` is how many of the tasks say anything, all where not given.
    """
    counted, least = num_tasks if telling is None else telling, fewest_tasks(level)
    if counted < least:
        why = f"{counted} of {num_tasks} tasks tell anything, and {100 * level:g} % takes {least}: no interval"
        return Interval(estimate, None, None, level, num_tasks, why)
    reach = math.sqrt(num_tasks / (num_tasks - 1)) * float(special.stdtrit(num_tasks - 1, (1.0 + level) / 2.0))
    tail = float(special.ndtr(-reach))
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    method = f"expanded percentile bootstrap over tasks, {len(resampled)} resamples"
    return Interval(estimate, float(low), float(high), level, num_tasks, method)


def _share(part: float | FloatArray, whole: float) -> float | None:
    return float(part) / whole if whole > 0.0 else None


def halves(tasks: Sequence[str], rank: Sequence[int]) -> NDArray[np.bool_]:
    """For each rollout whether its task is in the first half; tasks are in the order of their `rank`, and of an odd
    number of them the one in the middle is in the first half."""
    order = sorted(set(zip(rank, tasks, strict=True)))
    first = {task for _, task in order[: (len(order) + 1) // 2]}
    return np.array([task in first for task in tasks], dtype=np.bool_)
