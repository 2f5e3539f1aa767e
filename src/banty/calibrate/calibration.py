"""One calibration: stored rollouts, a reward file and an estimator in; what the file does, and what it should become,
out (specs/irc.md 2.5)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from banty.calibrate.direction import Labelled
from banty.calibrate.offline import Standing, changes, standing_of
from banty.calibrate.propose import Proposal, Rules, StopRule, applied, finished, propose, stop_rules
from banty.calibrate.table import Evidence, TierRow, evidence_of, halves, table_of
from banty.credit import CreditSpec, GroupRewards
from banty.errors import InputError
from banty.records import JSON, Group, Rollout, derive
from banty.rubrics import RewardFile, TurnLabel, diff_of, rewarded

FORMAT = "banty-calibration-1"
Label = Callable[[Rollout], Sequence[TurnLabel]]


@dataclass(frozen=True)
class Scoring:
    """How rollouts become rewards: `labels` gives the labeller of a reward file, `rewards` those of a group whose turns
    have been rewarded. `weight` is what turn rewards are multiplied with."""

    labels: Callable[[RewardFile], Label]
    rewards: Callable[[Group], GroupRewards]
    weight: float = 1.0


@dataclass(frozen=True)
class Calibration:
    """Everything that was found. `rows` are of the tasks the proposals rest on, `held_out` of the others, `criteria` of
    the outcome's own components over all tasks. `before` is how things stand under `file`, `after` under `proposed`,
    both over all rollouts."""

    file: RewardFile
    proposed: RewardFile
    spec: CreditSpec
    rules: Rules
    rows: tuple[TierRow, ...]
    held_out: tuple[TierRow, ...]
    criteria: tuple[TierRow, ...]
    proposals: tuple[Proposal, ...]
    before: Standing
    after: Standing
    stops: tuple[StopRule, ...]
    counts: Mapping[str, int]

    @property
    def finished(self) -> bool:
        return finished(self.stops)

    def to_json(self) -> dict[str, JSON]:
        """Whole, as `calibration.json` and the page have it; names as in the classes."""
        return {
            "format": FORMAT,
            "rewards": {"name": self.file.name, "version": self.file.version, "sha256": self.file.sha256},
            "credit": {"estimator": self.spec.estimator, **self.spec.options()},
            "rules": dataclasses.asdict(self.rules),
            "counts": dict(self.counts),
            "tiers": [_row_json(row) for row in self.rows],
            "held_out": [_row_json(row) for row in self.held_out],
            "criteria": [_row_json(row) for row in self.criteria],
            "proposals": [{**dataclasses.asdict(one), "move": one.move} for one in self.proposals],
            "before": _standing_json(self.before),
            "after": _standing_json(self.after),
            "changes": {name: list(pair) for name, pair in changes(self.before, self.after).items()},
            "stop": [dataclasses.asdict(rule) for rule in self.stops],
            "finished": self.finished,
            "diff": diff_of(self.file, self.proposed),
        }


def calibrate(
    groups: Sequence[Group],
    file: RewardFile,
    scoring: Scoring,
    spec: CreditSpec,
    rules: Rules | None = None,
    *,
    hold_out: bool = True,
    seed: int = 0,
) -> Calibration:
    """What these rollouts say of a reward file under an estimator; nothing is written.

    With `hold_out` values move on half of the tasks, drawn by `seed`, and the other half shows whether that holds
    there. Raises InputError where there is nothing to learn from: no rollout, none that was scored, or only successes
    or only failures; and for a spec or rules that cannot work.
    """
    rules = rules or Rules()
    rules.check()
    if seed < 0:
        raise InputError(f"seed is {seed}; it takes a whole number from 0")
    check_outcomes(groups)
    labelled, evidence = scored_turns(groups, file, scoring)
    first = halves(evidence.tasks, [derive(seed, "hold out", task) for task in evidence.tasks])
    keep = first if hold_out else np.ones_like(first)

    def table(rollouts: Evidence) -> tuple[TierRow, ...]:
        return table_of(rollouts, seed=seed, level=rules.level, num_resamples=rules.resamples)

    def standing(turns: Labelled, of: RewardFile) -> Standing:
        return standing_of(turns, spec, intended(of), seed=seed, level=rules.level, num_resamples=rules.resamples)

    rows, held_out = table(evidence.rows(keep)), table(evidence.rows(~keep)) if hold_out else ()
    proposals = propose(rows, file, rules, held_out)
    proposed = applied(file, proposals, f"calibrated on {int(keep.sum())} rollouts")
    before = standing(labelled, file)
    after = before if proposed is file else standing(scored_turns(groups, proposed, scoring)[0], proposed)
    stops = stop_rules(after.mismatches, after.reward_corr, before.reward_corr, proposals, file.version, rules)
    counts = {
        "rollouts": sum(len(group.rollouts) for group in groups),
        "scored": len(evidence.outcomes),
        "passes": int(evidence.outcomes.sum()),
        "tasks": len(set(evidence.tasks)),
        "used": int(keep.sum()),
        "turns": sum(len(labels) for group in labelled.tiers for labels in group),
        "untiered": sum(not tier for group in labelled.tiers for labels in group for tier in labels),
    }
    criteria = tuple(row for one in criteria_of(groups) for row in table(one))
    return Calibration(file, proposed, spec, rules, rows, held_out, criteria, proposals, before, after, stops, counts)


def intended(file: RewardFile) -> dict[str, int]:
    """Which way each tier is meant to go: as the file says, and nowhere where it pays nothing."""
    return {name: tier.intended if tier.value else 0 for name, tier in file.tiers.items()}


def check_outcomes(groups: Sequence[Group]) -> None:
    """Raises InputError for rollouts in which nothing can go with success."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored = [rollout for rollout in rollouts if rollout.scored]
    if not rollouts:
        raise InputError("there is no rollout to calibrate on; name a run, an evaluation or a store that holds some")
    if not scored:
        causes = Counter(rollout.cause or "without an outcome" for rollout in rollouts)
        told = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
        raise InputError(
            f"none of {len(rollouts)} rollouts was scored ({told}), and tiers are compared with outcomes; mend that "
            "and sample them again, or import logs that say how each episode ended"
        )
    successes = sum(bool(rollout.outcome.success) for rollout in scored)
    if successes in (0, len(scored)):
        what, other, how = ("succeeds", "failure", "harder") if successes else ("fails", "success", "easier")
        raise InputError(
            f"every one of {len(scored)} scored rollouts {what}, so nothing tells what goes with success; add rollouts "
            f"with at least one {other}: {how} tasks, another policy, a higher temperature"
        )


def scored_turns(groups: Sequence[Group], file: RewardFile, scoring: Scoring) -> tuple[Labelled, Evidence]:
    """The turns of all scored rollouts with their tiers and what they earn under a file, by group; and by rollout what
    tiers each holds. Groups without a scored member are left out."""
    label = scoring.labels(file)
    kept, tiers, rewards = [], [], []
    for group in groups:
        if not group.scored:
            continue
        labels = [label(rollout) for rollout in group.scored]
        members = tuple(
            rewarded(rollout, given, scoring.weight) for rollout, given in zip(group.scored, labels, strict=True)
        )
        kept.append(group)
        tiers.append([[one.tier for one in given] for given in labels])
        rewards.append(scoring.rewards(Group(group.task, members)))
    if not _counted(kept):
        rewards = [dataclasses.replace(one, tokens=()) for one in rewards]
    sizes = [
        row.tolist() for group in rewards for row in (group.tokens or [np.ones(length) for length in group.lengths])
    ]
    evidence = evidence_of(
        tuple(file.tiers),
        [labels for group in tiers for labels in group],
        sizes,
        [bool(rollout.outcome.success) for group in kept for rollout in group.scored],
        [rollout.task.id for group in kept for rollout in group.scored],
    )
    return Labelled(rewards, tiers, [group.task.id for group in kept]), evidence


def _counted(groups: Sequence[Group]) -> bool:
    """Whether the tokens of every rollout were counted. Imported logs may not say: then each turn counts once, instead
    of not at all."""
    rollouts = [rollout for group in groups for rollout in group.scored]
    trained = [[turn.sampled_tokens for turn in rollout.turns if turn.trainable] for rollout in rollouts]
    return all(any(counts) for counts in trained if counts)


def criteria_of(groups: Sequence[Group]) -> list[Evidence]:
    """One column for each component of the outcomes: present where it was met, over the rollouts it was judged in."""
    scored = [rollout for group in groups for rollout in group.scored]
    found = []
    for name in sorted({name for rollout in scored for name in rollout.outcome.components}):
        judged = [(one, value) for one in scored if (value := one.outcome.components.get(name)) is not None]
        if judged:
            found.append(
                evidence_of(
                    (name,),
                    [[name] if value > 0.0 else [] for _, value in judged],
                    [[1.0] if value > 0.0 else [] for _, value in judged],
                    [bool(one.outcome.success) for one, _ in judged],
                    [one.task.id for one, _ in judged],
                )
            )
    return found


def _row_json(row: TierRow) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "gap": row.gap}


def _standing_json(standing: Standing) -> dict[str, Any]:
    rows = [{**dataclasses.asdict(row), "actual": row.actual, "mismatch": row.mismatch} for row in standing.directions]
    metrics = {name.removeprefix("credit/"): value for name, value in standing.metrics.items()}
    return {
        "directions": rows,
        "mismatches": list(standing.mismatches),
        "reward_corr": standing.reward_corr,
        "metrics": metrics,
    }
