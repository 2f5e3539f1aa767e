"""What a learner minimises, as data: a recipe names it, every learner of the house reads it the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from banty.errors import InputError

Aggregation = Literal["token", "sequence", "turn", "constant"]
Level = Literal["token", "turn", "sequence"]
AGGREGATIONS: tuple[Aggregation, ...] = ("token", "sequence", "turn", "constant")
LEVELS: tuple[Level, ...] = ("token", "turn", "sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedLoss:
    """`-logprob` of the trained tokens, weighted and aggregated."""

    aggregation: Aggregation = "token"
    constant_tokens: float = 1.0

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _check_aggregation(self.aggregation, self.constant_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoss:
    """The policy-gradient loss; the default is DAPO's: token ratios clipped to [0.8, 1.28], a mean over tokens.

    `objective`: `clip` is PPO's pessimistic clip (2017, eq. 7); `cispo` clips the detached ratio and keeps every
    token's gradient (MiniMax-M1, eq. 4). `ratio_level`: one importance ratio a token, or the geometric mean over a turn
    or a sequence (`sequence` with `objective="clip"` and `aggregation="sequence"` is GSPO, eq. 5 and 7).
    `clip_low` and `clip_high` bound the ratio to [1 - low, 1 + high]; a `clip_low` of 1 or more leaves the lower side
    open. `dual_clip` c caps the loss of a token with a negative advantage at -A * c; 0 is off.

    The ratio is taken against `old_logprobs` where a sample has them, else against the sampler's own.

    `correction` weighs each token by trainer-before-the-update over sampler (`old_logprobs` / `sampler_logprobs`),
    which needs `old_logprobs`: `truncate` caps the weight at `correction_high` (TIS); `mask` is 0 outside
    [`correction_low`, `correction_high`] and 1 inside (rejection); `icepop` is 0 outside and the weight itself inside
    (IcePop, MIS). `correction_level` takes the weight of a token, or the product over a turn or a sequence;
    `correction_geometric` its geometric mean instead. Tokens dropped stay in denominators.

    `kl` times an estimate of the divergence from `ref_logprobs` is added, aggregated alike: k3, or k2 whose gradient is
    that of the divergence (Schulman 2020).

    Aggregation, with l the loss of a token: `token` is the weighted mean over all trained tokens of the batch (DAPO);
    `sequence` the mean over rollouts of each one's token mean (GRPO); `turn` the mean over rollouts of the mean over
    turns of token means; `constant` the sum divided by rollouts times `constant_tokens` (Dr.GRPO).
    """

    objective: Literal["clip", "cispo"] = "clip"
    ratio_level: Level = "token"
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 0.0
    aggregation: Aggregation = "token"
    constant_tokens: float = 1.0
    correction: Literal["none", "truncate", "mask", "icepop"] = "none"
    correction_level: Level = "token"
    correction_geometric: bool = False
    correction_low: float = 0.0
    correction_high: float = 2.0
    kl: float = 0.0
    kl_estimator: Literal["k2", "k3"] = "k3"

    def check(self) -> None:
        """Raises InputError for values that cannot work."""
        _one_of("objective", self.objective, ("clip", "cispo"))
        _one_of("ratio_level", self.ratio_level, LEVELS)
        _one_of("correction", self.correction, ("none", "truncate", "mask", "icepop"))
        _one_of("kl_estimator", self.kl_estimator, ("k2", "k3"))
        _one_of("correction_level", self.correction_level, LEVELS)
        _check_aggregation(self.aggregation, self.constant_tokens)
        for name in ("clip_low", "clip_high", "dual_clip", "correction_low", "kl"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"loss.{name} is {getattr(self, name)}; it takes a finite number of at least 0")
        if 0.0 < self.dual_clip <= 1.0:
            raise InputError(f"loss.dual_clip is {self.dual_clip}; it takes a number above 1, such as 3, or 0 for off")
        if self.dual_clip and self.objective != "clip":
            raise InputError(f"loss.dual_clip goes with objective='clip'; with {self.objective!r} set it to 0")
        if not self.correction_low < self.correction_high < math.inf:
            raise InputError(
                f"loss.correction_high is {self.correction_high}; it takes a finite number above correction_low "
                f"({self.correction_low})"
            )


Loss: TypeAlias = SupervisedLoss | PolicyLoss


def _check_aggregation(aggregation: str, constant_tokens: float) -> None:
    _one_of("aggregation", aggregation, AGGREGATIONS)
    if not 0.0 < constant_tokens < math.inf:
        raise InputError(f"loss.constant_tokens is {constant_tokens}; it takes a finite number above 0")


def _one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InputError(f"loss.{name} is {given!r}; it takes one of {', '.join(allowed)}")
