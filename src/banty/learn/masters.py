"""The float32 masters that are updated, beside the weights a model computes with or in host memory away from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from banty.records import OptimizerSpec

HOST = torch.device("cpu")


def offloads(spec: OptimizerSpec, device: torch.device) -> bool:
    """Whether masters and moments are away from a model on `device`; on the host itself there is nowhere to go."""
    return spec.offload and device.type != HOST.type


def master_of(weight: Tensor, away: bool) -> Tensor:
    """The float32 tensor that is updated: the weight itself where that is float32 and not `away` from it."""
    if away:
        return weight.detach().to(HOST, torch.float32, copy=True)
    return weight if weight.dtype == torch.float32 else weight.detach().float().clone()


def add_gradient(kept: Tensor | None, gradient: Tensor, away: bool) -> Tensor:
    """`gradient` in float32, where its master is, and added to what is `kept` of several micro-batches."""
    if away:
        gradient = gradient.to(HOST, copy=True)  # in the model's own type: half as much for bfloat16
    return gradient.float() if kept is None else kept.add_(gradient)


@torch.no_grad()
def write_back(weights: Mapping[str, Tensor], masters: Mapping[str, Tensor]) -> None:
    """Weights as their masters are, rounded to their own type before they travel."""
    for name, weight in weights.items():
        master = masters[name]
        if master is not weight:
            weight.copy_(master if master.device == weight.device else master.to(weight.dtype))
