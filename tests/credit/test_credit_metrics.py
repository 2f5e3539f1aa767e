"""What a run logs about its credit (specs/irc.md 1.11 and 9), by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from tests.credit.by_hand import Ragged, credit_of, group_of, silent

from banty.credit import Credit, GroupRewards, credit_metrics, gradient_shares, length_push, turns_of

# Two groups. The first: three turns and one; the second: two turns each. Tokens on the right.
GROUPS = [
    group_of([[0.0] * 3, [0.0]], [1, 0], tokens=[[10, 20, 30], [40]]),
    group_of([[0.0] * 2, [0.0] * 2], [1, 1], tokens=[[1, 2], [3, 4]]),
]
ADVANTAGES: list[Ragged] = [[[2.0, 0.0, 1e-5], [-1.0]], [[0.0, 0.5], [0.0, -0.5]]]
TIERS = [[["gold", "read", "message"], ["read"]], [["read", "gold"], ["read", "error"]]]


def given(advantages: Ragged) -> Credit:
    return Credit([np.array(one) for one in advantages], [np.ones(len(one)) for one in advantages])


def metrics(
    groups: Sequence[GroupRewards] = GROUPS, advantages: Sequence[Ragged] = ADVANTAGES
) -> dict[str, float | None]:
    turns = turns_of(groups, [given(one) for one in advantages], TIERS if groups is GROUPS else ())
    return credit_metrics(turns, groups)


def test_dead_turns_by_turn_by_cell_and_by_token() -> None:
    """Dead: 0, 1e-5 and the two zeros of the second group, 4 of 8 turns and 20 + 30 + 1 + 3 of 110 tokens.

    Cells: positions 1 to 3 of the first group, of which the first lives (2 and -1); 1 and 2 of the second."""
    found = metrics()
    assert found["credit/dead_turns"] == 4 / 8
    assert found["credit/dead_tokens"] == pytest.approx(54 / 110)
    assert found["credit/dead_cells"] == 3 / 5


@pytest.mark.parametrize(("size", "dead"), [(0.99e-4, 1.0), (1.0e-4, 0.0)])
def test_a_turn_is_dead_below_1e_4(size: float, dead: float) -> None:
    groups = [silent([1, 0], [1, 1])]
    assert metrics(groups, [[[size], [-size]]])["credit/dead_turns"] == dead


def test_a_turn_without_trained_tokens_is_neither_dead_nor_alive() -> None:
    groups = [group_of([[0.0] * 2, [0.0] * 2], [1, 0], tokens=[[5, 0], [5, 0]])]
    found = metrics(groups, [[[1.0, 9.0], [-1.0, 0.0]]])
    assert (found["credit/dead_turns"], found["credit/dead_cells"], found["credit/max"]) == (0.0, 0.0, 1.0)
    assert found["credit/corr"] == pytest.approx(1.0)


def test_rms_is_over_tokens_and_max_over_turns() -> None:
    found = metrics()
    mean = (10 * 4 + 30 * 1e-10 + 40 * 1 + 2 * 0.25 + 4 * 0.25) / 110
    assert found["credit/rms"] == pytest.approx(math.sqrt(mean))
    assert found["credit/max"] == 2.0


def test_gradient_shares_weigh_advantages_with_tokens() -> None:
    """|A| n: 20 and 1 gold, 40 read, 3e-4 message, 2 error."""
    total = 20 + 1 + 40 + 3e-4 + 2
    found = metrics()
    for tier, mass in {"gold": 21, "read": 40, "message": 3e-4, "error": 2}.items():
        assert found[f"credit/share_{tier}"] == pytest.approx(mass / total)
    shares = gradient_shares(turns_of(GROUPS, [given(one) for one in ADVANTAGES], TIERS))
    assert sum(shares.values()) == pytest.approx(1.0)


def test_without_tiers_or_without_any_advantage_there_are_no_shares() -> None:
    groups = [silent([1, 0], [1, 1])]
    assert not [name for name in metrics(groups, [[[1.0], [-1.0]]]) if "share" in name]
    nothing = turns_of(GROUPS, [given([[0.0 * v for v in one] for one in each]) for each in ADVANTAGES], TIERS)
    assert gradient_shares(nothing) == {}


def pearson(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def test_correlations_with_the_outcome_over_turns_over_tokens_and_within_groups() -> None:
    advantages, outcomes = [2.0, 0, 1e-5, -1, 0, 0.5, 0, -0.5], [1.0, 1, 1, 0, 1, 1, 1, 1]
    found = metrics()
    assert found["credit/corr"] == pytest.approx(pearson(np.array(advantages), np.array(outcomes)))
    tokens = [10, 20, 30, 40, 1, 2, 3, 4]
    repeated = pearson(np.repeat(advantages, tokens), np.repeat(outcomes, tokens))
    assert found["credit/corr_tokens"] == pytest.approx(repeated)
    first = sum(advantages[:4]) / 4
    within = [*(value - first for value in advantages[:4]), *advantages[4:]]
    assert found["credit/corr_within"] == pytest.approx(
        pearson(np.array(within), np.array([0.25, 0.25, 0.25, -0.75, 0, 0, 0, 0]))
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_what_does_not_vary_correlates_with_nothing(value: float) -> None:
    groups = [silent([value] * 3, [2, 1, 3])]
    found = metrics(groups, [[[1.0, 2.0], [0.5], [0.0, 3.0, 1.0]]])
    assert [found[f"credit/corr{of}"] for of in ("", "_tokens", "_within")] == [None] * 3


def test_an_empty_batch_has_no_metrics() -> None:
    assert credit_metrics(turns_of([], []), []) == {}
    groups = [silent([1, 0], [0, 0])]
    assert metrics(groups, [[[], []]]) == {}


# Lengths 3, 3, 2 and 1, 2. Rewards at turn 1 of those who go on: 1, 0, 0.5 in the first group, 4 in the second.
PUSHED = [
    group_of([[1, 2, 0], [0, 4, 0], [0.5, 9]], [1, 0, 0]),
    group_of([[7], [4, 0]], [0, 1]),
]


def test_the_push_on_going_on_by_hand() -> None:
    """Turn 1: of the first group's three the others' means are 0.25, 0.75 and 0.5; the second's one has no other.
    Turn 2: two go on, with 2 and 4, and each is the other's mean; the 9 was a last turn's. Five rollouts."""
    np.testing.assert_allclose(length_push(PUSHED), [(0.5, 4 / 5), (3.0, 2 / 5)])
    logged = credit_metrics(turns_of(PUSHED, [credit_of(group) for group in PUSHED]), PUSHED)
    assert logged["credit/push_turn_1"] == pytest.approx(0.5)
    assert logged["credit/going_on_turn_1"] == pytest.approx(4 / 5)
    assert logged["credit/push_turn_2"] == pytest.approx(3.0)
    assert logged["credit/going_on_turn_2"] == pytest.approx(2 / 5)
    assert logged["credit/push"] == pytest.approx((0.5 * 4 + 3.0 * 2) / 6), "six decisions to go on"


def test_nobody_who_goes_on_is_pushed_where_turns_earn_nothing() -> None:
    groups = [silent([1, 0], [3, 2])]
    logged = credit_metrics(turns_of(groups, [credit_of(groups[0])]), groups)
    assert logged["credit/push"] == 0.0
    assert not [name for name in logged if "turn_1" in name]
    assert length_push([]) == []
    assert length_push([silent([1, 0], [1, 1])]) == []


def test_a_penalty_pushes_the_other_way() -> None:
    groups = [group_of([[-1, 0], [-1, 0], [0]], [0, 0, 1])]
    np.testing.assert_allclose(length_push(groups), [(-1.0, 2 / 3)])
