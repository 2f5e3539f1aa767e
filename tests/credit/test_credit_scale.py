"""One scale for a batch: by the batch's own root mean square, or for each group by that of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.credit.by_hand import assert_ragged, group_of, groups, silent

from banty.credit import Credit, CreditSpec, GroupRewards, estimator_of


def rms(credits: list[Credit], batch: list[GroupRewards]) -> float:
    """Over trained tokens."""
    pairs = [
        (one, tokens)
        for credit, group in zip(credits, batch, strict=True)
        for one, tokens in zip(credit.advantages, group.tokens or [np.ones(n) for n in group.lengths], strict=True)
    ]
    squares = sum(float((one**2 * tokens).sum()) for one, tokens in pairs)
    return float(np.sqrt(squares / sum(float(tokens.sum()) for _, tokens in pairs)))


def credits_of(batch: list[GroupRewards], **options: Any) -> list[Credit]:
    return estimator_of(CreditSpec(**options))(batch)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(batch=st.lists(groups(), min_size=1, max_size=4), wanted=st.sampled_from([None, 0.25, 3.0]))
def test_the_batch_has_the_rms_that_was_asked_for(batch: list[GroupRewards], wanted: float | None) -> None:
    for name in ("rloo", "mt_grpo", "hybrid"):
        plain = credits_of(batch, estimator=name)
        scaled = credits_of(batch, estimator=name, scale="batch", rms=wanted)
        if rms(plain, batch):
            assert rms(scaled, batch) == pytest.approx(wanted or 1.0)
        factors = [
            new / old
            for after, before in zip(scaled, plain, strict=True)
            for news, olds in zip(after.advantages, before.advantages, strict=True)
            for new, old in zip(news, olds, strict=True)
            if old
        ]
        assert factors == pytest.approx([factors[0]] * len(factors)) if factors else True


TWO = [silent([1, 0], [1, 1]), silent([4, 0, 0], [1, 1, 1])]
#      rloo: 1, -1                    4, -2, -2: mean squares 1 and 8


def test_by_the_others_a_group_s_own_advantages_do_not_enter() -> None:
    first, second = credits_of(TWO, estimator="rloo", scale="others")
    assert_ragged(first.advantages, [[1 / 8**0.5], [-1 / 8**0.5]], 1e-12)
    assert_ragged(second.advantages, [[4], [-2], [-2]], 1e-12)
    first, second = credits_of(TWO, estimator="rloo", scale="others", rms=0.5)
    assert_ragged(second.advantages, [[2], [-1], [-1]], 1e-12)
    larger = [silent([100, 0], [1, 1]), TWO[1]]
    (scaled, _) = credits_of(larger, estimator="rloo", scale="others")
    assert_ragged(scaled.advantages, [[100 / 8**0.5], [-100 / 8**0.5]], 1e-9)


def test_tokens_weigh_where_they_are_counted() -> None:
    batch = [group_of([[0.0], [0.0]], [2, 0], tokens=[[9], [1]]), group_of([[0.0], [0.0]], [0, 0], tokens=[[5], [5]])]
    (first, _) = credits_of(batch, estimator="rloo", scale="batch")
    assert_ragged(first.advantages, [[2**0.5], [-(2**0.5)]], 1e-12)


@pytest.mark.parametrize("scale", ["batch", "others"])
def test_without_any_advantage_nothing_is_scaled(scale: Any) -> None:
    batch = [silent([0.1] * 3, [2, 1, 4]), silent([1 / 3] * 2, [1, 1])]
    for name in ("rloo", "grpo", "unbiased", "mt_grpo"):
        for credit in credits_of(batch, estimator=name, scale=scale):
            assert not any(one.any() for one in credit.advantages)


@pytest.mark.parametrize("scale", ["batch", "others"])
def test_rounding_is_not_scaled_up(scale: Any) -> None:
    """Rollouts whose rewards add up to the same in another order differ by the last bit, and by nothing else."""
    batch = [group_of([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.3, 0.1, 0.2]], [0.0] * 3)] * 2
    assert any(one.any() for one in credits_of(batch, estimator="rloo", total=True)[0].advantages)
    for credit in credits_of(batch, estimator="rloo", total=True, scale=scale):
        assert max(float(np.abs(one).max()) for one in credit.advantages) < 1e-12


def test_a_group_alone_has_no_others_and_stays_as_it_is() -> None:
    (credit,) = credits_of([TWO[1]], estimator="rloo", scale="others")
    assert_ragged(credit.advantages, [[4], [-2], [-2]], 0.0)


def test_a_group_whose_others_have_no_advantage_stays_as_it_is() -> None:
    first, _ = credits_of([TWO[1], silent([1, 1], [1, 1])], estimator="rloo", scale="others")
    assert_ragged(first.advantages, [[4], [-2], [-2]], 0.0)


def test_weights_and_parts_are_not_scaled() -> None:
    plain, scaled = (credits_of(TWO, estimator="mt_grpo", scale=scale) for scale in ("none", "batch"))
    for before, after in zip(plain, scaled, strict=True):
        assert_ragged(after.weights, [one.tolist() for one in before.weights], 0.0)
        for name, part in before.parts.items():
            assert_ragged(after.parts[name], [one.tolist() for one in part], 0.0)
