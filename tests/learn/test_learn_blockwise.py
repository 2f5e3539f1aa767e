"""AdamW with moments in 8 bits: what rounding can do to a number, and what it does to training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from banty.learn.blockwise import (
    BLOCK,
    BlockwiseAdamW,
    dequantize_signed,
    dequantize_unsigned,
    kept,
    quantize_signed,
    quantize_unsigned,
    thresholds,
)

NUMBERS = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False)
BLOCKS = arrays(np.float32, (2, BLOCK), elements=NUMBERS)
COUNTS = st.integers(0, 1 << 40)


def seeded(scale: float = 1.0) -> Tensor:
    """Numbers of many sizes, from a draw of its own."""
    rng = np.random.default_rng(0)
    return torch.from_numpy((rng.normal(size=(4, BLOCK)) * scale * 10.0 ** rng.uniform(-6, 0, (4, BLOCK))).astype("f4"))


@settings(deadline=None, max_examples=60)
@given(BLOCKS, COUNTS)
def test_a_first_moment_comes_back_within_one_code(drawn: np.ndarray, count: int) -> None:
    """A code is (2 c + 1) / 127^2 of the block's largest wide where the number is c^2 / 127^2 of it."""
    values = torch.from_numpy(drawn)
    codes, scales = quantize_signed(values, thresholds(count))
    found = dequantize_signed(codes, scales)
    largest = values.abs().amax(1, keepdim=True)
    shares = torch.where(largest > 0, values.abs() / largest, 0.0)
    code = (2 * 127 * shares.sqrt() + 1) / 127**2 * largest
    assert bool(((found - values).abs() <= code * (1 + 1e-4) + 1e-37).all())
    assert bool((found * values >= 0).all()), "no sign is turned round"
    assert bool((found[values == 0] == 0).all())


@settings(deadline=None, max_examples=60)
@given(BLOCKS, COUNTS)
def test_a_second_moment_comes_back_within_one_code_and_never_as_0(drawn: np.ndarray, count: int) -> None:
    values = torch.from_numpy(drawn).abs()
    codes, scales = quantize_unsigned(values, thresholds(count))
    found = dequantize_unsigned(codes, scales)
    largest = values.amax(1, keepdim=True)
    roots = torch.where(largest > 0, values / largest, 0.0) ** 0.25 * 255
    code = ((roots + 1) ** 4 - (roots - 1).clamp_min(0) ** 4) / 255**4 * largest
    least = (2 / 255) ** 4 * largest
    assert bool(((found - values).abs() <= torch.maximum(code, least) * (1 + 1e-4) + 1e-37).all())
    assert torch.equal(codes == 0, values == 0)
    assert bool((codes[values > 0] >= 2).all())


def test_the_largest_of_a_block_comes_back_as_it_was() -> None:
    for quantize, dequantize, values in (
        (quantize_signed, dequantize_signed, seeded(3e-5)),
        (quantize_unsigned, dequantize_unsigned, seeded(3e-5).square()),
    ):
        place = values.abs().argmax(1, keepdim=True)
        for count in (1, 7, 65_535):
            found = dequantize(*quantize(values, thresholds(count)))
            torch.testing.assert_close(found.gather(1, place), values.gather(1, place), rtol=1e-6, atol=0.0)


def test_rounding_is_right_in_the_mean() -> None:
    """Over updates, each at its place: so a moving average is not held where its changes are less than half a code."""
    values = seeded()
    for quantize, dequantize, given_, bound in (
        (quantize_signed, dequantize_signed, values, 0.0),
        (quantize_unsigned, dequantize_unsigned, values.square(), (3 / 255) ** 4),
    ):
        rounds = 1024
        mean = sum(dequantize(*quantize(given_, thresholds(count))).double() for count in range(rounds)) / rounds
        largest = given_.abs().amax(1, keepdim=True)
        judged = given_.abs() > bound * largest  # below it a second moment is lifted
        code = ((given_.abs() / largest) ** 0.5 * 2 * 127 + 1) / 127**2 * largest
        assert float(((mean - given_).abs() / code)[judged].max()) < 5e-3
        nearest = dequantize(*quantize(given_, torch.full((BLOCK,), 0.5)))
        assert float(((nearest - given_).abs() / code)[judged].max()) > 0.1


def test_thresholds_run_evenly_through_all_there_are() -> None:
    seen = torch.stack([thresholds(count) for count in range(4096)])
    assert float(seen.min()) == 0.0
    assert float(seen.max()) == 1.0 - 2.0**-16
    assert len(seen[:, 17].unique()) == 4096
    assert torch.equal(thresholds(65_536), thresholds(0))
    for start in (0, 1000):
        parts = seen[start : start + 100].sort(dim=0).values
        assert float((parts - (torch.arange(100)[:, None] + 0.5) / 100).abs().max()) < 0.05
    assert len(seen[3].unique()) == BLOCK


def test_one_huge_and_many_tiny_numbers_neither_explode_nor_stand_still() -> None:
    """The tiny gradients are 10^-7 of the huge one: their second moment would round to 0 under a first that may not."""
    parameter = torch.zeros(32, BLOCK)
    gradient = torch.full((32, BLOCK), 1e-7)
    gradient[:, 0] = 1.0
    optimizer = BlockwiseAdamW([parameter], lr=1.0, betas=(0.9, 0.99), eps=1e-12, weight_decay=0.0)
    before = parameter.clone()
    for _ in range(50):
        parameter.grad = gradient
        optimizer.step()
        assert float((parameter - before).abs().max()) <= 1.001, "no step is longer than the block's largest one"
        before = parameter.clone()
    assert float(parameter[:, 1:].max()) < 0.0
    np.testing.assert_allclose(parameter[:, 0], -50.0, rtol=1e-3)


def test_parameters_without_gradients_stay_and_gradients_of_0_do_nothing() -> None:
    parameters = [torch.ones(5000), torch.ones(5000)]
    optimizer = BlockwiseAdamW(parameters, lr=1.0, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.5)
    parameters[0].grad = torch.zeros(5000)
    optimizer.step()
    assert torch.equal(parameters[0], torch.full((5000,), 0.5)), "decayed alone"
    assert torch.equal(parameters[1], torch.ones(5000))
    assert parameters[1] not in optimizer.state


@pytest.mark.parametrize("shape", [(4096,), (4097,), (70, 129), (600, 300), (8, 16, 33)], ids=str)
def test_a_first_update_is_adamw_s_for_every_shape(shape: tuple[int, ...]) -> None:
    """It is made with moments that were not rounded yet; shapes that fill no whole block or more than one chunk."""
    torch.manual_seed(0)
    start, gradient = torch.randn(shape), torch.randn(shape)
    ours, theirs = start.clone(), start.clone()
    options: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    for made, parameter in ((BlockwiseAdamW, ours), (torch.optim.AdamW, theirs)):
        parameter.grad = gradient.clone()
        optimizer = made([parameter], **options)
        optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-6)
    state = optimizer_state(ours, gradient)
    assert {name: (value.shape, value.dtype) for name, value in state.items()} == kept(ours)


def optimizer_state(parameter: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """What is kept after one update."""
    optimizer = BlockwiseAdamW([parameter], lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    parameter.grad = gradient
    optimizer.step()
    return dict(optimizer.state[parameter])


def test_moments_stay_near_float32_s_over_many_updates() -> None:
    """Gradients of many sizes with noise. Rounding each second moment to the nearest code would leave those that fell
    where they were: the last hundred updates have a tenth of the gradient."""
    torch.manual_seed(0)
    ours, theirs = torch.zeros(8192), torch.zeros(8192)
    spread = 10.0 ** torch.empty(8192).uniform_(-1.5, 0.0)
    spread[::BLOCK] = 10.0  # these set the scales, and go on as they are
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
    eight = BlockwiseAdamW([ours], **options)
    whole = torch.optim.AdamW([theirs], **options)
    for step in range(600):
        gradient = torch.randn(8192) * spread
        if step >= 300:
            gradient[torch.arange(8192) % BLOCK > 0] /= 10
        ours.grad, theirs.grad = gradient, gradient.clone()
        eight.step()
        whole.step()
    state = eight.state[ours]
    second = dequantize_unsigned(state["exp_avg_sq"].view(-1, BLOCK), state["exp_avg_sq_scale"][:, None]).view(-1)
    ratio = (second / whole.state[theirs]["exp_avg_sq"])[torch.arange(8192) % BLOCK > 0]
    assert 0.8 < float(ratio.median()) < 1.25
    assert 0.8 < float(ratio.mean()) < 1.25


@pytest.mark.parametrize("beta2", [0.99, 0.999])
def test_a_quadratic_is_brought_down_as_far_as_in_float32(beta2: float) -> None:
    """Ill-conditioned, 10,000 numbers, with noise in the gradient: within a tenth of what float32 leaves."""
    torch.manual_seed(0)
    curvature = torch.logspace(0, -3, 10_000)[torch.randperm(10_000)]
    start, noise = torch.randn(10_000), torch.randn(400, 10_000)

    def left(made: type[torch.optim.Optimizer]) -> float:
        parameter = start.clone()
        optimizer = made([parameter], lr=1e-2, betas=(0.9, beta2), eps=1e-8, weight_decay=0.0)  # type: ignore[call-arg]
        for step in range(400):
            parameter.grad = curvature * (parameter + 0.1 * noise[step])
            optimizer.step()
        return float((curvature * parameter.square()).sum())

    whole, eight = left(torch.optim.AdamW), left(BlockwiseAdamW)
    assert whole < 0.01 * float((curvature * start.square()).sum())
    assert eight < 1.1 * whole
