"""How a learner steps, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from banty.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """AdamW (Loshchilov and Hutter 2019) with the gradient clipped to a global norm first; 0 turns the clip off.

    The rate rises linearly over `warmup_steps` updates and, with `decay_steps`, falls linearly to 0 at that update.
    With a `muon_rate`, the matrices inside the layers (of an adapter too; not the stacked experts of a mixture) step by
    Muon (Jordan 2024) at that rate, on the same schedule.

    `state="int8"` keeps AdamW's moments in 8 bits with a scale per block of 256 numbers (Dettmers et al. 2021), but for
    tensors of fewer than 4,096; Muon's one moment stays float32. `offload` keeps masters and moments in host memory and
    updates there (Ren et al. 2021): gradients travel there, new weights back, and a model on the CPU is where it was.
    """

    learning_rate: float = 3e-4
    muon_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    decay_steps: int = 0
    state: Literal["float32", "int8"] = "float32"
    offload: bool = False

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        if not 0.0 < self.learning_rate < math.inf:
            raise InputError(f"optimizer.learning_rate is {self.learning_rate}; it takes a finite number above 0")
        for name in ("beta1", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"optimizer.{name} is {getattr(self, name)}; it takes a number from 0 to below 1")
        for name in ("muon_rate", "eps", "weight_decay", "max_grad_norm", "warmup_steps", "decay_steps"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"optimizer.{name} is {getattr(self, name)}; it takes a number of at least 0")
        if self.state not in ("float32", "int8"):
            raise InputError(f"optimizer.state is {self.state!r}; it takes float32 or int8")

    def schedule_at(self, step: int) -> float:
        """What rates are multiplied with at update `step`, from 0."""
        scale = min((step + 1) / (self.warmup_steps + 1), 1.0)
        if self.decay_steps:
            scale = min(scale, max(1.0 - step / self.decay_steps, 0.0))
        return scale
