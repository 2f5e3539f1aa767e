"""Live progress: rate and time left, on a terminal as a bar, elsewhere as a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 5.0


class Meter:
    """Counts work on the error stream, so that standard output stays free for results."""

    def __init__(self, what: str, total: int, unit: str, quiet: bool = False) -> None:
        self._what, self.total, self._unit = what, total, unit
        self._done = self._here = 0
        self._started = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        self._quiet = quiet
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, note="")

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, note: str = "", place: int | None = None) -> None:
        """One more is done; `note` stands beside the rate. `place` says how many are, where some were done before."""
        self._here += 1
        self._done = self._done + 1 if place is None else place
        self.tell(note)

    def tell(self, note: str) -> None:
        """Say what is under way, without counting anything."""
        now = time.monotonic()
        rate = self._here / max(now - self._started, 1e-9)
        digits = 4 if 0 < rate < 0.1 else 1
        shown = f"{rate:.{digits}f} {self._unit}/s{'  ' + note if note else ''}"
        if self._bar:
            self._bar.update(self._task, completed=self._done, total=self.total, note=shown)
        elif not self._quiet and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            left = f", {(self.total - self._done) / rate:.0f} s left" if rate else ""
            print(f"{self._what}: {self._done}/{self.total}, {shown}{left}", file=sys.stderr)
