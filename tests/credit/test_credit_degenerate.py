"""Groups that say little: nobody, one rollout, no turns, all equal, ragged; and rounding is no credit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from tests.credit.by_hand import advantages_of, credit_of, group_of, silent

from banty.credit import ESTIMATORS, CreditSpec, GroupRewards, estimator_of

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
EVERY_OPTION: list[dict[str, Any]] = [
    *({"estimator": name} for name in ESTIMATORS),
    *({"estimator": "mt_grpo", "variant": name} for name in ("two_stage", "additive", "additive_last")),
    {"estimator": "mt_grpo", "last_turn": True},
    {"estimator": "gtpo", "compare": "pooled"},
    {"estimator": "hybrid", "compare": "pooled"},
    {"estimator": "unbiased", "ended": "left_out"},
    {"estimator": "grpo", "total": True},
    {"estimator": "rloo", "total": True},
]
every_option = pytest.mark.parametrize("options", EVERY_OPTION, ids=lambda one: "-".join(map(str, one.values())))


def anchored(group: GroupRewards) -> GroupRewards:
    """The same, every turn taken in one state."""
    return dataclasses.replace(group, anchors=[["here"] * length for length in group.lengths])


@every_option
def test_of_nobody_there_is_no_credit(options: dict[str, Any]) -> None:
    credit = credit_of(group_of([], []), **options)
    assert (list(credit.advantages), list(credit.weights)) == ([], [])


@pytest.mark.parametrize("scale", ["none", "batch", "others"])
@every_estimator
def test_of_an_empty_batch_there_is_no_credit(estimator: str, scale: Any) -> None:
    assert estimator_of(CreditSpec(estimator=estimator, scale=scale))([]) == []


@every_option
def test_a_rollout_alone_is_compared_with_nobody(options: dict[str, Any]) -> None:
    """Not its raw reward, which is what some trainers give. GiGPO alone compares a rollout's turns with each other."""
    if options["estimator"] == "gigpo" or options.get("compare") == "pooled":
        group = group_of([[0.0]], [7.0])
    else:
        group = group_of([[0.5, 2.0, 0.0]], [7.0])
    (turns,) = advantages_of(anchored(group), **options)
    assert turns == [0.0] * len(turns)


@every_option
def test_rollouts_without_turns_have_credit_without_turns(options: dict[str, Any]) -> None:
    assert advantages_of(group_of([[], [], []], [1, 0, 1]), **options) == [[], [], []]


@every_option
def test_a_rollout_without_turns_still_counts_among_the_outcomes(options: dict[str, Any]) -> None:
    found = advantages_of(anchored(group_of([[], [0.0], []], [0, 1, 0])), **options)
    assert [len(turns) for turns in found] == [0, 1, 0]
    assert np.isfinite(found[1]).all()
    if options["estimator"] != "gtpo":  # compares turns alone, and here there is one
        assert found[1][0] > 0


@every_option
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -0.3, 1 / 3, 1e-7])
def test_equal_rollouts_get_exactly_nothing(options: dict[str, Any], value: float) -> None:
    """To the last bit: a group is set aside for teaching nothing, and a scale must not blow rounding up."""
    if options.get("compare") == "pooled" or options["estimator"] == "gigpo":
        turns = [[0.0]] * 3  # else turns of one rollout differ from each other, and are compared
    else:
        turns = [[value, 0.1, value]] * 3
    found = advantages_of(anchored(group_of(turns, [value] * 3)), **options)
    assert found == [[0.0] * len(turns[0])] * 3


@every_option
def test_ragged_groups_give_finite_credit_of_the_same_shape(options: dict[str, Any]) -> None:
    group = anchored(group_of([[1, 0], [], [0.5], [0] * 7, [-1, 2, 0]], [1, 0, 0, 1, 1]))
    found = advantages_of(group, **options)
    assert [len(turns) for turns in found] == group.lengths
    assert all(np.isfinite(turns).all() for turns in found)
    assert any(value != 0.0 for turns in found for value in turns)


def test_shorter_rollouts_are_left_out_of_a_position_and_not_counted_as_0() -> None:
    """At turn 2 there are rewards 1 and 3; a 0 for the rollout that has ended would move the mean."""
    group = group_of([[0, 1, 0], [0, 3, 0], [0]], [0, 0, 0])
    found = credit_of(group, estimator="mt_grpo", std=False).parts["turn"]
    assert [turns.tolist() for turns in found] == [[0, -1, 0], [0, 1, 0], [0]]


def test_a_state_met_once_and_one_nobody_knows_give_nothing() -> None:
    group = group_of([[0, 1], [0, 0]], [1, 1], anchors=[["a", ""], ["b", ""]])
    state = credit_of(group, estimator="gigpo").parts["state"]
    assert [turns.tolist() for turns in state] == [[0, 0], [0, 0]]


def test_gigpo_without_any_states_says_what_it_lacks() -> None:
    with pytest.raises(AssertionError, match="compares states"):
        advantages_of(silent([1, 0], [1, 1]), estimator="gigpo")


def test_anchors_and_tokens_are_per_turn_or_absent() -> None:
    for wrong in ({"anchors": [["a"]]}, {"tokens": [[1.0, 2.0], [1.0]]}, {"anchors": [["a"], ["a", "b"]]}):
        with pytest.raises(AssertionError, match="one entry per trainable turn"):
            group_of([[0.0], [0.0]], [1, 0], **wrong)
