"""What this machine can do at most, measured in a moment."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import torch

from banty.perf import Machine

_SIDES = {"cpu": 1024, "cuda": 8192}
_COPIED = {"cpu": 1 << 26, "cuda": 1 << 28}
_REPEATS = 7


@torch.no_grad()
def probe(device: torch.device, dtype: torch.dtype) -> Machine:
    """The best of several products of square `dtype` matrices and of several copies, on the threads torch uses now."""
    side, size = _SIDES[device.type], _COPIED[device.type]
    one, other = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = _best_s(lambda: torch.mm(one, other), device)
    copy_s = _best_s(lambda: target.copy_(source), device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return Machine(f"{name}{threads}", 2.0 * side**3 / product_s, 2.0 * size / copy_s)


def _best_s(work: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for repeat in range(_REPEATS):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat:  # the first builds kernels
            best = min(best, time.perf_counter() - began)
    return best
