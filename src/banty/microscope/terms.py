"""What an advantage was made of, as a sum that a person can add up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from banty.credit import Credit, CreditSpec, GroupRewards

TINY = 1e-12


@dataclass(frozen=True)
class Term:
    """A summand: `factor` times `value`, in the words of docs/credit.md."""

    what: str
    value: float
    factor: float = 1.0


def terms_of(spec: CreditSpec, rewards: GroupRewards, credit: Credit, member: int, turn: int) -> tuple[Term, ...]:
    """The summands of a turn's advantage. They add up to it, but for what is done to the whole batch afterwards: GDPO's
    second normalisation, and `scale`."""
    options = spec.options()
    parts = {name: [float(value) for value in values[member]] for name, values in credit.parts.items()}
    here = {name: values[turn] for name, values in parts.items()}
    match spec.estimator:
        case "rloo" | "dr_grpo":
            return _against_baseline(rewards, member, here["outcome"], spec)
        case "gtpo":
            return (_normalised(here),)
        case "hybrid":
            return _normalised(here), Term("A^O", here["outcome"], options["outcome_weight"])
        case "gigpo":
            return Term("A^E", here["outcome"]), Term("A^S", here["state"], options["state_weight"])
        case "unbiased":
            return Term("return", here["return"]), Term("baseline", here["baseline"], -1.0)
        case "mt_grpo":
            return _of_mt_grpo(options, parts["turn"][turn:], here["outcome"])
        case "gdpo":
            return Term("A^O", here["outcome"]), Term("turn rewards' GN, weighted", here["turn"])
        case _:
            return (Term("A^O", here["outcome"]),)


def reason_of(spec: CreditSpec, terms: Sequence[Term], advantage: float) -> str:
    """The sum in one line."""
    said = "".join(_said(term, place) for place, term in enumerate(terms))
    total = sum(term.factor * term.value for term in terms)
    if spec.estimator == "gdpo":
        said += ", normalised again over the batch"
    elif spec.scale != "none" and abs(total) > TINY:
        said = f"({said}) × {advantage / total:.3f} ({spec.scale} scale)"
    return said


def _normalised(here: Mapping[str, float]) -> Term:
    return Term(f"GN(return {here['return']:.3f})".replace("-", "−"), here["turn"])


def _against_baseline(rewards: GroupRewards, member: int, advantage: float, spec: CreditSpec) -> tuple[Term, ...]:
    outcome = float(rewards.outcomes[member])
    if spec.total:
        outcome += float(np.sum(rewards.turn_rewards[member]))
    if len(rewards.outcomes) < 2:
        return (Term("nothing to compare with", 0.0),)
    whose = "mean of the others" if spec.estimator == "rloo" else "mean of the group"
    return Term("total" if spec.total else "outcome", outcome), Term(whose, outcome - advantage, -1.0)


def _of_mt_grpo(options: Mapping[str, Any], turn_on: Sequence[float], outcome: float) -> tuple[Term, ...]:
    turn_weight, outcome_weight = options["turn_weight"], options["outcome_weight"]
    match options["variant"]:
        case "go":
            return Term("sum of A^I from here on", sum(turn_on), turn_weight), Term("A^O", outcome)
        case "two_stage":
            return Term("A^O", outcome), Term("A^I", turn_on[0], turn_weight)
        case "additive_last" if len(turn_on) == 1:
            return (Term("A^O, the last turn's", outcome),)
        case _:
            return Term("A^I", turn_on[0], turn_weight), Term("A^O", outcome, outcome_weight)


def _said(term: Term, place: int) -> str:
    negative = (term.factor < 0) != (term.value < 0)
    sign = ("−" if negative else "") if place == 0 else (" − " if negative else " + ")
    factor = "" if abs(term.factor) == 1.0 else f"{abs(term.factor):g} × "
    return f"{sign}{factor}{abs(term.value):.3f} {term.what}"
