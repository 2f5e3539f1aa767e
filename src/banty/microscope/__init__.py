"""The credit microscope: one rollout, what each of its turns earned, and why."""

from banty.microscope.look import (
    Decode,
    Estimate,
    Lens,
    Look,
    Member,
    Token,
    TurnCredit,
    TurnLook,
    look,
    look_json,
    near,
    step_of,
)
from banty.microscope.terms import Term, reason_of, terms_of

__all__ = [
    "Decode",
    "Estimate",
    "Lens",
    "Look",
    "Member",
    "Term",
    "Token",
    "TurnCredit",
    "TurnLook",
    "look",
    "look_json",
    "near",
    "reason_of",
    "step_of",
    "terms_of",
]
