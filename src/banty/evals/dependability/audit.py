"""What an audit of training tasks against test tasks lets a card say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banty.errors import InputError
from banty.records import JSON

AUDIT_FORMAT = "banty-audit-1"
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

    def is_about(self, hashes: set[str]) -> bool:
        """Whether its test tasks are those of one of these hashes: of a taskset's tasks, or of a task file."""
        test = self.data.get("test")
        named = [test.get(name) for name in ("tasks_sha256", "sha256")] if isinstance(test, Mapping) else []
        return any(isinstance(one, str) and one in hashes for one in named)


def read_audit(file: Path) -> Audit:
    """The audit that `banty audit` wrote. Raises InputError for any other file."""
    try:
        raw = file.read_bytes()
        data = json.loads(raw)
    except FileNotFoundError:
        raise InputError(f"no audit at {file}; make one with banty audit TRAIN TEST") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not an audit: {error}") from error
    if not isinstance(data, dict) or data.get("format") != AUDIT_FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{file} is not an audit: its format is {found!r}, not {AUDIT_FORMAT!r}")
    if not isinstance(data.get("sentence"), str) or not isinstance(data.get("may_be_called_held_out"), bool):
        raise InputError(f"{file} is a damaged audit: it takes a sentence, and true or false at may_be_called_held_out")
    return Audit(data, hashlib.sha256(raw).hexdigest())


def audit_json(audit: Audit | None, hashes: set[str]) -> dict[str, JSON]:
    """What the card says of it. Without an audit of these very tasks nothing is granted."""
    if audit is None:
        return {"audited": False, "may_be_called_held_out": False, "sentence": NOT_AUDITED}
    if not audit.is_about(hashes):
        words = f"{NOT_AUDITED} The audit that was given does not name them."
        return {"audited": False, "may_be_called_held_out": False, "sentence": words, "sha256": audit.sha256}
    overlaps = audit.data.get("overlaps")
    return {
        "audited": True,
        "may_be_called_held_out": audit.allows,
        "sentence": audit.sentence,
        "num_overlaps": len(overlaps) if isinstance(overlaps, list) else None,
        "sha256": audit.sha256,
    }
