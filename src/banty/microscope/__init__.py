"""The credit microscope: one rollout, what each of its turns earned, and why."""

from banty.microscope.look import (
    Decode,
    Estimate,
    Labels,
    Lens,
    Look,
    Member,
    Token,
    TurnCredit,
    TurnLook,
    look,
    look_json,
)
from banty.microscope.terms import Term, reason_of, terms_of

__all__ = [
    "Decode",
    "Estimate",
    "Labels",
    "Lens",
    "Look",
    "Member",
    "Term",
    "Token",
    "TurnCredit",
    "TurnLook",
    "look",
    "look_json",
    "reason_of",
    "terms_of",
]
