"""Drawing tokens: the compiled kernel against torch's operations, and what is never drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from banty.errors import PolicyFault
from banty.models.native.compiled import KERNELS, use_kernels
from banty.policies.sampling import draw
from banty.records import SamplingParams

ROWS = 40
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    yield
    use_kernels(KERNELS)


def by_both(logits: torch.Tensor, params: list[SamplingParams], uniforms: list[float]) -> list[tuple[list[int], ...]]:
    found = []
    for wanted in (KERNELS, ()):
        use_kernels(wanted)
        found.append(draw(logits, params, uniforms))
    return found  # type: ignore[return-value]


@each_dtype
@pytest.mark.parametrize("vocabulary", [1, 7, 256, 300, 2048])
def test_the_kernel_draws_what_torch_draws(dtype: torch.dtype, vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    logits = torch.tensor(rng.normal(size=(ROWS, vocabulary)) * 4).to(dtype)
    params = [SamplingParams(temperature=float(one)) for one in rng.uniform(0.2, 3.0, ROWS)]
    (tokens, logprobs), (others, theirs) = by_both(logits, params, rng.random(ROWS).tolist())
    # A point within rounding of the line between two tokens may fall on either side.
    assert sum(one != other for one, other in zip(tokens, others, strict=True)) <= 1
    same = [place for place in range(ROWS) if tokens[place] == others[place]]
    np.testing.assert_allclose([logprobs[one] for one in same], [theirs[one] for one in same], atol=3e-6)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).repeat(20_000, 1)
    uniforms = np.random.default_rng(0).random(20_000).tolist()
    tokens, _ = draw(logits, [SamplingParams(temperature=0.5)] * 20_000, uniforms)
    shares = np.bincount(tokens, minlength=4) / 20_000
    np.testing.assert_allclose(shares, torch.softmax(logits[0] / 0.5, -1).numpy(), atol=0.012)


@each_dtype
def test_what_is_ruled_out_is_never_drawn(dtype: torch.dtype) -> None:
    logits = torch.full((5, 600), float("-inf"), dtype=dtype)
    logits[:, 3] = logits[:, 590] = 1.0
    uniforms = [0.0, 0.49, 0.51, 0.9999999999, float(np.nextafter(1.0, 0.0))]
    for tokens, logprobs in by_both(logits, [SamplingParams()] * 5, uniforms):
        assert tokens == [3, 3, 590, 590, 590]
        np.testing.assert_allclose(logprobs, np.log(0.5), atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_gives_no_distribution_is_a_fault(value: float) -> None:
    logits = torch.zeros(2, 300)
    logits[1, 299] = value
    for wanted in (KERNELS, ()):
        use_kernels(wanted)
        with pytest.raises(PolicyFault, match="no distribution"):
            draw(logits, [SamplingParams()] * 2, [0.5, 0.5])


def test_rows_with_other_transforms_are_left_to_torch() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    params = [SamplingParams(temperature=0.0), SamplingParams(top_k=1), SamplingParams()]
    tokens, logprobs = draw(logits, params, [0.99, 0.99, 0.0])
    assert tokens == [1, 1, 0]
    assert logprobs[:2] == [0.0, 0.0]
