"""The audit beside a result card: whether the card's result may be called held-out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.evals.audit.verdict import FORMAT
from banty.evals.card import Card

AUDIT_FILE = "audit.json"
_FIELDS: Mapping[str, type] = {
    "may_be_called_held_out": bool,
    "sentence": str,
    "train": dict,
    "test": dict,
    "overlaps": list,
}


@dataclass(frozen=True)
class Standing:
    """Whether a result may be called held-out, and the reason in words: the audit's sentence, or what is wrong with
    it. `audited` is False where no audit of these very tasks lies beside the card."""

    held_out: bool
    reason: str
    audited: bool = True

    @property
    def refusal(self) -> str:
        """Why a report does not say held-out, to follow on a comma; empty where it may."""
        if self.held_out:
            return ""
        return self.reason.rpartition("must not be called held-out: ")[2].rstrip(".")


def standing_of(folder: Path, card: Card, trained_on: tuple[str, str] | None = None) -> Standing:
    """What the audit in an evaluation's folder says about its card.

    `trained_on` is the (environment, split) that training took its tasks from, where the run says it. An audit that is
    missing, damaged, of other tasks or after other training allows nothing; no error is raised.
    """
    file = folder / AUDIT_FILE
    if not file.is_file():
        return _refused("no audit of the training tasks lies beside the result")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return _refused(f"its {AUDIT_FILE} cannot be read ({type(error).__name__})")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return _refused(f"its {AUDIT_FILE} is not an audit of this Banty")
    if wrong := [name for name, kind in _FIELDS.items() if not isinstance(found.get(name), kind)]:
        return _refused(f"its {AUDIT_FILE} is damaged: it has no {', '.join(wrong)}")
    if found["test"].get("tasks_sha256") != card.data["identity"]["tasks_sha256"]:
        return _refused(f"its {AUDIT_FILE} is of other test tasks")
    if trained_on is not None and not _is_of(found["train"], trained_on):
        return _refused(f"its {AUDIT_FILE} is of other training tasks")
    return Standing(found["may_be_called_held_out"], found["sentence"])


def _refused(reason: str) -> Standing:
    return Standing(False, reason, audited=False)


def _is_of(train: Mapping[str, Any], trained_on: tuple[str, str]) -> bool:
    return (train.get("env"), train.get("split")) == trained_on
