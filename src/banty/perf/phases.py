"""What each phase of a step used, as metrics, and from the metrics of a run where its time went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from banty.perf.lever import COMPUTED, PhaseShare, phase_shares
from banty.perf.machine import Machine
from banty.perf.usage import Metered, Usage, usage_since

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
    """Where the time of a run's steps went, from the rows of its metrics; empty where they hold no phases."""
    used: dict[str, Usage] = {}
    for row in rows:
        for phase in (*COMPUTED, "environment", "user", "publish"):
            counted = {name: row.get(f"perf/{phase}_{name}") or 0 for name in _COUNTERS}
            used[phase] = used.get(phase, Usage()) + Usage(row.get(f"time/{phase}_s") or 0.0, **counted)
    step_s = sum(row.get("time/step_s") or 0.0 for row in rows)
    return phase_shares(used, machine, step_s) if any(one.tokens for one in used.values()) else []
