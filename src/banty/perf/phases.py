"""What each phase of a step used, as metrics, and from the metrics of a run where its time went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from banty.perf.lever import COMPUTED, PhaseShare, phase_shares
from banty.perf.machine import Machine
from banty.perf.usage import Metered, Usage, usage_since

_WAITED = ("environment", "user")
_COUNTERS = ("tokens", "passes", "linear_flops", "linear_bytes", "mixing_flops", "mixing_bytes")


class PhaseMeter:
    """Reads the counters of those of `parts` that have any, at the beginning and the end of each step."""

    def __init__(self, parts: Iterable[object], machine: Machine | None) -> None:
        self._parts = [part for part in parts if isinstance(part, Metered)]
        self._machine = machine
        self._before = self._read()

    def begin(self) -> None:
        self._before = self._read()

    def metrics(self, seconds: Mapping[str, float] | None = None) -> dict[str, float | int | None]:
        """`perf/PHASE_COUNTER` for each counter of `Usage`, `time/PHASE_s`, and `time/PHASE_of_limit` where that of the
        machine is known; `seconds` are those of other phases."""
        used = {phase: one for phase, one in usage_since(self._read(), self._before).items() if one.tokens}
        found: dict[str, float | int | None] = {
            f"perf/{phase}_{name}": getattr(one, name) for phase, one in used.items() for name in _COUNTERS
        }
        if self._machine is not None:
            found |= {f"time/{phase}_of_limit": self._machine.limit_s(one) / one.seconds for phase, one in used.items()}
        spent = {**{phase: one.seconds for phase, one in used.items()}, **(seconds or {})}
        return found | {f"time/{phase}_s": value for phase, value in spent.items()}

    def _read(self) -> dict[str, Usage]:
        return {phase: used for part in self._parts for phase, used in part.usage().items()}


def shares_of(rows: Sequence[Mapping[str, Any]], machine: Machine) -> list[PhaseShare]:
    """Where the time of a run's steps went, from the rows of its metrics; empty where they hold no phases.

    What episodes waited for their environment and users is summed over episodes that waited at the same time: together
    it counts for no more than the time of sampling that the model did not compute in.
    """
    used: dict[str, Usage] = {}
    for row in rows:
        for phase in (*COMPUTED, *_WAITED, "publish", "store"):
            counted = {name: int(_number(row, f"perf/{phase}_{name}")) for name in _COUNTERS}
            used[phase] = used.get(phase, Usage()) + Usage(_number(row, f"time/{phase}_s"), **counted)
    if not any(one.tokens for one in used.values()):
        return []
    total = {
        name: sum(_number(row, f"time/{name}_s") for row in rows) for name in ("step", "sample", "last_checkpoint")
    }
    used["checkpoint"] = Usage(total["last_checkpoint"])
    waited = sum(used[phase].seconds for phase in _WAITED)
    most = max(total["sample"] - used["prefill"].seconds - used["decode"].seconds, 0.0)
    if waited > most:
        used |= {phase: used[phase] * (most / waited) for phase in _WAITED}
    return phase_shares(used, machine, total["step"] + total["last_checkpoint"])


def _number(row: Mapping[str, Any], name: str) -> float:
    """0 for what is not there, or was damaged."""
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0
