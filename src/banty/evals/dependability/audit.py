"""What audits of training tasks against test tasks let a card say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.evals.audit import AUDIT_FILE
from banty.evals.audit.verdict import FORMAT
from banty.evals.dependability.results import Result
from banty.records import JSON

NOT_AUDITED = "Not audited: nobody compared these tasks with those it was trained on."


@dataclass(frozen=True)
class Audit:
    """An audit's file: its one sentence, and whether it lets these tasks be called held out."""

    data: Mapping[str, Any]
    sha256: str

    @property
    def sentence(self) -> str:
        return str(self.data["sentence"])

    @property
    def allows(self) -> bool:
        return bool(self.data["may_be_called_held_out"])

    def why_not_of(self, result: Result) -> str:
        """Why it says nothing of this result; empty where it does."""
        if not self._covers(result):
            return "The audit that was given does not name them."
        trained_on = result.training.trained_on if result.training else None
        train = _table(self.data.get("train"))
        if trained_on and "env" in train and (train["env"], train.get("split")) != trained_on:
            return f"The audit that was given is of other training tasks than {' '.join(trained_on)}."
        return ""

    def _covers(self, result: Result) -> bool:
        """Whether its test tasks are the result's: by the hash of the tasks, or of the file they are from."""
        test, identity = _table(self.data.get("test")), result.identity
        if test.get("tasks_sha256") == identity["tasks_sha256"]:
            return True
        file = _table(identity.get("provenance")).get("tasks_sha256")
        num_tasks = test.get("num_tasks")
        # A file has more tasks than a split of it: those that were measured have to be among those compared.
        return (
            isinstance(file, str)
            and test.get("sha256") == file
            and test.get("split") in (None, identity["split"])
            and isinstance(num_tasks, int)
            and num_tasks >= len(result.card.data["tasks"])
        )


def read_audit(file: Path) -> Audit:
    """The audit that `banty audit` wrote. Raises InputError for any other file."""
    try:
        raw = file.read_bytes()
        data = json.loads(raw)
    except FileNotFoundError:
        raise InputError(f"no audit at {file}; make one with banty audit TRAIN TEST") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not an audit: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{file} is not an audit: its format is {found!r}, not {FORMAT!r}")
    if not isinstance(data.get("sentence"), str) or not isinstance(data.get("may_be_called_held_out"), bool):
        raise InputError(f"{file} is a damaged audit: it takes a sentence, and true or false at may_be_called_held_out")
    return Audit(data, hashlib.sha256(raw).hexdigest())


def audits_of(results: Sequence[Result], given: Audit | None = None) -> list[Audit | None]:
    """The audit of each result: the one given, or the one in its folder, or that of another result of the same known
    weights. Raises InputError for an audit.json that is none."""
    if given is not None:
        return [given] * len(results)
    beside = [read_audit(one.folder / AUDIT_FILE) if (one.folder / AUDIT_FILE).is_file() else None for one in results]
    by_weights = {one.weights: audit for one, audit in zip(results, beside, strict=True) if audit and one.weights}
    return [audit or by_weights.get(one.weights) for one, audit in zip(results, beside, strict=True)]


def audit_json(results: Sequence[Result], audits: Sequence[Audit | None]) -> dict[str, JSON]:
    """What the card says of them. Tasks are held out only where an audit of each result's own training says so."""
    if not any(audits):
        return {"audited": False, "may_be_called_held_out": False, "sentence": NOT_AUDITED}
    known = list({audit.sha256: audit for audit in audits if audit}.values())
    hashes: list[JSON] = [audit.sha256 for audit in known]
    missing = [result for result, audit in zip(results, audits, strict=True) if audit is None]
    wrong = [why for result, audit in zip(results, audits, strict=True) if audit and (why := audit.why_not_of(result))]
    if missing or wrong:
        words = wrong[0] if wrong else f"{missing[0].place} has no audit, and {len(audits) - len(missing)} others have."
        sentence = f"{NOT_AUDITED} {words}"
        return {"audited": False, "may_be_called_held_out": False, "sentence": sentence, "sha256": hashes}
    allowed = all(audit.allows for audit in known)
    told = [audit.sentence for audit in known if allowed or not audit.allows]
    others = f" {len(told) - 1} more of these results' audits say so of theirs." if len(told) > 1 else ""
    return {
        "audited": True,
        "may_be_called_held_out": allowed,
        "sentence": f"{told[0]}{others}",
        "sha256": hashes,
    }


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
