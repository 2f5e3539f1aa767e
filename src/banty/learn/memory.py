"""What a training pass holds in memory, estimated before it is tried."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch

from banty.errors import InputError
from banty.learn.masters import HOST, offloads
from banty.learn.optimizer import moment_bytes
from banty.models.loading import LanguageModel
from banty.records import OptimizerSpec

_GIB = 1024**3


class Held(NamedTuple):
    """Bytes on a model's device, and away from it in host memory."""

    device: int
    host: int = 0


def state_bytes(model: LanguageModel, optimizer: OptimizerSpec, device: torch.device | None = None) -> Held:
    """Gradients, masters and moments, beyond the weights, for the model where it is or as it would be on `device`.
    Where an update is made in host memory, a device holds a gradient while it is computed, in the model's own type."""
    parameters, width = model.trainable(), model.dtype.itemsize
    trained = sum(value.numel() for value in parameters.values())
    moments = moment_bytes(optimizer, parameters)
    if offloads(optimizer, device or model.device):
        return Held(trained * width, trained * (4 + 4) + moments)
    return Held(trained * (4 + (4 if width == 2 else 0)) + moments)


def training_bytes(model: LanguageModel, micro_batch_tokens: int, recompute: bool, optimizer: OptimizerSpec) -> Held:
    """Gradients, masters, moments and the activations of one micro-batch, beyond the weights; an estimate from below.

    Kept for the gradient, a token and layer: the layer's input and norms, the mixer's inputs and outputs, and the MLP's
    three wide vectors. With `recompute` only the layers' inputs, and one layer's worth.
    """
    size = model.dtype.itemsize
    config = model.config
    experts = getattr(config, "moe_intermediate_size", 0) * getattr(config, "num_experts_per_tok", 0)
    hidden, wide = config.hidden_size, experts or config.intermediate_size
    layer = size * (8 * hidden + 3 * wide)
    num_layers = len(model.layers)
    kept = size * hidden * num_layers + layer if recompute else layer * num_layers
    state = state_bytes(model, optimizer)
    return state._replace(device=int(state.device + micro_batch_tokens * kept))


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free for use now; None where that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def check_fits(model: LanguageModel, micro_batch_tokens: int, recompute: bool, optimizer: OptimizerSpec) -> None:
    """Raises InputError when a training pass is sure not to fit into what memory is free."""
    needed = training_bytes(model, micro_batch_tokens, recompute, optimizer)
    available = available_bytes(model.device)
    if available is not None and needed.device > available:
        helps = [] if recompute else ["set learner.recompute"]
        helps += [f"set {option}" for option in _saving(model, optimizer)]
        raise InputError(
            f"training {model.name} on micro-batches of {micro_batch_tokens} tokens takes at least "
            f"{needed.device / _GIB:.1f} GiB, and {available / _GIB:.1f} GiB are free on {model.device}; lower "
            f"learner.micro_batch_tokens, {''.join(f'or {each}, ' for each in helps)}or train an adapter "
            "(policy.lora_rank)"
        )
    free = available_bytes(HOST)
    if needed.host and free is not None and needed.host > free:
        raise InputError(
            f"optimizer.offload keeps {needed.host / _GIB:.1f} GiB of {model.name}'s masters, gradients and moments in "
            f"host memory, and {free / _GIB:.1f} GiB are free there; "
            f"{'' if optimizer.state == 'int8' else 'set optimizer.state=int8, or '}train an adapter (policy.lora_rank)"
        )


def _saving(model: LanguageModel, optimizer: OptimizerSpec) -> list[str]:
    """The options of the optimizer, not taken yet, under which the device would hold less."""
    others = {
        "optimizer.state=int8": dataclasses.replace(optimizer, state="int8"),
        "optimizer.offload": dataclasses.replace(optimizer, offload=True),
    }
    now = state_bytes(model, optimizer).device
    return [option for option, other in others.items() if state_bytes(model, other).device < now]
