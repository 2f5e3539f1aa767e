"""What a machine can do at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from banty.errors import InputError
from banty.perf.usage import Usage


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates: `flops_s` of matrix products in the model's own numbers, `bytes_s` of copying (read and written bytes both
    count). `memory_bytes` is what there is, 0 where that is not known; `price_usd_h` what an hour costs."""

    name: str
    flops_s: float
    bytes_s: float
    memory_bytes: int = 0
    price_usd_h: float = 0.0

    def limit_s(self, used: Usage) -> float:
        """The least time the work takes: linear maps and mixing one after the other, each as fast as arithmetic or
        memory allows, whichever is slower."""
        linear = max(used.linear_flops / self.flops_s, used.linear_bytes / self.bytes_s)
        mixing = max(used.mixing_flops / self.flops_s, used.mixing_bytes / self.bytes_s)
        return linear + mixing

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "flops_s": self.flops_s, "bytes_s": self.bytes_s}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        """What `to_json` gave. Raises InputError for anything else."""
        try:
            found = cls(str(data["name"]), float(data["flops_s"]), float(data["bytes_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no machine's rates: {data!r}") from error
        if not found.flops_s > 0 or not found.bytes_s > 0:
            raise InputError(f"a machine's rates are above 0: {data!r}")
        return found


_GIB = 1024**3
DEVICES: Mapping[str, Machine] = {
    "h200": Machine("h200", 788e12, 4.3e12, 141 * 10**9, 3.5),
    "h100": Machine("h100", 788e12, 3.0e12, 80 * 10**9, 2.5),
    "a100": Machine("a100", 250e12, 1.8e12, 80 * 10**9, 1.8),
}
"""Rates in bfloat16. Those of the H200 were measured (a product of 8192^3, a copy); the others are nine tenths of their
data sheets' bandwidth and eight tenths of their arithmetic. Prices are of renting one, in 2026."""
