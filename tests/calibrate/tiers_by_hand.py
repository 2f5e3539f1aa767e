"""Rollouts whose turns say which tier they are of, and a scoring that believes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from tests import rollouts_by_hand as by_hand

from banty.calibrate import Scoring
from banty.records import Group, Message, Rollout
from banty.rubrics import RewardFile, TurnLabel
from banty.train.samples import group_rewards


def rollout(
    tiers: Sequence[str], success: bool | None, task: int, trial: int, *, tokens: int = 3, **given: object
) -> Rollout:
    turns = [by_hand.turn(k, by_hand.segment([1], range(tokens))) for k in range(len(tiers))]
    turns = [
        dataclasses.replace(turn, message=Message("assistant", tier)) for turn, tier in zip(turns, tiers, strict=True)
    ]
    return by_hand.rollout(turns, success, trial=trial, of=by_hand.task(task), **given)  # type: ignore[arg-type]


def groups(num_tasks: int, trials: int, seed: int = 2) -> list[Group]:
    """Failures have errors, successes golden calls, as a rule; reads come by chance, and half of all succeed."""
    generator = np.random.default_rng(seed)
    found = []
    for task in range(num_tasks):
        members = []
        for trial in range(trials):
            success = bool(generator.random() < 0.5)
            tiers = ["read"] if generator.random() < 0.5 else []
            tiers += ["error"] if generator.random() < (0.1 if success else 0.8) else []
            tiers += ["gold"] if generator.random() < (0.6 if success else 0.1) else []
            members.append(
                rollout([*tiers, "message"], success, task, trial, components={"told": float(success), "calm": None})
            )
        found.append(by_hand.group(*members))
    return found


def scoring(weight: float = 1.0) -> Scoring:
    def labels(file: RewardFile):  # type: ignore[no-untyped-def]
        def label(of: Rollout) -> list[TurnLabel]:
            names = [turn.message.content for turn in of.turns]
            return [TurnLabel(name, file.tiers[name].value if name else 0.0, 1.0, "by hand") for name in names]

        return label

    return Scoring(labels, group_rewards, weight)
