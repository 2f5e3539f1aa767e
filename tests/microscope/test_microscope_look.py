"""A rollout under the microscope against estimators applied to its group by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests import rollouts_by_hand as by_hand

from banty.credit import ESTIMATORS, CreditSpec, GroupRewards, estimator_of
from banty.errors import InputError
from banty.microscope import Lens, Look, look, look_json
from banty.records import Outcome, Rollout
from banty.rubrics import TurnLabel
from banty.train.recipe import TrainBlock

REWARDS = [[0.0, 1.0, 0.0], [0.0, 0.0], [0.5, 0.25, -0.1, 0.0], [-0.1, 0.0, 0.0]]
OUTCOMES = [1.0, 0.0, 1.0, 0.0]
SPECS = [
    *(CreditSpec(estimator=name) for name in ESTIMATORS),
    *(CreditSpec(estimator=name, total=True) for name in ("rloo", "grpo", "dr_grpo")),
    CreditSpec(estimator="grpo", std=False),
    *(CreditSpec(estimator="mt_grpo", variant=each) for each in ("two_stage", "additive", "additive_last")),
    CreditSpec(estimator="mt_grpo", variant="additive", outcome_weight=0.4, turn_weight=2.0),
    CreditSpec(estimator="mt_grpo", last_turn=True, turn_weight=0.5),
    CreditSpec(estimator="hybrid", gamma=0.8, outcome_weight=0.5, compare="pooled", ddof=0),
    CreditSpec(estimator="unbiased", ended="left_out"),
    CreditSpec(estimator="hybrid", scale="batch", rms=0.5),
]


def member(rewards: Sequence[float], outcome: float, trial: int, step: str = "", index: int = 0) -> Rollout:
    turns = [
        dataclasses.replace(
            by_hand.turn(place, by_hand.segment([9, 8], [1, 2, 3][: 1 + place % 3]), reward=reward),
            state_before=f"state {min(place, 1)}",
        )
        for place, reward in enumerate(rewards)
    ]
    one = by_hand.rollout(turns, outcome > 0.5, trial=trial, reward=outcome, of=by_hand.task(index))
    prefix = f"{step}|" if step else ""
    return dataclasses.replace(one, rollout_id=prefix + one.rollout_id, group_id=prefix + one.group_id)


def group(step: str = "", index: int = 0, outcomes: Sequence[float] = OUTCOMES) -> list[Rollout]:
    return [
        member(rewards, outcome, trial, step, index)
        for trial, (rewards, outcome) in enumerate(zip(REWARDS, outcomes, strict=True))
    ]


def by_estimator(spec: CreditSpec) -> Any:
    """The estimator's word on the same group, its arrays written out by hand."""
    anchors = [[f"state {min(place, 1)}" for place in range(len(one))] for one in REWARDS]
    tokens = [np.array([1.0 + place % 3 for place in range(len(one))]) for one in REWARDS]
    rewards = GroupRewards(np.array(OUTCOMES), [np.array(one) for one in REWARDS], anchors, tokens)
    return estimator_of(spec)([rewards])[0]


def seen(rollout: Rollout, rollouts: Sequence[Rollout], *specs: CreditSpec, **lens: Any) -> Look:
    return look(rollout, rollouts, Lens(specs=specs or (CreditSpec(),), **lens))


def name_of(spec: CreditSpec) -> str:
    return "-".join(str(value) for value in dataclasses.astuple(spec) if value not in (None, False, "none"))


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_advantages_are_the_estimators_own_on_the_whole_group(spec: CreditSpec) -> None:
    members, wanted = group(), by_estimator(spec)
    for place, one in enumerate(members):
        (estimate,) = seen(one, members, spec).estimates
        assert [turn.advantage for turn in estimate.turns] == wanted.advantages[place].tolist()
        assert estimate.group == tuple(tuple(each.tolist()) for each in wanted.advantages)
        for name, values in wanted.parts.items():
            assert [turn.parts[name] for turn in estimate.turns] == values[place].tolist()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.scale == "none"], ids=name_of)
def test_the_terms_of_a_reason_add_up_to_the_advantage(spec: CreditSpec) -> None:
    members = group()
    shift = {}
    for one in members:
        (estimate,) = seen(one, members, spec).estimates
        for turn in estimate.turns:
            total = sum(term.factor * term.value for term in turn.terms)
            if spec.estimator == "gdpo":  # the sum is normalised once more, here by one deviation for all
                shift[round(total, 9)] = turn.advantage
            else:
                assert total == pytest.approx(turn.advantage, abs=1e-12)
            for term in turn.terms:
                assert f"{abs(term.value):.3f} {term.what}" in turn.reason
    if spec.estimator == "gdpo":
        sums = np.array(sorted(shift))
        slopes = np.diff([shift[value] for value in sorted(shift)]) / np.diff(sums)
        assert slopes == pytest.approx(slopes[0])


def test_the_paper_fixture() -> None:
    """specs/irc.md F2, rollout 1: returns, A^O and the hybrid's advantages, to the digit."""
    rewards = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [-0.1, 0.0, 0.0]]
    members = [member(one, outcome, trial) for trial, (one, outcome) in enumerate(zip(rewards, OUTCOMES, strict=True))]
    found = seen(members[0], members, CreditSpec(estimator="hybrid"), CreditSpec(estimator="mt_grpo"))
    hybrid, mt_grpo = found.estimates
    assert [turn.advantage for turn in hybrid.turns] == pytest.approx([1.355288, 1.363217, 1.125831], abs=1e-6)
    assert [turn.advantage for turn in mt_grpo.turns] == pytest.approx([2.671594, 2.171604, 0.866024], abs=1e-6)
    assert [turn.parts["return"] for turn in hybrid.turns] == pytest.approx([1.71, 1.9, 1.0])
    assert hybrid.turns[0].reason == "1.095 GN(return 1.710) + 0.3 × 0.866 A^O"
    assert mt_grpo.turns[0].reason == "1.806 sum of A^I from here on + 0.866 A^O"
    assert [turn.returned for turn in found.turns] == [2.0, 2.0, 1.0], "undiscounted, the outcome with the last turn"
    assert [turn.reward for turn in found.turns] == [0.0, 1.0, 0.0]
    (rloo,) = seen(members[1], members).estimates
    assert rloo.turns[0].reason == "0.000 outcome − 0.667 mean of the others"


def test_the_group_is_said_with_its_outcomes_and_who_got_how_far() -> None:
    errored = by_hand.rollout(trial=9, cause="simulator")
    members = [*group(), errored]
    found = seen(members[2], [*members, *group(index=1)])
    assert [one.outcome for one in found.members] == OUTCOMES
    assert [one.num_turns for one in found.members] == [3, 2, 4, 3]
    assert (found.place, found.left_out) == (2, 1)
    assert [turn.reached for turn in found.turns] == [4, 4, 3, 1]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (CreditSpec(), "rloo"),
        (CreditSpec(estimator="hybrid", gamma=0.9), "hybrid"),
        (CreditSpec(estimator="hybrid", gamma=0.8, scale="others"), "hybrid, gamma=0.8, scale=others"),
    ],
)
def test_an_estimate_is_called_by_what_differs_from_its_defaults(spec: CreditSpec, name: str) -> None:
    assert seen(group()[0], group(), spec).estimates[0].name == name


def test_an_estimator_of_batches_gets_the_groups_of_its_step() -> None:
    step = group("step-0003") + group("step-0003", 1, [1.0, 1.0, 1.0, 0.0]) + group("step-0003.1", 2)
    members = [*step, *group("step-0004", 3)]
    spec = CreditSpec(estimator="gdpo")
    found = seen(step[0], members, spec)
    arrays = [
        GroupRewards(np.array(outcomes), [np.array(one) for one in REWARDS])
        for outcomes in (OUTCOMES, [1.0, 1.0, 1.0, 0.0], OUTCOMES)
    ]
    wanted = estimator_of(spec)(arrays)[0].advantages[0].tolist()
    assert [turn.advantage for turn in found.estimates[0].turns] == pytest.approx(wanted)
    assert found.notes == ("What works on a batch (GDPO, a scale) was given the 3 groups of step-0003.",)
    alone = seen(group()[0], group(), spec)
    assert "this group alone" in alone.notes[0]


def test_groups_that_were_set_aside_are_no_part_of_the_batch() -> None:
    flat = group("step-0003", 1, [1.0, 1.0, 1.0, 1.0])
    members = [*group("step-0003"), *flat]
    own = (CreditSpec(scale="batch"), CreditSpec(estimator="gdpo"))
    for rounds, number in ((1, 2), (2, 1)):
        found = look(members[0], members, Lens(own, TrainBlock(sampling_rounds=rounds)))
        assert f"the {number} groups of step-0003" in found.notes[0]


def test_what_training_takes_off_a_long_episode_is_taken_off_here() -> None:
    block = TrainBlock(max_tokens=10, overlong_buffer=10, overlong_penalty=1.0)
    members = group()
    found = look(members[0], members, Lens((CreditSpec(),), block))
    lengths = [sum(turn.sampled_tokens for turn in one.turns) for one in members]
    assert [one.outcome for one in found.members] == pytest.approx(
        [outcome - length / 10 for outcome, length in zip(OUTCOMES, lengths, strict=True)]
    )
    assert found.turns[-1].returned == pytest.approx(found.members[0].outcome)


# What has no credit, and says why.


def test_an_unscored_rollout_is_shown_without_credit() -> None:
    errored = by_hand.rollout([by_hand.turn(0)], trial=9, cause="simulator")
    found = seen(errored, [*group(), errored])
    assert found.no_credit == "it is not scored: errored (simulator); an episode without an outcome teaches nothing"
    assert found.estimates == ()
    assert [turn.credits for turn in found.turns] == [()]
    assert found.turns[0].returned is None
    assert len(found.members) == 4
    assert found.place is None


def test_a_group_of_one_is_said_to_be_one() -> None:
    (one, *_) = group()
    found = seen(one, [one])
    assert [turn.advantage for turn in found.estimates[0].turns] == [0.0, 0.0, 0.0]
    assert found.notes == ("The group has one scored member: there is nothing to compare it with.",)
    assert found.estimates[0].turns[0].reason == "0.000 nothing to compare with"


def test_a_child_is_compared_with_nobody() -> None:
    members = group()
    child = dataclasses.replace(members[0], rollout_id="child", depth=1)
    assert "child episode" in seen(child, [*members, child]).no_credit


def test_without_trained_turns_there_is_nothing_to_credit() -> None:
    asked = by_hand.rollout([by_hand.turn(0, actor="user", trainable=False)], trial=0)
    found = seen(asked, [asked])
    assert found.no_credit == "none of its turns is trained"
    assert found.turns[0].place is None


@pytest.mark.parametrize("spoiled", ["outcome", "reward"])
def test_rewards_that_are_no_numbers_are_refused_in_words(spoiled: str) -> None:
    members = group()
    if spoiled == "outcome":
        members[1] = dataclasses.replace(members[1], outcome=Outcome(True, math.inf))
    else:
        turns = (dataclasses.replace(members[1].turns[0], reward=math.nan), *members[1].turns[1:])
        members[1] = dataclasses.replace(members[1], turns=turns)
    found = seen(members[0], members)
    assert found.no_credit == "its group has rewards that are no finite numbers"
    json.dumps(look_json(found, tokens=True), allow_nan=False)


def test_a_spec_that_cannot_work_is_refused() -> None:
    with pytest.raises(InputError, match="does not heed it"):
        seen(group()[0], group(), CreditSpec(gamma=0.5))


# Tokens.


def test_tokens_have_their_text_mask_and_both_logprobs() -> None:
    members = group()
    found = seen(members[0], members, decode=lambda one: f"<{one}>", trainer={1: [-0.3, -0.1]})
    turn = found.turns[1]
    assert [(token.id, token.text, token.trained, token.sampler) for token in turn.seen] == [
        (9, "<9>", False, None),
        (8, "<8>", False, None),
    ]
    assert [(token.id, token.trained, token.sampler, token.trainer) for token in turn.sampled] == [
        (1, True, -0.1, -0.3),
        (2, True, -0.2, -0.1),
    ]
    assert [token.drift for token in turn.sampled] == pytest.approx([-0.2, 0.1])
    assert found.turns[0].sampled[0].drift is None
    assert seen(members[0], members).turns[0].sampled[0].text is None


def test_trainer_logprobs_have_one_entry_a_token() -> None:
    with pytest.raises(InputError, match="2 sampled tokens, and 1 trainer logprobs"):
        seen(group()[0], group(), trainer={1: [-0.3]})


def test_json_holds_everything_and_no_number_json_lacks() -> None:
    members = group()
    turns = (
        dataclasses.replace(members[0].turns[0], segment=by_hand.segment([9], [1], logprobs=[-math.inf])),
        *members[0].turns[1:],
    )
    members[0] = dataclasses.replace(members[0], turns=turns)
    labels = [TurnLabel("gold", 1.0, 1.0, "the booking"), *[TurnLabel("read", 0.0, 1.0, "")] * 2]
    data = json.loads(json.dumps(look_json(seen(members[0], members, labels=labels), tokens=True), allow_nan=False))
    assert data["group"]["num_scored"] == 4
    assert data["turns"][0]["tier"] == "gold"
    assert data["turns"][0]["why"] == "the booking"
    assert data["turns"][0]["tokens"][1]["sampler_logprob"] is None
    credit = data["turns"][1]["credit"][0]
    assert credit["advantage"] == pytest.approx(2 / 3)
    assert credit["terms"][0] == {"what": "outcome", "value": 1.0, "factor": 1.0}
    assert data["estimators"][0]["advantages"][members[1].rollout_id] == pytest.approx([-2 / 3, -2 / 3])
    assert "tokens" not in look_json(seen(members[0], members), tokens=False)["turns"][0]
