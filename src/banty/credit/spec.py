"""The block of a recipe that picks an estimator, and what it becomes: a function from a batch's groups to their
credit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np

from banty.credit.gdpo import gdpo
from banty.credit.gigpo import gigpo
from banty.credit.grpo import grpo
from banty.credit.gtpo import Comparison, gtpo, hybrid
from banty.credit.mtgrpo import Variant, mt_grpo
from banty.credit.normalise import EPSILON, Over, normalise
from banty.credit.rloo import rloo
from banty.credit.scale import Scale, rescale
from banty.credit.types import Credit, FloatArray, GroupRewards
from banty.credit.unbiased import Ended, unbiased
from banty.errors import InputError

BatchEstimator = Callable[[Sequence[GroupRewards]], list[Credit]]


@dataclass(frozen=True, kw_only=True)
class CreditSpec:
    """Which advantage estimator, and its options; one that the estimator has no use for is refused.

    `total` lets `rloo`, `grpo` and `dr_grpo` take the outcome plus all turn rewards instead of the outcome. `std`,
    `ddof` and `epsilon` are those of the group's deviation (`gigpo` is published without one). `gamma` discounts
    returns (`gtpo` and `hybrid` 0.9, `gigpo` 0.95 where not given); `outcome_weight` is the hybrid's lambda (0.3), and
    that of the additive MT-GRPO (1); `turn_weight` weighs turn rewards in `mt_grpo` and `gdpo`. `compare` is what
    returns are normalised over. `ended` says what of an ended rollout enters the baseline of `unbiased`. With `scale`
    the batch's advantages are divided by a root mean square, times `rms`: by that of the whole `batch`, or of the
    `others`, the batch's other groups, which keeps an unbiased estimator so.
    """

    estimator: str = "rloo"
    total: bool = False
    std: bool | None = None
    ddof: int | None = None
    epsilon: float | None = None
    variant: Variant | None = None
    last_turn: bool = False
    gamma: float | None = None
    outcome_weight: float | None = None
    turn_weight: float | None = None
    state_weight: float | None = None
    compare: Comparison | None = None
    ended: Ended | None = None
    scale: Scale = "none"
    rms: float | None = None

    def check(self) -> None:
        """Raises InputError for values that cannot work, and for options the estimator has no use for."""
        if self.estimator not in ESTIMATORS:
            raise InputError(f"credit.estimator is {self.estimator!r}; known are {', '.join(ESTIMATORS)}")
        used = {*ESTIMATORS[self.estimator].options, "estimator", "scale", "rms"}
        for name, default in ((one.name, one.default) for one in dataclasses.fields(self)):
            given = getattr(self, name)
            if name not in used and given != default:
                heeded = ", ".join(sorted(ESTIMATORS[self.estimator].options)) or "no options of its own"
                raise InputError(
                    f"credit.{name} is {given!r}, and {self.estimator} does not heed it; leave it out (its "
                    f"options: {heeded})"
                )
        for name, choices in (("variant", Variant), ("compare", Comparison), ("ended", Ended), ("scale", Scale)):
            given = getattr(self, name)
            if given is not None and given not in get_args(choices):
                raise InputError(f"credit.{name} is {given!r}; it takes one of {', '.join(get_args(choices))}")
        if self.estimator == "mt_grpo":
            self._check_variant()
        if self.ddof not in (None, 0, 1):
            raise InputError(f"credit.ddof is {self.ddof}; it takes 1 (the unbiased deviation) or 0")
        if self.std is False and (self.ddof is not None or self.epsilon is not None):
            raise InputError(
                "credit.ddof and credit.epsilon belong to a deviation; with credit.std = false leave them out"
            )
        _within(self, "gamma", 0.0, 1.0)
        if self.epsilon is not None and not 0.0 < self.epsilon <= 1.0:
            raise InputError(
                f"credit.epsilon is {self.epsilon}; it takes a number above 0, up to 1, which keeps a deviation of 0 "
                "from being divided by"
            )
        for name in ("outcome_weight", "turn_weight", "state_weight"):
            _within(self, name, 0.0, 1000.0)
        if self.rms is not None and self.scale == "none":
            raise InputError(
                "credit.rms says how large advantages are made; set credit.scale to batch or others with it"
            )
        if self.rms is not None and not 0.0 < self.rms < math.inf:
            raise InputError(f"credit.rms is {self.rms}; it takes a finite number above 0")

    def _check_variant(self) -> None:
        """Raises InputError for an option of `mt_grpo` that its variant leaves out."""
        variant = self.variant or "go"
        for name in _UNHEEDED[variant]:
            if getattr(self, name) not in (None, False):
                instead = ", or weigh turns against the outcome by turn_weight" if "weight" in name else ""
                raise InputError(
                    f"credit.{name} is {getattr(self, name)!r}, and the variant {variant!r} of mt_grpo does not heed "
                    f"it; leave it out{instead}"
                )

    @property
    def is_unbiased(self) -> bool:
        """Whether the estimator's expectation is the exact gradient of its own objective, as far as credit goes: that
        of the outcome for `rloo`, plus all turn rewards for its `total` and for `unbiased`."""
        return self.estimator in ("unbiased", "rloo") and self.scale != "batch"

    @property
    def needs_anchors(self) -> bool:
        return self.estimator == "gigpo"

    @property
    def heeds_turns(self) -> bool:
        """Whether the rewards of single turns reach advantages."""
        return self.total or "total" not in ESTIMATORS[self.estimator].options

    def options(self) -> dict[str, Any]:
        """The options in force, defaults included, by name; for whoever shows them."""
        defaults = ESTIMATORS[self.estimator].options
        return {
            name: default if getattr(self, name) is None else getattr(self, name) for name, default in defaults.items()
        }


@dataclass(frozen=True)
class Entry:
    """An estimator by name: the options it heeds with their defaults, and how it is made of them."""

    make: Callable[[Mapping[str, Any]], BatchEstimator]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def estimator_of(spec: CreditSpec) -> BatchEstimator:
    """The batch's groups in, their credit out, in the same order. Raises InputError for a spec that cannot work."""
    spec.check()
    estimate = ESTIMATORS[spec.estimator].make(spec.options())
    if spec.scale == "none":
        return estimate
    scale, rms = spec.scale, 1.0 if spec.rms is None else spec.rms
    return lambda groups: rescale(estimate(groups), groups, scale, rms)


def _each(estimate: Callable[[GroupRewards], Credit]) -> BatchEstimator:
    return lambda groups: [estimate(group) for group in groups]


def _over(options: Mapping[str, Any]) -> Over:
    return partial(normalise, std=options["std"], ddof=options["ddof"], epsilon=options["epsilon"])


def _totalled(estimate: Callable[[GroupRewards], Credit], options: Mapping[str, Any]) -> BatchEstimator:
    def of_totals(group: GroupRewards) -> Credit:
        totals: FloatArray = group.outcomes + np.array([turns.sum() for turns in group.turn_rewards])
        return estimate(dataclasses.replace(group, outcomes=totals))

    return _each(of_totals if options["total"] else estimate)


def _grpo(options: Mapping[str, Any]) -> BatchEstimator:
    return _totalled(partial(grpo, std=options["std"], ddof=options["ddof"], epsilon=options["epsilon"]), options)


def _plain(estimate: Callable[..., Credit], *names: str) -> Callable[[Mapping[str, Any]], BatchEstimator]:
    """An estimator that takes a normaliser, and the options of these names."""
    return lambda options: _each(partial(estimate, over=_over(options), **{name: options[name] for name in names}))


def _dr_grpo(options: Mapping[str, Any]) -> BatchEstimator:
    return _totalled(partial(grpo, std=False), options)


def _gdpo(options: Mapping[str, Any]) -> BatchEstimator:
    return partial(gdpo, over=_over(options), turn_weight=options["turn_weight"])


def _mt_grpo(options: Mapping[str, Any]) -> BatchEstimator:
    return _plain(mt_grpo, "variant", "outcome_weight", "turn_weight", "last_turn")(options)


_UNHEEDED: Mapping[Variant, tuple[str, ...]] = {
    "go": ("outcome_weight",),
    "two_stage": ("outcome_weight", "last_turn"),
    "additive": ("last_turn",),  # every turn's own reward counts there, the last one's too
    "additive_last": (),
}
"""Options of `mt_grpo` that have no place in the formula of a variant."""

_DEVIATION = {"std": True, "ddof": 1, "epsilon": EPSILON}
ESTIMATORS: Mapping[str, Entry] = {
    "rloo": Entry(lambda options: _totalled(rloo, options), {"total": False}),
    "grpo": Entry(_grpo, {**_DEVIATION, "total": False}),
    "dr_grpo": Entry(_dr_grpo, {"total": False}),
    "mt_grpo": Entry(
        _mt_grpo, {**_DEVIATION, "variant": "go", "outcome_weight": 1.0, "turn_weight": 1.0, "last_turn": False}
    ),
    "gtpo": Entry(_plain(gtpo, "gamma", "compare"), {**_DEVIATION, "gamma": 0.9, "compare": "position"}),
    "hybrid": Entry(
        _plain(hybrid, "gamma", "outcome_weight", "compare"),
        {**_DEVIATION, "gamma": 0.9, "outcome_weight": 0.3, "compare": "position"},
    ),
    "gigpo": Entry(
        _plain(gigpo, "gamma", "state_weight"), {**_DEVIATION, "std": False, "gamma": 0.95, "state_weight": 1.0}
    ),
    "gdpo": Entry(_gdpo, {**_DEVIATION, "turn_weight": 1.0}),
    "unbiased": Entry(lambda options: _each(partial(unbiased, ended=options["ended"])), {"ended": "outcome"}),
}


def _within(spec: CreditSpec, name: str, least: float, most: float) -> None:
    given = getattr(spec, name)
    if given is not None and not least <= given <= most:
        raise InputError(f"credit.{name} is {given}; it takes a number from {least:g} to {most:g}")
