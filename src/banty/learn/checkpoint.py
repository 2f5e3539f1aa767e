"""A learner's state on disk: safetensors and JSON, read without executing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from banty.errors import InputError, StoreError
from banty.learn.optimizer import Layout

SCHEMA_VERSION = 1
_MASTERS, _MOMENTS, _COUNTERS = "masters.safetensors", "moments.safetensors", "learner.json"


def save(
    folder: Path, masters: Mapping[str, Tensor], moments: Mapping[str, Tensor], counters: Mapping[str, int]
) -> None:
    """Write float32 weights, the optimizer's moments and the counters into `folder`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: value.contiguous().cpu() for name, value in masters.items()}, folder / _MASTERS)
        save_file({name: value.contiguous().cpu() for name, value in moments.items()}, folder / _MOMENTS)
        content = {"schema_version": SCHEMA_VERSION, "num_moments": len(moments), **counters}
        (folder / _COUNTERS).write_text(json.dumps(content) + "\n")
    except (OSError, SafetensorError) as error:
        raise StoreError(f"could not write the learner's state to {folder}: {error}") from error


def load(
    folder: Path, like: Mapping[str, Tensor], layout: Callable[[str], Layout]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, int]]:
    """What `save` wrote. Raises InputError unless it holds the tensors of `like`, name for name and shape for shape,
    and of each that was ever updated the moments of its `layout`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        counters = dict(json.loads((folder / _COUNTERS).read_text()))
        masters, moments = load_file(folder / _MASTERS), load_file(folder / _MOMENTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder} does not hold the state of a learner: {error}") from error
    found = counters.pop("schema_version", None)
    if found != SCHEMA_VERSION:
        raise InputError(
            f"{folder} is a checkpoint of schema {found}, and this Banty reads {SCHEMA_VERSION}; go on with the "
            "version of Banty that wrote it"
        )
    _check_shapes(folder, masters, like)
    _check_moments(folder, moments, like, layout)
    for name in ("version", "num_updates"):
        if not isinstance(counters.get(name), int):
            raise InputError(
                f"{folder / _COUNTERS} does not hold the state of a learner: {name} is {counters.get(name)!r}"
            )
    if len(moments) != counters.pop("num_moments", 0):
        raise InputError(f"{folder} does not hold this model's optimizer state: it has {len(moments)} tensors of it")
    return masters, moments, counters


def _check_shapes(folder: Path, found: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    for name in sorted({*found, *like}):
        theirs, ours = found.get(name), like.get(name)
        if theirs is None or ours is None or theirs.shape != ours.shape:
            raise InputError(
                f"{folder} is a checkpoint of another model: {name} is {_shape(theirs)} there and {_shape(ours)} here; "
                "resume with the model, adapter rank and vocabulary it was made with"
            )


def _check_moments(
    folder: Path, moments: Mapping[str, Tensor], like: Mapping[str, Tensor], layout: Callable[[str], Layout]
) -> None:
    """Moments have the shapes and types that are kept for their weight."""
    found: dict[str, dict[str, tuple[torch.Size, torch.dtype]]] = {}
    for key, value in moments.items():
        name, _, moment = key.rpartition("/")
        found.setdefault(name, {})[moment] = (value.shape, value.dtype)
    for name, state in found.items():
        wanted = layout(name) if name in like else {}
        if state == wanted:
            continue
        theirs, ours = _state(state), _state(wanted)
        if theirs and ours and theirs != ours:
            raise InputError(
                f"{folder} holds moments in {theirs}, and this learner keeps them in {ours}; go on with "
                f"optimizer.state={theirs!r}, or start a new run from the weights"
            )
        raise InputError(f"{folder} does not hold this model's optimizer state: {name or 'a weight'} has another")


def _state(layout: Layout) -> str:
    """Which `optimizer.state` AdamW keeps these moments under; empty where they are none of its."""
    if "exp_avg" not in layout:
        return ""
    return {torch.float32: "float32", torch.int8: "int8"}.get(layout["exp_avg"][1], "")


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"
