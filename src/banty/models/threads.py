"""How many cores a CPU run uses, measured once and watched: threads that wait for one which a busy process keeps from
running can stall for minutes."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Hashable

import torch

from banty.models.loading import LanguageModel
from banty.models.slots import Grid, Slots, Stream

_ROWS = 32
_REPEATS = 5


def measured_threads(model: LanguageModel) -> int:
    """The number of threads, of 1 and all cores this process may use, with which a decoding pass was faster.

    More than one thread has to win by a tenth: where it is a near thing another process is at work, and one thread is
    safe. Leaves torch's own setting as it was.
    """
    before = torch.get_num_threads()
    if model.device.type != "cpu":
        return before
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return 1
    try:
        alone, together = _pass_s(model, 1), _pass_s(model, cores)
    finally:
        torch.set_num_threads(before)
    return cores if together < 0.9 * alone else 1


class Pace:
    """Notices when passes take many times as long as passes of their kind did before.

    That is what it looks like when another process takes a core from a team of threads: every small operation waits for
    the one that does not run. One thread alone only shares its core.
    """

    slow, patience = 8.0, 5
    _enough, _kept = 8, 32

    def __init__(self) -> None:
        self._usual: defaultdict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=self._kept))
        self._streak = 0

    def is_lost(self, kind: Hashable, seconds: float) -> bool:
        """Whether the last `patience` passes, this one included, were each `slow` times slower than is usual."""
        usual = self._usual[kind]
        if len(usual) < self._enough:
            if not self._streak:  # else what is learnt of a new kind would be slowness
                usual.append(seconds)
        elif seconds > self.slow * statistics.median(usual):
            self._streak += 1
        else:
            self._streak = 0
            usual.append(seconds)
        return self._streak >= self.patience


@torch.no_grad()
def _pass_s(model: LanguageModel, threads: int) -> float:
    """Median seconds of a pass that gives 32 sequences a token."""
    torch.set_num_threads(threads)
    slots = Slots(model, _ROWS)
    ids = torch.zeros(_ROWS, dtype=torch.int64)
    spent = []
    for repeat in range(_REPEATS + 1):
        jobs = [(row, 1) for row in range(_ROWS)]
        mixer = Stream(slots, jobs, _ROWS) if slots.kernel else Grid(slots, range(_ROWS), [1] * _ROWS, 1)
        began = time.perf_counter()
        mixer.hidden_states(ids, ())
        if repeat:  # the first builds kernels
            spent.append(time.perf_counter() - began)
    return statistics.median(spent)
