"""Metrics as JSON lines: one object a step, names `area/name`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from banty.errors import StoreError

_MOST_STEPS = 10**9


class MetricLog:
    """Appends one line a step to a file; a value that is not finite is written as null."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        row = {"step": step, **{name: _finite(value) for name, value in values.items()}}
        try:
            with self.path.open("ab+") as file:
                line = json.dumps(row) + "\n"
                file.write((line if _at_line_start(file) else f"\n{line}").encode())
        except OSError as error:
            raise StoreError(f"could not write {self.path}: {error.strerror or error}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metric log by step; of a step that was done twice the last, and no line cut off by a crash."""
    return read_rows(path)[0]


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """What `read_metrics` gives, and how many lines are damaged: no table, or without a step any run has."""
    rows: dict[int, dict[str, Any]] = {}
    damaged = 0
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < _MOST_STEPS:
            rows[step] = row
        else:
            damaged += 1
    return [rows[step] for step in sorted(rows)], damaged


def _at_line_start(file: BinaryIO) -> bool:
    """False after a line that a crash cut off."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _finite(value: float | int | None) -> float | int | None:
    return None if value is None or not math.isfinite(value) else value
