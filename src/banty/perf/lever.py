"""Where a step's time goes, how near to the machine's limit each phase is, and the one thing worth changing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from banty.perf.machine import Machine
from banty.perf.usage import Usage

COMPUTED = ("prefill", "decode", "score", "train")
"""The phases that a model computes in, whose limit is known."""
FEW_ROWS = 32


@dataclass(frozen=True, slots=True)
class PhaseShare:
    """A phase's part of a step: its seconds, its share of all, and the share of the machine's limit it reaches (None
    where there is no limit but doing without)."""

    phase: str
    seconds: float
    share: float
    of_limit: float | None
    used: Usage

    @property
    def lost_s(self) -> float:
        """Seconds beyond the limit."""
        return self.seconds if self.of_limit is None else self.seconds * (1.0 - min(self.of_limit, 1.0))


def phase_shares(used: Mapping[str, Usage], machine: Machine, step_s: float) -> list[PhaseShare]:
    """The phases of `step_s` seconds, longest first; what none of them accounts for is `rest`."""
    known = {phase: one for phase, one in used.items() if one.seconds > 0 and (one.tokens or phase not in COMPUTED)}
    rest = max(step_s - sum(one.seconds for one in known.values()), 0.0)
    total = max(step_s, 1e-9)
    shares = [
        PhaseShare(
            phase,
            one.seconds,
            one.seconds / total,
            machine.limit_s(one) / one.seconds if phase in COMPUTED else None,
            one,
        )
        for phase, one in {**known, "rest": Usage(seconds=rest)}.items()
    ]
    return sorted(shares, key=lambda share: -share.seconds)


def lever(shares: list[PhaseShare]) -> str:
    """One sentence: the phase in which most time is lost to anything but its limit, and what there is to do."""
    candidates = [share for share in shares if share.phase != "rest"]
    if not candidates:
        return "nothing was measured"
    worst = max(candidates, key=lambda share: share.lost_s)
    reached = "" if worst.of_limit is None else f" at {worst.of_limit:.0%} of this machine's limit"
    return f"{worst.phase} takes {worst.share:.0%} of the time{reached}: {_advice(worst)}"


FEW_TOKENS = 4096
_ADVICE = {
    "decode": "its passes are full; what is left are shorter answers, fewer turns, or a faster machine",
    "prefill": "prompts are computed; templates that leave earlier turns alone, and shorter tool results, save that",
    "score": "train.old_logprobs = 'sampler' and loss.kl = 0 do without",
    "train": "its passes are full; what is left are fewer epochs, shorter samples, an adapter, or a faster machine",
    "environment": "mark quick tools inline, and look for copies of state",
    "user": "the simulated user is waited for; a scripted or local one, or more episodes at once, hide it",
    "publish": "fewer updates a batch (train.minibatches, train.epochs), or an adapter",
    "store": "rollouts go to a slow disk",
    "checkpoint": "raise train.checkpoint_every",
}


def _advice(share: PhaseShare) -> str:
    each = share.used.tokens / max(share.used.passes, 1)
    if share.phase == "decode" and each < FEW_ROWS:
        return (
            f"its passes have {each:.0f} rows on average; more episodes at once (train.tasks_per_step, "
            "train.rollouts_per_task and train.concurrency, or --concurrency) cost little more"
        )
    if share.phase == "train" and each < FEW_TOKENS:
        return (
            f"its passes have {each:.0f} tokens on average; more samples an update, or a larger "
            "learner.micro_batch_tokens, cost little more"
        )
    return _ADVICE[share.phase]
