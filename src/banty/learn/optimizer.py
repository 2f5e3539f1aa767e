"""The update rules of an `OptimizerSpec` over named float32 masters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from banty.learn.blockwise import LEAST_NUMBERS, BlockwiseAdamW, kept
from banty.records import OptimizerSpec

Rule: TypeAlias = Literal["adamw", "int8", "muon"]
Layout: TypeAlias = Mapping[str, tuple[torch.Size, torch.dtype]]
"""Shape and type of what is kept for one tensor, by name."""
_OUTSIDE_MUON = ("embed_tokens", "lm_head")


class Optimizer:
    """AdamW, with a `muon_rate` Muon for the matrices inside the layers, and with a state of int8 `BlockwiseAdamW` for
    what is left of the large tensors. The first two are torch's own implementations."""

    def __init__(self, spec: OptimizerSpec, masters: Mapping[str, Tensor]) -> None:
        self._spec, self._masters = spec, masters
        by_rule: dict[Rule, list[str]] = {}
        for name, master in masters.items():
            by_rule.setdefault(rule_of(spec, name, master), []).append(name)
        self._parts: list[tuple[float, torch.optim.Optimizer]] = []
        self._of: dict[str, torch.optim.Optimizer] = {}
        for rule, names in by_rule.items():
            part = _part(rule, spec, [masters[name] for name in names])
            self._parts.append((spec.muon_rate if rule == "muon" else spec.learning_rate, part))
            self._of |= dict.fromkeys(names, part)

    def step(self, gradients: Mapping[str, Tensor], scale: float, num_updates: int) -> float:
        """Update the masters from `gradients` times `scale`; the learning rate AdamW used."""
        for name, master in self._masters.items():
            gradient = gradients.get(name)
            master.grad = gradient if gradient is None or scale == 1.0 else gradient * scale
        schedule = self._spec.schedule_at(num_updates)
        for rate, part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * schedule
            part.step()
            part.zero_grad(set_to_none=True)
        return self._spec.learning_rate * schedule

    def moments(self) -> dict[str, Tensor]:
        """What it keeps of the gradients so far, as NAME/MOMENT."""
        return {
            f"{name}/{moment}": value
            for name, master in self._masters.items()
            for moment, value in self._of[name].state.get(master, {}).items()
        }

    def layout(self, name: str) -> Layout:
        """What is kept for a master that ever had a gradient."""
        return layout_of(self._spec, name, self._masters[name])

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from what `moments` gave."""
        for _, part in self._parts:
            part.state.clear()
        for key, value in moments.items():
            name, moment = key.rsplit("/", 1)
            # Step counts are kept where they were made, on the host unless fused on a device.
            self._of[name].state[self._masters[name]][moment] = value.to(self._masters[name].device)


def rule_of(spec: OptimizerSpec, name: str, tensor: Tensor) -> Rule:
    """By which rule a tensor of this name and shape steps."""
    if spec.muon_rate and tensor.ndim == 2 and not any(part in name for part in _OUTSIDE_MUON):
        return "muon"
    return "int8" if spec.state == "int8" and tensor.numel() >= LEAST_NUMBERS else "adamw"


def layout_of(spec: OptimizerSpec, name: str, tensor: Tensor) -> Layout:
    """What is kept for a tensor of this name and shape once it has had a gradient."""
    rule = rule_of(spec, name, tensor)
    if rule == "int8":
        return kept(tensor)
    if rule == "muon":
        return {"momentum_buffer": (tensor.shape, torch.float32)}
    moment = (tensor.shape, torch.float32)
    return {"step": (torch.Size(), torch.float32), "exp_avg": moment, "exp_avg_sq": moment}


def moment_bytes(spec: OptimizerSpec, tensors: Mapping[str, Tensor]) -> int:
    """What is kept for all of these, in bytes."""
    return sum(
        math.prod(shape) * dtype.itemsize
        for name, tensor in tensors.items()
        for shape, dtype in layout_of(spec, name, tensor).values()
    )


def _part(rule: Rule, spec: OptimizerSpec, masters: list[Tensor]) -> torch.optim.Optimizer:
    if rule == "muon":
        return torch.optim.Muon(masters, lr=spec.muon_rate, weight_decay=spec.weight_decay)
    betas, rate, decay = (spec.beta1, spec.beta2), spec.learning_rate, spec.weight_decay
    if rule == "int8":
        return BlockwiseAdamW(masters, lr=rate, betas=betas, eps=spec.eps, weight_decay=decay)
    return torch.optim.AdamW(masters, lr=rate, betas=betas, eps=spec.eps, weight_decay=decay, fused=True)
