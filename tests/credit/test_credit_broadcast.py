"""From turns to tokens: fixture F6 of specs/irc.md through the real packing, and what the mask keeps out (1.10, 7)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.credit.by_hand import credit_of
from tests.learn.reference import aggregate
from tests.rollouts_by_hand import group, rollout, segment, turn

from banty.credit import ESTIMATORS
from banty.learn.aggregate import coefficients
from banty.records import AGGREGATIONS, Aggregation, Group
from banty.train.samples import group_rewards, pack_group

# F2's four rollouts: turn rewards, outcomes; each with F6's tokens.
REWARDS = [(0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.5, 0.0), (-0.1, 0.0, 0.0)]
OUTCOMES = [True, False, True, False]


def f6_group() -> Group:
    return group(
        *(
            rollout(
                [
                    turn(0, segment([50, 51], [0, 1]), reward=rewards[0]),
                    turn(1, segment([52, 53], [2, 3, 4], continues=True), reward=rewards[1]),
                    turn(2, segment([54], [5, 6], continues=True), reward=rewards[2]),
                ],
                success,
                trial=trial,
            )
            for trial, (rewards, success) in enumerate(zip(REWARDS, OUTCOMES, strict=True))
        )
    )


def test_f6_each_token_has_the_advantage_of_its_turn() -> None:
    made = f6_group()
    sample = pack_group(made, credit_of(group_rewards(made), estimator="hybrid"))[0]
    assert sample.turn_ids.tolist() == [-1, -1, 0, 0, -1, -1, 1, 1, 1, -1, 2, 2]
    assert sample.mask.astype(int).tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1]
    wanted = [0, 0, 1.355288, 1.355288, 0, 0, 1.363217, 1.363217, 1.363217, 0, 1.125831, 1.125831]
    np.testing.assert_allclose(sample.advantages, wanted, atol=2e-5)
    assert sample.weights.tolist() == sample.mask.astype(float).tolist()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_off_the_mask_advantages_are_exactly_0(estimator: str) -> None:
    made = f6_group()
    samples = pack_group(made, credit_of(group_rewards(made), estimator=estimator))
    assert len(samples) == 4
    for sample in samples:
        assert not sample.advantages[~sample.mask].any()
        assert sample.advantages[sample.mask].any()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_what_stands_off_the_mask_has_no_effect_on_the_loss(aggregation: Aggregation) -> None:
    made = f6_group()
    samples = pack_group(made, credit_of(group_rewards(made), estimator="hybrid"))
    noisy = [
        dataclasses.replace(
            one,
            advantages=np.where(one.mask, one.advantages, 9.0).astype(np.float32),
            weights=np.where(one.mask, one.weights, 5.0).astype(np.float32),
        )
        for one in samples
    ]
    wanted = aggregate(samples, [one.advantages.astype(np.float64) for one in samples], aggregation)
    for batch in (samples, noisy):
        shares = coefficients(batch, aggregation)
        found = sum(float((share * one.advantages).sum()) for share, one in zip(shares, batch, strict=True))
        assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_padding_changes_no_coefficient_of_a_token(aggregation: Aggregation) -> None:
    """Invariant 8: a sample with untrained tokens at its end weighs its trained tokens as before."""
    made = f6_group()
    samples = pack_group(made, credit_of(group_rewards(made), estimator="rloo"))
    padded = [
        dataclasses.replace(
            one,
            token_ids=np.pad(one.token_ids, (0, 7)),
            mask=np.pad(one.mask, (0, 7)),
            turn_ids=np.pad(one.turn_ids, (0, 7), constant_values=-1),
            sampler_logprobs=np.pad(one.sampler_logprobs, (0, 7)),
            advantages=np.pad(one.advantages, (0, 7)),
            weights=np.pad(one.weights, (0, 7)),
        )
        for one in samples
    ]
    for before, after in zip(coefficients(samples, aggregation), coefficients(padded, aggregation), strict=True):
        assert after.tolist() == [*before.tolist(), *[0.0] * 7]


def test_rewards_come_from_trainable_turns_and_scored_rollouts_alone() -> None:
    asked = turn(1, segment([7], [8]), actor="user", trainable=False, reward=99.0)
    made = group(
        rollout([turn(0, segment([1], [2, 3]), reward=0.5), asked, turn(2, segment([4], [5], continues=True))]),
        rollout([turn(0, segment([1], [2]))], cause="infrastructure"),
        rollout([turn(0, segment([1], [2]), reward=-1.0)], False, reward=0.25),
    )
    found = group_rewards(made)
    assert found.outcomes.tolist() == [1.0, 0.25]
    assert [one.tolist() for one in found.turn_rewards] == [[0.5, 0.0], [-1.0]]
    assert [one.tolist() for one in found.tokens] == [[2, 1], [1]]
