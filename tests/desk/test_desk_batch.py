"""The padded estimators give what the ones of `banty.credit` give, whatever the options."""

from __future__ import annotations

import numpy as np
import pytest

from banty.credit import ESTIMATORS, CreditSpec, GroupRewards, estimator_of
from banty.desk import Batch, batch_credit

SPECS = [
    CreditSpec(),
    CreditSpec(estimator="rloo", total=True),
    CreditSpec(estimator="grpo"),
    CreditSpec(estimator="grpo", total=True, ddof=0),
    CreditSpec(estimator="grpo", std=False),
    CreditSpec(estimator="dr_grpo", total=True),
    CreditSpec(estimator="mt_grpo"),
    CreditSpec(estimator="mt_grpo", turn_weight=0.5, last_turn=True),
    CreditSpec(estimator="mt_grpo", variant="additive", outcome_weight=0.3),
    CreditSpec(estimator="mt_grpo", variant="additive_last", std=False),
    CreditSpec(estimator="mt_grpo", variant="two_stage", turn_weight=0.7),
    CreditSpec(estimator="gtpo"),
    CreditSpec(estimator="gtpo", compare="pooled", gamma=1.0, ddof=0),
    CreditSpec(estimator="hybrid"),
    CreditSpec(estimator="hybrid", compare="pooled", outcome_weight=0.0),
    CreditSpec(estimator="gigpo"),
    CreditSpec(estimator="gigpo", std=True, state_weight=0.5),
    CreditSpec(estimator="gdpo"),
    CreditSpec(estimator="gdpo", turn_weight=0.5, ddof=0),
    CreditSpec(estimator="unbiased"),
    CreditSpec(estimator="unbiased", ended="left_out"),
    CreditSpec(estimator="hybrid", scale="batch"),
    CreditSpec(estimator="unbiased", scale="others", rms=0.5),
]


def ragged(rng: np.random.Generator, shape: tuple[int, int, int], longest: int) -> Batch:
    """Batches with lengths from 1 on, equal outcomes in some groups, states that repeat and some nobody knows."""
    lengths = rng.integers(1, longest + 1, shape).astype(np.int32)
    live = np.arange(longest) < lengths[..., None]
    outcomes = (rng.random(shape) < rng.choice([0.0, 0.4, 1.0], (*shape[:2], 1))).astype(float)
    rewards = np.where(live, rng.choice([0.0, 0.3, 1.0, -0.1], live.shape), 0.0)
    anchors = np.where(live, rng.integers(-1, 4, live.shape), -1).astype(np.int32)
    return Batch(outcomes, rewards, np.where(live, rng.integers(0, 4, live.shape), 0).astype(float), anchors, lengths)


def groups_of(batch: Batch, nth: int) -> list[GroupRewards]:
    def cut(values: np.ndarray, group: int) -> list[np.ndarray]:
        return [row[:length] for row, length in zip(values[nth, group], batch.lengths[nth, group], strict=True)]

    return [
        GroupRewards(
            batch.outcomes[nth, group],
            cut(batch.rewards, group),
            [["" if state < 0 else str(state) for state in row] for row in cut(batch.anchors, group)],
            cut(batch.tokens, group),
        )
        for group in range(batch.outcomes.shape[1])
    ]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("shape", [(5, 4, 4), (3, 2, 2), (2, 3, 1)], ids=str)
def test_the_same_advantages_as_the_real_estimator(spec: CreditSpec, shape: tuple[int, int, int]) -> None:
    batch = ragged(np.random.default_rng(len(str(spec))), shape, longest=5)
    found = batch_credit(spec)(batch)
    estimate = estimator_of(spec)
    assert np.abs(found).max() > 0.0 or shape[2] < 3
    for nth in range(shape[0]):
        for group, credit in enumerate(estimate(groups_of(batch, nth))):
            for member, advantages in enumerate(credit.advantages):
                padded = np.append(advantages, np.zeros(5 - len(advantages)))
                np.testing.assert_allclose(found[nth, group, member], padded, rtol=1e-12, atol=1e-12)


def test_every_estimator_is_there() -> None:
    assert {spec.estimator for spec in SPECS} == set(ESTIMATORS)
