"""What audits of training tasks against test tasks let a card say."""

from __future__ import annotations

from collections.abc import Sequence

from banty.evals.audit import AUDIT_FILE, AuditFile, read_audit
from banty.evals.dependability.results import Result
from banty.records import JSON

NOT_AUDITED = "Not audited: nobody compared these tasks with those it was trained on."


def audits_of(results: Sequence[Result], given: AuditFile | None = None) -> list[AuditFile | None]:
    """The audit of each result: the one given, or the one in its folder, or that of another result of the same known
    weights. Raises InputError for an audit.json that is none."""
    if given is not None:
        return [given] * len(results)
    beside = [read_audit(one.folder / AUDIT_FILE) if (one.folder / AUDIT_FILE).is_file() else None for one in results]
    by_weights = {one.weights: audit for one, audit in zip(results, beside, strict=True) if audit and one.weights}
    return [audit or by_weights.get(one.weights) for one, audit in zip(results, beside, strict=True)]


def audit_json(results: Sequence[Result], audits: Sequence[AuditFile | None]) -> dict[str, JSON]:
    """What the card says of them. Tasks are held out only where an audit of each result's own training says so."""
    if not any(audits):
        return {"audited": False, "may_be_called_held_out": False, "sentence": NOT_AUDITED}
    known = list({audit.sha256: audit for audit in audits if audit}.values())
    hashes: list[JSON] = [audit.sha256 for audit in known]
    missing = [result for result, audit in zip(results, audits, strict=True) if audit is None]
    pairs = zip(results, audits, strict=True)
    wrong = [why for result, audit in pairs if audit is not None and (why := _why_not_of(result, audit))]
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


def _why_not_of(result: Result, audit: AuditFile) -> str:
    """Why an audit says nothing of this result; empty where it does."""
    if not audit.is_about(result.identity, len(result.card.data["tasks"])):
        return "The audit that was given does not name them."
    trained_on = result.training.trained_on if result.training else None
    if trained_on and not audit.is_after(trained_on):
        return f"The audit that was given is of other training tasks than {' '.join(trained_on)}."
    return ""
