"""What a phase of the work used, as counters that only grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds, tokens, passes over the weights, and what those needed at least: floating-point operations (a
    multiplication and an addition are two) and bytes moved, of the linear maps and of the attention between tokens.

    Whole numbers: what is counted up and taken apart again is the same in every run.
    """

    seconds: float = 0.0
    tokens: int = 0
    passes: int = 0
    linear_flops: int = 0
    linear_bytes: int = 0
    mixing_flops: int = 0
    mixing_bytes: int = 0

    @property
    def flops(self) -> int:
        return self.linear_flops + self.mixing_flops

    @property
    def bytes(self) -> int:
        return self.linear_bytes + self.mixing_bytes

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            self.passes + other.passes,
            self.linear_flops + other.linear_flops,
            self.linear_bytes + other.linear_bytes,
            self.mixing_flops + other.mixing_flops,
            self.mixing_bytes + other.mixing_bytes,
        )

    def __mul__(self, share: float) -> Usage:
        """A part of it; whole numbers are rounded."""
        return Usage(
            self.seconds * share,
            round(self.tokens * share),
            round(self.passes * share),
            round(self.linear_flops * share),
            round(self.linear_bytes * share),
            round(self.mixing_flops * share),
            round(self.mixing_bytes * share),
        )

    def __neg__(self) -> Usage:
        return Usage(*(-value for value in dataclasses.astuple(self)))

    def __sub__(self, other: Usage) -> Usage:
        return self + -other


@runtime_checkable
class Metered(Protocol):
    """A policy or a learner that counts what it uses, by phase, since it was made."""

    def usage(self) -> Mapping[str, Usage]: ...


def usage_since(now: Mapping[str, Usage], before: Mapping[str, Usage]) -> dict[str, Usage]:
    """What was used between two readings."""
    return {phase: used - before.get(phase, Usage()) for phase, used in now.items()}
