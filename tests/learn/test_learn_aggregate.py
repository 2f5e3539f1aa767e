"""How token losses become one number: coefficients against the words of the specification, and what may not matter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learn.reference import Floats, aggregate, halves, sample_of

from banty.learn.aggregate import coefficients
from banty.records import AGGREGATIONS, Aggregation, TrainingSample

every_aggregation = pytest.mark.parametrize("aggregation", AGGREGATIONS)


@dataclass(frozen=True)
class Episode:
    """A rollout before it is cut into samples: per turn, per trained token, a loss and a weight."""

    name: str
    losses: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    cut: int

    def whole(self) -> list[TrainingSample]:
        return [sample_of(self.name, self.losses, weights=self.weights)]

    def cut_in_two(self) -> list[TrainingSample]:
        return self.whole() if self.cut == 0 else halves(self.name, self.losses, self.cut, self.weights)


# eighths are exact in float32, so a rescaled weight is too
EIGHTHS = st.integers(1, 24).map(lambda n: n / 8)
TENTHS = st.integers(-30, 30).map(lambda n: n / 16)


@st.composite
def episodes(draw: st.DrawFn) -> list[Episode]:
    result = []
    for n in range(draw(st.integers(1, 4))):
        lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        losses = tuple(tuple(draw(TENTHS) for _ in range(length)) for length in lengths)
        weights = tuple(tuple(draw(EIGHTHS) for _ in range(length)) for length in lengths)
        result.append(Episode(f"r{n}", losses, weights, draw(st.integers(0, len(lengths) - 1))))
    return result


def losses_of(samples: list[TrainingSample]) -> list[Floats]:
    """The token losses, which these samples carry where advantages usually are."""
    return [sample.advantages.astype(np.float64) for sample in samples]


def total(samples: list[TrainingSample], aggregation: Aggregation, constant_tokens: float = 1.0) -> float:
    found = coefficients(samples, aggregation, constant_tokens)
    return float(sum((c * values).sum() for c, values in zip(found, losses_of(samples), strict=True)))


def trained(samples: list[TrainingSample], values: list[Floats]) -> Floats:
    """The values on the mask of all samples, one after the other."""
    return np.concatenate([of[sample.mask] for sample, of in zip(samples, values, strict=True)])


TWO = [
    sample_of("a", [[1.0, 1.0], [1.0, 1.0, 1.0]], weights=[[1.0, 1.0], [2.0, 2.0, 2.0]]),
    sample_of("b", [[1.0]], weights=[[4.0]]),
]


@pytest.mark.parametrize(
    ("aggregation", "constant_tokens", "wanted"),
    [
        ("token", 1.0, [1 / 12, 1 / 12, 2 / 12, 2 / 12, 2 / 12, 4 / 12]),
        ("sequence", 1.0, [1 / 10, 1 / 10, 2 / 10, 2 / 10, 2 / 10, 4 / 2]),
        ("turn", 1.0, [1 / 8, 1 / 8, 2 / 12, 2 / 12, 2 / 12, 4 / 2]),
        ("constant", 1.0, [1 / 2, 1 / 2, 1.0, 1.0, 1.0, 2.0]),
        ("constant", 8.0, [1 / 16, 1 / 16, 1 / 8, 1 / 8, 1 / 8, 1 / 4]),
    ],
)
def test_two_rollouts_worked_by_hand(aggregation: Aggregation, constant_tokens: float, wanted: list[float]) -> None:
    found = trained(TWO, coefficients(TWO, aggregation, constant_tokens))
    np.testing.assert_allclose(found, wanted, rtol=1e-14)


@every_aggregation
def test_coefficients_are_float64_and_exactly_zero_off_the_mask(aggregation: Aggregation) -> None:
    found = coefficients(TWO, aggregation, 3.0)
    assert len(found) == len(TWO)
    for sample, c in zip(TWO, found, strict=True):
        assert c.shape == sample.mask.shape
        assert c.dtype == np.float64
        assert np.all(c[~sample.mask] == 0.0)
        assert np.all(c[sample.mask] > 0.0)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "turn"])
def test_with_weights_of_one_a_mean_has_coefficients_that_sum_to_one(aggregation: Aggregation) -> None:
    samples = [sample_of("a", [[0.0] * 3, [0.0]]), *halves("b", [[0.0], [0.0] * 4], 1, [[1.0], [1.0] * 4])]
    assert sum(c.sum() for c in coefficients(samples, aggregation, 5.0)) == pytest.approx(1.0, rel=1e-14)


def test_the_token_mean_of_unequal_rollouts_is_not_the_mean_of_their_means() -> None:
    samples = [sample_of("long", [[1.0] * 6]), sample_of("short", [[0.0] * 2])]
    assert total(samples, "token") == pytest.approx(0.75, rel=1e-14)
    assert total(samples, "sequence") == pytest.approx(0.5, rel=1e-14)


def test_a_long_turn_weighs_no_more_than_a_short_one_in_the_turn_mean() -> None:
    samples = [sample_of("a", [[1.0] * 9, [0.0]])]
    assert total(samples, "turn") == pytest.approx(0.5, rel=1e-14)
    assert total(samples, "sequence") == pytest.approx(0.9, rel=1e-14)


def test_turns_with_the_same_number_in_two_rollouts_stay_apart() -> None:
    samples = [sample_of("a", [[1.0] * 4]), sample_of("b", [[0.0]])]
    assert total(samples, "turn") == pytest.approx(0.5, rel=1e-14)


# F6: the hybrid advantages of F2's first rollout, on 12 tokens.
F6 = TrainingSample(
    rollout_id="f6",
    token_ids=np.arange(12, dtype=np.int32),
    mask=np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1], dtype=np.bool_),
    turn_ids=np.array([-1, -1, 0, 0, -1, -1, 1, 1, 1, -1, 2, 2], dtype=np.int32),
    sampler_logprobs=np.zeros(12, dtype=np.float32),
    advantages=np.array(
        [0, 0, 1.355288, 1.355288, 0, 0, 1.363217, 1.363217, 1.363217, 0, 1.125831, 1.125831], dtype=np.float32
    ),
    weights=np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1], dtype=np.float32),
    num_turns=3,
)


@pytest.mark.parametrize(
    ("aggregation", "constant_tokens", "wanted"),
    [
        ("token", 1.0, (2 * 1.355288 + 3 * 1.363217 + 2 * 1.125831) / 7),
        ("sequence", 1.0, (2 * 1.355288 + 3 * 1.363217 + 2 * 1.125831) / 7),
        ("turn", 1.0, (1.355288 + 1.363217 + 1.125831) / 3),
        ("constant", 1.0, 2 * 1.355288 + 3 * 1.363217 + 2 * 1.125831),
        ("constant", 12.0, (2 * 1.355288 + 3 * 1.363217 + 2 * 1.125831) / 12),
    ],
)
def test_the_broadcast_advantages_of_f6_aggregate_as_their_turns_say(
    aggregation: Aggregation, constant_tokens: float, wanted: float
) -> None:
    assert total([F6], aggregation, constant_tokens) == pytest.approx(wanted, rel=1e-6)


def test_each_turn_of_f6_carries_a_third_of_the_turn_mean() -> None:
    (c,) = coefficients([F6], "turn")
    np.testing.assert_allclose(c, [0, 0, 1 / 6, 1 / 6, 0, 0, 1 / 9, 1 / 9, 1 / 9, 0, 1 / 6, 1 / 6], rtol=1e-14)


@every_aggregation
@given(batch=episodes(), constant_tokens=st.sampled_from([1.0, 2.5, 40.0]))
@settings(max_examples=60, deadline=None)
def test_the_sum_of_coefficient_times_loss_is_the_aggregated_loss(
    aggregation: Aggregation, batch: list[Episode], constant_tokens: float
) -> None:
    samples = [sample for episode in batch for sample in episode.cut_in_two()]
    wanted = aggregate(samples, losses_of(samples), aggregation, constant_tokens)
    assert total(samples, aggregation, constant_tokens) == pytest.approx(wanted, rel=1e-12, abs=1e-13)


@every_aggregation
@given(batch=episodes())
@settings(max_examples=40, deadline=None)
def test_a_rollout_in_two_samples_counts_once_and_each_token_as_before(
    aggregation: Aggregation, batch: list[Episode]
) -> None:
    whole = [sample for episode in batch for sample in episode.whole()]
    cut = [sample for episode in batch for sample in episode.cut_in_two()]
    before = trained(whole, coefficients(whole, aggregation, 3.0))
    after = trained(cut, coefficients(cut, aggregation, 3.0))
    np.testing.assert_allclose(after, before, rtol=1e-12)


@every_aggregation
@given(batch=episodes(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_samples_changes_no_coefficient(
    aggregation: Aggregation, batch: list[Episode], data: st.DataObject
) -> None:
    samples = [sample for episode in batch for sample in episode.cut_in_two()]
    order = data.draw(st.permutations(range(len(samples))))
    before = coefficients(samples, aggregation, 3.0)
    after = coefficients([samples[i] for i in order], aggregation, 3.0)
    for place, i in enumerate(order):
        np.testing.assert_allclose(after[place], before[i], rtol=1e-12)


@every_aggregation
@given(batch=episodes(), factor=st.sampled_from([0.25, 0.5, 3.0, 8.0]))
@settings(max_examples=40, deadline=None)
def test_a_common_factor_on_all_weights_cancels_in_the_token_mean_and_scales_the_others(
    aggregation: Aggregation, batch: list[Episode], factor: float
) -> None:
    samples = [sample for episode in batch for sample in episode.cut_in_two()]
    heavier = [dataclasses.replace(sample, weights=sample.weights * np.float32(factor)) for sample in samples]
    expected = 1.0 if aggregation == "token" else factor
    before = trained(samples, coefficients(samples, aggregation, 3.0))
    after = trained(heavier, coefficients(heavier, aggregation, 3.0))
    np.testing.assert_allclose(after, expected * before, rtol=1e-12)


@every_aggregation
def test_a_token_of_weight_zero_has_no_coefficient_but_stays_in_the_counts(aggregation: Aggregation) -> None:
    one = [sample_of("a", [[1.0, 1.0]], weights=[[0.0, 1.0]]), sample_of("b", [[1.0]])]
    wanted = {"token": [0.0, 1 / 2, 1 / 2], "constant": [0.0, 1 / 2, 1 / 2]}.get(aggregation, [0.0, 1 / 4, 1 / 2])
    np.testing.assert_allclose(trained(one, coefficients(one, aggregation)), wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("aggregation", "wanted"),
    [
        # shares sum to 1.25: a quarter of rollout a (1 of its 4 tokens, 1 of its 2 turns) and the whole of b
        ("token", [1 / 3, 1 / 3, 1 / 3]),
        ("sequence", [0.25 / 1.25, 0.5 / 1.25, 0.5 / 1.25]),
        ("turn", [0.5 / 1.25, 0.5 / 1.25, 0.5 / 1.25]),
        ("constant", [1 / 2.5, 1 / 2.5, 1 / 2.5]),
    ],
)
def test_a_part_of_a_rollout_alone_in_a_batch_counts_as_that_part_of_a_rollout(
    aggregation: Aggregation, wanted: list[float]
) -> None:
    part = halves("a", [[1.0], [1.0] * 3], 1, [[1.0], [1.0] * 3])[0]
    batch = [part, sample_of("b", [[1.0, 1.0]])]
    np.testing.assert_allclose(trained(batch, coefficients(batch, aggregation, 2.0)), wanted, rtol=1e-14)


@every_aggregation
def test_a_sample_with_nothing_trained_has_zeros_and_leaves_the_others_alone(aggregation: Aggregation) -> None:
    empty = sample_of("a", [[]], share=0.0, num_turns=2)
    without = coefficients(TWO, aggregation, 3.0)
    with_it = coefficients([TWO[0], empty, TWO[1]], aggregation, 3.0)
    assert np.all(with_it[1] == 0.0)
    np.testing.assert_allclose(with_it[0], without[0], rtol=1e-14)
    np.testing.assert_allclose(with_it[2], without[1], rtol=1e-14)
