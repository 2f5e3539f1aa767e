"""Attention of new tokens over what their slots keep."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from banty.models.native.compiled import compiled

_MOST_DIM, _MOST_GROUP = 256, 16
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long
_ARGUMENTS: list[Any] = [*[_POINTER] * 5, _LONG, *[_POINTER] * 2, _LONG, *[_POINTER] * 5, _LONG, _LONG, ctypes.c_float]

Keys: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values, [slots, key heads, capacity, dim]."""
Places: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""By row, int64: the slot, how many tokens are before it (-1 rests), and the prefix's slot and length (0 for none)."""
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Keys, Keys, Places, float], Tensor]


def fits(dim: int, group: int) -> bool:
    """Whether the kernels take heads of `dim` numbers, of which `group` share a key head."""
    return dim % 16 == 0 and dim <= _MOST_DIM and group <= _MOST_GROUP


def decode_attention(dtype: torch.dtype, device: torch.device, dim: int, group: int) -> Attend | None:
    """Attention of rows that are a token each, whose keys and values are kept behind those their slots hold; None where
    there is no kernel for such heads, of which `group` share a key head.

    Rows of one slot may follow one another, each seeing those before it. The function takes queries [rows, heads, dim],
    keys and values [rows, key heads, dim], the kept ones, those of prefixes, places, and the scale; it gives [rows,
    heads, dim].
    """
    if not fits(dim, group):
        return None
    opened = compiled("attention", dtype, device, [f"-DDIM={dim}", f"-DGROUP={group}"])
    if opened is None:
        return None
    function = opened.attend
    function.argtypes, function.restype = _ARGUMENTS, ctypes.c_int

    def attend(
        query: Tensor, key: Tensor, value: Tensor, kept: Keys, prefixes: Keys, places: Places, scale: float
    ) -> Tensor:
        tensors = [one.contiguous() for one in (query, key, value)]
        output = torch.empty_like(tensors[0])
        failed = function(
            *(one.data_ptr() for one in (*tensors, *kept)),
            kept[0].shape[2],
            *(one.data_ptr() for one in prefixes),
            prefixes[0].shape[2],
            *(one.data_ptr() for one in places),
            output.data_ptr(),
            len(query),
            query.shape[1],
            scale,
        )
        if failed:
            raise MemoryError("there is no memory for a token's scores")
        return output

    return attend
