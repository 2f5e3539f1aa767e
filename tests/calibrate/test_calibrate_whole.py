"""One calibration from rollouts to a new reward file: what moves, what is held out, what is shown, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests import rollouts_by_hand as by_hand
from tests.calibrate.tiers_by_hand import groups, rollout, scoring

from banty.calibrate import Calibration, Rules, calibrate, scored_turns
from banty.credit import CreditSpec, estimator_of
from banty.errors import InputError
from banty.records import Group
from banty.rubrics import read_reward_file

HYBRID = CreditSpec(estimator="hybrid")
NAIVE = read_reward_file("naive-dense")


def calibrated(found: list[Group] | None = None, **given: object) -> Calibration:
    return calibrate(found or groups(40, 8), NAIVE, scoring(), HYBRID, **given)  # type: ignore[arg-type]


def test_errors_cost_more_and_the_rest_stays() -> None:
    found = calibrated()
    by_tier = {one.tier: one for one in found.proposals}
    assert by_tier["error"].decision == "moved"
    assert by_tier["error"].proposed < -0.3
    assert {tier for tier, one in by_tier.items() if one.move} == {"error"}
    assert by_tier["gold"].decision == "pinned"
    assert "0 of 20 rollouts with it" in by_tier["soft"].reason
    assert found.proposed.version == 2
    assert found.proposed.parent == NAIVE.sha256
    assert found.proposed.tiers["error"].value == by_tier["error"].proposed
    assert not found.finished


def test_half_of_the_tasks_has_no_part_in_it() -> None:
    found = calibrated()
    used, others = found.rows[0], found.held_out[0]
    assert used.within.n == others.within.n == 20
    assert used.passes + used.fails == found.counts["used"] == 160
    error = next(one for one in found.proposals if one.tier == "error")
    assert error.held_out is not None
    assert error.held_out.estimate == pytest.approx(-0.7, abs=0.12)  # the made-up rates give it
    whole = calibrated(hold_out=False)
    assert whole.held_out == ()
    assert whole.rows[0].within.n == 40
    assert calibrated(seed=1).rows != found.rows


def test_directions_are_those_of_the_real_estimator_on_the_real_rewards() -> None:
    found = calibrated()
    labelled, _ = scored_turns(groups(40, 8), NAIVE, scoring())
    credits = estimator_of(HYBRID)(labelled.groups)
    errors = [
        advantage
        for tiers, credit in zip(labelled.tiers, credits, strict=True)
        for names, row in zip(tiers, credit.advantages, strict=True)
        for name, advantage in zip(names, row, strict=True)
        if name == "error"
    ]
    row = next(row for row in found.before.directions if row.tier == "error")
    assert row.mean.estimate == pytest.approx(np.mean(errors))
    assert row.turns == len(errors)
    assert row.actual == -1


def test_what_changes_is_scored_anew() -> None:
    found = calibrated()
    assert found.before.reward_corr is not None
    assert found.after.reward_corr is not None
    assert found.after.reward_corr > found.before.reward_corr
    assert found.before.metrics["credit/rms"] != found.after.metrics["credit/rms"]
    kept = calibrated(rules=Rules(present=1000))
    assert kept.proposed is NAIVE
    assert kept.after is kept.before


def test_the_weight_of_turn_rewards_counts() -> None:
    light = calibrate(groups(40, 8), NAIVE, scoring(0.0), HYBRID)
    rewards = [row for group in scored_turns(groups(4, 4), NAIVE, scoring(0.0))[0].groups for row in group.turn_rewards]
    assert not any(row.any() for row in rewards)
    assert light.before.reward_corr is None


def test_criteria_are_the_outcomes_own_parts() -> None:
    (told,) = calibrated().criteria  # nobody judged the other
    assert (told.tier, told.in_passes, told.in_fails) == ("told", 1.0, 0.0)


def test_errored_rollouts_are_left_out_and_counted() -> None:
    found = groups(40, 8)
    lost = rollout(["error"], None, 0, 99, cause="infrastructure")
    found[0] = by_hand.group(*found[0].rollouts, lost)
    found.append(by_hand.group(rollout(["gold"], None, 99, 0, cause="simulator")))
    with_lost = calibrated(found)
    assert with_lost.counts["rollouts"] == 322
    assert with_lost.counts["scored"] == 320
    assert with_lost.rows == calibrated().rows


def test_turns_of_no_tier_and_turns_without_tokens() -> None:
    found = [
        by_hand.group(*(rollout(["", "read"], trial % 2 == 0, task, trial, tokens=0) for trial in range(4)))
        for task in range(3)
    ]
    made = calibrated(found)
    assert made.counts["untiered"] == 12
    read = next(row for row in made.before.directions if row.tier == "read")
    assert read.mean.estimate == pytest.approx(0.0)  # each turn counts once where nobody counted tokens
    assert read.share is not None
    assert read.turns == 12


def test_the_json_is_json() -> None:
    data = json.loads(json.dumps(calibrated().to_json(), allow_nan=False))
    assert {row["tier"] for row in data["tiers"]} == set(NAIVE.tiers)
    assert data["diff"][0].startswith("version: 1 -> 2")
    assert data["before"]["mismatches"] == data["after"]["mismatches"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "no rollout to calibrate on"),
        ([by_hand.group(rollout(["gold"], None, 0, 0, cause="judge"))], r"none of 1 rollouts was scored \(1 judge\)"),
        ([by_hand.group(rollout(["gold"], None, 0, 0))], r"none of 1 rollouts was scored \(1 without an outcome\)"),
        (
            [by_hand.group(rollout(["gold"], True, 0, 0), rollout([], True, 0, 1))],
            "every one of 2 scored rollouts succeeds.*at least one failure: harder tasks",
        ),
        ([by_hand.group(rollout(["gold"], False, 0, 0))], "fails.*at least one success: easier tasks"),
    ],
)
def test_rollouts_that_teach_nothing_are_refused(found: list[Group], words: str) -> None:
    with pytest.raises(InputError, match=words):
        calibrate(found, NAIVE, scoring(), HYBRID)


def test_where_some_logs_count_no_tokens_every_turn_counts_once() -> None:
    """Else those that were not counted would weigh nothing, whatever they did."""
    members = [rollout(["read", "message"], trial % 2 == 0, 0, trial, tokens=5 * (trial > 1)) for trial in range(4)]
    labelled, _ = scored_turns([by_hand.group(*members)], NAIVE, scoring())
    assert labelled.groups[0].tokens == ()
    counted, _ = scored_turns([by_hand.group(*members[2:])], NAIVE, scoring())
    assert [row.tolist() for row in counted.groups[0].tokens] == [[5.0, 5.0], [5.0, 5.0]]
