"""From what was measured to the next values of a reward file, and when to stop (specs/irc.md 2.3 and 2.5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from banty.calibrate.table import TierRow
from banty.errors import InputError
from banty.rubrics import RewardFile, Tier
from banty.stats import Interval

Decision = Literal["moved", "kept", "pinned", "frozen", "refused"]

FROZEN: Mapping[str, str] = {
    "golden": "golden calls define the right ending, so that they go with success says nothing; gold itself is the "
    "unit, 1",
    "noop": "only a success can be one, so that it goes with success says nothing",
}
"""Predicates whose tiers are never calibrated, and why."""


@dataclass(frozen=True, kw_only=True)
class Moves:
    """How values are moved, and on what evidence.

    A tier of correlation rho is drawn towards `alpha` rho where that is more than `delta` away from 0, and towards 0
    where it is not; `beta` is how far it goes at once. It moves only if there are at least `passes` and `fails` of the
    rollouts, and `present` and `absent` of the tier in them. A tier that is in every rollout has no correlation: with
    `constant="zero"` that is taken for 0, as published; with `"keep"` it is kept. Intervals are of so many `resamples`.
    """

    alpha: float = 1.0
    delta: float = 0.05
    beta: float = 0.5
    passes: int = 30
    fails: int = 30
    present: int = 20
    absent: int = 20
    constant: Literal["keep", "zero"] = "keep"
    resamples: int = 2000


@dataclass(frozen=True, kw_only=True)
class Rules(Moves):
    """All that decides: a move is made only if the tier's interval, of `level`, tells the case: it leaves out 0, or it
    lies within `delta` of it. `eta`, `settled` and `rounds` are where to stop: a correlation of turn rewards with the
    outcome above the one, no move larger than the other, at most so many rounds.
    """

    level: float = 0.95
    eta: float = 0.3
    settled: float = 0.05
    rounds: int = 5

    def check(self, prefix: str = "") -> None:
        """Raises InputError for values that cannot work; `prefix` stands before their names."""
        limits = {"alpha": (0.0, 100.0), "delta": (0.0, 1.0), "beta": (0.0, 1.0), "eta": (-1.0, 1.0)}
        limits |= {"settled": (0.0, 2.0)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(
                    f"{prefix}{name} is {getattr(self, name)}; it takes a number from {least:g} to {most:g}"
                )
        for name, fewest in dict.fromkeys(("passes", "fails", "present", "absent", "rounds"), 1).items():
            if getattr(self, name) < fewest:
                raise InputError(f"{prefix}{name} is {getattr(self, name)}; it takes at least {fewest}")
        if self.resamples < 100:
            raise InputError(f"{prefix}resamples is {self.resamples}; a bootstrap takes at least 100")
        if not 0.5 <= self.level < 1.0:
            raise InputError(f"{prefix}level is {self.level}; it takes a number from 0.5 up to, not including, 1")
        if self.constant not in ("keep", "zero"):
            raise InputError(f"{prefix}constant is {self.constant!r}; it takes keep or zero")


@dataclass(frozen=True)
class Proposal:
    """What becomes of a tier's value, and why. `target` is where the evidence draws it, None where it draws nowhere;
    `held_out` the within-task correlation on tasks that had no part in it."""

    tier: str
    current: float
    proposed: float
    target: float | None
    decision: Decision
    reason: str
    held_out: Interval | None = None

    @property
    def move(self) -> float:
        return self.proposed - self.current


def target_of(rho: float | None, rules: Rules) -> float:
    """Algorithm 1's value: alpha rho, or 0 where |rho| is at most delta or undefined."""
    return 0.0 if rho is None or abs(rho) <= rules.delta else rules.alpha * rho


def stepped(value: float, target: float, rules: Rules) -> float:
    """The next value: `beta` of the way to the target, from -1 to 1."""
    return round(min(max((1.0 - rules.beta) * value + rules.beta * target, -1.0), 1.0), 4)


def propose(
    rows: Sequence[TierRow], file: RewardFile, rules: Rules, held_out: Sequence[TierRow] = ()
) -> tuple[Proposal, ...]:
    """A proposal for every tier of the file. Rows are of the file's tiers; `held_out` are those of other tasks."""
    others = {row.tier: row.within for row in held_out}
    return tuple(
        dataclasses.replace(_of_tier(row, file.tiers[row.tier], rules), held_out=others.get(row.tier)) for row in rows
    )


def _of_tier(row: TierRow, tier: Tier, rules: Rules) -> Proposal:
    def settled(decision: Decision, reason: str, target: float | None = None) -> Proposal:
        return Proposal(row.tier, tier.value, tier.value, target, decision, reason)

    if tier.pinned:
        return settled("pinned", "pinned: it keeps the value it was given")
    if tier.predicate in FROZEN:
        seen = row.present >= rules.present  # a unit that nobody has earned measures nothing
        value = 1.0 if row.tier == "gold" and seen else tier.value
        return Proposal(row.tier, tier.value, value, value, "frozen", FROZEN[tier.predicate])
    if lacking := _lacking(row, rules):
        return settled("refused", lacking)
    rho = row.within.estimate
    if unsure := _unsure(row, rules):
        return settled("refused", unsure)
    target = target_of(rho, rules)
    value = stepped(tier.value, target, rules)
    against = tier.intended and value * tier.intended < 0.0
    why = "in every rollout: taken for 0" if rho is None else f"within a task, correlation {row.within}"
    words = why + (
        f"; this goes against its intended sign, {tier.intended:+d}: look at why before you take it" if against else ""
    )
    if value == tier.value:
        return settled("kept", words, target)
    return Proposal(row.tier, tier.value, value, target, "moved", words)


def _lacking(row: TierRow, rules: Rules) -> str:
    """What support is missing, in words; empty where all is there."""
    total = row.passes + row.fails
    if not total:
        return "there is no scored rollout"
    constant = row.within.estimate is None and not row.absent and rules.constant == "zero"
    needs = [
        ("passing rollouts", row.passes, rules.passes),
        ("failing rollouts", row.fails, rules.fails),
        ("rollouts with it", row.present, rules.present),
    ]
    needs += [] if constant else [("rollouts without it", row.absent, rules.absent)]
    words = [f"{have:.0f} of {need} {what}{_more(have, need, total)}" for what, have, need in needs if have < need]
    if not row.absent and words and words[-1].endswith("without it"):
        words[-1] += ' (it is in every rollout; constant = "zero" takes that for no correlation)'
    return f"not enough to go by: {'; '.join(words)}" if words else ""


def _more(have: float, need: int, total: float) -> str:
    """How many more rollouts of the same kind would hold enough."""
    return f" (about {math.ceil((need - have) * total / have)} more rollouts like these)" if have >= 1.0 else ""


def _unsure(row: TierRow, rules: Rules) -> str:
    """Why the interval decides nothing, and how many tasks might; empty where it decides."""
    rho, low, high = row.within.estimate, row.within.low, row.within.high
    if rho is None:
        if not row.absent and rules.constant == "zero":
            return ""
        return "presence and outcome never vary within one task: sample tasks that sometimes succeed and sometimes fail"
    if low is None or high is None:
        return f"correlation {rho:+.3f}, and {row.within.method}: it takes rollouts of more tasks"
    if row.within.excludes(0.0) or (-rules.delta <= low and high <= rules.delta):
        return ""
    half = (high - low) / 2.0
    reach = max(abs(rho), rules.delta - abs(rho))
    times = (half / reach) ** 2 if reach > 0.0 else math.inf
    tasks = math.ceil(row.within.n * max(times, 1.0)) + 1 if times < 1000.0 else 0
    told = f"about {tasks} tasks instead of {row.within.n}" if tasks else "many times as many tasks"
    return (
        f"correlation {row.within} within a task: the interval holds 0 and reaches further from it than "
        f"{rules.delta:g}. If it stays {rho:+.3f}, {told} would tell"
    )


def applied(file: RewardFile, proposals: Sequence[Proposal], note: str = "") -> RewardFile:
    """The next version of the file, whose parent is this one; the file itself where nothing moves."""
    changed = {one.tier: one.proposed for one in proposals if one.move}
    if not changed:
        return file
    tiers = {name: dataclasses.replace(tier, value=changed.get(name, tier.value)) for name, tier in file.tiers.items()}
    return dataclasses.replace(file, tiers=tiers, version=file.version + 1, parent=file.sha256, note=note)


def pinned(file: RewardFile, names: Sequence[str]) -> RewardFile:
    """The file with these tiers pinned. Raises InputError for one it does not have."""
    for name in names:
        if name not in file.tiers:
            raise InputError(f"there is no tier {name!r} to pin; {file.name} has {', '.join(file.tiers)}")
    tiers = {name: dataclasses.replace(tier, pinned=tier.pinned or name in names) for name, tier in file.tiers.items()}
    return dataclasses.replace(file, tiers=tiers)


@dataclass(frozen=True)
class StopRule:
    """One condition for being done, whether it holds, and how it stands."""

    name: str
    met: bool
    words: str


def stop_rules(
    mismatches: Sequence[str],
    reward_corr: float | None,
    before: float | None,
    proposals: Sequence[Proposal],
    version: int,
    rules: Rules,
) -> tuple[StopRule, ...]:
    """Whether to stop: all but the last hold, or the last does. `mismatches` and `reward_corr` are those under the
    proposed values, `before` the correlation under the present ones; `version` counts the rounds."""
    largest = max((abs(one.move) for one in proposals), default=0.0)
    names = ", ".join(mismatches) or "none"
    corr = "undefined" if reward_corr is None else f"{reward_corr:.3f}"
    was = "undefined" if before is None else f"{before:.3f}"
    decided = {one.decision for one in proposals}
    unjudged = "refused" in decided and not decided & {"moved", "kept"}  # nothing moved since nothing could be told
    # Where nothing moves any more it cannot grow either.
    grown = reward_corr is not None and (before is None or reward_corr > before or largest == 0.0)
    high = reward_corr is not None and reward_corr > rules.eta
    return (
        StopRule("no mismatch", not mismatches, f"tiers that go another way than intended: {names}"),
        StopRule(
            "turn rewards follow the outcome",
            high and grown,
            f"correlation of mean turn reward and outcome {corr}, before {was}; it is to exceed {rules.eta:g} and grow",
        ),
        StopRule(
            "settled",
            largest <= rules.settled and not unjudged,
            "no value could be judged: see what is missing"
            if unjudged
            else f"largest move {largest:.3f}; {rules.settled:g} is small",
        ),
        StopRule(
            "rounds", version >= rules.rounds, f"version {version} of the file; {rules.rounds} rounds are the most"
        ),
    )


def finished(rules: Sequence[StopRule]) -> bool:
    """Whether calibration is done: the first conditions all hold, or the rounds are used up."""
    *conditions, rounds = rules
    return rounds.met or all(rule.met for rule in conditions)
