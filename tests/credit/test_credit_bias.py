"""Which estimators have the exact gradient, and how far the others are from it: every group of two and of three
enumerated, through the real estimator, packing and aggregation (specs/irc.md 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from benchmarks.credit_bias import (
    ROWS,
    STOP,
    THREE_ACTIONS,
    TWO_ACTIONS,
    Floats,
    Process,
    bias,
    exact_gradient,
    expected_gradient,
)

from banty.credit import Credit, CreditSpec, GroupRewards, estimator_of
from banty.records import Aggregation

# Quarters, and outcomes of 0 and 1: in groups of two and three every advantage is exact in a training sample's float32.
QUARTERS = dataclasses.replace(TWO_ACTIONS, rewards=((0.0, 0.25), (0.0, 0.5), (0.0,)))
FOUR_TURNS = Process(
    chances=((0.3, 0.7), (0.45, 0.55), (0.6, 0.4), (1.0,)),
    rewards=((0.0, 0.5), (0.0, -0.25), (0.0, 1.0), (0.75,)),
    success=(0.1, 0.9, 0.35, 0.6),
)
both_sizes = pytest.mark.parametrize("size", [2, 3])
every_process = pytest.mark.parametrize(
    "process", [QUARTERS, FOUR_TURNS, THREE_ACTIONS], ids=["two actions", "four turns", "three actions"]
)


def going_on(gradient: Floats) -> list[float]:
    """The logits that take another turn, of the turns that decide anything."""
    return [float(value) for value in gradient[:-1, 1:].ravel()]


def softmax(logits: Floats) -> Floats:
    """By turn; a logit of minus infinity is an action there is not."""
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@every_process
def test_the_exact_gradient_is_that_of_the_expected_reward(process: Process) -> None:
    """By finite differences in the logits, on the recursion V_k = sum over a of pi (r + V_{k+1}, or the outcome)."""
    turns, actions = len(process.chances), len(process.chances[0])
    logits = np.full((turns, actions), -np.inf)
    for turn, chances in enumerate(process.chances):
        logits[turn, : len(chances)] = np.log(chances)

    def value(logits: Floats) -> float:
        chances, after = softmax(logits), 0.0
        for turn in reversed(range(turns)):
            ends = (process.success[turn], *[after] * (actions - 1))
            rewards = process.rewards[turn]
            after = sum(chances[turn, a] * (reward + ends[a]) for a, reward in enumerate(rewards))
        return after

    found = exact_gradient(process)
    assert sum(one.chance for one in process.episodes()) == pytest.approx(1.0, abs=1e-15)
    for place in np.ndindex(turns, actions):
        nudge = np.zeros_like(logits)
        nudge[place] = 1e-6
        assert found[place] == pytest.approx((value(logits + nudge) - value(logits - nudge)) / 2e-6, abs=1e-9)


def test_the_gradient_of_two_actions_is_0_at_the_second_turn() -> None:
    assert going_on(exact_gradient(TWO_ACTIONS)) == pytest.approx([0.096, 0.0], abs=1e-15)


@both_sizes
@every_process
@pytest.mark.parametrize("ended", ["outcome", "left_out"])
def test_unbiased_is_exact(process: Process, size: int, ended: str) -> None:
    estimate = estimator_of(CreditSpec(estimator="unbiased", ended=ended))  # type: ignore[arg-type]
    exact = exact_gradient(process)
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(expected_gradient(process, estimate, size), exact, atol=1e-12, rtol=0)


@both_sizes
@every_process
def test_leave_one_out_is_exact_for_what_it_looks_at(process: Process, size: int) -> None:
    total = expected_gradient(process, estimator_of(CreditSpec(total=True)), size)
    np.testing.assert_allclose(total, exact_gradient(process), atol=1e-12, rtol=0)
    unrewarded = dataclasses.replace(process, rewards=tuple(tuple(0.0 for _ in row) for row in process.rewards))
    outcome = expected_gradient(process, estimator_of(CreditSpec()), size)
    np.testing.assert_allclose(outcome, exact_gradient(unrewarded), atol=1e-12, rtol=0)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "turn"])
def test_a_denominator_the_policy_decides_takes_the_name_away(aggregation: Aggregation) -> None:
    estimate = estimator_of(CreditSpec(estimator="unbiased"))
    exact = exact_gradient(QUARTERS)
    found = expected_gradient(QUARTERS, estimate, 2, aggregation)
    cosine = float((found * exact).sum() / (np.linalg.norm(found) * np.linalg.norm(exact)))
    assert cosine < 0.9999, "not even its direction is left"


def returns_of(group: GroupRewards, gamma: float) -> list[list[float]]:
    found = []
    for turns, outcome in zip(group.turn_rewards, group.outcomes, strict=True):
        row, after = [], 0.0
        for k in reversed(range(len(turns))):
            after = float(turns[k]) + (gamma * after if k < len(turns) - 1 else float(outcome))
            row.append(after)
        found.append(row[::-1])
    return found


def discounted(groups: Sequence[GroupRewards]) -> list[Credit]:
    """The unbiased baseline, and returns discounted by 0.9."""
    (group,) = groups
    found = returns_of(group, 0.9)
    rows = []
    for i, mine in enumerate(found):
        others = [j for j in range(len(found)) if j != i]
        rows.append(
            np.array(
                [
                    value - np.mean([found[j][k] if k < len(found[j]) else group.outcomes[j] for j in others])
                    for k, value in enumerate(mine)
                ]
            )
        )
    return [Credit(rows, [np.ones(len(one)) for one in rows])]


@both_sizes
def test_a_discount_of_0_9_is_biased_by_what_the_specification_says(size: int) -> None:
    found = going_on(expected_gradient(TWO_ACTIONS, discounted, size) - exact_gradient(TWO_ACTIONS))
    assert found == pytest.approx([-0.01872, -0.0060], abs=1e-6)


def test_one_detached_deviation_of_the_group_moves_a_component_that_is_0() -> None:
    """Three rollouts, their advantages divided by the deviation of all of them: +0.0154 (specs/irc.md 9)."""

    def over_its_deviation(groups: Sequence[GroupRewards]) -> list[Credit]:
        (credit,) = estimator_of(CreditSpec(estimator="unbiased"))(groups)
        deviation = np.concatenate(credit.advantages).std(ddof=1) + 1e-6
        return [Credit([one / deviation for one in credit.advantages], credit.weights)]

    found = going_on(expected_gradient(TWO_ACTIONS, over_its_deviation, 3))
    assert found[1] == pytest.approx(0.015445, abs=1e-6)


def centred_with_leave_one_out(groups: Sequence[GroupRewards]) -> list[Credit]:
    """MT-GRPO's `go` with means only, and for its outcome part, which is centred with the rollout itself, the RLOO
    advantage: N/(N-1) times as much."""
    centred = estimator_of(CreditSpec(estimator="mt_grpo", std=False))(groups)
    outcome = estimator_of(CreditSpec())(groups)
    found = []
    for one, other in zip(centred, outcome, strict=True):
        parts = zip(one.advantages, one.parts["outcome"], other.advantages, strict=True)
        found.append(Credit([all_of_it - own + left_out for all_of_it, own, left_out in parts], one.weights))
    return found


def closed_form(process: Process) -> Floats:
    """Minus m_l for every turn l from k on after which the rollout goes on, at the decision of turn k; m_l is the mean
    reward of turn l among those that go on."""
    means = [
        sum(c * r for c, r in zip(chances[1:], rewards[1:], strict=True)) / sum(chances[1:]) if chances[1:] else 0.0
        for chances, rewards in zip(process.chances, process.rewards, strict=True)
    ]
    pushed = dataclasses.replace(
        process,
        rewards=tuple(
            tuple(0.0 if action == STOP else -mean for action in range(len(chances)))
            for chances, mean in zip(process.chances, means, strict=True)
        ),
        success=(0.0,) * len(process.success),
    )
    return exact_gradient(pushed)


@both_sizes
@pytest.mark.parametrize("process", [TWO_ACTIONS, QUARTERS, dataclasses.replace(
    FOUR_TURNS, rewards=(*FOUR_TURNS.rewards[:3], (0.0,))
)], ids=["two actions", "quarters", "four turns"])  # fmt: skip
def test_the_closed_form_holds_where_going_on_has_one_kind_of_reward(process: Process, size: int) -> None:
    """All who take a turn earn the same, so centring leaves nothing of it: the rewards of turns drop out."""
    found = expected_gradient(process, centred_with_leave_one_out, size) - exact_gradient(process)
    np.testing.assert_allclose(found, closed_form(process), atol=1e-7, rtol=0)
    assert np.abs(closed_form(process)).max() > 0.05


def test_the_closed_form_of_two_actions_leaves_nothing_of_the_gradient() -> None:
    assert going_on(closed_form(TWO_ACTIONS)) == pytest.approx([-0.096, -0.03], abs=1e-12)


@both_sizes
def test_the_real_go_lacks_one_nth_of_the_outcome_besides(size: int) -> None:
    """Centred with the rollout itself, the outcome's gradient is (N-1)/N of the exact one; that of turns needs no such
    factor, since nothing of it is left."""
    unrewarded = dataclasses.replace(TWO_ACTIONS, rewards=((0.0, 0.0), (0.0, 0.0), (0.0,)))
    wanted = closed_form(TWO_ACTIONS) - exact_gradient(unrewarded) / size
    np.testing.assert_allclose(bias("mt_grpo, std off", TWO_ACTIONS).of[size], wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("size", "wanted"), [(2, -0.195), (3, -0.168)])
def test_with_three_actions_the_closed_form_does_not_hold(size: int, wanted: float) -> None:
    found = expected_gradient(THREE_ACTIONS, centred_with_leave_one_out, size) - exact_gradient(THREE_ACTIONS)
    assert found[0, 1] == pytest.approx(wanted, abs=1e-7)
    assert closed_form(THREE_ACTIONS)[0, 1] == pytest.approx(-0.09, abs=1e-12)


@pytest.mark.parametrize(("size", "wanted"), [(2, -0.0212), (3, -0.0346)])
def test_the_published_form_differs_from_it_too(size: int, wanted: float) -> None:
    found = bias("mt_grpo", TWO_ACTIONS).of[size]
    assert found[1, 1] == pytest.approx(wanted, abs=5e-5)
    assert closed_form(TWO_ACTIONS)[1, 1] == pytest.approx(-0.03, abs=1e-12)


# Computed apart from this repository's estimators and packing: ordered groups, tests/credit/reference.py's formulas.
# Two actions, groups of 2 and of 3: another turn at turns 1 and 2. Three actions, groups of 2 and of 3: the rewarded
# and the unrewarded turn at turn 1, then at turn 2.
BIASES = {
    "unbiased, scale batch": (
        (0.079909, 0.039891), (0.082821, 0.018944),
        (-0.025517, -0.003278, -0.011097, 0.005208), (0.02657, -0.012609, 0.006109, -0.006706),
    ),
    "rloo, total": (
        (0.0, 0.0), (0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0),
    ),
    "rloo": (
        (-0.096, -0.03), (-0.096, -0.03),
        (-0.24, 0.06, -0.1125, 0.0375), (-0.24, 0.06, -0.1125, 0.0375),
    ),
    "dr_grpo, total": (
        (-0.048, 0.0), (-0.032, 0.0),
        (-0.12, 0.03, -0.04875, 0.02625), (-0.08, 0.02, -0.0325, 0.0175),
    ),
    "dr_grpo": (
        (-0.096, -0.015), (-0.096, -0.02),
        (-0.24, 0.06, -0.105, 0.045), (-0.24, 0.06, -0.1075, 0.0425),
    ),
    "grpo, total": (
        (-0.011147, 0.009334), (0.014627, 0.001189),
        (-0.126563, 0.033537, -0.056612, 0.028688), (-0.064049, 0.019104, -0.034515, 0.015651),
    ),
    "grpo": (
        (-0.096, -0.021213), (-0.096, -0.034641),
        (-0.24, 0.06, -0.108107, 0.041893), (-0.24, 0.06, -0.11482, 0.03518),
    ),
    "mt_grpo": (
        (-0.096, -0.021213), (-0.096, -0.034641),
        (-0.17636, -0.00364, -0.092197, 0.025984), (-0.126735, -0.053265, -0.084752, 0.005111),
    ),
    "mt_grpo, std off": (
        (-0.096, -0.015), (-0.096, -0.02),
        (-0.195, 0.015, -0.09375, 0.03375), (-0.168, -0.012, -0.08725, 0.02225),
    ),
    "mt_grpo, additive": (
        (0.073705, 0.042426), (0.181127, 0.078624),
        (-0.091508, -0.00364, -0.060377, 0.025984), (0.002487, -0.043923, -0.029871, 0.006863),
    ),
    "mt_grpo, additive_last": (
        (-0.096, -0.021213), (-0.096, -0.034641),
        (-0.17636, -0.00364, -0.092197, 0.025984), (-0.126735, -0.053265, -0.084752, 0.005111),
    ),
    "mt_grpo, two_stage": (
        (-0.045088, 0.010606), (-0.029624, 0.021991),
        (-0.162201, 0.034385, -0.078276, 0.023995), (-0.109022, 0.010055, -0.063033, 0.004107),
    ),
    "gtpo, gamma 1, std off": (
        (-0.048, 0.0), (-0.032, 0.0),
        (-0.12, 0.03, -0.06825, 0.03675), (-0.08, 0.02, -0.0507, 0.0273),
    ),
    "gtpo, std off": (
        (-0.05736, -0.0018), (-0.04448, -0.00288),
        (-0.12558, 0.02442, -0.06915, 0.03585), (-0.08744, 0.01256, -0.05214, 0.02586),
    ),
    "gtpo": (
        (-0.011148, 0.017819), (0.008783, 0.020368),
        (-0.110812, -0.005548, -0.061226, 0.02259), (-0.050323, -0.017088, -0.035674, 0.003984),
    ),
    "gtpo, pooled": (
        (0.127568, 0.046895), (0.098398, 0.022455),
        (0.019083, -0.047862, -0.004218, 0.002612), (0.042243, -0.035981, 0.007642, -0.003845),
    ),
    "hybrid": (
        (-0.011148, 0.011455), (0.008783, 0.009975),
        (-0.110812, -0.005548, -0.064407, 0.019408), (-0.050323, -0.017088, -0.04087, -0.001212),
    ),
    "hybrid, pooled": (
        (0.127568, 0.040531), (0.098398, 0.012063),
        (0.019083, -0.047862, -0.0074, -0.00057), (0.042243, -0.035981, 0.002446, -0.009041),
    ),
    "gigpo": (
        (-0.00474, -0.0009), (0.02568, -0.00144),
        (-0.00282, -0.00282, -0.01995, 0.01005), (0.07624, -0.02376, 0.01358, -0.00842),
    ),
    "gdpo": (
        (0.003344, 0.016074), (0.083256, 0.033239),
        (-0.132527, 0.035773, -0.061644, 0.030179), (-0.078022, 0.024234, -0.047101, 0.018837),
    ),
    "unbiased": ((0.0,) * 2, (0.0,) * 2, (0.0,) * 4, (0.0,) * 4),
    "unbiased, ended left_out": ((0.0,) * 2, (0.0,) * 2, (0.0,) * 4, (0.0,) * 4),
}  # fmt: skip


def test_every_row_of_the_table_has_a_fixture() -> None:
    assert set(BIASES) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_enumerated_bias(name: str) -> None:
    two, three = bias(name, TWO_ACTIONS).of, bias(name, THREE_ACTIONS).of
    for found, wanted in zip((two[2], two[3], three[2], three[3]), BIASES[name], strict=True):
        assert going_on(found) == pytest.approx(wanted, abs=2e-6)


def test_only_what_says_so_is_unbiased() -> None:
    """Outcome-only RLOO is exact too, for an objective without turn rewards."""
    exact = [name for name, spec in ROWS.items() if spec.is_unbiased and name != "rloo"]
    for name in ROWS:
        sizes = [*bias(name, TWO_ACTIONS).of.values(), *bias(name, THREE_ACTIONS).of.values()]
        assert (max(float(np.abs(one).max()) for one in sizes) < 1e-6) == (name in exact)
