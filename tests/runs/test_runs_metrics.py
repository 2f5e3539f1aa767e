"""Metric logs: one line a step, readable by any JSON parser, whole after a crash."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from banty.errors import StoreError
from banty.runs import MetricLog, read_metrics


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_rows_come_back_by_step(file: Path) -> None:
    log = MetricLog(file)
    log.write(0, {"rollout/success": 0.5, "group/num_groups": 4, "train/loss": None})
    log.write(1, {"rollout/success": np.float64(0.75)})
    assert read_metrics(file) == [
        {"step": 0, "rollout/success": 0.5, "group/num_groups": 4, "train/loss": None},
        {"step": 1, "rollout/success": 0.75},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, float(np.float32("nan"))])
def test_what_is_not_finite_is_written_as_null(file: Path, value: float) -> None:
    MetricLog(file).write(0, {"train/loss": value, "train/tokens": 3})
    row = json.loads(file.read_text(), parse_constant=refuse_constants)
    assert row == {"step": 0, "train/loss": None, "train/tokens": 3}


def test_of_a_step_done_twice_the_last_counts(file: Path) -> None:
    log = MetricLog(file)
    for step, loss in [(0, 1.0), (1, 2.0), (2, 3.0), (1, 2.5), (2, 3.5)]:
        log.write(step, {"train/loss": loss})
    assert [(row["step"], row["train/loss"]) for row in read_metrics(file)] == [(0, 1.0), (1, 2.5), (2, 3.5)]


def test_a_line_cut_off_by_a_crash_is_not_read_and_spoils_no_other(file: Path) -> None:
    """At every byte of the second line: what was whole before stays, what is written next is whole."""
    log = MetricLog(file)
    log.write(0, {"train/loss": 1.0})
    first = file.read_bytes()
    log.write(1, {"train/loss": 2.0})
    whole = file.read_bytes()
    for length in range(len(first), len(whole)):
        file.write_bytes(whole[:length])
        # All of a line but its end is a whole row.
        assert len(read_metrics(file)) == (2 if length == len(whole) - 1 else 1)
        log.write(1, {"train/loss": 3.0})
        log.write(2, {"train/loss": 4.0})
        assert [(row["step"], row["train/loss"]) for row in read_metrics(file)] == [(0, 1.0), (1, 3.0), (2, 4.0)]


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"could not write .*metrics\.jsonl"):
        MetricLog(tmp_path / "nowhere" / "metrics.jsonl").write(0, {})
