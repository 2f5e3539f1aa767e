"""AdamW whose moments are kept in 8 bits, with a float32 scale per block of 256 numbers.

Block-wise quantization is Dettmers et al. 2021 (arXiv 2110.02861). Here codes divide evenly the square root of a first
moment and the fourth root of a second, relative to the largest of their block, so that small numbers keep a share of
them. A number is rounded up or down by a threshold that changes from update to update: rounded to the nearest, a moving
average whose change is less than half a code would stay where it is for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 256
LEAST_NUMBERS = 4096
"""Tensors of fewer numbers are not worth a quantization, and are often those that are sensitive to it."""
_CHUNK = BLOCK * 512
"""Numbers that are unpacked at a time: what they take in float32 stays small beside the tensors, and in a cache."""
_SIGNED, _UNSIGNED = 127, 255
_TINY = torch.finfo(torch.float32).tiny
_LEAST_CODE = 2
"""(2 / 255)^2 is what the square root of a second moment is then at least, of its block's largest; the least of a first
moment is (1 / 127)^2 of its own. So rounding makes no small number step further than about what its block's largest
does, and none divides by 0."""


def thresholds(count: int, device: torch.device | None = None) -> Tensor:
    """In [0, 1), one a place in a block, for the `count`-th rounding: what lies further above a code rounds up.

    Places differ at one count, and a place runs through all of 0, 1/65536, ... as counts go by, evenly from the start
    (a Weyl sequence), so that what is rounded over and over is right in the mean. Integers: the same on every device.
    """
    places = torch.arange(BLOCK, device=device)
    return ((places * 49471 + count * 37345) & 0xFFFF) / 65536


def quantize_signed(values: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (int8, of the shape of `values` [blocks, BLOCK]) and scales ([blocks, 1])."""
    sizes = values.abs()
    scales = sizes.amax(1, keepdim=True).clamp_min_(_TINY)
    sizes.div_(scales).mul_(_SIGNED**2)
    lower = sizes.sqrt().floor_()
    sizes.sub_(lower.square())
    lower.add_(sizes > (2 * lower).add_(1).mul_(bounds))
    return lower.copysign_(values).to(torch.int8), scales


def dequantize_signed(codes: Tensor, scales: Tensor) -> Tensor:
    values = codes.float()
    return values.mul_(values.abs()).mul_(scales / _SIGNED**2)


def quantize_unsigned(values: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (uint8) and scales of numbers that are not negative; none but 0 gets a code below 2."""
    scales = values.amax(1, keepdim=True).clamp_min_(_TINY)
    sizes = (values / scales).mul_(_UNSIGNED**4)
    codes = sizes.sqrt().sqrt_().floor_()
    lower = codes.square().square_()
    upper = (codes + 1).square_().square_()
    codes.add_(sizes.sub_(lower) > upper.sub_(lower).mul_(bounds))
    return codes.clamp_min_(_LEAST_CODE).mul_(values > 0).to(torch.uint8), scales


def dequantize_unsigned(codes: Tensor, scales: Tensor) -> Tensor:
    return codes.float().div_(_UNSIGNED).square_().square_().mul_(scales)


class BlockwiseAdamW(torch.optim.Optimizer):
    """`torch.optim.AdamW` in all but how its moments are kept: `exp_avg` and `exp_avg_sq` are codes of the parameter's
    shape, each with its scales. An update is made with the moments before they are rounded."""

    def __init__(
        self, params: list[Tensor], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "gradients are there already"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            for name, (shape, dtype) in kept(parameter).items():
                state[name] = torch.zeros(shape, dtype=dtype, device=parameter.device)
        state["step"] += 1
        count = int(state["step"])
        beta1, beta2 = group["betas"]
        rate, root = group["lr"] / (1 - beta1**count), (1 - beta2**count) ** 0.5
        bounds = thresholds(count, parameter.device)
        weights, gradients = parameter.view(-1), parameter.grad.reshape(-1)  # type: ignore[union-attr]
        codes1, codes2 = state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)
        for numbers, blocks in _chunks(len(weights)):
            scales1, scales2 = state["exp_avg_scale"][blocks, None], state["exp_avg_sq_scale"][blocks, None]
            gradient = _rows(gradients[numbers])
            first = dequantize_signed(_rows(codes1[numbers]), scales1).lerp_(gradient, 1 - beta1)
            second = dequantize_unsigned(_rows(codes2[numbers]), scales2).mul_(beta2)
            second.addcmul_(gradient, gradient, value=1 - beta2)
            chunk = weights[numbers]
            update = first / second.sqrt().div_(root).add_(group["eps"])
            chunk.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view(-1)[: len(chunk)], alpha=rate)
            for moment, codes, scales, quantize in (
                (first, codes1[numbers], scales1, quantize_signed),
                (second, codes2[numbers], scales2, quantize_unsigned),
            ):
                new, largest = quantize(moment, bounds)
                codes.copy_(new.view(-1)[: len(chunk)])
                scales.copy_(largest)


def kept(parameter: Tensor) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of what is kept for a parameter that ever had a gradient, by name."""
    blocks = torch.Size([-(-parameter.numel() // BLOCK)])
    return {
        "step": (torch.Size(), torch.float32),
        "exp_avg": (parameter.shape, torch.int8),
        "exp_avg_scale": (blocks, torch.float32),
        "exp_avg_sq": (parameter.shape, torch.uint8),
        "exp_avg_sq_scale": (blocks, torch.float32),
    }


def _chunks(size: int) -> Iterator[tuple[slice, slice]]:
    """Places of numbers, and of the blocks they fill; the last block may be short."""
    for start in range(0, size, _CHUNK):
        end = min(start + _CHUNK, size)
        yield slice(start, end), slice(start // BLOCK, -(-end // BLOCK))


def _rows(values: Tensor) -> Tensor:
    """[blocks, BLOCK], the last filled up with zeros."""
    missing = -len(values) % BLOCK
    return (pad(values, (0, missing)) if missing else values).view(-1, BLOCK)
