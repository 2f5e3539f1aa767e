"""The update rules of an `OptimizerSpec` over named float32 masters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from banty.records import OptimizerSpec

_OUTSIDE_MUON = ("embed_tokens", "lm_head")


class Optimizer:
    """AdamW, and with a `muon_rate` Muon for the matrices inside the layers. Torch's own implementations."""

    def __init__(self, spec: OptimizerSpec, masters: Mapping[str, Tensor]) -> None:
        self._spec, self._masters = spec, masters
        matrices = {name for name in masters if spec.muon_rate and _is_inner_matrix(name, masters[name])}
        self._parts: list[tuple[float, torch.optim.Optimizer]] = []
        if rest := [master for name, master in masters.items() if name not in matrices]:
            adamw = torch.optim.AdamW(
                rest,
                lr=spec.learning_rate,
                betas=(spec.beta1, spec.beta2),
                eps=spec.eps,
                weight_decay=spec.weight_decay,
                fused=True,
            )
            self._parts.append((spec.learning_rate, adamw))
        if inner := [masters[name] for name in masters if name in matrices]:
            muon = torch.optim.Muon(inner, lr=spec.muon_rate, weight_decay=spec.weight_decay)
            self._parts.append((spec.muon_rate, muon))
        self._of = {name: self._parts[-1 if name in matrices else 0][1] for name in masters}

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

    def expected(self, name: str) -> frozenset[str]:
        """Which moments a master that ever had a gradient has."""
        if isinstance(self._of[name], torch.optim.Muon):
            return frozenset({"momentum_buffer"})
        return frozenset({"exp_avg", "exp_avg_sq", "step"})

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from what `moments` gave."""
        for _, part in self._parts:
            part.state.clear()
        for key, value in moments.items():
            name, moment = key.rsplit("/", 1)
            # Step counts are kept where they were made, on the host unless fused on a device.
            self._of[name].state[self._masters[name]][moment] = value.to(self._masters[name].device)


def _is_inner_matrix(name: str, master: Tensor) -> bool:
    return master.ndim == 2 and not any(part in name for part in _OUTSIDE_MUON)
