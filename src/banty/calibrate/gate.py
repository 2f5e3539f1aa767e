"""Calibration while training: recent rollouts weigh more, and a value moves only when the same move is asked for again
(specs/irc.md 2.5, "Empirical Discriminative Gating")."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from banty.calibrate.propose import Moves, Proposal, Rules, applied, propose
from banty.calibrate.table import Evidence, TierRow, joined, table_of
from banty.errors import InputError
from banty.records import JSON, derive
from banty.rubrics import RewardFile

_HORIZON = 5.0
"""Windows after which rollouts weigh less than a hundredth, and are forgotten."""


@dataclass(frozen=True, kw_only=True)
class CalibrateBlock(Moves):
    """Whether training calibrates its own reward file, `every` so many steps; 0 is not at all.

    A rollout's weight falls by a factor e in `window` steps. A move smaller than `hysteresis` is not made, and one in
    the same direction has to be asked for at `patience` decisions in a row. The others are those of `banty calibrate`.
    """

    every: int = 0
    window: float = 20.0
    hysteresis: float = 0.05
    patience: int = 2
    resamples: int = 1000

    @property
    def rules(self) -> Rules:
        return Rules(**{one.name: getattr(self, one.name) for one in dataclasses.fields(Moves)})

    @property
    def horizon(self) -> int:
        """How many steps back rollouts count at all."""
        return math.ceil(_HORIZON * self.window)

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        for name, least in (("every", 0), ("patience", 1), ("hysteresis", 0), ("window", 1)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"calibrate.{name} is {getattr(self, name)}; it takes at least {least}")
        self.rules.check("calibrate.")
        if not self.every:
            for one in dataclasses.fields(self):
                if getattr(self, one.name) != one.default:
                    raise InputError(
                        f"calibrate.{one.name} is {getattr(self, one.name)!r}, and calibrate.every is 0: nothing would "
                        "be calibrated; set how many steps apart"
                    )


@dataclass(frozen=True)
class Decided:
    """One decision: the file in force from the next step on, and why. `moved` are the tiers whose values changed."""

    step: int
    file: RewardFile
    moved: tuple[str, ...]
    tiers: Mapping[str, Mapping[str, JSON]]

    def to_json(self) -> dict[str, JSON]:
        return {
            "step": self.step,
            "version": self.file.version,
            "moved": list(self.moved),
            "tiers": {name: dict(row) for name, row in self.tiers.items()},
        }


@dataclass
class Gate:
    """The state between decisions: the reward file in force, the evidence of recent steps, and how often in a row each
    tier was asked to move, up or down (the sign)."""

    block: CalibrateBlock
    file: RewardFile
    seed: int
    asked: dict[str, int] = field(default_factory=dict)
    recent: list[tuple[int, Evidence]] = field(default_factory=list)

    def observe(self, step: int, evidence: Evidence) -> None:
        """Take in the scored rollouts of a step."""
        self.recent.append((step, evidence))
        self.recent = [(at, one) for at, one in self.recent if at > step - self.block.horizon]

    def decide(self, step: int) -> Decided | None:
        """What to do after this step; None where no decision is due."""
        if (step + 1) % self.block.every:
            return None
        rows = self._rows(step)
        asked_for = propose(rows, self.file, self.block.rules)
        made = tuple(self._heard(one) for one in asked_for)
        self.file = applied(self.file, made, f"after step {step}")
        told = {
            row.tier: {
                "value": one.proposed,
                "rho": row.within.estimate,
                "low": row.within.low,
                "high": row.within.high,
                "decision": one.decision,
                "reason": one.reason,
                "asked": self.asked.get(row.tier, 0),
            }
            for row, one in zip(rows, made, strict=True)
        }
        return Decided(step, self.file, tuple(one.tier for one in made if one.move), told)

    def restore(self, line: Mapping[str, Any], file: RewardFile) -> None:
        """Go on from a decision as `Decided.to_json` gave it, and the file it left in force."""
        self.file = file
        self.asked = {name: int(row["asked"]) for name, row in line["tiers"].items() if row["asked"]}

    def _rows(self, step: int) -> tuple[TierRow, ...]:
        weights = [math.exp(-(step - at) / self.block.window) for at, _ in self.recent]
        evidence = joined([one for _, one in self.recent], weights)
        seed = derive(self.seed, "calibrate", step)
        return table_of(evidence, seed=seed, level=self.block.rules.level, num_resamples=self.block.resamples)

    def _heard(self, asked: Proposal) -> Proposal:
        """What is made of a proposal: nothing, if it is small, or was not asked for often enough in a row."""
        if abs(asked.move) < max(self.block.hysteresis, 1e-9):
            self.asked.pop(asked.tier, None)
            if not asked.move:
                return asked
            return _not_yet(asked, f"a move of {asked.move:+.3f} is within the hysteresis of {self.block.hysteresis:g}")
        sign = 1 if asked.move > 0 else -1
        before = self.asked.get(asked.tier, 0)
        self.asked[asked.tier] = before + sign if before * sign > 0 else sign
        times = abs(self.asked[asked.tier])
        if times >= self.block.patience:
            return asked
        return _not_yet(asked, f"asked for {times} of {self.block.patience} times in a row")


def _not_yet(asked: Proposal, why: str) -> Proposal:
    return dataclasses.replace(asked, proposed=asked.current, decision="kept", reason=f"{why}; {asked.reason}")
