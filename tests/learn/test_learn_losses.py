"""The policy and supervised losses against a float64 reference with hand-derived gradients, in value and in gradient.

The last part is a stale policy: a softmax table trained through four minibatches with old logprobs held, so that
ratios leave 1 and clips act, its whole path compared.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learn import reference
from tests.learn.reference import Answer, Flat, Floats, Ints, aggregate, sample_of

from banty.errors import InputError
from banty.learn.aggregate import coefficients
from banty.learn.losses import TrainedTokens, kl_estimate, loss_of
from banty.records import AGGREGATIONS, LEVELS, Aggregation, Level, PolicyLoss, SupervisedLoss, TrainingSample

OBJECTIVES = ("clip", "cispo")
# name -> the fields of a PolicyLoss; bounds close to 1 so that they act on the small mismatches drawn below
CORRECTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "truncate-token": {"correction": "truncate", "correction_high": 1.1},
    "truncate-turn": {"correction": "truncate", "correction_level": "turn", "correction_high": 1.2},
    "truncate-sequence-geometric": {
        "correction": "truncate",
        "correction_level": "sequence",
        "correction_geometric": True,
        "correction_high": 1.02,
    },
    "mask-token": {"correction": "mask", "correction_low": 0.85, "correction_high": 1.15},
    "mask-turn-geometric": {
        "correction": "mask",
        "correction_level": "turn",
        "correction_geometric": True,
        "correction_low": 0.93,
        "correction_high": 1.07,
    },
    "mask-sequence": {
        "correction": "mask",
        "correction_level": "sequence",
        "correction_low": 0.7,
        "correction_high": 1.2,
    },
    "icepop-token": {"correction": "icepop", "correction_low": 0.85, "correction_high": 1.15},
    "icepop-turn": {"correction": "icepop", "correction_level": "turn", "correction_low": 0.8, "correction_high": 1.25},
    "icepop-sequence-geometric": {
        "correction": "icepop",
        "correction_level": "sequence",
        "correction_geometric": True,
        "correction_low": 0.96,
        "correction_high": 1.04,
    },
}


@dataclass(frozen=True)
class Found:
    value: float
    gradient: Floats
    metrics: dict[str, float]


def tensors(flat: Flat, dtype: torch.dtype = torch.float64) -> TrainedTokens:
    def of(values: Floats) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype)

    return TrainedTokens(
        logprobs=of(flat.logprobs).requires_grad_(),
        sampler_logprobs=of(flat.sampler),
        advantages=of(flat.advantages),
        coefficients=of(flat.coefficients),
        sample_index=torch.tensor(flat.samples, dtype=torch.int64),
        turn_index=torch.tensor(flat.turns, dtype=torch.int64),
        old_logprobs=None if flat.old is None else of(flat.old),
        ref_logprobs=None if flat.ref is None else of(flat.ref),
    )


def through_torch(flat: Flat, loss: PolicyLoss | SupervisedLoss, dtype: torch.dtype = torch.float64) -> Found:
    tokens = tensors(flat, dtype)
    value, metrics = loss_of(tokens, loss)
    assert value.shape == ()
    value.backward()
    assert tokens.logprobs.grad is not None
    return Found(float(value.detach()), tokens.logprobs.grad.double().numpy(), metrics)


def assert_same(found: float | Floats, wanted: float | Floats) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-9, atol=1e-13)


def assert_agrees(found: Found, wanted: Answer) -> None:
    assert_same(found.value, wanted.value)
    assert_same(found.gradient, wanted.gradient)


def flat_of(
    logprobs: Sequence[float],
    *,
    sampler: Sequence[float] | None = None,
    advantages: Sequence[float] | float = 1.0,
    coefficients: Sequence[float] | float = 1.0,
    samples: Sequence[int] | None = None,
    turns: Sequence[int] | None = None,
    old: Sequence[float] | None = None,
    ref: Sequence[float] | None = None,
) -> Flat:
    """A micro-batch from lists; by default one sample of one turn, sampled by the current weights."""
    count = len(logprobs)

    def floats(given: Sequence[float] | float) -> Floats:
        return np.broadcast_to(np.asarray(given, dtype=np.float64), (count,)).copy()

    def numbers(given: Sequence[int] | None) -> Ints:
        return np.zeros(count, dtype=np.int64) if given is None else np.asarray(given, dtype=np.int64)

    return Flat(
        logprobs=floats(logprobs),
        sampler=floats(logprobs if sampler is None else sampler),
        advantages=floats(advantages),
        coefficients=floats(coefficients),
        samples=numbers(samples),
        turns=numbers(samples if turns is None else turns),
        old=None if old is None else floats(old),
        ref=None if ref is None else floats(ref),
    )


# F7 and F8: two sequences of 3 and 5 trained tokens, the second with a hole.

F7_OLD = np.log([0.5, 0.4, 0.2, 0.6, 0.3, 0.5, 0.25, 0.1])
F7_NEW = np.log([0.65, 0.38, 0.3, 0.45, 0.33, 0.5, 0.3, 0.4])
F7_ROLLOUT = np.log([0.5, 0.1, 0.2, 0.6, 0.3, 0.5, 0.5, 0.02])
F7_SAMPLES = [0, 0, 0, 1, 1, 1, 1, 1]
F7_ADVANTAGES = [1.0] * 3 + [-0.5] * 5
F7_BATCH = [
    TrainingSample(
        rollout_id=name,
        token_ids=np.arange(6, dtype=np.int32),
        mask=np.array(mask, dtype=np.bool_),
        turn_ids=np.array(mask, dtype=np.int32) - 1,
        sampler_logprobs=np.zeros(6, dtype=np.float32),
        advantages=np.zeros(6, dtype=np.float32),
        weights=np.array(mask, dtype=np.float32),
    )
    for name, mask in (("a", [1, 1, 1, 0, 0, 0]), ("b", [1, 1, 0, 1, 1, 1]))
]
SYMMETRIC: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.2}
HIGHER: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.28}
DUAL: dict[str, Any] = {**HIGHER, "dual_clip": 3.0}
OPEN_CISPO: dict[str, Any] = {"objective": "cispo", "clip_low": 1.0, "clip_high": 0.28}


def f7(aggregation: Aggregation | None = None, constant_tokens: float = 1.0, **extra: Any) -> Flat:
    """F7's tokens, every coefficient 1 when no aggregation is named."""
    each: Sequence[float] | float = 1.0
    if aggregation is not None:
        found = coefficients(F7_BATCH, aggregation, constant_tokens)
        each = np.concatenate([c[s.mask] for c, s in zip(found, F7_BATCH, strict=True)]).tolist()
    given: dict[str, Any] = {"sampler": F7_OLD.tolist(), **extra}
    return flat_of(
        F7_NEW.tolist(),
        advantages=F7_ADVANTAGES,
        coefficients=each,
        samples=F7_SAMPLES,
        **given,
    )


def per_token(flat: Flat, loss: PolicyLoss) -> list[float]:
    """The loss of each token: its coefficient 1 and all others' 0, so that groups stay whole."""
    rows = np.eye(len(flat.logprobs))
    return [through_torch(dataclasses.replace(flat, coefficients=row), loss).value for row in rows]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (HIGHER, [-1.28, -0.95, -1.28, 0.4, 0.55, 0.5, 0.6, 2.0]),
        (SYMMETRIC, [-1.20, -0.95, -1.20, 0.4, 0.55, 0.5, 0.6, 2.0]),
        (DUAL, [-1.28, -0.95, -1.28, 0.4, 0.55, 0.5, 0.6, 1.5]),
    ],
)
def test_the_token_losses_of_f7(fields: dict[str, Any], wanted: list[float]) -> None:
    np.testing.assert_allclose(per_token(f7(), PolicyLoss(**fields)), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("aggregation", "constant_tokens", "higher", "symmetric", "dual"),
    [
        ("token", 1.0, 0.067500, 0.087500, 0.005000),
        ("constant", 1.0, 0.270000, 0.350000, 0.020000),  # seq-mean-token-sum
        ("sequence", 1.0, -0.180000, -0.153333, -0.230000),
        ("constant", 3.0, 0.090000, 0.116667, 0.006667),  # sum / 6
        ("constant", 6.0, 0.045000, 0.058333, 0.003333),  # Dr.GRPO
    ],
)
def test_the_aggregated_losses_of_f7(
    aggregation: Aggregation, constant_tokens: float, higher: float, symmetric: float, dual: float
) -> None:
    for fields, wanted in ((HIGHER, higher), (SYMMETRIC, symmetric), (DUAL, dual)):
        found = through_torch(f7(aggregation, constant_tokens), PolicyLoss(**fields))
        assert found.value == pytest.approx(wanted, abs=5.1e-7), fields


def test_old_logprobs_are_what_the_ratio_is_against_where_there_are_any() -> None:
    against_sampler = through_torch(f7("token"), PolicyLoss(**HIGHER))
    against_old = through_torch(
        f7("token", sampler=F7_ROLLOUT.tolist(), old=F7_OLD.tolist()), PolicyLoss(**HIGHER, correction="none")
    )
    assert against_old.value == pytest.approx(against_sampler.value, rel=1e-12)
    assert_same(against_old.gradient, against_sampler.gradient)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (HIGHER, [0, -0.95, 0, 0, 0.55, 0.5, 0.6, 2.0]),
        (DUAL, [0, -0.95, 0, 0, 0.55, 0.5, 0.6, 0]),
        (OPEN_CISPO, [-1.28, -0.95, -1.28, 0.375, 0.55, 0.5, 0.6, 0.64]),
    ],
)
def test_the_token_gradients_of_f7(fields: dict[str, Any], wanted: list[float]) -> None:
    np.testing.assert_allclose(through_torch(f7(), PolicyLoss(**fields)).gradient, wanted, rtol=1e-12, atol=1e-15)


def test_the_cispo_token_mean_of_f7() -> None:
    assert through_torch(f7("token"), PolicyLoss(**OPEN_CISPO)).value == pytest.approx(0.055888, abs=5.1e-7)


@pytest.mark.parametrize(
    ("low", "high", "per_sequence", "mean"),
    [(3e-4, 4e-4, [-1.000400, 0.658429], -0.170985), (0.2, 0.28, [-1.228154, 0.658429], -0.284862)],
)
def test_the_gspo_rows_of_f7(low: float, high: float, per_sequence: list[float], mean: float) -> None:
    loss = PolicyLoss(ratio_level="sequence", aggregation="sequence", clip_low=low, clip_high=high)
    rows = per_token(f7(), loss)
    np.testing.assert_allclose(rows, [per_sequence[i] for i in F7_SAMPLES], atol=5.1e-7)
    assert through_torch(f7("sequence"), loss).value == pytest.approx(mean, abs=5.1e-7)


def test_the_gspo_gradient_of_f7_is_the_sequence_ratio_on_each_token_and_nothing_where_it_is_clipped() -> None:
    loss = PolicyLoss(ratio_level="sequence", clip_low=0.2, clip_high=0.28)
    gradient = through_torch(f7(), loss).gradient
    np.testing.assert_allclose(gradient, [-1.228154] * 3 + [0.658429] * 5, atol=1e-6)
    narrow = through_torch(f7(), dataclasses.replace(loss, clip_low=3e-4, clip_high=4e-4)).gradient
    np.testing.assert_allclose(narrow, [0.0] * 3 + [0.658429] * 5, atol=1e-6)


def test_the_clip_of_f7_removes_the_gradient_of_three_tokens() -> None:
    metrics = through_torch(f7("token"), PolicyLoss(**HIGHER)).metrics
    assert metrics["clipped"] == 3
    assert metrics["tokens"] == 8
    assert all(type(value) is float for value in metrics.values())


def test_a_ratio_out_of_range_on_the_side_that_keeps_its_gradient_is_not_counted_as_clipped() -> None:
    apart = [math.log(1.5), math.log(0.5), math.log(1.5), math.log(0.5)]
    flat = flat_of(apart, sampler=[0.0] * 4, advantages=[1.0, 1.0, -1.0, -1.0])
    found = through_torch(flat, PolicyLoss(**SYMMETRIC))
    np.testing.assert_allclose(found.gradient, [0.0, -0.5, 1.5, 0.0], rtol=1e-12)
    assert found.metrics["clipped"] == 2


# F8: weights of the rollout/trainer mismatch. With the ratio at 1 and A at 1, a token's gradient is minus its weight.


def weights_of(loss: PolicyLoss) -> Floats:
    flat = flat_of(F7_OLD.tolist(), sampler=F7_ROLLOUT.tolist(), old=F7_OLD.tolist(), samples=F7_SAMPLES)
    return -through_torch(flat, loss).gradient


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"correction": "truncate", "correction_high": 100.0}, [1, 4, 1, 1, 1, 1, 0.5, 5]),
        ({"correction": "truncate", "correction_high": 2.0}, [1, 2, 1, 1, 1, 1, 0.5, 2]),
        ({"correction": "mask", "correction_low": 0.5 - 1e-12, "correction_high": 2.0}, [1, 0, 1, 1, 1, 1, 1, 0]),
        ({"correction": "icepop", "correction_low": 0.5 - 1e-12, "correction_high": 2.0}, [1, 0, 1, 1, 1, 1, 0.5, 0]),
        ({"correction": "mask", "correction_low": 0.6, "correction_high": 4.5}, [1, 1, 1, 1, 1, 1, 0, 0]),
        ({"correction": "icepop", "correction_low": 0.6, "correction_high": 4.5}, [1, 4, 1, 1, 1, 1, 0, 0]),
    ],
)
def test_the_token_weights_of_f8(fields: dict[str, Any], wanted: list[float]) -> None:
    np.testing.assert_allclose(weights_of(PolicyLoss(**fields)), wanted, rtol=1e-12, atol=1e-15)


def test_the_lower_bound_of_f8s_token_mask_is_inside() -> None:
    found = weights_of(PolicyLoss(correction="mask", correction_low=0.5, correction_high=2.0))
    np.testing.assert_allclose(found, [1, 0, 1, 1, 1, 1, 1, 0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"correction": "truncate", "correction_high": 100.0}, [4.0, 2.5]),
        ({"correction": "truncate", "correction_high": 2.0}, [2.0, 2.0]),
        ({"correction": "mask", "correction_high": 3.0}, [0.0, 1.0]),
        ({"correction": "icepop", "correction_high": 3.0}, [0.0, 2.5]),
        ({"correction": "truncate", "correction_geometric": True, "correction_high": 100.0}, [1.587401, 1.201124]),
        ({"correction": "mask", "correction_geometric": True, "correction_high": 1.5}, [0.0, 1.0]),
        ({"correction": "icepop", "correction_geometric": True, "correction_low": 1.5}, [1.587401, 0.0]),
    ],
)
@pytest.mark.parametrize("level", ["sequence", "turn"])
def test_the_sequence_weights_of_f8(level: Level, fields: dict[str, Any], wanted: list[float]) -> None:
    found = weights_of(PolicyLoss(correction_level=level, **fields))
    np.testing.assert_allclose(found, [wanted[i] for i in F7_SAMPLES], rtol=1e-6, atol=1e-15)


def test_a_turns_weight_is_made_of_its_own_tokens_only() -> None:
    flat = flat_of(
        F7_OLD.tolist(),
        sampler=F7_ROLLOUT.tolist(),
        old=F7_OLD.tolist(),
        samples=F7_SAMPLES,
        turns=[0, 0, 1, 2, 2, 2, 3, 3],
    )
    loss = PolicyLoss(correction="truncate", correction_level="turn", correction_high=100.0)
    found = -through_torch(flat, loss).gradient
    np.testing.assert_allclose(found, [4, 4, 1, 1, 1, 1, 2.5, 2.5], rtol=1e-12)


def test_the_f7_loss_under_f8s_token_weights() -> None:
    flat = f7("token", sampler=F7_ROLLOUT.tolist(), old=F7_OLD.tolist())
    loss = PolicyLoss(**HIGHER, correction="truncate", correction_high=2.0)
    assert through_torch(flat, loss).value == pytest.approx(0.161250, abs=1e-12)


def test_a_correction_weight_is_a_constant_to_the_gradient() -> None:
    tokens = tensors(flat_of(F7_NEW.tolist(), sampler=F7_ROLLOUT.tolist(), old=F7_OLD.tolist(), samples=F7_SAMPLES))
    tokens.sampler_logprobs.requires_grad_()
    value, _ = loss_of(tokens, PolicyLoss(correction="truncate", correction_high=100.0))
    value.backward()
    assert tokens.sampler_logprobs.grad is None or not tokens.sampler_logprobs.grad.any()


def test_a_correction_of_none_ignores_the_mismatch() -> None:
    flat = flat_of(F7_OLD.tolist(), sampler=F7_ROLLOUT.tolist(), old=F7_OLD.tolist(), samples=F7_SAMPLES)
    np.testing.assert_allclose(through_torch(flat, PolicyLoss()).gradient, [-1.0] * 8, rtol=1e-12)


def test_the_k3_rows_of_f8() -> None:
    flat = flat_of([-1.0, -0.5, -2.0], advantages=0.0, ref=[-1.2, -0.1, -2.0])
    np.testing.assert_allclose(per_token(flat, PolicyLoss(kl=1.0)), [0.018731, 0.091825, 0.0], atol=5.1e-7)
    half = through_torch(dataclasses.replace(flat, coefficients=np.full(3, 0.5)), PolicyLoss(kl=0.04))
    assert half.value == pytest.approx(0.04 * 0.5 * (0.018731 + 0.091825), abs=2e-8)
    wanted = 0.02 * (1.0 - np.exp([-0.2, 0.4, 0.0]))
    np.testing.assert_allclose(half.gradient, wanted, rtol=1e-12, atol=1e-16)


# Bounds of the logarithms and of k3.


@pytest.mark.parametrize(
    ("apart", "k3", "slope"),
    [
        (50.0, 10.0, 0.0),
        (3.0, 10.0, 0.0),
        (2.0, math.exp(2.0) - 3.0, 1.0 - math.exp(2.0)),
        (-9.0, math.exp(-9.0) + 8.0, 1.0 - math.exp(-9.0)),
        (-12.0, 10.0, 0.0),
        (-300.0, 10.0, 0.0),
    ],
)
def test_k3_is_bounded_by_ten(apart: float, k3: float, slope: float) -> None:
    found = through_torch(flat_of([-300.0], advantages=0.0, ref=[-300.0 + apart]), PolicyLoss(kl=1.0))
    assert found.value == pytest.approx(k3, rel=1e-12)
    assert found.gradient[0] == pytest.approx(slope, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("apart", "wanted"), [(300.0, math.exp(20.0)), (-300.0, math.exp(-20.0))])
def test_a_log_ratio_counts_for_no_more_than_twenty(level: Level, apart: float, wanted: float) -> None:
    flat = flat_of([-1.0], sampler=[-1.0 - apart], advantages=-1.0 if apart > 0 else 1.0)
    value = through_torch(flat, PolicyLoss(ratio_level=level)).value
    assert abs(value) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("apart", [300.0, -300.0])
def test_a_token_ratio_at_the_bound_of_its_logarithm_has_no_gradient(apart: float) -> None:
    flat = flat_of([-1.0], sampler=[-1.0 - apart], advantages=-1.0 if apart > 0 else 1.0)
    assert through_torch(flat, PolicyLoss()).gradient[0] == 0.0


@pytest.mark.parametrize("level", LEVELS)
def test_a_correction_weight_counts_for_no_more_than_the_exponential_of_twenty(level: Level) -> None:
    flat = flat_of([-1.0], sampler=[-301.0], old=[-1.0])
    loss = PolicyLoss(correction="truncate", correction_level=level, correction_high=1e30)
    assert through_torch(flat, loss).value == pytest.approx(-math.exp(20.0), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_extreme_logprobs_give_finite_losses_and_gradients_in_float32(level: Level) -> None:
    rng = np.random.default_rng(4)
    flat = flat_of(
        (-300.0 * rng.random(40)).tolist(),
        sampler=(-300.0 * rng.random(40)).tolist(),
        old=(-300.0 * rng.random(40)).tolist(),
        ref=(-300.0 * rng.random(40)).tolist(),
        advantages=rng.normal(size=40).tolist(),
        samples=[i // 10 for i in range(40)],
        turns=[i // 5 for i in range(40)],
    )
    for objective, correction in itertools.product(OBJECTIVES, ("truncate", "mask", "icepop")):
        fields: dict[str, Any] = {"objective": objective, "correction": correction}
        found = through_torch(
            flat, PolicyLoss(**fields, ratio_level=level, correction_level=level, kl=0.1), torch.float32
        )
        assert math.isfinite(found.value)
        assert np.isfinite(found.gradient).all()
        assert all(math.isfinite(value) for value in found.metrics.values())


# What is missing.


@pytest.mark.parametrize("correction", ["truncate", "mask", "icepop"])
def test_a_correction_without_old_logprobs_is_refused(correction: Any) -> None:
    with pytest.raises(InputError, match="old_logprobs"):
        loss_of(tensors(f7()), PolicyLoss(correction=correction))


def test_a_kl_without_reference_logprobs_is_refused() -> None:
    with pytest.raises(InputError, match="ref_logprobs"):
        loss_of(tensors(f7()), PolicyLoss(kl=0.01))


# Random micro-batches against the reference.


def random_flat(seed: int, *, old: bool = True, ref: bool = False) -> Flat:
    """Samples of 1 to 4 turns of 1 to 5 tokens; current weights about 0.3 off the old, those 0.13 off the sampler."""
    rng = np.random.default_rng(seed)
    samples: list[int] = []
    turns: list[int] = []
    for sample in range(6):
        for _ in range(int(rng.integers(1, 5))):
            length = int(rng.integers(1, 6))
            turn = turns[-1] + 1 if turns else 0
            samples += [sample] * length
            turns += [turn] * length
    count = len(samples)
    sampler = -rng.exponential(1.5, count) - 0.2
    before = sampler + rng.normal(0.0, 0.12, count) + rng.normal(0.0, 0.05, 6)[samples]
    return flat_of(
        (before + rng.normal(0.0, 0.25, count) + rng.normal(0.0, 0.25, 6)[samples]).tolist(),
        sampler=sampler.tolist(),
        advantages=rng.normal(size=count).tolist(),
        coefficients=(rng.random(count) / count).tolist(),
        samples=samples,
        turns=turns,
        old=before.tolist() if old else None,
        ref=(sampler + rng.normal(0.0, 0.5, count)).tolist() if ref else None,
    )


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_value_and_gradient_are_the_references_on_random_batches(objective: Any, level: Level, correction: str) -> None:
    loss = PolicyLoss(objective=objective, ratio_level=level, **CORRECTIONS[correction])
    silenced = 0
    seen: set[float] = set()
    for seed in range(4):
        flat = random_flat(seed)
        wanted = reference.policy(flat, loss)
        found = through_torch(flat, loss)
        assert_agrees(found, wanted)
        assert found.metrics["tokens"] == len(flat.logprobs)
        if correction == "none" and objective == "clip":
            assert found.metrics["clipped"] == wanted.silenced
        silenced += wanted.silenced
        seen |= {round(float(weight), 6) for weight in wanted.corrections}
    assert silenced > 0  # the clip acted
    assert (len(seen) > 1) == (correction != "none")  # and so did the correction


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kl", [0.0, 0.04])
@pytest.mark.parametrize("dual_clip", [0.0, 1.4])
@pytest.mark.parametrize("clip_low", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("old", [False, True], ids=["bypass", "decoupled"])
def test_dual_clip_kl_and_an_open_side_are_the_references(
    level: Level, kl: float, dual_clip: float, clip_low: float, old: bool
) -> None:
    loss = PolicyLoss(
        ratio_level=level,
        clip_low=clip_low,
        kl=kl,
        dual_clip=dual_clip,
        correction="truncate" if old else "none",
        correction_high=1.05,
    )
    capped = 0
    for seed in range(10, 14):
        flat = random_flat(seed, old=old, ref=True)
        wanted = reference.policy(flat, loss)
        assert_agrees(through_torch(flat, loss), wanted)
        capped += wanted.capped
    assert (capped > 0) == (dual_clip > 0.0)


def test_kl_is_not_weighed_by_the_correction() -> None:
    flat = dataclasses.replace(random_flat(3, ref=True), advantages=np.zeros(len(random_flat(3).logprobs)))
    nothing_left = PolicyLoss(kl=0.5, correction="mask", correction_low=50.0, correction_high=60.0)
    found = through_torch(flat, nothing_left)
    assert_agrees(found, reference.policy(flat, PolicyLoss(kl=0.5)))
    assert found.value > 0.0


@pytest.mark.parametrize("level", LEVELS)
def test_a_token_losss_gradient_is_the_slope_of_its_value(level: Level) -> None:
    """With one advantage and one coefficient to a group, the stop-gradient form has the true gradient of its value."""
    flat = random_flat(21, ref=True)
    rng = np.random.default_rng(0)
    group = {"token": np.arange(len(flat.logprobs)), "turn": flat.turns, "sequence": flat.samples}[level]
    flat = dataclasses.replace(
        flat,
        advantages=rng.normal(size=len(group))[group],
        coefficients=rng.random(len(group))[group],
    )
    loss = PolicyLoss(ratio_level=level, kl=0.1, correction="truncate", correction_level=level, dual_clip=3.0)
    found = through_torch(flat, loss)
    step = 1e-6
    for i in range(len(group)):
        ends = []
        for sign in (1.0, -1.0):
            moved = flat.logprobs.copy()
            moved[i] += sign * step
            ends.append(through_torch(dataclasses.replace(flat, logprobs=moved), loss).value)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert found.gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_at_the_old_policy_every_objective_and_level_has_the_plain_policy_gradient() -> None:
    flat = random_flat(5, old=False)
    flat = dataclasses.replace(flat, sampler=flat.logprobs.copy())
    for objective, level in itertools.product(("clip", "cispo"), LEVELS):
        fields: dict[str, Any] = {"objective": objective, "ratio_level": level}
        found = through_torch(flat, PolicyLoss(**fields))
        assert_same(found.gradient, -flat.coefficients * flat.advantages)
        assert found.metrics["clipped"] == 0


def test_float32_tokens_come_close_to_the_float64_reference() -> None:
    flat = random_flat(6, ref=True)
    loss = PolicyLoss(ratio_level="turn", kl=0.1, **CORRECTIONS["icepop-sequence-geometric"])
    found, wanted = through_torch(flat, loss, torch.float32), reference.policy(flat, loss)
    assert found.value == pytest.approx(wanted.value, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(found.gradient, wanted.gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_supervised_loss_is_minus_the_logprob_times_its_coefficient(aggregation: Aggregation) -> None:
    flat = dataclasses.replace(random_flat(7, old=False), advantages=np.full(len(random_flat(7).logprobs), np.nan))
    found = through_torch(flat, SupervisedLoss(aggregation=aggregation))
    assert_agrees(found, reference.supervised(flat))
    assert found.metrics["tokens"] == len(flat.logprobs)


# What may not matter.


def permuted(flat: Flat, order: Ints) -> Flat:
    return Flat(
        logprobs=flat.logprobs[order],
        sampler=flat.sampler[order],
        advantages=flat.advantages[order],
        coefficients=flat.coefficients[order],
        samples=flat.samples[order],
        turns=flat.turns[order],
        old=None if flat.old is None else flat.old[order],
        ref=None if flat.ref is None else flat.ref[order],
    )


def renumbered(flat: Flat) -> Flat:
    """Sample and turn numbers counted from 0 again."""
    return dataclasses.replace(
        flat,
        samples=np.unique(flat.samples, return_inverse=True)[1].astype(np.int64),
        turns=np.unique(flat.turns, return_inverse=True)[1].astype(np.int64),
    )


@st.composite
def losses(draw: st.DrawFn) -> PolicyLoss:
    fields: dict[str, Any] = dict(CORRECTIONS[draw(st.sampled_from(sorted(CORRECTIONS)))])
    return PolicyLoss(
        objective=draw(st.sampled_from(("clip", "cispo"))),
        ratio_level=draw(st.sampled_from(LEVELS)),
        kl=draw(st.sampled_from((0.0, 0.1))),
        **fields,
    )


@given(seed=st.integers(0, 50), loss=losses(), parts=st.lists(st.integers(0, 2), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_samples_may_be_spread_over_micro_batches_in_any_way(seed: int, loss: PolicyLoss, parts: list[int]) -> None:
    flat = random_flat(seed, ref=True)
    together = through_torch(flat, loss)
    gradient = np.full_like(together.gradient, np.nan)
    value, clipped, tokens = 0.0, 0.0, 0.0
    for part in sorted(set(parts)):
        inside = np.flatnonzero(np.asarray(parts)[flat.samples] == part)
        found = through_torch(renumbered(permuted(flat, inside)), loss)
        gradient[inside] = found.gradient
        value += found.value
        clipped += found.metrics["clipped"]
        tokens += found.metrics["tokens"]
    assert_same(value, together.value)
    assert_same(gradient, together.gradient)
    assert (clipped, tokens) == (together.metrics["clipped"], together.metrics["tokens"])


@given(seed=st.integers(0, 50), loss=losses(), mixed=st.permutations(range(6)))
@settings(max_examples=40, deadline=None)
def test_the_order_of_samples_and_of_tokens_changes_nothing(seed: int, loss: PolicyLoss, mixed: list[int]) -> None:
    flat = random_flat(seed, ref=True)
    together = through_torch(flat, loss)
    rng = np.random.default_rng(seed)
    orders = [
        np.concatenate([np.flatnonzero(flat.samples == i) for i in mixed]),
        rng.permutation(len(flat.logprobs)),
    ]
    for order in orders:
        found = through_torch(permuted(flat, order.astype(np.int64)), loss)
        assert_same(found.value, together.value)
        assert_same(found.gradient, together.gradient[order])


@pytest.mark.parametrize("level", LEVELS)
def test_a_sample_without_trained_tokens_leaves_a_gap_in_the_numbers_and_no_trace(level: Level) -> None:
    flat = random_flat(8)
    loss = PolicyLoss(ratio_level=level, correction="truncate", correction_level=level, correction_geometric=True)
    spread = dataclasses.replace(flat, samples=2 * flat.samples + 1, turns=3 * flat.turns + 2)
    found, wanted = through_torch(spread, loss), through_torch(flat, loss)
    assert_same(found.value, wanted.value)
    assert_same(found.gradient, wanted.gradient)


# A stale policy: one draw of samples, four minibatches, old logprobs held.

STATES, ACTIONS, MINIBATCHES, RATE = 4, 5, 4, 2.5


@dataclass(frozen=True)
class Draw:
    """A sample of the table policy with, per trained token, where it was and what it did."""

    sample: TrainingSample
    states: Ints
    actions: Ints
    advantages: Floats

    @property
    def turns(self) -> Ints:
        return self.sample.turn_ids[self.sample.mask].astype(np.int64)


@dataclass(frozen=True)
class Scene:
    trainer: Floats
    """The logits before the update."""
    sampler: Floats
    """The inference engine's, slightly off."""
    ref: Floats
    minibatches: list[list[Draw]]


def draw_sample(rng: np.random.Generator, sampler: Floats, worth: Floats, name: str, lengths: list[int]) -> Draw:
    count = sum(lengths)
    states = rng.integers(0, STATES, count)
    actions = np.array([rng.choice(ACTIONS, p=np.exp(reference.log_softmax(sampler[s]))) for s in states])
    per_turn = np.repeat(rng.normal(0.0, 0.3, len(lengths)), lengths)
    advantages = (worth[states, actions] + per_turn).astype(np.float32)
    cuts = np.cumsum(lengths)[:-1]
    turns = [part.tolist() for part in np.split(advantages, cuts)]
    weights = [[float(w) for w in rng.integers(4, 13, n) / 8] for n in lengths]
    return Draw(
        sample_of(name, turns, weights=weights),
        states.astype(np.int64),
        actions.astype(np.int64),
        advantages.astype(np.float64),
    )


def make_scene() -> Scene:
    rng = np.random.default_rng(11)
    trainer = rng.normal(0.0, 0.6, (STATES, ACTIONS))
    sampler = trainer + rng.normal(0.0, 0.15, trainer.shape)
    worth = rng.normal(0.0, 1.2, trainer.shape)
    minibatches = []
    for n in range(MINIBATCHES):
        batch = []
        for k in range(6):
            lengths = [int(v) for v in rng.integers(1, 6, int(rng.integers(1, 4)))]
            batch.append(draw_sample(rng, sampler, worth, f"r{n}-{k}", lengths))
        # a rollout whose template rewrote history: two samples of one id
        parts = [draw_sample(rng, sampler, worth, f"r{n}-cut", lengths) for lengths in ([3], [2, 4])]
        for part, share, first in zip(parts, (3 / 9, 6 / 9), (0, 1), strict=True):
            ids = np.where(part.sample.mask, part.sample.turn_ids + first, -1).astype(np.int32)
            sample = dataclasses.replace(part.sample, rollout_share=share, num_turns=3, turn_ids=ids)
            batch.append(dataclasses.replace(part, sample=sample))
        minibatches.append(batch)
    return Scene(trainer, sampler, trainer + rng.normal(0.0, 0.3, trainer.shape), minibatches)


SCENE = make_scene()


def table_logprobs(logits: Floats, draws: Sequence[Draw]) -> Floats:
    table = reference.log_softmax(logits)
    return np.concatenate([table[d.states, d.actions] for d in draws])


def flat_of_draws(draws: Sequence[Draw], each: Sequence[Floats], logprobs: Floats, *, old: bool, ref: bool) -> Flat:
    """The draws as one micro-batch."""
    samples = np.concatenate([np.full(len(d.states), i) for i, d in enumerate(draws)])
    pairs = np.stack([samples, np.concatenate([d.turns for d in draws])], axis=1)
    return Flat(
        logprobs=logprobs,
        sampler=table_logprobs(SCENE.sampler, draws),
        advantages=np.concatenate([d.advantages for d in draws]),
        coefficients=np.concatenate(each),
        samples=samples.astype(np.int64),
        turns=np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64),
        old=table_logprobs(SCENE.trainer, draws) if old else None,
        ref=table_logprobs(SCENE.ref, draws) if ref else None,
    )


@dataclass
class Path:
    """The logits after each minibatch and, by the reference, how far the ratios went and what the clip did."""

    values: list[float]
    logits: list[Floats]
    furthest: float = 0.0
    silenced: int = 0
    first_ratios: float = 0.0
    clipped: float = 0.0


@functools.cache
def shares(step: int, aggregation: Aggregation, constant_tokens: float) -> list[Floats]:
    """Coefficients as `reference.aggregate` with one token's loss at 1 and all others at 0, as it is linear."""
    samples = [d.sample for d in SCENE.minibatches[step]]
    each = []
    for i, sample in enumerate(samples):
        mine = []
        for t in np.flatnonzero(sample.mask):
            unit = [np.zeros(len(other.mask)) for other in samples]
            unit[i][t] = 1.0
            mine.append(aggregate(samples, unit, aggregation, constant_tokens))
        each.append(np.array(mine))
    return each


def path_of_reference(loss: PolicyLoss, *, old: bool) -> Path:
    logits = SCENE.trainer.copy()
    path = Path([], [])
    for step, draws in enumerate(SCENE.minibatches):
        each = shares(step, loss.aggregation, loss.constant_tokens)
        flat = flat_of_draws(draws, each, table_logprobs(logits, draws), old=old, ref=loss.kl > 0)
        answer = reference.policy(flat, loss)
        apart = float(np.abs(np.log(answer.ratios)).max())
        path.furthest = max(path.furthest, apart)
        path.first_ratios = apart if step == 0 else path.first_ratios
        path.silenced += answer.silenced
        states = np.concatenate([d.states for d in draws])
        actions = np.concatenate([d.actions for d in draws])
        logits = logits - RATE * reference.table_gradient(logits, states, actions, answer.gradient)
        path.values.append(answer.value)
        path.logits.append(logits)
    return path


def path_of_torch(loss: PolicyLoss, *, old: bool) -> Path:
    """Coefficients over the minibatch, its samples in two micro-batches, then one step of plain descent."""
    logits = torch.tensor(SCENE.trainer, requires_grad=True)
    path = Path([], [])
    for draws in SCENE.minibatches:
        found = coefficients([d.sample for d in draws], loss.aggregation, loss.constant_tokens)
        each = [c[d.sample.mask] for c, d in zip(found, draws, strict=True)]
        total = 0.0
        for part in (slice(0, 3), slice(3, None)):
            inside = draws[part]
            states = torch.tensor(np.concatenate([d.states for d in inside]))
            actions = torch.tensor(np.concatenate([d.actions for d in inside]))
            logprobs = torch.log_softmax(logits, dim=-1)[states, actions]
            flat = flat_of_draws(inside, each[part], logprobs.detach().numpy(), old=old, ref=loss.kl > 0)
            value, metrics = loss_of(dataclasses.replace(tensors(flat), logprobs=logprobs), loss)
            value.backward()
            total += float(value.detach())
            path.clipped += metrics["clipped"]
        slope = logits.grad
        assert slope is not None
        logits = (logits.detach() - RATE * slope).requires_grad_()
        path.values.append(total)
        path.logits.append(logits.detach().numpy())
    return path


def assert_same_path(found: Path, wanted: Path) -> None:
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-12)
    for step, (mine, theirs) in enumerate(zip(found.logits, wanted.logits, strict=True)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12, err_msg=f"after minibatch {step + 1}")


def stale_loss(objective: Any, level: Level, aggregation: Aggregation, **fields: Any) -> PolicyLoss:
    # the mean of a token's log ratios over a sequence moves less than one token's, and so do its bounds
    width = {"token": 1.0, "turn": 0.6, "sequence": 0.4}[level]
    return PolicyLoss(
        objective=objective,
        ratio_level=level,
        clip_low=0.2 * width,
        clip_high=0.28 * width,
        aggregation=aggregation,
        constant_tokens=4.0,
        **fields,
    )


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_minibatches_on_old_samples_take_the_references_path(
    objective: Any, level: Level, aggregation: Aggregation, correction: str
) -> None:
    loss = stale_loss(objective, level, aggregation, **CORRECTIONS[correction])
    wanted = path_of_reference(loss, old=True)
    assert wanted.first_ratios == 0.0
    assert wanted.furthest > 0.25
    assert wanted.silenced >= 3
    found = path_of_torch(loss, old=True)
    assert_same_path(found, wanted)
    if objective == "clip" and correction == "none":
        assert found.clipped == wanted.silenced


@pytest.mark.parametrize("old", [False, True], ids=["bypass", "decoupled"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_four_minibatches_with_kl_and_a_dual_clip_take_the_references_path(
    level: Level, aggregation: Aggregation, old: bool
) -> None:
    extra: dict[str, Any] = {"kl": 0.05, "dual_clip": 1.3, **(CORRECTIONS["icepop-token"] if old else {})}
    loss = stale_loss("clip", level, aggregation, **extra)
    wanted = path_of_reference(loss, old=old)
    assert wanted.furthest > 0.25
    assert (wanted.first_ratios > 0.02) == (not old)
    assert wanted.silenced >= 3
    assert_same_path(path_of_torch(loss, old=old), wanted)


def test_the_corrections_of_the_stale_policy_lead_to_different_places() -> None:
    """Or the comparisons above would show less than they seem to."""
    ends = [
        path_of_reference(stale_loss("clip", "token", "token", **fields), old=True).logits[-1]
        for fields in CORRECTIONS.values()
    ]
    for one, other in itertools.combinations(ends, 2):
        assert np.abs(one - other).max() > 1e-4


def test_f8_the_three_estimates_of_the_divergence() -> None:
    logprobs = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
    ref = torch.tensor([-1.2, -0.1, -2.0], dtype=torch.float64)
    for kind, wanted in (("k1", [0.2, -0.4, 0.0]), ("k2", [0.02, 0.08, 0.0]), ("k3", [0.018731, 0.091825, 0.0])):
        found = kl_estimate(logprobs, ref, kind)  # type: ignore[arg-type]
        assert found.tolist() == pytest.approx(wanted, abs=1e-6)


def test_k2_in_the_loss_pulls_towards_the_reference() -> None:
    """Its gradient on a logprob is the difference itself (k3's is 1 - exp of it): both vanish at the reference."""
    logprobs = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-1.2, -0.1, -2.0], dtype=torch.float64)
    kl_estimate(logprobs, ref, "k2").sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.2, -0.4, 0.0])
