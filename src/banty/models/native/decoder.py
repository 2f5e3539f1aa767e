"""A whole pass of a small dense decoder over a stream of rows, in one call, on processors with a tile unit (AMX)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from banty.models.loading import LanguageModel
from banty.models.native.attention import Keys, Places, fits
from banty.models.native.compiled import compiled

_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long
_LAYER_FIELDS = (
    *("query", "key", "value", "output", "gate", "up", "down"),
    *("input_norm", "post_norm", "query_norm", "key_norm"),
    *("keys", "values", "prefix_keys", "prefix_values"),
)
_BLOCK, _SPAN = 32, 8


class _Sizes(ctypes.Structure):
    _fields_ = [
        *(
            (name, _LONG)
            for name in ("rows", "hidden", "inner", "heads", "layers", "capacity", "prefix_capacity", "threads")
        ),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in _LAYER_FIELDS]


class _Places(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("slots", "lengths", "prefix_slots", "prefix_lengths", "cos", "sin")]


class Decoder:
    """One version of a model's weights, laid out for the kernel. Made by `decoder_of`."""

    def __init__(self, model: LanguageModel, library: Any) -> None:
        self._library = library
        config = model.config
        layers: list[Any] = [layer.module for layer in model.layers]
        self._hidden, self._inner = config.hidden_size, config.intermediate_size
        self._heads, self._dim = config.num_attention_heads, layers[0].self_attn.head_dim
        self._eps, self._scale = config.rms_norm_eps, layers[0].self_attn.scaling
        self._embedding, self._last_norm = model.embedding.weight, model.backbone.norm.weight
        self._angles = model.angles
        self._weights = [[*map(_packed, _matrices(one)), *_norms(one)] for one in layers]
        self._space = torch.empty(0, dtype=model.dtype)

    def hidden_states(self, ids: Tensor, places: Places, kept: Sequence[Keys], prefixes: Sequence[Keys]) -> Tensor:
        """What `hidden_states` gives for these tokens, [rows, hidden], their keys and values kept by layer in
        `kept`."""
        rows = len(ids)
        hidden = nn.functional.embedding(ids, self._embedding)
        output = torch.empty_like(hidden)
        cos, sin = self._angles(int(places[1].max()) + 1)
        sizes = _Sizes(
            rows, self._hidden, self._inner, self._heads, len(kept), kept[0][0].shape[2], prefixes[0][0].shape[2],
            torch.get_num_threads(), self._eps, self._scale,
        )  # fmt: skip
        layers = (_Layer * len(kept))()
        for layer, weights, *pairs in zip(layers, self._weights, kept, prefixes, strict=True):
            tensors = [*weights, *(tensor for pair in pairs for tensor in pair)]
            for name, tensor in zip(_LAYER_FIELDS, tensors, strict=True):
                setattr(layer, name, tensor.data_ptr())
        where = _Places(*(one.data_ptr() for one in (*places, cos, sin)))
        space = self._space_for(rows)
        if self._library.decode(
            ctypes.byref(sizes), layers, ctypes.byref(where),
            *(one.data_ptr() for one in (self._last_norm, hidden, output, space)),
        ):  # fmt: skip
            raise MemoryError("there is no memory for a token's scores")
        return output

    def _space_for(self, rows: int) -> Tensor:
        padded = -(-rows // _BLOCK) * _BLOCK
        normed = torch.get_num_threads() * min(padded, _SPAN * _BLOCK) * self._hidden
        needed = padded * (2 * self._heads * self._dim + self._inner) + normed
        if needed > len(self._space):
            self._space = torch.zeros(needed, dtype=self._space.dtype)
        return self._space


def decoder_of(model: LanguageModel) -> Decoder | None:
    """The kernel over the model's weights as they are now; None where it has none for this processor or such layers.

    It keeps a copy of the layers' matrices.
    """
    library = decoder_library(model)
    return None if library is None else Decoder(model, library)


def decoder_library(model: LanguageModel) -> Any:
    """What `decoder_of` computes with, if anything."""
    layers: list[Any] = [layer.module for layer in model.layers]
    if any(layer.kind != "attention" or not _is_plain(layer.module) for layer in model.layers):
        return None
    config = model.config
    dim, heads = layers[0].self_attn.head_dim, config.num_attention_heads
    group = heads // config.num_key_value_heads
    if dim % 32 or config.hidden_size % 32 or config.intermediate_size % 32 or not fits(dim, group):
        return None
    if model.angles(1)[0].shape[1] != dim or any(one.dtype != torch.bfloat16 for one in model.module.parameters()):
        return None
    library = compiled("decoder", model.dtype, model.device, (f"-DDIM={dim}", f"-DGROUP={group}"))
    if library is None or library.ready():
        return None
    library.decode.argtypes, library.decode.restype = [_POINTER] * 7, ctypes.c_int
    return library


def _is_plain(layer: Any) -> bool:
    """Whether a layer is what the kernel computes: projections without bias or adapter, and Qwen3's norms and MLP."""
    projections = _matrices_of(layer)
    norms = (layer.input_layernorm, layer.post_attention_layernorm, *_head_norms(layer))
    return (
        all(type(one) is nn.Linear and one.bias is None for one in projections)
        and all(type(one).__name__ == "Qwen3RMSNorm" for one in norms)
        and type(layer.mlp).__name__ == "Qwen3MLP"
    )


def _head_norms(layer: Any) -> tuple[Any, Any]:
    return getattr(layer.self_attn, "q_norm", None), getattr(layer.self_attn, "k_norm", None)


def _matrices_of(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    names = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    return [getattr(room, name, None) for room, of in zip((attention, mlp), names, strict=True) for name in of]


def _matrices(layer: Any) -> list[Tensor]:
    return [one.weight for one in _matrices_of(layer)]


def _norms(layer: Any) -> list[Tensor]:
    norms = (layer.input_layernorm, layer.post_attention_layernorm, *_head_norms(layer))
    return [one.weight.detach() for one in norms]


def _packed(weight: Tensor) -> Tensor:
    """A matrix [outputs, inputs] in tiles of 16 outputs and 32 inputs, pairs of inputs first."""
    outputs, inputs = weight.shape
    pairs = weight.detach().contiguous().view(torch.int32)  # moved whole: several times faster
    return pairs.view(outputs // 16, 16, inputs // 32, 16).permute(0, 2, 3, 1).contiguous()
