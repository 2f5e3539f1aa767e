"""Groups written out by hand, estimators as recipes name them, and random groups for properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from banty.credit import Credit, CreditSpec, GroupRewards, estimator_of

Ragged = Sequence[Sequence[float]]
FIXTURE_TOLERANCE = 2e-5
"""What specs/irc.md section 7 asks for."""


def group_of(
    turn_rewards: Ragged,
    outcomes: Sequence[float],
    *,
    anchors: Sequence[Sequence[str]] = (),
    tokens: Ragged = (),
) -> GroupRewards:
    return GroupRewards(
        np.array(outcomes, dtype=np.float64),
        [np.array(turns, dtype=np.float64) for turns in turn_rewards],
        anchors=anchors,
        tokens=[np.array(counts, dtype=np.float64) for counts in tokens],
    )


def silent(outcomes: Sequence[float], lengths: Sequence[int]) -> GroupRewards:
    """A group whose turns earn nothing."""
    return group_of([[0.0] * length for length in lengths], outcomes)


def credit_of(group: GroupRewards, **options: Any) -> Credit:
    (credit,) = estimator_of(CreditSpec(**options))([group])
    return credit


def advantages_of(group: GroupRewards, **options: Any) -> list[list[float]]:
    return [turns.tolist() for turns in credit_of(group, **options).advantages]


def assert_ragged(found: Sequence[Any], wanted: Ragged, atol: float = FIXTURE_TOLERANCE) -> None:
    assert [len(turns) for turns in found] == [len(turns) for turns in wanted]
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_allclose(one, other, atol=atol, rtol=0, err_msg=f"rollout {place + 1}")


QUARTERS = st.integers(-20, 20).map(lambda n: n / 4)
"""Exact in binary, so that sums and differences are too."""


@st.composite
def groups(
    draw: st.DrawFn,
    *,
    least: int = 2,
    most: int = 5,
    max_turns: int = 4,
    equal_lengths: bool = False,
    silent: bool = False,
) -> GroupRewards:
    """Random groups, ragged unless told otherwise, each turn in one of three states, with 1 to 9 tokens a turn."""
    size = draw(st.integers(least, most))
    length = draw(st.integers(1, max_turns))
    lengths = [length if equal_lengths else draw(st.integers(1, max_turns)) for _ in range(size)]
    return group_of(
        [[0.0 if silent else draw(QUARTERS) for _ in range(length)] for length in lengths],
        [draw(QUARTERS) for _ in lengths],
        anchors=[[draw(st.sampled_from(["a", "b", ""])) for _ in range(length)] for length in lengths],
        tokens=[[draw(st.integers(1, 9)) for _ in range(length)] for length in lengths],
    )
