"""Fixtures F1 to F5 and F10 of specs/irc.md, through estimators as recipes name them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.credit.by_hand import advantages_of, assert_ragged, credit_of, group_of, silent

from banty.credit import gdpo, normalise

F1 = [
    ([1, 0, 0, 1], [0.5, -0.5, -0.5, 0.5]),
    ([1, 1, 1, 0], [0.25, 0.25, 0.25, -0.75]),
    ([1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
    ([1, 1, 1, 1], [0.0] * 4),
]


@pytest.mark.parametrize(("outcomes", "dr_grpo"), F1)
def test_f1_dr_grpo_and_grpo_without_a_deviation(outcomes: list[float], dr_grpo: list[float]) -> None:
    """The other columns of F1 are in test_credit_outcome.py."""
    group = silent(outcomes, [1] * 4)
    for options in ({"estimator": "dr_grpo"}, {"estimator": "grpo", "std": False}):
        assert_ragged(advantages_of(group, **options), [[value] for value in dr_grpo], atol=1e-15)


F2 = group_of([[0.0, 1.0, 0], [0.0, 0.0, 0], [0.0, 0.5, 0], [-0.1, 0.0, 0]], [1, 0, 1, 0])
F2_WANTED: list[tuple[dict[str, Any], list[list[float]]]] = [
    ({"estimator": "mt_grpo"},
     [[2.671594, 2.171604, 0.866024], [-1.149382, -1.649372, -0.866024],
      [1.627130, 1.127140, 0.866024], [-3.149342, -1.649372, -0.866024]]),
    ({"estimator": "mt_grpo", "ddof": 0},
     [[3.084888, 2.507551, 0.999998], [-1.327193, -1.904530, -0.999998],
      [1.878846, 1.301509, 0.999998], [-3.636541, -1.904530, -0.999998]]),
    ({"estimator": "gtpo"},
     [[1.095481, 1.103410, 0.866024], [-0.791947, -0.846803, -0.866024],
      [0.598789, 0.590196, 0.866024], [-0.902323, -0.846803, -0.866024]]),
    ({"estimator": "gtpo", "compare": "pooled"},
     [[1.335822, 1.582435, 0.414267], [-0.883697, -0.883697, -0.883697],
      [0.751738, 0.933453, 0.414267], [-1.013494, -0.883697, -0.883697]]),
    ({"estimator": "gtpo", "compare": "pooled", "ddof": 0},
     [[1.395220, 1.652799, 0.432688], [-0.922992, -0.922992, -0.922992],
      [0.785164, 0.974959, 0.432688], [-1.058560, -0.922992, -0.922992]]),
    ({"estimator": "hybrid"},
     [[1.355288, 1.363217, 1.125831], [-1.051754, -1.106610, -1.125831],
      [0.858596, 0.850003, 1.125831], [-1.162130, -1.106610, -1.125831]]),
    ({"estimator": "hybrid", "compare": "pooled"},
     [[1.595629, 1.842242, 0.674074], [-1.143505, -1.143505, -1.143505],
      [1.011545, 1.193260, 0.674074], [-1.273301, -1.143505, -1.143505]]),
]  # fmt: skip
F3 = group_of([[0, 1, 1, 0], [0, -0.1, 0], [1, 0], [0, 0.5, -0.1, 0, 0]], [1, 0, 1, 0])
F3_WANTED: list[tuple[dict[str, Any], list[list[float]]]] = [
    ({"estimator": "mt_grpo"},
     [[2.041493, 2.541492, 1.573130, 0.866024], [-2.394908, -1.894909, -0.866024],
      [2.366021, 0.866024], [-2.012606, -1.512607, -1.573130, -0.866024, -0.866024]]),
    ({"estimator": "gtpo"},
     [[1.064092, 1.394903, 1.153562, 0.707106], [-1.030955, -0.904028, -0.532413],
      [0.617579, -0.004091], [-0.650716, -0.486784, -0.621149, -0.707106, 0.0]]),
    ({"estimator": "gtpo", "compare": "pooled"},
     [[1.591658, 1.857589, 1.062741, 0.179577], [-0.890033, -0.899846, -0.801717],
      [1.062741, 0.179577], [-0.439620, -0.399386, -0.899846, -0.801717, -0.801717]]),
    ({"estimator": "hybrid"},
     [[1.323899, 1.654710, 1.413370, 0.966913], [-1.290763, -1.163835, -0.792221],
      [0.877386, 0.255717], [-0.910523, -0.746591, -0.880956, -0.966913, -0.259807]]),
]  # fmt: skip


def _name(value: Any) -> str | None:
    return "-".join(map(str, value.values())) if isinstance(value, dict) else None


@pytest.mark.parametrize(("options", "wanted"), F2_WANTED, ids=_name)
def test_f2_equal_lengths(options: dict[str, Any], wanted: list[list[float]]) -> None:
    assert_ragged(advantages_of(F2, **options), wanted)


@pytest.mark.parametrize(("options", "wanted"), F3_WANTED, ids=_name)
def test_f3_ragged_lengths(options: dict[str, Any], wanted: list[list[float]]) -> None:
    assert_ragged(advantages_of(F3, **options), wanted)


def test_the_parts_of_f2_and_f3_say_what_advantages_were_made_of() -> None:
    parts = credit_of(F2, estimator="mt_grpo").parts
    turn = [[0.49999, 1.30558, 0], [0.49999, -0.783348, 0], [0.49999, 0.261116, 0], [-1.49997, -0.783348, 0]]
    assert_ragged(parts["turn"], turn)
    assert_ragged(parts["outcome"], [[sign * 0.866024] * 3 for sign in (1, -1, 1, -1)])
    ragged = [[-0.499999, 0.968362, 0.707106, 0], [-0.499999, -1.028885, 0], [1.499997, 0]]
    assert_ragged(credit_of(F3, estimator="mt_grpo").parts["turn"], [*ragged, [-0.499999, 0.060523, -0.707106, 0, 0]])
    for name in ("gtpo", "hybrid"):
        assert_ragged(
            credit_of(F2, estimator=name).parts["return"],
            [[1.71, 1.9, 1.0], [0, 0, 0], [1.26, 1.4, 1.0], [-0.1, 0, 0]],
            atol=1e-12,
        )
        assert_ragged(
            credit_of(F3, estimator=name).parts["return"],
            [[2.439, 2.71, 1.9, 1.0], [-0.09, -0.1, 0], [1.9, 1.0], [0.369, 0.41, -0.1, 0, 0]],
            atol=1e-12,
        )


def test_who_is_alone_at_a_position_gets_nothing_from_gtpo_and_the_outcome_from_the_hybrid() -> None:
    """The read-outs of F3."""
    assert advantages_of(F3, estimator="gtpo")[3][4] == 0.0
    assert advantages_of(F3, estimator="hybrid")[3][4] == pytest.approx(0.3 * -0.866024, abs=2e-5)
    assert advantages_of(F3, estimator="gtpo")[2][1] == pytest.approx(-0.004, abs=1e-3), "a success, punished"


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0])
def test_f4a_without_turn_rewards_and_with_equal_lengths_the_discount_does_nothing(gamma: float) -> None:
    group = silent([1, 0, 0, 1], [3] * 4)
    # A discount that leaves next to nothing of the early returns leaves the deviation's epsilon to show.
    first = 0 if gamma else 2
    for options, size in (({"estimator": "gtpo"}, 0.866024), ({"estimator": "hybrid"}, 1.125831)):
        found = [turns[first:] for turns in advantages_of(group, gamma=gamma, **options)]
        assert_ragged(found, [[sign * size] * (3 - first) for sign in (1, -1, -1, 1)])
    assert_ragged(advantages_of(group, estimator="mt_grpo"), [[sign * 0.866024] * 3 for sign in (1, -1, -1, 1)])


def test_f4b_pooled_a_success_has_more_credit_the_later() -> None:
    found = advantages_of(silent([1, 0, 0, 1], [3] * 4), estimator="gtpo", compare="pooled")
    success, failure = [0.754036, 0.943422, 1.153851], [-0.950436] * 3
    assert_ragged(found, [success, failure, failure, success])


def test_f4c_the_shorter_success_gets_more_early_credit() -> None:
    group = silent([1, 1, 0, 0], [2, 4, 2, 4])
    wanted = [[1.036482] * 2, [0.676789, 0.676790, 0.707106, 0.707106], [-0.856636] * 2]
    assert_ragged(advantages_of(group, estimator="gtpo"), [*wanted, [-0.856636, -0.856636, -0.707106, -0.707106]])
    flat = [[sign * 0.866024] * length for sign, length in ((1, 2), (1, 4), (-1, 2), (-1, 4))]
    assert_ragged(advantages_of(group, estimator="mt_grpo"), flat)


NAIVE = group_of([[0.3, 1.0, 0], [0.3, 0, 0], [0.3, 0.1, 0], [0, 0, 0]], [1, 0, 0, 1])
CALIBRATED = group_of([[0, 1.0, 0], [0, 0, 0], [0, -0.1, 0], [0, 0, 0]], [1, 0, 0, 1])


def test_f5_naive_rewards_punish_a_success_that_skipped_a_rewarded_read() -> None:
    found = credit_of(NAIVE, estimator="mt_grpo")
    turn = [[0.499997, 1.492913, 0], [0.499997, -0.566277, 0], [0.499997, -0.360358, 0], [-1.499990, -0.566277, 0]]
    assert_ragged(found.parts["turn"], turn)
    wanted = [[2.858934, 2.358937, 0.866024], [-0.932305, -1.432301, -0.866024], [-0.726386, -1.226382, -0.866024]]
    assert_ragged(found.advantages, [*wanted, [-1.200243, 0.299747, 0.866024]])
    wanted = [[1.698749, 1.593799, 1.125831], [-0.993572, -1.082908, -1.125831], [-0.879219, -0.969377, -1.125831]]
    assert_ragged(advantages_of(NAIVE, estimator="hybrid"), [*wanted, [0.174042, 0.458487, 1.125831]])


def test_f5_calibrated_rewards_do_not() -> None:
    wanted = [[2.359816, 2.359816, 0.866024], [-1.299706, -1.299706, -0.866024], [-1.492453, -1.492453, -0.866024]]
    assert_ragged(advantages_of(CALIBRATED, estimator="mt_grpo"), [*wanted, [0.432342, 0.432342, 0.866024]])
    wanted = [[1.573773, 1.573773, 1.125831], [-0.983829, -0.983829, -1.125831], [-1.091092, -1.091092, -1.125831]]
    assert_ragged(advantages_of(CALIBRATED, estimator="hybrid"), [*wanted, [0.501148, 0.501148, 1.125831]])


@pytest.mark.parametrize("group", [NAIVE, CALIBRATED], ids=["naive", "calibrated"])
@pytest.mark.parametrize("estimator", ["mt_grpo", "hybrid"])
def test_f5_no_variant_protects_the_turns_of_a_failure(group: Any, estimator: str) -> None:
    found = advantages_of(group, estimator=estimator)
    assert all(value < 0 for rollout in (1, 2) for value in found[rollout])


F10_STATES = [["s0", "a"], ["s0", "a", "d"], ["s0", "b"], ["s0", "c"]]


def test_f10_gigpo_compares_turns_taken_in_the_same_state() -> None:
    group = group_of([[0, 0], [0, 0, 0], [0, 0], [0, 0]], [1, 0, 1, 0], anchors=F10_STATES)
    credit = credit_of(group, estimator="gigpo")
    assert_ragged(credit.parts["return"], [[0.95, 1], [0, 0, 0], [0.95, 1], [0, 0]], atol=1e-12)
    assert_ragged(credit.parts["outcome"], [[0.5] * 2, [-0.5] * 3, [0.5] * 2, [-0.5] * 2], atol=1e-12)
    assert_ragged(credit.parts["state"], [[0.475, 0.5], [-0.475, -0.5, 0], [0.475, 0], [-0.475, 0]], atol=1e-12)
    assert_ragged(credit.advantages, [[0.975, 1.0], [-0.975, -1.0, -0.5], [0.975, 0.5], [-0.975, -0.5]], atol=1e-12)


F10_SUMS = group_of([[2, 0], [0, 0], [1, 0], [0, 0]], [1, 0, 1, 0])


def test_f10_gdpo_normalises_then_adds_then_normalises_the_batch() -> None:
    (added,) = gdpo([F10_SUMS], normalise, batch=False)
    assert_ragged(added.advantages, [[v] * 2 for v in (2.171605, -1.649373, 1.127140, -1.649373)])
    found = advantages_of(F10_SUMS, estimator="gdpo")
    assert_ragged(found, [[v] * 2 for v in (1.112684, -0.845103, 0.577523, -0.845103)])


def test_f10_adding_first_is_grpo_of_the_total() -> None:
    found = advantages_of(F10_SUMS, estimator="grpo", total=True)
    assert_ragged(found, [[v] * 2 for v in (1.166666, -0.833333, 0.5, -0.833333)])


def test_rlm_f1_the_two_deviations() -> None:
    """Fixture F1 of specs/rlm.md."""
    rewards = np.array([0.9, 0.6, 0.6, 0.3])
    np.testing.assert_allclose(normalise(rewards), [1.224740, 0, 0, -1.224740], atol=1e-6)
    np.testing.assert_allclose(normalise(rewards, ddof=0), [1.414214, 0, 0, -1.414214], atol=1e-5)
