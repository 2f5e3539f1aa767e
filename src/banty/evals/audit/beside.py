"""The audit beside a result: whether the result may be called held-out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.evals.audit.verdict import FORMAT, OF_CONTENT
from banty.evals.card import Card

AUDIT_FILE = "audit.json"
_FIELDS: Mapping[str, type] = {
    "may_be_called_held_out": bool,
    "sentence": str,
    "train": dict,
    "test": dict,
    "overlaps": list,
    "overlapping_tasks": list,
}
_REFUSES = "must not be called held-out: "


@dataclass(frozen=True)
class AuditFile:
    """An audit as `banty audit` wrote it."""

    data: Mapping[str, Any]
    sha256: str

    @property
    def sentence(self) -> str:
        return str(self.data["sentence"])

    @property
    def allows(self) -> bool:
        return bool(self.data["may_be_called_held_out"])

    @property
    def overlapping_tasks(self) -> list[str]:
        """The ids of the test tasks that overlap with training."""
        return [str(one) for one in self.data["overlapping_tasks"]]

    def is_about(self, identity: Mapping[str, Any], num_tasks: int) -> bool:
        """Whether its test tasks are these: of one fingerprint, or the same part of one task file."""
        test = self.data["test"]
        if _same(test.get("tasks_sha256"), identity.get("tasks_sha256")):
            return True
        provenance = identity.get("provenance")
        file = provenance.get("tasks_sha256") if isinstance(provenance, Mapping) else None
        return (
            _same(test.get("sha256"), file)
            and (test.get("split") or "base") == identity.get("split")
            and test.get("num_tasks") == num_tasks
            and (test.get("without") or []) == (identity.get("without") or [])
        )

    def is_after(self, trained_on: tuple[str, str]) -> bool:
        """Whether its training tasks, or the last that were trained on, are of an environment and a split."""
        train = self.data["train"]
        parts = train.get("parts")
        own = parts[0] if isinstance(parts, list) and parts and isinstance(parts[0], Mapping) else train
        return (own.get("env"), own.get("split")) == trained_on


def read_audit(file: Path) -> AuditFile:
    """The audit in a file. Raises InputError for any other file, and for one that contradicts itself."""
    try:
        raw = file.read_bytes()
        found = json.loads(raw)
    except FileNotFoundError:
        raise InputError(f"no audit at {file}; make one with banty audit TRAIN TEST --out FOLDER") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({type(error).__name__}), so it is no audit: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        what = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise InputError(f"{file} is not an audit of this Banty: its format is {what!r}, not {FORMAT!r}")
    if wrong := [name for name, kind in _FIELDS.items() if not isinstance(found.get(name), kind)]:
        raise InputError(f"{file} is damaged: it has no {', '.join(wrong)} as banty audit writes it")
    if found["may_be_called_held_out"] and not _bears_out(found):
        raise InputError(f"{file} contradicts itself: it allows what its own measures do not; make the audit again")
    return AuditFile(found, hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True)
class Standing:
    """Whether a result may be called held-out, and the reason in words: the audit's sentence, or what is wrong with
    it. `audited` is False where no audit of these very tasks lies beside the card; `trained_on` names the training
    tasks of the audit."""

    held_out: bool
    reason: str
    audited: bool = True
    trained_on: str = ""

    @property
    def refusal(self) -> str:
        """Why a report does not say held-out, to follow on a comma; empty where it may."""
        return "" if self.held_out else self.reason.rpartition(_REFUSES)[2].rstrip(".")


def standing_of(folder: Path, card: Card, trained_on: tuple[str, str] | None = None) -> Standing:
    """What the audit in an evaluation's folder says about its card.

    `trained_on` is the (environment, split) that training took its tasks from, where the run says it. An audit that is
    missing, damaged, of other tasks or after other training allows nothing; no error is raised.
    """
    file = folder / AUDIT_FILE
    if not file.is_file():
        return _refused("no audit of the training tasks lies beside the result")
    try:
        found = read_audit(file)
    except InputError as error:
        return _refused(str(error).replace(str(file), f"its {AUDIT_FILE}", 1))
    if not found.is_about(card.data["identity"], len(card.data["tasks"])):
        return _refused(f"its {AUDIT_FILE} is of other test tasks")
    train = found.data["train"]
    if trained_on is not None and not found.is_after(trained_on):
        return _refused(f"its {AUDIT_FILE} is of other training tasks")
    named = f"{train.get('num_tasks')} tasks of {train.get('name')}" if train.get("name") else ""
    return Standing(found.allows, found.sentence, trained_on=named)


def _refused(reason: str) -> Standing:
    return Standing(False, reason, audited=False)


def _same(mine: Any, other: Any) -> bool:
    return isinstance(mine, str) and bool(mine) and mine == other


def _bears_out(found: Mapping[str, Any]) -> bool:
    """Whether an audit that allows the words has measures and a sentence to go with it."""
    levels = {row.get("measure"): row.get("level") for row in found["overlaps"] if isinstance(row, dict)}
    return (
        not found["overlapping_tasks"]
        and "overlapping" not in levels.values()
        and any(levels.get(name) in ("none", "related") for name in OF_CONTENT)
        and _REFUSES not in found["sentence"]
        and bool(found["train"])
    )
