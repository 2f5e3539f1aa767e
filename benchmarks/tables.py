"""What every benchmark prints beside its figures: the machine, how busy it is, and a table in plain columns."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch


def machine() -> str:
    """The processor, the cores this process may use, torch, and the load of the last minute, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{processor()}; {cores} of {os.cpu_count()} cores; torch {torch.__version__}; {busy}"


def processor() -> str:
    """The model with family, model and stepping, since a virtual machine often hides the name."""
    described = Path("/proc/cpuinfo")
    if not described.is_file():
        return platform.processor() or platform.machine()
    first = described.read_text().split("\n\n")[0]
    fields = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    family = [known.get(name, "?") for name in ("cpu family", "model", "stepping")]
    return f"{known.get('model name', platform.machine())} ({'/'.join(family)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first flush left and the others flush right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def counts(text: str) -> list[int]:
    """`1,2` as [1, 2], for options such as --threads."""
    return [int(part) for part in text.split(",")]
