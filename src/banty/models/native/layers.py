"""What stands between a layer's matrix products: norms, rotary positions, the gated unit, with their gradients."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from banty.models.native.compiled import compiled

_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "norm": ([*[_POINTER] * 6, *[_LONG] * 4, ctypes.c_float], None),
    "norm_backward": ([*[_POINTER] * 8, *[_LONG] * 4], ctypes.c_int),
    "gated": ([*[_POINTER] * 3, _LONG], None),
    "gated_backward": ([*[_POINTER] * 5, _LONG], None),
    "merge": ([*[_POINTER] * 4, *[_LONG] * 3], None),
    "from_scores": ([*[_POINTER] * 2, *[_LONG] * 5, ctypes.c_float], None),
}


def library(tensor: Tensor) -> Any:
    """The compiled kernels for such numbers where they are, if any."""
    opened = compiled("layers", tensor.dtype, tensor.device)
    return None if opened is None else _typed(opened)


@functools.cache
def _typed(opened: ctypes.CDLL) -> ctypes.CDLL:
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(opened, name)
        function.argtypes, function.restype = arguments, result
    return opened


def norm(x: Tensor, weight: Tensor, eps: float, rope: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """RMSNorm over the last dimension of `x` [..., dim], rounded as Hugging Face's Qwen3RMSNorm rounds.

    With `rope`, cosines and sines [tokens, turned], `x` is [tokens, heads, dim], and the first `turned` numbers of each
    head are then turned, rounded once.
    """
    if torch.is_grad_enabled():
        result: Tensor = _Norm.apply(x, weight, eps, *(rope or (None, None)))
        return result
    return _normed(x.contiguous(), weight, eps, *(rope or (None, None)))[0]


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    if torch.is_grad_enabled():
        result: Tensor = _Gated.apply(gate, up)
        return result
    return _gated(gate.contiguous(), up.contiguous())


def _normed(x: Tensor, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor]:
    sizes = _sizes(x, cos)
    for one in (weight, *(() if cos is None or sin is None else (cos, sin))):
        assert one.dtype == x.dtype, "the kernel reads numbers of one type"
        assert one.is_contiguous()
    y, scales = torch.empty_like(x), torch.empty(x.shape[:-1], dtype=torch.float32)
    angles = (x, x) if cos is None or sin is None else (cos, sin)
    library(x).norm(*(one.data_ptr() for one in (x, weight, *angles, y, scales)), *sizes, eps)
    return y, scales


def _sizes(x: Tensor, cos: Tensor | None) -> tuple[int, int, int, int]:
    """Tokens, heads, dim, and how many of a head's numbers are turned."""
    dim = x.shape[-1]
    return (x.numel() // dim, 1, dim, 0) if cos is None else (x.shape[0], x.shape[1], dim, cos.shape[1])


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        x = x.contiguous()
        y, scales = _normed(x, weight, eps, cos, sin)
        ctx.save_for_backward(x, weight, scales, cos, sin)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scales, cos, sin = ctx.saved_tensors
        dy, dx = dy.contiguous(), torch.empty_like(x)
        dweight = torch.zeros(weight.shape, dtype=torch.float32)
        angles = (x, x) if cos is None else (cos, sin)
        tensors = (x, weight, *angles, dy, scales, dx, dweight)
        if library(x).norm_backward(*(one.data_ptr() for one in tensors), *_sizes(x, cos)):
            raise MemoryError("there is no memory for the gradient of a norm")
        return dx, dweight.to(weight.dtype), None, None, None


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    y = torch.empty_like(gate)
    library(gate).gated(gate.data_ptr(), up.data_ptr(), y.data_ptr(), gate.numel())
    return y


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        dy, dgate, dup = dy.contiguous(), torch.empty_like(gate), torch.empty_like(up)
        tensors = (gate, up, dy, dgate, dup)
        library(gate).gated_backward(*(one.data_ptr() for one in tensors), gate.numel())
        return dgate, dup
