"""Which way a tier is pushed: fixture F5 by hand, the published break-even weights, flips by running again, and what
changes when stored rollouts are scored anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from banty.calibrate.direction import Labelled, directions_of, flip_weight, tier_means, weighed
from banty.calibrate.offline import changes, reward_correlation, standing_of
from banty.credit import CreditSpec, GroupRewards

# Fixture F5: turn 1 is a read in rollouts 1 to 3 and a message in rollout 4; turn 2 gold, message, write, message.
TIERS = [["read", "gold", "message"], ["read", "message", "message"], ["read", "write", "message"], ["message"] * 3]
V5 = {"gold": 1.0, "read": 0.3, "write": 0.1, "message": 0.0}
IRC = {"gold": 1.0, "read": 0.0, "write": -0.1, "message": 0.0}
INTENDED = {"gold": 1, "read": 1, "write": -1, "message": 0, "error": -1}
MT_GRPO, HYBRID = CreditSpec(estimator="mt_grpo"), CreditSpec(estimator="hybrid")


def f5(values: dict[str, float], tokens: float = 1.0) -> Labelled:
    rewards = [np.array([values[tier] for tier in labels[:-1]] + [0.0]) for labels in TIERS]
    outcomes = np.array([1.0, 0.0, 0.0, 1.0])
    group = GroupRewards(outcomes, rewards, tokens=[np.full(3, tokens)] * 4)
    return Labelled([group], [TIERS], ["a"])


def by_tier(labelled: Labelled, spec: CreditSpec) -> dict[str, object]:
    return {row.tier: row for row in directions_of(labelled, spec, INTENDED, num_resamples=100)}


@pytest.mark.parametrize(
    ("spec", "values", "gold", "read", "write"),
    [
        (MT_GRPO, V5, 2.358937, (2.858934 - 0.932305 - 0.726386) / 3, -1.226382),
        (HYBRID, V5, 1.593799, (1.698749 - 0.993572 - 0.879219) / 3, -0.969377),
        (MT_GRPO, IRC, 2.359816, (2.359816 - 1.299706 - 1.492453) / 3, -1.492453),
        (HYBRID, IRC, 1.573773, (1.573773 - 0.983829 - 1.091092) / 3, -1.091092),
    ],
)
def test_fixture_f5(spec: CreditSpec, values: dict[str, float], gold: float, read: float, write: float) -> None:
    means = tier_means(f5(values), spec, list(INTENDED))
    assert means["gold"] == pytest.approx(gold, abs=2e-5)
    assert means["read"] == pytest.approx(read, abs=2e-5)
    assert means["write"] == pytest.approx(write, abs=2e-5)
    assert means["error"] is None


def test_the_mean_is_weighted_with_trained_tokens() -> None:
    labelled = f5(V5)
    (group,) = labelled.groups
    sizes = [np.array([9.0, 1.0, 1.0]), *[np.array([1.0, 1.0, 1.0])] * 3]
    heavy = Labelled([dataclasses.replace(group, tokens=sizes)], labelled.tiers, labelled.tasks)
    expected = (9 * 2.858934 - 0.932305 - 0.726386) / 11
    assert tier_means(heavy, MT_GRPO, ["read"])["read"] == pytest.approx(expected, abs=2e-5)


def test_intended_and_actual_direction() -> None:
    rows = {row.tier: row for row in directions_of(f5(IRC), MT_GRPO, INTENDED)}
    assert rows["read"].actual == -1
    assert rows["read"].mismatch
    assert rows["write"].actual == -1
    assert not rows["write"].mismatch
    assert not rows["message"].mismatch  # nothing was intended
    assert rows["error"].actual is None
    assert not rows["error"].mismatch
    assert rows["error"].turns == 0
    assert rows["gold"].outcome == pytest.approx(0.866024, abs=2e-5)
    assert rows["gold"].own == pytest.approx(1.493, abs=2e-3)
    assert sum(row.share or 0.0 for row in rows.values()) == pytest.approx(1.0)


def test_the_published_break_even_weights() -> None:
    """Specs/irc.md 2.2: soft 0.50, read-only 0.071; a tier whose parts agree has none."""
    assert flip_weight(0.11, -0.22) == pytest.approx(0.50)
    assert flip_weight(0.05, -0.70) == pytest.approx(0.0714, abs=1e-4)
    assert flip_weight(1.22, 0.5) is None
    assert flip_weight(None, 0.5) is None
    assert flip_weight(0.5, 0.0) is None


SPECS = [
    MT_GRPO,
    CreditSpec(estimator="mt_grpo", turn_weight=0.5),
    CreditSpec(estimator="mt_grpo", variant="additive", outcome_weight=2.0),
    CreditSpec(estimator="mt_grpo", variant="additive_last"),
    CreditSpec(estimator="mt_grpo", variant="two_stage"),
    HYBRID,
    CreditSpec(estimator="hybrid", gamma=0.5, scale="batch", rms=3.0),
    CreditSpec(estimator="gtpo", compare="pooled"),
]


def _ragged(seed: int) -> Labelled:
    generator = np.random.default_rng(seed)
    names = ["gold", "read", "write", "message"]
    values = {"gold": 1.0, "read": 0.3, "write": 0.1, "message": 0.0}
    groups, tiers = [], []
    for _ in range(6):
        labels = [[str(one) for one in generator.choice(names, size=generator.integers(1, 5))] for _ in range(4)]
        outcomes = generator.integers(0, 2, size=4).astype(np.float64)
        rewards = [np.array([values[one] for one in row]) for row in labels]
        tokens = [generator.integers(1, 20, size=len(row)).astype(np.float64) for row in labels]
        groups.append(GroupRewards(outcomes, rewards, tokens=tokens))
        tiers.append(labels)
    return Labelled(groups, tiers, [f"t{g}" for g in range(6)])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.estimator}-{spec.variant}-{spec.scale}")
def test_a_tier_flips_where_it_says(spec: CreditSpec) -> None:
    """At the flip the mean of a new run of the estimator is 0, and its signs on the two sides differ."""
    flipped = 0
    for seed in range(6):
        labelled = _ragged(seed)
        for row in directions_of(
            labelled, spec, dict.fromkeys(("gold", "read", "write", "message"), 1), num_resamples=100
        ):
            if row.flip is None or not 0.01 < row.flip < 100.0:
                continue
            flipped += 1
            assert row.at_flip == pytest.approx(0.0, abs=1e-9)
            signs = []
            for weight in (row.flip * 0.9, row.flip * 1.1):
                found = weighed(spec, weight)
                assert found is not None
                mean = tier_means(labelled, found[0], [row.tier])[row.tier]
                assert mean is not None
                signs.append(np.sign(mean))
            assert signs[0] == -signs[1] != 0
    assert flipped


def test_the_weight_in_force_gives_the_estimator_itself() -> None:
    for spec, weight in ((MT_GRPO, 1.0), (HYBRID, 0.3), (CreditSpec(estimator="gtpo"), 0.0)):
        found = weighed(spec, weight)
        assert found is not None
        expected, again = (tier_means(_ragged(1), one, ["gold", "read"]) for one in (spec, found[0]))
        assert again == pytest.approx(expected)


def test_an_estimator_of_outcomes_has_nothing_to_flip() -> None:
    rows = directions_of(f5(V5), CreditSpec(), INTENDED)
    assert {row.flip for row in rows} == {None}
    assert {row.own for row in rows} == {None}
    read = next(row for row in rows if row.tier == "read")
    assert read.mean.estimate == pytest.approx(-2 / 9)  # one pass at +2/3 and two fails at -2/3


def test_a_mean_has_an_interval_over_tasks() -> None:
    labelled = _ragged(3)
    row = next(row for row in directions_of(labelled, HYBRID, {"read": 1}) if row.tier == "read")
    assert row.mean.low is not None
    assert row.mean.high is not None
    assert row.mean.estimate is not None
    assert row.mean.low < row.mean.estimate < row.mean.high
    (alone,) = directions_of(f5(V5), HYBRID, {"read": 1})
    assert alone.mean.low is None
    assert alone.mean.n == 1


def test_rescoring_shows_what_changes() -> None:
    before = standing_of(f5(V5), MT_GRPO, INTENDED)
    after = standing_of(f5(IRC), MT_GRPO, INTENDED | {"read": 0})
    found = changes(before, after)
    assert before.mismatches == ()
    assert after.mismatches == ()
    assert found["mismatches"] == (0.0, 0.0)
    assert found["rms"][0] != found["rms"][1]
    assert found["corr"][1] is not None
    assert found["corr"][0] is not None
    assert found["corr"][1] > found["corr"][0]
    assert found["share_gold"][0] == pytest.approx(before.directions[0].share)
    rewards = [(0.3 + 1.0) / 3, 0.1, 0.4 / 3, 0.0]
    expected = np.corrcoef(rewards, [1, 0, 0, 1])[0, 1]
    assert reward_correlation(f5(V5)) == pytest.approx(expected)


def test_a_dead_group_is_all_dead() -> None:
    group = GroupRewards(np.ones(2), [np.zeros(2)] * 2, tokens=[np.ones(2)] * 2)
    labelled = Labelled([group], [[["read", "message"]] * 2], ["a"])
    found = standing_of(labelled, MT_GRPO, {"read": 1, "message": 0})
    read = found.directions[0]
    assert (read.actual, read.mismatch, read.dead) == (0, True, 1.0)
    assert found.reward_corr is None
    assert found.metrics["credit/dead_turns"] == 1.0
    assert reward_correlation(Labelled([], [], [])) is None


def test_scaled_by_the_other_groups_there_is_no_one_weight_to_flip_at() -> None:
    """Each group's factor moves with the weight: the mean of the scaled advantages is no straight line in it."""
    assert weighed(CreditSpec(estimator="hybrid", scale="others"), 0.5) is None
    rows = directions_of(_ragged(0), CreditSpec(estimator="hybrid", scale="others"), {"gold": 1}, num_resamples=100)
    assert (rows[0].flip, rows[0].at_flip) == (None, None)
    assert rows[0].mean.estimate is not None


def test_the_dead_share_is_over_turns_with_trained_tokens() -> None:
    rewards = [np.zeros(2), np.zeros(2)]
    group = GroupRewards(np.array([1.0, 0.0]), rewards, tokens=[np.array([4.0, 0.0]), np.array([0.0, 0.0])])
    same = GroupRewards(np.array([1.0, 1.0]), rewards, tokens=[np.array([4.0, 0.0]), np.array([0.0, 0.0])])
    tiers = [["read", "read"], ["read", "read"]]
    (row,) = directions_of(Labelled([group, same], [tiers] * 2, ["a", "b"]), HYBRID, {"read": 1}, num_resamples=100)
    assert (row.turns, row.dead) == (8, 0.5)
    silent = GroupRewards(np.array([1.0, 0.0]), rewards, tokens=[np.zeros(2), np.zeros(2)])
    (none,) = directions_of(Labelled([silent], [tiers], ["a"]), HYBRID, {"read": 1}, num_resamples=100)
    assert none.dead is None
