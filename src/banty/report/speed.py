"""The section about speed: where the time went, how near to the machine's limits that was, one lever."""

from __future__ import annotations

from banty.errors import InputError
from banty.perf import Machine, PhaseShare, lever, shares_of
from banty.report.results import Sheet
from banty.report.source import Source
from banty.report.wording import MISSING, count, seconds

_COLUMNS = ("phase", "time", "share", "tokens", "tokens/s", "Gflop", "GB", "of the limit")


def phase_sheet(source: Source) -> Sheet:
    """What each phase of the training steps, or of the evaluation, used, longest first; no rows where nothing was
    measured."""
    return Sheet(_COLUMNS, tuple(_row(share) for share in _shares(source)))


def lever_words(source: Source) -> str:
    """The one thing worth changing, and what the limit is; empty where nothing was measured."""
    shares, machine = _shares(source), _machine(source)
    if not shares or machine is None:
        return ""
    limit = (
        f"The limit is this machine's own, measured when the run began: {machine.flops_s / 1e9:,.0f} Gflop/s in a "
        f"product of matrices, {machine.bytes_s / 1e9:.0f} GB/s in a copy ({machine.name})."
    )
    said = lever(shares)
    return f"{said[:1].upper()}{said[1:]}. {limit}"


def _shares(source: Source) -> list[PhaseShare]:
    machine = _machine(source)
    return shares_of(source.rows or source.sittings, machine) if machine is not None else []


def _machine(source: Source) -> Machine | None:
    noted = source.engine.get("machine")
    try:
        return Machine.from_json(noted) if isinstance(noted, dict) else None
    except InputError:
        return None  # a damaged note costs the section, not the page


def _row(share: PhaseShare) -> tuple[str, ...]:
    used = share.used
    return (
        share.phase,
        seconds(share.seconds),
        f"{share.share:.0%}",
        count(used.tokens) if used.tokens else MISSING,
        count(used.tokens / share.seconds) if used.tokens and share.seconds else MISSING,
        count(used.flops / 1e9) if used.flops else MISSING,
        f"{used.bytes / 1e9:.1f}" if used.bytes else MISSING,
        MISSING if share.of_limit is None else f"{share.of_limit:.0%}",
    )
